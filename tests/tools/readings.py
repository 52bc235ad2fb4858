"""The table of `ambiguous.py` read in two ways, for gates and for proxies that know no paths: strictly, and as the RFCs allow.

Strictly, what becomes of a case is what the table says: the safest choice. As the RFCs allow, a case may also become what no
MUST of RFC 9110 or 9112 forbids, as long as one request goes on that reads in one way; `ALLOWED` says which cases that are, and
by which section. It opens no socket and knows no proxy; `bench/hostile.py` sends the table through real ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from tests.tools.ambiguous import Case, Sent, Table

Reading = Literal["rfc", "strict"]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_LINE = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01]")
_FIELD = re.compile(b"(" + _TOKEN + rb"):[ \t]*([^\0\r\n]*?)[ \t]*")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(:[0-9]*)?")

ALLOWED: dict[str, tuple[str, ...]] = {
    "3: any white space may be taken for the blanks of the line": (
        "two spaces before *",
        "a * before the method",
        "a tab for *",
        "a vertical tab for a space",
        "a form feed for a space",
        "a carriage return for a space",
        "a blank behind the version",
        "a tab behind the version",
        "a carriage return too many",
    ),
    "2.2: an answer of 400 to what is no HTTP is a SHOULD": (
        "a null *",
        "a control in the target",
        "a delete in the target",
        "bytes over 127 in the target",
        "target: a backslash",
        "target: a bad code",
        "target: a fragment",
        "target: a file",
        "field*: no colon",
        "field*: no name",
        "field*: only a colon",
        "field*in the name",
        "a blank line before",
        "coding: as *x00*",
        "coding: as *Transfer Encoding*",
        "trailer: *",
        "chunk size: an extension with*",
        "chunk size: a word behind",
        "chunk: a hidden request for the last line",
    ),
    "RFC 9110 9.1 and 9.3.8: methods are for the instance to know": (
        "a method in small letters",
        "a method of no API",
        "a method with a tail",
        "an endless method",
        "target: TRACE",
    ),
    "2.2: a bare line feed may end a line": (
        "a bare line feed *",
        "bare line feeds*",
        "line ends the wrong way round",
        "the head ends with *n*n*",
        "chunk*bare line feed*",
        "chunk: shorter than its size",
    ),
    "2.2: a bare carriage return may become a blank": (
        "two carriage returns",
        "a bare carriage return before *",
        "a bare two returns before *",
        "the head ends with *r?r?n*",
        "chunk size: a bare carriage return behind",
    ),
    "3.2 and RFC 9110 4.2: a path means what the instance says; an absolute target says which host is meant": (
        "target: another *",
        "target: two slashes*",
        "target: a host behind two slashes",
        "target: a slash at the end",
        "target: dots",
        "target: a dot",
        "target: coded dots",
        "target: a coded *",
        "target: a semicolon",
        "target: capitals",
    ),
    "3.2 and RFC 3986 3.2.2: the grammar has it": ("Host: empty", "Host: a blank", "Host: a port too large"),
    "5.2: a folded line may be unfolded": (
        "*: folded*",
        "field*: a line of blanks",
        "field: the first is folded",
        "coding: as b' Transfer-Encoding'",
        "length: as b' Content-Length: '",
        "the head ends with *r*n *r*n*",
    ),
    "RFC 9110 5.5: a null or another control may be kept or become a blank": (
        "field*in the value",
        "field*: a delete in the value",
        "a bare null before *",
        "coding*: a null before",
    ),
    "RFC 9110 5.6.1 and 9112 6.3: a list may have empty members, and a length be said again": (
        "length: a comma",
        "length: a comma before",
        "length: a list of one and the same",
        "coding: a comma *",
        "coding: two lines, b'' *",
    ),
    "6.1: 501 for a coding that is not known is a SHOULD where chunked comes last": (
        "coding: gzip, chunked",
        "coding: identity, chunked",
        "coding: chunked twice",
        "coding: twice the same",
        "coding: a parameter",
        "coding: two lines, b'identity' first",
        "coding: two lines, b'gzip' first",
        "coding: two lines, b'x' first",
        "coding: in HTTP/1.0",
    ),
    "6.1: a length may be dropped for a coding, where the connection is closed": ("length * a coding", "length *good chunks"),
    "6.1: the same of an older version or a connection that is closed anyway": (
        "length and coding in HTTP/1.0",
        "length, coding and a close",
        "a length that Connection names, and a coding",
    ),
    "6.3: without a length there is no body": ("length: none, and a body", "length: nought, and a body", "length: as *not"),
    "7.1: any number of digits, and extensions": ("chunk size: a hundred noughts before", "chunk size: an endless extension"),
    "RFC 9110 8.4 and 10.1.1: for the instance to know": ("a coded body", "an expectation *", "two expectations"),
    "3, 5.4: bounds are each recipient's own": ("a target of *", "a query of *", "a value of *", "a name of *", "300 fields*"),
}
REFUSED = (
    "hop: Connection names the host",
    "hop: Connection names it all",
    "an offer to upgrade: *",
    "two, but the first is HTTP/1.0",
    "trailer: *, which nobody heeds",
)
"""Cases that clients MUST NOT send, or that ask for what a recipient need not have: the RFCs let it refuse them."""
EMPTY = (
    "target: TRACE",
    "length * a coding",
    "length and coding in HTTP/1.0",
    "length, coding and a close",
    "a length that Connection names, and a coding",
    "length: none, and a body",
    "length: nought, and a body",
    "length: as *",
    "a bare * before a length",
)
"""Cases that the RFCs let a recipient read as a request without a body."""
TWO = ("chunk: a hidden request behind a bare line feed",)
"""Cases that the RFCs let a recipient read as two requests."""
_FRAMING = {"close", "keep-alive", "host", "content-length", "transfer-encoding", ""}
_HOPS = {"keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"}


class Seen(NamedTuple):
    """What reached the instance: whole requests, and what of others or of no request at all."""

    whole: Sequence[Sent]
    begun: int
    """Requests that never became whole."""
    unreadable: Sequence[str]
    """Why something that came is no request that reads in one way."""


def _one_of(case: Case, names: Sequence[str]) -> bool:
    return any(fnmatchcase(case.name, name) for name in names)


def why_allowed(case: Case) -> str:
    """By which section the case may go on, though strictly it is refused; empty: it may not."""
    return next((why for why, names in ALLOWED.items() if _one_of(case, names)), "") if case.becomes == "refused" else ""


def counts(case: Case, reading: Reading) -> tuple[int, ...]:
    """How many requests may reach the instance."""
    strict = {"refused": (0,), "one": (1,), "either": (0, 1), "two": (2,)}[case.becomes]
    if reading == "rfc" and why_allowed(case):
        return (0, 1, 2) if _one_of(case, TWO) else (0, 1)
    return (0, *strict) if reading == "rfc" and _one_of(case, REFUSED) else strict


def fault(table: Table, case: Case, seen: Seen, status: int, reading: Reading) -> str:
    """What is wrong with what became of a case; `status` of its first answer, 0 for none. Empty: nothing."""
    if seen.unreadable:
        return f"sent on: {seen.unreadable[0]}"
    if len(seen.whole) not in counts(case, reading):
        return f"{len(seen.whole)} requests were sent on, answered with {status}"
    if seen.begun and reading == "strict" and case.becomes == "refused":
        return f"a part of it was sent on, answered with {status}"
    for one, right in zip(seen.whole, (table.body, table.secret), strict=False):
        bodies = [right, b""] if reading == "rfc" and _one_of(case, EMPTY) else [right]
        if not any(one.body == body or (body and _same_json(one.body, body)) for body in bodies):
            return f"another body was sent on: {one.body[:60]!r}"
        if not _asks_the_same(case, one):
            return f"another line was sent on: {one.line[:80]!r}"
        left = _named(case) | (_HOPS if reading == "strict" else set())
        if kept := left.intersection(name for name, _ in one.headers):
            return f"sent on, though it is for one hop only: {', '.join(sorted(kept))}"
    if seen.whole:
        return "" if status == 200 else f"it was sent on, and answered with {status}"
    return "" if status == 0 or 300 <= status < 600 else f"it was answered with {status}"


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def _named(case: Case) -> set[str]:
    """The fields that the case's Connection names, but for framing."""
    names: set[str] = set()
    for line in case.raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        if name.lower() == "connection":
            names |= {one.strip().lower() for one in value.split(",")}
    return names - _FRAMING


