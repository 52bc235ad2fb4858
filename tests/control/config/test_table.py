"""The frame of the option table, tried on a small table of its own.

The real table is tested through everything that is made from it.
"""

from __future__ import annotations

from typing import Annotated

import pytest

from slmgate.control.config.kinds import Switch
from slmgate.control.config.options import Config
from slmgate.control.config.table import REQUIRED, Option, Section, rows, walk


class Leaf(Section, frozen=True, kw_only=True):
    on: Annotated[bool, Option("On.", Switch())] = False


class Tree(Section, frozen=True, kw_only=True):
    leaf: Annotated[Leaf, Option("One.")] = Leaf()
    leaves: Annotated[tuple[Leaf, ...], Option("Many.")]
    named: Annotated[dict[str, Leaf], Option("Named.", reloadable=False)]


def test_shapes() -> None:
    table = rows(Tree)
    assert [(row.shape, row.section) for row in table.values()] == [("one", Leaf), ("list", Leaf), ("map", Leaf)]
    assert table["leaves"].default is REQUIRED
    assert rows(Leaf)["on"].kind == Switch()


def test_a_section_that_may_be_left_out() -> None:
    class Maybe(Section, frozen=True, kw_only=True):
        leaf: Annotated[Leaf | None, Option("A leaf.")] = None

    row = rows(Maybe)["leaf"]
    assert (row.section, row.shape, row.default) == (Leaf, "one", None)
    assert [path for path, _ in walk(Maybe)] == ["leaf", "leaf.on"]


def test_paths() -> None:
    assert [path for path, _ in walk(Tree)] == ["leaf", "leaf.on", "leaves", "leaves[].on", "named", "named.NAME.on"]


def test_a_field_without_an_option_is_a_mistake() -> None:
    class Bare(Section, frozen=True, kw_only=True):
        x: int = 1

    with pytest.raises(TypeError, match="x carries no Option"):
        rows(Bare)


def test_every_option_has_a_kind_or_a_section_and_scalars_an_example_or_a_default() -> None:
    for path, row in walk(Config):
        assert (row.kind is None) == (row.section is not None), path
        if row.kind is not None:
            assert row.option.example or row.default not in (REQUIRED, None), path


def test_later_options_are_not_in_the_table() -> None:
    for section in {row.section for _, row in walk(Config) if row.section} | {Config}:
        assert not set(section.later) & set(rows(section))
