"""The records that all rooms speak: frozen, and the same after a trip through JSON, which is how they travel.

What the rooms do with them is tested in the rooms.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from slmgate.terms import Ask, Intent, Key, LimitSpec, Receipt, Refuse, Usage

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RECEIPT = Receipt(
    id="0123456789ab-00000001",
    request_id="req-1",
    time=NOON,
    method="POST",
    path="/v1/chat/completions",
    status=200,
    verdict="admit",
    reason="ok",
    ended="complete",
    principal="acme-bot",
)
INTENT = Intent(
    id="0123456789ab-00000001",
    request_id="req-1",
    time=NOON,
    key="k1",
    principal="acme-bot",
    team=None,
    model="smollm2",
    instance="smollm2/0",
    dialect="openai",
    endpoint="chat",
)
LIMIT = LimitSpec(
    name="key.limits[0]",
    text="9 tokens/month",
    identity="i",
    unit="tokens",
    amount=9,
    calendar="month",
    per=("principal", "ip"),
    raised=10,
    raised_until=1.5e9,
)
RECORDS = [
    Key(id="k1", name="acme-bot", digests=((b"\0" * 32, None), (b"\xff" * 32, 1.5e9)), limits=(LIMIT,)),
    LIMIT,
    Refuse("invalid_api_key", "This key is not known."),
    Ask("smollm2", stream=True, fields={"model": "smollm2"}),
    Usage(7, 24),
    INTENT,
    RECEIPT,
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_survives_json(record: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_frozen(record: msgspec.Struct) -> None:
    name = record.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(record, name, "other")


def test_fields_of_two_asks_are_not_shared() -> None:
    assert Ask("a").fields is not Ask("b").fields


def test_an_end_that_is_not_in_the_list_is_refused() -> None:
    line = msgspec.json.encode(RECEIPT).replace(b'"complete"', b'"vanished"')
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(line, type=Receipt)


def test_times_are_written_as_utc() -> None:
    assert b'"time":"2026-11-23T12:00:00Z"' in msgspec.json.encode(RECEIPT)
