"""Records read by their parts: whatever the form and the order, what comes out is what decoding each record whole would say.

No file and no store: that all of it reaches the ledger is tested in `test_ledger.py`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control import reading
from slmgate.control.reading import UNKNOWN, OtherForm, Reader, newest_uses
from slmgate.control.settling import UNREADABLE
from slmgate.stores.parted import FACET_FIELDS, Parted, parted
from slmgate.stores.records import KeyUse
from slmgate.terms import Receipt
from tests.tools.journal_writer import NOON, encoded, make_receipt

DAY = timedelta(days=1)
NOWHERE: dict[str, Any] = {"endpoint": "", "path": "/nowhere", "reason": "not_found", "ended": "refused"}
UNHEARD: dict[str, Any] = {"reason": "model_not_found", "ended": "refused", "model": "x"}


def names(parts: Parted, field: str) -> list[object]:
    place = FACET_FIELDS.index(field)
    return [facet[place] for facet in parts.facets]


def test_no_records() -> None:
    assert Reader().read([]) == Parted()


def test_a_piece_is_decoded_once() -> None:
    reader = Reader()
    receipts = [make_receipt(f"r{number}", model=f"m{number % 2}", total_us=number) for number in range(6)]
    first = reader.read(list(map(encoded, receipts[:4])))
    then = reader.read(list(map(encoded, receipts[4:])))
    assert first == parted(receipts[:4])
    assert then == parted(receipts[4:])
    assert len({id(facet) for facet in first.facets + then.facets}) == 2
    assert repr(reader) == "<Reader 2 pieces, 0 invented models>"


def test_what_is_for_the_access_log_alone_does_not_slow_the_ledger() -> None:
    """Records that also say what their clients call themselves are read all at once, like others, and with others."""
    reader, receipts = Reader(), [make_receipt(f"r{number}") for number in range(3)]
    first, second, third = map(encoded, receipts)
    for told in (b',"referer":"x","user_agent":"y"', b',"user_agent":"\xc3\xa9"'):
        records = [first, second.replace(b',"method":', told + b',"method":'), third]
        assert reader.read(records) == parted(receipts)
    with pytest.raises(OtherForm):
        reader.read([first.replace(b',"method":', b',"user_agent":1,"method":')])


texts = st.text(max_size=12) | st.sampled_from(['","method":', '\\","method":"', '{"a":1}', "\n", "\0", "}", ',"method":'])
fields: dict[str, st.SearchStrategy[Any]] = {
    "path": texts, "model": texts, "team": st.none() | texts, "reason": texts | st.just("model_not_found"),
    "key": st.none() | texts, "endpoint": st.sampled_from(["chat", ""]), "stream": st.booleans(), "status": st.integers(),
    "address": texts, "parameters": texts, "request_id": texts, "cost": st.integers(), "first_byte_us": st.none() | st.integers(),
}  # fmt: skip
receipts = st.builds(lambda values: make_receipt("r", **values), st.fixed_dictionaries({}, optional=fields))


@given(st.lists(receipts, max_size=5))
def test_all_at_once_and_one_by_one_are_the_same(some: list[Receipt]) -> None:
    records = [encoded(receipt) for receipt in some]
    whole, single, reader = Reader(), Reader(), Reader()
    one_by_one = Parted()
    for record in records:
        one_by_one.add(single.read_one(record))
    assert whole.read(records) == one_by_one
    assert [reader.read([record]) for record in records + records] == [reader.read_one(record) for record in records + records]


RECORD = encoded(make_receipt("r1", plan="gold"))


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{}",
        b"[]",
        RECORD + b"\n" + RECORD,
        RECORD.replace(b',"method":', b""),
        RECORD.replace(b'"status":200', b'"status":"x"'),
        RECORD.replace(b'"cost":0', b'"cost":"x"'),
        RECORD.replace(b"bot", b"\xff"),
        RECORD.replace(b"bot", b"\n"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_what_is_no_receipt(record: bytes, known: bool) -> None:
    reader = Reader()
    if known:
        reader.read([RECORD])
    with pytest.raises(OtherForm):
        reader.read([RECORD, record])
    with pytest.raises(UNREADABLE):
        reader.read_one(record)


@pytest.mark.parametrize(
    "record",
    [
        msgspec.json.format(RECORD, indent=1),
        RECORD.replace(b',"method":"POST"', b"").replace(b'"id":', b'"method":"POST","id":'),
        RECORD.replace(b',"plan":"gold"', b"").replace(b'"id":', b'"plan":"gold","id":'),
        RECORD.replace(b'"cost":0,', b"").replace(b"}", b',"cost":0}'),
        RECORD.replace(b'"id":', b'"later":1,"id":'),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_receipt_of_another_form_is_read_by_itself(record: bytes, known: bool) -> None:
    """No field may be lost because it stands where others of its kind do not."""
    reader = Reader()
    if known:
        reader.read([RECORD])
    with pytest.raises(OtherForm):
        reader.read([RECORD, record])
    assert reader.read_one(record) == reader.read([RECORD])


def test_what_is_made_up_is_bounded_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_UNKNOWN", 2)
    reader = Reader()

    def models(*asked: str, time: Any = NOON) -> list[object]:
        return names(reader.read([encoded(make_receipt("r", **UNHEARD | {"model": one}, time=time)) for one in asked]), "model")

    assert (
        names(reader.read([encoded(make_receipt("r", **NOWHERE | {"path": f"/{place}"})) for place in range(3)]), "path")
        == [UNKNOWN] * 3
    )
    assert models("a", "b", "c", "a") == ["a", "b", UNKNOWN, "a"]
    assert models("c") == [UNKNOWN]
    assert repr(reader) == "<Reader 0 pieces, 2 invented models>"
    assert models("c", "d", "a", time=NOON + DAY) == ["c", "d", UNKNOWN]


def test_a_path_of_ours_and_a_model_that_is_there_are_no_inventions() -> None:
    reader = Reader()
    reader.read([encoded(make_receipt("r1", **NOWHERE | {"path": path})) for path in ("/v1/chat/completions", "")])
    reader.read([encoded(make_receipt("r1", reason="rate_limited", model="x"))])
    assert repr(reader) == "<Reader 3 pieces, 0 invented models>"


def test_no_more_are_remembered_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_PIECES", 3)
    reader = Reader()
    some = [make_receipt("r", model=f"m{number}") for number in range(7)]
    assert reader.read(list(map(encoded, some))) == parted(some)
    assert repr(reader) == "<Reader 1 pieces, 0 invented models>"


def test_only_keys_are_noted() -> None:
    receipts = [
        make_receipt(f"r{number}", key=key, time=NOON - timedelta(seconds=number), address=str(number))
        for number, key in enumerate(["k1", "declared:bot", "https://idp.example#jane", "cert:CN=x", None, "k1"])
    ]
    assert newest_uses(parted(receipts)) == {"k1": KeyUse(NOON, "0"), "declared:bot": KeyUse(NOON - timedelta(seconds=1), "1")}
    assert newest_uses(parted(receipts[::-1])) == newest_uses(parted(receipts))
    assert newest_uses(Parted()) == {}
