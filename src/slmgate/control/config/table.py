"""The frame of the option table: what is said about an option, and how the table is walked.

A section is a frozen record whose fields are the options; each field's annotation carries an `Option`. Loading,
documentation, JSON Schema, the sample file and `config show` all read these rows. This module knows no single option.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from slmgate.control.config.kinds import Kind

REQUIRED: Any = msgspec.NODEFAULT

Shape = Literal["one", "list", "map"]


class Option(msgspec.Struct, frozen=True):
    """What is said about one option, beside its name, type and default, which are the field's own.

    `kind` is None for a section. `reloadable`: a changed value takes effect on reload, else only after a restart.
    `at_least` entries must stand in a list or map. `key` is the kind of a map's keys.
    `example`: what the sample file has where there is no default, as YAML. `lone`: a list's only entry may stand for it.
    """

    doc: str
    kind: Kind | None = None
    reloadable: bool = True
    at_least: int = 0
    key: Kind | None = None
    example: str = ""
    lone: bool = False


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all sections. `later` are options of the product that this version does not have.

    `short`: words that may stand for the whole section, each with the option that it sets to true.
    `text`: the option that a text in the section's place is the value of.
    `one_of`: options of which exactly one must be given, the usual one first.
    """

    later: ClassVar[tuple[str, ...]] = ()
    short: ClassVar[dict[str, str]] = {}
    text: ClassVar[str] = ""
    one_of: ClassVar[tuple[str, ...]] = ()


class Row(NamedTuple):
    """One option of a section. `section` is set, and `kind` is not, where the value (or each entry) is a section."""

    name: str
    option: Option
    shape: Shape
    kind: Kind | None
    section: type[Section] | None
    default: Any
    """`REQUIRED` where there is none; None: unset, which the option's sentence explains."""


@cache
def rows(section: type[Section]) -> dict[str, Row]:
    """The options of a section by name, in the order of the table."""
    hints = get_type_hints(section, include_extras=True)
    return {field.name: _row(field, hints[field.name]) for field in msgspec.structs.fields(section)}


def _row(field: msgspec.structs.FieldInfo, hint: Any) -> Row:
    if get_origin(hint) is not Annotated:
        raise TypeError(f"the field {field.name} carries no Option")
    bare, option = get_args(hint)
    shape: Shape = "one"
    if get_origin(bare) is tuple:
        shape, bare = "list", get_args(bare)[0]
    elif get_origin(bare) is dict:
        shape, bare = "map", get_args(bare)[1]
    if option.kind is None and shape == "one" and isinstance(bare, UnionType):
        bare = next(part for part in get_args(bare) if part is not type(None))  # a section that may be left out
    section = bare if isinstance(bare, type) and issubclass(bare, Section) else None
    default = field.default if field.default_factory is REQUIRED else field.default_factory()  # of an empty map
    return Row(field.name, option, shape, option.kind, section, default)


def usual(section: type[Section], row: Row) -> bool:
    """Whether the option stands in every usual file: it must be given, or it is the usual one of several."""
    return row.default is REQUIRED or row.name in section.one_of[:1]


class Described(NamedTuple):
    """A row with its documented path, like `models.NAME.instances[].url`."""

    path: str
    row: Row


def walk(section: type[Section], prefix: str = "") -> Iterator[Described]:
    """Every row below `section`, parents before their children, in the order of the table."""
    for row in rows(section).values():
        path = f"{prefix}{row.name}"
        yield Described(path, row)
        if row.section is not None:
            yield from walk(row.section, path + {"one": ".", "list": "[].", "map": ".NAME."}[row.shape])
