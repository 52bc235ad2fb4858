"""The tables against the records and the migrations. No database but SQLite's in memory is opened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from slmgate.stores import migrations, schema
from slmgate.stores.records import SchemaTooNew
from slmgate.terms import Receipt


def test_entries_and_facets_hold_every_field_once() -> None:
    facets, entries = list(schema.facets.columns.keys()), list(schema.entries.columns.keys())
    assert facets[:2] == ["id", "digest"]
    assert entries[:5] == ["seq", "id", "request_id", "time", "facet"]  # the fifth is the number of the facets
    assert sorted(entries[1:4] + entries[5:] + facets[2:]) == sorted(Receipt.__struct_fields__)
    assert list(schema.receipts.columns.keys()) == ["seq", *Receipt.__struct_fields__]


@pytest.mark.parametrize(
    ("time", "us"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(2026, 11, 20, 12, 0, 0, 999999, tzinfo=UTC), 1795176000999999),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), 253402300799999999),
    ],
)
def test_times_are_exact(time: datetime, us: int) -> None:
    assert schema.to_us(time) == us
    assert schema.from_us(us) == time


def test_migrations_make_these_tables() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    assert migrations.current(engine) is None
    migrations.upgrade(engine)
    assert migrations.current(engine) == migrations.HEAD
    migrations.upgrade(engine)
    assert [column["name"] for column in sa.inspect(engine).get_columns("receipts")] == schema.receipts.columns.keys()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_receipts_from_before_there_were_prices_cost_nothing() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    migrations.upgrade(engine, "0004")
    with engine.begin() as connection:
        for name in ("facets", "entries"):
            table = sa.Table(name, sa.MetaData(), autoload_with=connection)
            values = {column.name: b"d" if column.name == "digest" else 1 for column in table.columns if column.name != "id"}
            connection.execute(sa.insert(table), {**values, "id": 1})
    migrations.upgrade(engine)
    with engine.connect() as connection:
        row = connection.execute(sa.select(schema.receipts)).one()
    assert (row.plan, row.price, row.cost, row.prompt_tokens) == ("", "", 0, 1)


def test_a_newer_database_is_left_alone() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    migrations.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="9999"):
        migrations.upgrade(engine)
