"""The JSON Schema of the configuration file, for editors; made from the option table.

A file that loads fits the schema, and what the schema refuses does not load. The other way round it is looser: bounds of
sizes and times, and what options must be to each other, only `slmgate check` knows.
"""

from __future__ import annotations

from typing import Any

import msgspec

from slmgate.control.config.options import Config
from slmgate.control.config.show import default_text, dump
from slmgate.control.config.table import REQUIRED, Row, Section, rows

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"$ref": "#/$defs/reference"}


def schema() -> dict[str, Any]:
    """The schema as plain data."""
    return {
        "$schema": DIALECT,
        "title": "slmgate.yaml",
        **_section(Config),
        "$defs": {
            "reference": {
                "description": "A value fetched from an environment variable or a file.",
                "type": "string",
                "pattern": r"\$\{",
            }
        },
    }


def schema_text() -> str:
    """The schema as it stands in `docs/slmgate.schema.json`."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def _section(section: type[Section]) -> dict[str, Any]:
    table = rows(section)
    made: dict[str, Any] = {
        "type": "object",
        "properties": {row.name: _row(row) for row in table.values()},
        "additionalProperties": False,
    }
    if required := [row.name for row in table.values() if row.default is REQUIRED]:
        made["required"] = required
    if section.one_of:
        made["oneOf"] = [{"required": [name]} for name in section.one_of]
    if section.text:
        return {"anyOf": [*_scalar(table[section.text])["anyOf"], made]}
    return {"anyOf": [{"enum": list(section.short)}, made]} if section.short else made


def _row(row: Row) -> dict[str, Any]:
    made = _shaped(row)
    made["description"] = row.option.doc
    if row.default is not REQUIRED and row.default is not None and row.section is None and default_text(row):
        made["default"] = list(row.default) if row.shape == "list" else _default(row)
    return made


def _default(row: Row) -> Any:
    return row.kind.write(row.default) if row.kind is not None else dump(row.default)


def _shaped(row: Row) -> dict[str, Any]:
    one = _section(row.section) if row.section is not None else _scalar(row)
    if row.shape == "list":
        several = {"type": "array", "items": one, "minItems": row.option.at_least}
        return {"anyOf": [*one.get("anyOf", [one]), several]} if row.option.lone else several
    if row.shape == "map":
        made = {"type": "object", "additionalProperties": one, "minProperties": row.option.at_least}
        if row.option.key is not None:
            made["propertyNames"] = row.option.key.schema()
        return made
    return one


def _scalar(row: Row) -> dict[str, Any]:
    if row.kind is None:
        raise TypeError(f"the option {row.name} has neither a section nor a kind")
    own = row.kind.schema()
    # An editor completes words only where it can tell them from other text, so they stay apart from the reference.
    return {"anyOf": [*own.get("anyOf", [own]), _REFERENCE]}
