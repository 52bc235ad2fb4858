"""Texts of statements: by position, and many rows in one."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from slmgate.stores.statements import fetched, positional, repeated

TABLE = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Text), sa.Column("b", sa.Text))


def test_rows_by_position() -> None:
    engine = sa.create_engine("sqlite://")
    one = positional(engine, sa.insert(TABLE), TABLE)
    assert one == "INSERT INTO t (a, b) VALUES (?, ?)"
    assert repeated(f"{one} ON CONFLICT (a) DO NOTHING", 3) == (
        "INSERT INTO t (a, b) VALUES (?, ?), (?, ?), (?, ?) ON CONFLICT (a) DO NOTHING"
    )
    assert positional(engine, sa.insert(TABLE), TABLE, ["a"]) == "INSERT INTO t (a) VALUES (?)"


def test_another_order_is_a_fault() -> None:
    with pytest.raises(RuntimeError, match="not in the order"):
        positional(sa.create_engine("sqlite://"), sa.insert(TABLE), TABLE, ["b", "a"])


def test_rows_as_the_driver_has_them() -> None:
    with sa.create_engine("sqlite://").connect() as connection:
        result = connection.execute(sa.text("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 ORDER BY 1"))
        assert fetched(result, 2) == [(1,), (2,)]
        assert fetched(result) == [(3,)]
        assert fetched(result, 2) == []
