"""Keys as rows: what is this file's own. What every store must do with keys is in tests/contracts/test_stores.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from slmgate.stores import schema
from slmgate.stores.keys import KeyRows, SavedKeys
from slmgate.stores.records import KeyRecord, KeySecret
from slmgate.terms import LimitSpec

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIMIT = LimitSpec(name="key.limits[0]", text="4 concurrent", identity="i", unit="concurrent", amount=4)


def test_rows_have_the_order_of_their_tables() -> None:
    record = KeyRecord(
        id="k1", name="bot", created=NOON, owner="jane", team="acme", roles=("a",), tags=("t",), networks=("::1/128",),
        limits=(LIMIT,),
        disabled=True, expires=NOON, revoked=NOON, secrets=(KeySecret(b"d" * 32, NOON, NOON + timedelta(seconds=1)),),
    )  # fmt: skip
    rows = SavedKeys([record])
    us = schema.to_us(NOON)
    assert dict(zip(schema.keys.columns.keys(), rows.keys[0], strict=True)) == {
        "id": "k1", "name": "bot", "team": "acme", "roles": '["a"]', "disabled": True, "created": us, "expires": us,
        "revoked": us, "owner": "jane", "tags": '["t"]', "networks": '["::1/128"]',
        "limits": '[{"name":"key.limits[0]","text":"4 concurrent","identity":"i","unit":"concurrent","amount":4}]',
    }  # fmt: skip
    assert dict(zip(schema.key_secrets.columns.keys(), rows.secrets[0], strict=True)) == {
        "digest": b"d" * 32, "key_id": "k1", "created": us, "until": us + 1_000_000,
    }  # fmt: skip


@pytest.mark.parametrize(("url", "insert"), [("sqlite://", sqlite_insert), ("postgresql+psycopg://", postgresql_insert)])
def test_an_older_use_changes_nothing_in_either_database(url: str, insert: object) -> None:
    rows = KeyRows(sa.create_engine(url, paramstyle="qmark" if url == "sqlite://" else "format"), insert)
    for text, times in ((rows._use, 1), (rows._uses, 100)):
        assert text.count("excluded.time > key_uses.time") == 1
        assert text.count("?") + text.count("%s") == 3 * times
