// Holds dashboards against Grafana's published schema: `node check.mjs FILE...` prints what does not fit, a line each.
//
// The schema is types, so the compiler is who compares: each dashboard, and each panel's options, field options and questions,
// become constants of their type. A field that the type does not have is a fault as well as a value that it does not allow.
// The types of a Prometheus question are not in the package; those here are the documented fields of its JSON.
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import ts from 'typescript';

const OPTIONS = { timeseries: 'TimeSeries', stat: 'Stat', bargauge: 'BarGauge', table: 'Table', 'state-timeline': 'StateTimeline' };
const FIELDS = { timeseries: 'TimeSeries', table: 'Table', 'state-timeline': 'StateTimeline' };
const folder = (name) => name.toLowerCase();
const lines = ["import type * as g from '@grafana/schema';"];
for (const name of Object.values(OPTIONS)) {
  lines.push(`import type * as ${name} from '@grafana/schema/dist/esm/raw/composable/${folder(name)}/panelcfg/x/${name}PanelCfg_types.gen';`);
}
lines.push(`
// An enumeration's values as they stand in JSON, in place of its members.
type Plain<T> = 0 extends 1 & T ? T
  : T extends string ? (string extends T ? string : \`\${T}\`)
  : T extends number ? (number extends T ? number : \`\${T}\` extends \`\${infer N extends number}\` ? N : never)
  : T extends Array<infer E> ? Plain<E>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;
interface Question extends g.DataQuery {
  expr: string; legendFormat: string; instant: boolean; range: boolean; format: 'time_series' | 'table' | 'heatmap';
}
`);

const places = [];  // [the line on which a constant begins, what it is of]
const say = (what, type, value) => {
  places.push([lines.join('\n').split('\n').length, what]);
  lines.push(`export const _${places.length}: ${type} = ${JSON.stringify(value, null, 1)};`);
};
for (const file of process.argv.slice(2)) {
  const made = JSON.parse(readFileSync(file, 'utf8'));
  const name = basename(file);
  say(name, 'Plain<g.Dashboard>', { ...made, panels: [] });
  for (const panel of made.panels) {
    const where = `${name}: ${panel.title}`;
    if (panel.type === 'row') { say(where, 'Plain<g.RowPanel>', panel); continue; }
    if (!OPTIONS[panel.type]) { console.log(`${where}: no type for panels of the kind ${panel.type}`); continue; }
    say(where, 'Plain<g.Panel>', panel);
    say(`${where}: options`, `Plain<${OPTIONS[panel.type]}.Options>`, panel.options);
    const custom = panel.fieldConfig.defaults.custom;
    if (custom && !FIELDS[panel.type]) console.log(`${where}: panels of this kind have no custom fields`);
    if (custom) say(`${where}: custom`, `Plain<${FIELDS[panel.type]}.FieldConfig>`, custom);
    for (const target of panel.targets) say(`${where}: question`, 'Plain<Question>', target);
  }
}
writeFileSync('made.ts', lines.join('\n') + '\n');
const options = { strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, types: [] };
const program = ts.createProgram(['made.ts'], { ...options, module: ts.ModuleKind.ESNext, moduleResolution: ts.ModuleResolutionKind.Bundler });
for (const found of ts.getPreEmitDiagnostics(program)) {
  const line = found.file ? found.file.getLineAndCharacterOfPosition(found.start).line : 0;
  const where = found.file?.fileName.endsWith('made.ts') ? places.findLast(([begin]) => begin <= line)?.[1] : found.file?.fileName;
  console.log(`${where}: ${ts.flattenDiagnosticMessageText(found.messageText, ' ')}`);
}
