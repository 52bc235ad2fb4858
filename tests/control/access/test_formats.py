"""How lines look, whatever stands in a receipt: read back by strict readers of our own, and never one line more than receipts."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec
import pytest

from slmgate.control.access.formats import FORMATS, as_json, combined, logfmt, note
from slmgate.terms import Receipt

EVIL = (
    'a "b" c',
    "a\nb",
    'a\r\n203.0.113.9 - root [01/Jan/2026:00:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"',
    "\x1b[2J\x07\x00\x7f",
    "a\\",
    "\\x22",
    "]] [",
    "=",
    "a=b c=d",
    "é\u2028\u202e\x9b",
    "-",
    " ",
    "💡",
)
# As nginx writes it: no field holds its own end, and what is odd is \xHH.
COMBINED = re.compile(
    rb"(?P<address>[^ ]+) - (?P<user>[^ ]+) "
    rb"\[(?P<time>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} \+0000)\] "
    rb'"(?P<request>[^"]*)" (?P<status>[0-9]{3}) (?P<size>[0-9]+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)"\n'
)


def receipt(**changes: object) -> Receipt:
    plain = Receipt(
        id="r1",
        request_id="q1",
        time=datetime(2026, 11, 8, 16, 30, 0, 120000, UTC),
        bytes_out=512,
        address="192.0.2.7",
        method="POST",
        path="/v1/chat/completions",
        status=200,
        verdict="admit",
        reason="",
        ended="complete",
        principal="acme-bot",
    )
    return msgspec.structs.replace(plain, **changes)


def lines(*receipts: Receipt) -> bytes:
    return b"".join(msgspec.json.encode(one) + b"\n" for one in receipts)


def unescaped(field: bytes) -> str:
    return re.sub(rb"\\x([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), field).decode()


def test_combined() -> None:
    assert combined(lines(receipt())) == (
        b'192.0.2.7 - acme-bot [08/Nov/2026:16:30:00 +0000] "POST /v1/chat/completions HTTP/1.1" 200 512 "-" "-"\n'
    )


def test_combined_with_what_the_client_says_of_itself() -> None:
    """As nginx writes them: blanks and brackets stand, quotes, backslashes and what is no ASCII do not; an empty one is empty."""
    line = msgspec.json.decode(msgspec.json.encode(receipt()))
    evil = 'a\\" "é" [x]\n'
    made = combined(b"\n".join(msgspec.json.encode(line | more) for more in (
        {"referer": "https://a.example/?q=[1]", "user_agent": "OpenAI/Python 1.99 (x; y)"},
        {"referer": "", "user_agent": evil},
    )))  # fmt: skip
    first, second = (COMBINED.fullmatch(each) for each in made.splitlines(keepends=True))
    assert first is not None and second is not None
    assert (first["referer"], first["agent"]) == (b"https://a.example/?q=[1]", b"OpenAI/Python 1.99 (x; y)")
    assert (second["referer"], second["agent"]) == (b"", rb"a\x5C\x22 \x22\xC3\xA9\x22 [x]\x0A")
    assert unescaped(second["agent"]) == evil


def test_combined_of_a_request_that_could_not_be_read() -> None:
    odd = receipt(method="", path="", status=0, principal="", address="")
    assert combined(lines(odd)) == b'- - - [08/Nov/2026:16:30:00 +0000] "-" 000 512 "-" "-"\n'


@pytest.mark.parametrize("text", EVIL)
@pytest.mark.parametrize("field", ["principal", "path", "method", "address"])
def test_nothing_is_forged_in_combined(field: str, text: str) -> None:
    made = combined(lines(receipt(), receipt(**{field: text}), receipt()))
    found = [COMBINED.fullmatch(line) for line in made.splitlines(keepends=True)]
    assert len(found) == 3
    one = found[1]
    assert one is not None
    method, path, version = one["request"].split(b" ")
    told = {"principal": one["user"], "path": path, "method": method, "address": one["address"]}
    assert unescaped(told[field]) == text
    assert version == b"HTTP/1.1"
    assert made.isascii()


def test_copies_are_left_out_of_combined() -> None:
    assert combined(lines(receipt(verdict="shadow"), receipt())).count(b"\n") == 1


def test_what_cannot_be_read_costs_its_own_line() -> None:
    for form in (combined, logfmt):
        assert form(lines(receipt()) + b"{nonsense\n" + lines(receipt())).count(b"\n") == 2


def read_logfmt(line: bytes) -> dict[str, str]:
    """A strict reader: names, `=`, and a bare word or a JSON string; exactly one space between."""
    text = line.decode().removesuffix("\n")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        pair = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|[^\s"=]+)(?: |$)').match(text, at)
        assert pair is not None, text[at:]
        assert pair[1] not in found
        found[pair[1]] = msgspec.json.decode(pair[2]) if pair[2].startswith('"') else pair[2]
        at = pair.end()
    return found


def test_logfmt() -> None:
    made = logfmt(lines(receipt(stream=True)))
    assert made.startswith(b"id=r1 request_id=q1 time=2026-11-08T16:30:00.120000Z prompt_tokens=0")
    assert b" stream=true" in made
    assert b"team" not in made


@pytest.mark.parametrize("text", EVIL)
def test_nothing_is_forged_in_logfmt(text: str) -> None:
    made = logfmt(lines(receipt(), receipt(principal=text, path=text), receipt()))
    told = [read_logfmt(line) for line in made.splitlines(keepends=True)]
    assert len(told) == 3
    assert told[1]["principal"] == told[1]["path"] == text
    assert told[1]["status"] == "200"
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", made)


@pytest.mark.parametrize("text", EVIL)
def test_json_stays_what_it_is(text: str) -> None:
    whole = receipt(principal=text)
    made = as_json(lines(whole))
    assert made.count(b"\n") == 1
    assert msgspec.json.decode(made, type=Receipt) == whole


def test_the_note_of_what_is_missing() -> None:
    assert msgspec.json.decode(note("json", 3)) == {"dropped": 3, "message": "lines of the access log could not be written"}
    assert read_logfmt(note("logfmt", 3))["dropped"] == "3"
    assert note("combined", 3) == b""  # whoever reads that format knows no such line
    assert set(FORMATS) == {"json", "combined", "logfmt"}
