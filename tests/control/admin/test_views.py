"""The bodies: what a key shows, and how shares are counted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from slmgate.control.admin import views
from slmgate.control.keyring import Keyring
from slmgate.stores.records import UsageRow
from slmgate.stores.sql import open_store


def test_a_key_shows_no_digest(tmp_path: Path) -> None:
    store = open_store(tmp_path / "ledger.db")
    keyring = Keyring(store)
    record, secret = keyring.create("bot")
    text = msgspec.json.encode(views.key_view(keyring, record)).decode()
    assert secret not in text
    assert record.secrets[0].digest.hex() not in text
    store.close()


@pytest.mark.parametrize(("estimated", "share"), [(0, 0.0), (1, 0.3333), (3, 1.0)])
def test_shares(estimated: int, share: float) -> None:
    row = UsageRow(
        group=("bot",), requests=1, refused=0, errors=0, prompt_tokens=1, completion_tokens=2, estimated_tokens=estimated
    )
    assert views.usage_view(["client"], row).estimated_share == share


def test_no_tokens_no_share() -> None:
    row = UsageRow(group=(), requests=1, refused=1, errors=0, prompt_tokens=0, completion_tokens=0, estimated_tokens=0)
    assert views.usage_view([], row).estimated_share == 0.0