def _asks_the_same(case: Case, sent: Sent) -> bool:
    """The method and the path are the case's, or for a line without two of them those of every good case."""
    method, path, _ = sent.line.split(" ")
    words = re.split(r"[ \t\x0b\x0c\r\n\0]+", case.raw.decode("latin-1").lstrip("\0\r\n \t"), maxsplit=3)
    return method == words[0] and _plain(path) == _plain(words[1])


def _plain(target: str) -> str:
    """A target as its path reads when nobody cares: decoded, without dots, doubled slashes, query and fragment."""
    path = urlsplit(target).path if re.match(r"[a-z]+:", target) else target.partition("?")[0].partition("#")[0]
    steps: list[str] = []
    for step in unquote(path, "latin-1").replace("\\", "/").split("/"):
        if step == "..":
            del steps[-1:]
        elif step not in ("", "."):
            steps.append(step)
    return "/" + "/".join(steps)


def read_request(data: bytes) -> tuple[Sent, int] | None:
    """The request at the start of these bytes and its length; None: more are needed. ValueError with what makes it unreadable."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        return None
    line, *lines = head.split(b"\r\n")
    if not _LINE.fullmatch(line):
        raise ValueError(f"the line {line[:60]!r}")
    fields = []
    for each in lines:
        field = _FIELD.fullmatch(each)
        if field is None:
            raise ValueError(f"the field {each[:60]!r}")
        fields.append((field[1].decode().lower(), field[2].decode("latin-1")))
    hosts = [value for name, value in fields if name == "host"]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise ValueError(f"the hosts {hosts}")
    framing = [pair for pair in fields if pair[0] in ("content-length", "transfer-encoding")]
    sized = len(framing) == 1 and framing[0][0] == "content-length" and re.fullmatch("[0-9]{1,20}", framing[0][1])
    if framing and not sized and [(name, value.lower()) for name, value in framing] != [("transfer-encoding", "chunked")]:
        raise ValueError(f"the lengths {framing}")
    if framing and not sized:
        got = _read_chunks(rest)
    else:
        size = int(framing[0][1]) if framing else 0
        got = (rest[:size], size) if len(rest) >= size else None
    if got is None:
        return None
    return Sent(line.decode(), fields, got[0]), len(head) + 4 + got[1]


def _read_chunks(data: bytes) -> tuple[bytes, int] | None:
    body, at = b"", 0
    while (end := data.find(b"\r\n", at)) >= 0:
        text = data[at:end]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", text):
            raise ValueError(f"the chunk size {text[:40]!r}")
        size, at = int(text, 16), end + 2
        if not size:
            trailer, found, _ = data[at - 2 :].partition(b"\r\n\r\n")
            for line in trailer.split(b"\r\n")[1:] if found else ():
                if not _FIELD.fullmatch(line):
                    raise ValueError(f"the trailer {line[:40]!r}")
            return (body, at + len(trailer) + 2) if found else None
        if len(data) < at + size + 2:
            return None
        if data[at + size : at + size + 2] != b"\r\n":
            raise ValueError("a chunk that is longer than it says")
        body, at = body + data[at : at + size], at + size + 2
    return None
