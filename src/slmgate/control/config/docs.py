"""Writes what follows from the option table: `docs/configuration.md`, the JSON Schema and the sample file.

`python -m slmgate.control.config.docs [ROOT]` writes them below ROOT (this directory by default); a test keeps them
equal to what is made here. This module knows the words around the options, not the options.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from slmgate.control.config.document import MAX_BYTES, MAX_DEPTH, MAX_NODES
from slmgate.control.config.options import Config
from slmgate.control.config.references import MAX_FILE
from slmgate.control.config.schema import schema_text
from slmgate.control.config.show import default_text, sample
from slmgate.control.config.table import REQUIRED, Row, Section, rows, walk

_INTRODUCTION = f"""\
# Configuration

<!-- Made from the option table by `python -m slmgate.control.config.docs`; change the table, not this page. -->

slmgate reads one YAML file, `slmgate.yaml` unless `-c` names another. The smallest useful one has three lines:

```yaml
models:
  smollm2:
    instances: [{{url: "http://127.0.0.1:8000"}}]
```

Everything else has a safe default. `slmgate check` finds every fault of a file, `slmgate config show` prints the
configuration in force with all defaults, `slmgate config schema` prints a JSON Schema for editors (a copy is
[slmgate.schema.json](slmgate.schema.json)), and [every-option.yaml](../examples/every-option.yaml) is a file with every option.
With the schema beside your file, this first line makes most editors complete and check while you type:

```yaml
# yaml-language-server: $schema=slmgate.schema.json
```

## The rules

- **Strict.** An unknown option, a wrong type, a value out of bounds or a name given twice is a fault, and a file with a
  fault is not used at all: `serve` does not start, and a running gate keeps the configuration that it has. Options of
  later versions are faults too: nothing is accepted and then ignored.
- **YAML 1.2.** `true` and `false` are the only booleans; `on`, `off`, `yes` and `no` are text. Tags (`!!str`) and merge
  keys (`<<`) are not read; anchors and aliases are. A name or path that YAML would take for a number or boolean needs quotes.
- **Bounds.** At most {MAX_BYTES // 1024 // 1024} MiB, {MAX_DEPTH} levels and {MAX_NODES:,} values, each alias counted as
  often as it is used. Text is UTF-8.
- **Secrets.** `${{env:NAME}}` in a value stands for an environment variable, `${{file:PATH}}` for the content of a file (at
  most {MAX_FILE // 1024} KiB, without one line end at its end); `$${{` is a literal `${{`. What is missing is a fault that
  names the variable or the path. Neither faults nor `config show` ever print what was fetched.
- **Paths** that are relative count from the directory of the configuration file.
- **Numbers and sizes** are whole: `20000`, `20_000`, `20k`; `k M G` count in thousands, `KiB MiB GiB` in 1024s. A size
  is in bytes.
- **Times** have a unit: `ms s m h d`, as in `500ms`, `30s`, `1h30m`.
- **Addresses** are `host:port`, `[ipv6]:port` or `:port`, the last one for every address of the machine, IPv4 and IPv6.
- **Reload.** A change to the file, SIGHUP and the admin API load the whole file anew, without dropping a request. What
  takes effect only after a restart says so below; a reload that changes such an option names it.

## The options
"""


def page() -> str:
    """The text of `docs/configuration.md`."""
    return _INTRODUCTION + "".join(f"\n{block}\n" for block in _blocks())


def _blocks() -> Iterator[str]:
    for path, row in walk(Config):
        lines = [f"### {path}", "", row.option.doc, ""]
        if row.section is None:
            lines += [f"- Value: {_values(row)}", f"- Default: {_default(row)}"]
        else:
            lines += [f"- Options: {_links(row.section, row.shape, row.option.lone)}", f"- Default: {_default(row)}"]
        if row.section is None or not row.option.reloadable:
            lines.append(f"- Takes effect: {'on reload' if row.option.reloadable else 'after a restart'}")
        yield "\n".join(lines)


def _values(row: Row) -> str:
    if row.kind is None:
        raise TypeError(f"the option {row.name} has neither a section nor a kind")
    accepts = row.kind.accepts()
    if row.shape == "map":
        names = row.option.key.accepts() if row.option.key is not None else "a name"
        return f"a mapping of {names} to {accepts}"
    if row.shape == "list":
        return f"{accepts}, or a list of such" if row.option.lone else f"a list of {accepts}"
    return accepts


def _links(section: type[Section], shape: str, lone: bool) -> str:
    names = ", ".join(f"`{name}`" for name in rows(section))
    if section.text:
        names = f"{names}, or the text of `{section.text}` alone"
    several = f"a list, each entry with {names}" + ("; one may stand without a list" if lone else "")
    return {"one": names, "list": several, "map": f"by name, each with {names}"}[shape]


def _default(row: Row) -> str:
    if row.default is REQUIRED:
        return "none, it must be given"
    if row.default is None:
        return "unset"
    if row.section is not None and row.shape == "one":
        return "the defaults of its options"
    text = default_text(row)
    return f"`{text}`" if text != "[]" else "none"


def pages() -> dict[str, str]:
    """Every file that is made from the table: its path below the project's root, and its text."""
    return {"docs/configuration.md": page(), "docs/slmgate.schema.json": schema_text(), "examples/every-option.yaml": sample()}


def write(root: Path) -> None:
    """Write `pages` below `root`."""
    for name, text in pages().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
