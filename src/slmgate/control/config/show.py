"""A configuration written out again: as plain data, as YAML, as a sample file with every option explained.

Everything follows from the option table. Secrets come out as `***`; what was fetched for `${env:}` and `${file:}` is not
shown. This module reads no file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from slmgate.control.config.options import Config
from slmgate.control.config.table import REQUIRED, Row, Section, rows, usual

_HEAD = """\
# Every option of slmgate with its default. Made from the option table; remove the first # of a line to set it.
# docs/configuration.md explains each option, `slmgate check` says whether the file is right.
"""
_NAMES = {
    "models": "smollm2",
    "parameters": "max_tokens",
    "roles": "partner",
    "teams": "acme",
    "plans": "gold",
    "prices": "smollm2",
    "notifications": "ops",
}
"""What the entries of maps are called in the sample file."""


def dump(section: Section) -> dict[str, Any]:
    """The section as a file would have it: every option that has a value, secrets struck out."""
    values = ((row, getattr(section, row.name)) for row in rows(type(section)).values())
    return {row.name: _out(row, value) for row, value in values if value is not None and not _unset(row, value)}


def _unset(row: Row, value: Any) -> bool:
    """Whether the value is a default that no file could give."""
    return row.shape == "list" and len(value) < row.option.at_least


def _out(row: Row, value: Any) -> Any:
    if row.shape == "list":
        return [_one_out(row, item) for item in value]
    if row.shape == "map":
        return {name: _one_out(row, item) for name, item in value.items()}
    return _one_out(row, value)


def _one_out(row: Row, value: Any) -> Any:
    if row.kind is not None:
        return row.kind.write(value)
    of: type[Section] = type(value)
    short = of.text  # the option that says it all, where the others have their defaults
    if short and value == of(**{short: getattr(value, short)}):
        return _one_out(rows(of)[short], getattr(value, short))
    return dump(value)


def to_yaml(config: Config) -> str:
    """The whole configuration with its defaults, as YAML."""
    return yaml.safe_dump(dump(config), sort_keys=False, allow_unicode=True, width=120)


def flow(value: Any) -> str:
    """A plain value in YAML's one-line form."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text.removesuffix("\n").removesuffix("\n...")


def default_text(row: Row) -> str:
    """A row's default in one line of YAML; empty where there is none."""
    return "" if row.default is REQUIRED or row.default is None else flow(_out(row, row.default))


def sample() -> str:
    """A file with every option: those that must be given stand there, all others are commented out at their defaults."""
    return _HEAD + "\n".join(_sample(Config, "", True)) + "\n"


def _sample(section: type[Section], indent: str, live: bool) -> Iterator[str]:
    """The lines of a section. `live`: it stands in the file; else every line of it is commented out."""
    for row in rows(section).values():
        yield f"{indent}# {row.option.doc}"
        if row.section is None:
            yield _line(indent, f"{row.name}: {row.option.example or default_text(row)}", live and usual(section, row))
            continue
        inner = live and (row.default is REQUIRED or (row.shape == "one" and row.default is not None))
        # A section without options in force must stay out: an empty one is a fault.
        inner = inner and any(usual(row.section, below) for below in rows(row.section).values())
        yield _line(indent, f"{row.name}:", inner)
        deeper = indent + "  "
        if row.shape == "map":
            yield _line(deeper, f"{_NAMES[row.name]}:", inner)
            deeper += "  "
        lines = list(_sample(row.section, deeper + ("  " if row.shape == "list" else ""), inner))
        if row.shape == "list":
            lines = _dashed(lines, deeper)
        yield from lines


def _line(indent: str, text: str, live: bool) -> str:
    return f"{indent}{text}" if live else f"{indent}#{text}"


def _dashed(lines: list[str], indent: str) -> list[str]:
    """The lines of a list's one entry: its first option, commented out or not, gets the dash."""
    first = next(i for i, line in enumerate(lines) if not line.lstrip().startswith("# "))
    text = lines[first][len(indent) + 2 :]
    lines[first] = f"{indent}#- {text[1:]}" if text.startswith("#") else f"{indent}- {text}"
    return lines
