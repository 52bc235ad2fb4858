"""Request heads checked, and heads built for both sides: what passes, what is dropped, what the gate says itself.

Nothing is copied raw. A request for an instance is written anew from an allow-list, with the gate's own framing, host and
credential; an answer for a client likewise. This module knows no socket and no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus

import msgspec

from slmgate.http1.trace_context import FIELDS as TRACE_FIELDS
from slmgate.terms import Refuse

REQUEST_FIELDS_PASSED = (
    b"accept",
    b"user-agent",
    b"anthropic-version",
    b"anthropic-beta",
    b"traceparent",
    b"tracestate",
)
"""The only request fields that an instance sees from a client. No credential, cookie, address or coding is among them."""

ANSWER_FIELDS_PASSED = (b"content-type", b"cache-control", b"content-disposition", b"content-language", b"retry-after")
"""The only fields of an instance's answer that a client sees. None can name a host or a software: see `_ANSWER_VALUES`."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}))(?::[0-9]{1,5})?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_MEDIA_TYPE = re.compile(rb"[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64}(?:;[ \t]*charset=\"?[A-Za-z0-9_-]{1,32}\"?)?")
_ANSWER_VALUES = {
    b"content-type": _MEDIA_TYPE,
    b"cache-control": re.compile(rb"[A-Za-z0-9=, -]{1,128}"),
    b"content-disposition": re.compile(
        rb"(?:inline|attachment)(?:;[ \t]*filename=\"?[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9]{1,8})?\"?)?"
    ),
    b"content-language": re.compile(rb"[A-Za-z0-9, -]{1,128}"),
    b"retry-after": re.compile(rb"[0-9]{1,9}|[A-Za-z0-9,: ]{20,40}"),
}
"""What their values may be, whole: no path, no address, nothing beyond ASCII."""
_ONCE = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"expect",
        b"x-request-id",
    )
)

REMEMBERED_SETS = 512
REMEMBERED_NAMES = 40
REMEMBERED_LINE = 256

STATUS_LINES: dict[int, bytes] = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class RequestHead(msgspec.Struct):
    """One request's head. `fields` have lower-case names and values without blanks around them; `minor` is the HTTP version's.

    `passed` are the names of those fields that an instance will see.
    """

    method: str
    path: str
    fields: dict[bytes, bytes]
    minor: int
    keep_alive: bool
    passed: tuple[bytes, ...] = ()


class AnswerHead(msgspec.Struct):
    """One head of an instance's answer. `framing` is the body's length, `CHUNKED` or `UNTIL_CLOSE` (`http1/framing.py`).

    `passed` are the header lines that the client sees. `reusable`: the connection may serve again after the body.
    """

    status: int
    content_type: bytes
    passed: bytes
    framing: int
    reusable: bool


class FieldNames:
    """Field names in lower case, and which of them pass to the other side, looked up by a head's names as they came.

    Peers send the same set of names over and over, so what was worked out once is kept: a bounded number of sets of bounded
    size, thrown away together when there are too many.
    """

    __slots__ = ("_allowed", "_known")

    def __init__(self, allowed: tuple[bytes, ...]) -> None:
        self._allowed = allowed
        self._known: dict[tuple[bytes, ...], tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {}

    def look(self, names: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """The names in lower case, in their order, and those of them that pass. The same name may come out twice."""
        found = self._known.get(names)
        if found is None:
            lowered = tuple([name.lower() for name in names])
            found = lowered, tuple([name for name in self._allowed if name in lowered])
            if len(names) <= REMEMBERED_NAMES:
                if len(self._known) >= REMEMBERED_SETS:
                    self._known.clear()
                self._known[names] = found
        return found


class HeadReader:
    """Reads request heads behind llhttp, which has checked their tokens; what it leaves open is checked here.

    That is: one space in the request line, the version, one valid Host, fields that may come only once, folded lines, bare
    line feeds. One reader serves all connections of a worker; it keeps nothing of a request but request lines, hosts and
    sets of names that were found good, each a bounded number.
    """

    __slots__ = ("_hosts", "_lines", "_names")

    def __init__(self) -> None:
        self._names = FieldNames(REQUEST_FIELDS_PASSED)
        self._lines: dict[bytes, tuple[str, str, int]] = {}
        self._hosts: set[bytes] = set()

    def read(self, head: bytes, raw: Mapping[bytes, bytes]) -> RequestHead | Refuse:
        """A request's head from its bytes (without the empty line) and the fields that llhttp found in it.

        `raw` has lost fields that came twice under one name; by the number of lines this is noticed, and they are read again.
        """
        line_end = head.find(b"\r\n")
        line = head if line_end < 0 else head[:line_end]
        known = self._lines.get(line)
        if known is None:
            read = self._read_line(line, raw)
            if isinstance(read, Refuse):
                return read
            known = read
        method, path, minor = known
        lowered, passed = self._names.look(tuple(raw))
        fields = dict(zip(lowered, raw.values(), strict=True))
        # llhttp leaves the blanks behind a value (RFC 9110 section 5.5)
        if len(fields) != head.count(b"\r\n") or b"\t" in head or b" \r" in head or head.endswith(b" "):
            again = _read_fields(head[line_end + 2 :] if line_end >= 0 else b"")
            if isinstance(again, Refuse):
                return again
            fields = again
        host = fields.get(b"host")
        if host not in self._hosts and not self._is_good_host(host, minor):
            return Refuse("invalid_request", "The Host header is missing or not valid.")
        connection = fields.get(b"connection")
        if connection is None:
            keep_alive = minor == 1
        else:
            options = {option.strip(b" \t") for option in connection.lower().split(b",")}
            passed = tuple(
                [name for name in passed if name not in options]
            )  # those are for this hop only (RFC 9110 section 7.6.1)
            keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options)
        return RequestHead(method, path, fields, minor, keep_alive, passed)

    def _read_line(self, line: bytes, raw: Mapping[bytes, bytes]) -> tuple[str, str, int] | Refuse:
        """Method, path and minor version of a request line that was not seen before."""
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            return Refuse("invalid_request", "The request line is malformed.")
        method, target, major, minor = found.groups()
        if major != b"1" or minor not in (b"0", b"1"):
            return Refuse("version_not_supported", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        absolute = target[:1] != b"/" and target != b"*"
        if absolute:
            # absolute-form (RFC 9112 section 3.2.2): accepted where it says the same as Host
            hosts = [value for name, value in raw.items() if name.lower() == b"host"]
            prefix = b"http://" + b"".join(hosts) + b"/"
            if len(hosts) != 1 or not hosts[0] or not target.lower().startswith(prefix.lower()):
                return Refuse("invalid_request", "The request target is not a path.")
            target = target[len(prefix) - 1 :]
        path = target.partition(b"?")[0].decode()
        known = method.decode(), path, 1 if minor == b"1" else 0
        if not absolute and len(line) <= REMEMBERED_LINE:
            if len(self._lines) >= REMEMBERED_SETS:
                self._lines.clear()
            self._lines[line] = known
        return known

    def _is_good_host(self, host: bytes | None, minor: int) -> bool:
        if host is None:
            return minor == 0
        if not _HOST.fullmatch(host):
            return False
        if len(self._hosts) >= REMEMBERED_SETS:
            self._hosts.clear()
        self._hosts.add(host)
        return True


def _read_fields(lines: bytes) -> dict[bytes, bytes] | Refuse:
    """The fields of a head in which a name comes twice, joined as RFC 9110 section 5.3 says, or refused where it may not."""
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n") if lines else ():
        found = _FIELD.fullmatch(line)
        if found is None:
            return Refuse("invalid_request", "A header line is malformed.")
        name, value = found[1].lower(), found[2].strip(b" \t")
        if name in fields:
            if name in _ONCE:
                return Refuse("invalid_request", f"The {name.decode()} header may come only once.")
            value = fields[name] + b", " + value
        fields[name] = value
    return fields


def sane_request_id(value: bytes | None) -> bytes | None:
    """The client's own request id if it is short and harmless in logs, headers and JSON strings, else None."""
    return value if value is not None and _REQUEST_ID.fullmatch(value) else None


def client_fields(head: RequestHead, content_type: bytes, traced: bool = False) -> bytes:
    """The fields of a client's request that go on, whichever instance it goes to.

    `traced`: the gate says itself which trace the request is part of, so that the client's word on it stays behind.
    """
    fields = head.fields
    passed = b""
    for name in head.passed:
        if not (traced and name in TRACE_FIELDS):
            passed += b"%b: %b\r\n" % (name, fields[name])
    return b"%bcontent-type: %b\r\n" % (passed, content_type)


def upstream_request(line: bytes, instance: bytes, client: bytes, request_id: bytes, body: bytes) -> bytes:
    """A whole request for an instance, from parts that were made before.

    `line` is its request line (`request_line`), `instance` the instance's own fields (`instance_fields`), `client` what the
    client says besides (`client_fields`).
    """
    return b"%b%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (line, instance, client, request_id, len(body), body)


def request_line(method: str, path: str) -> bytes:
    """A request line with its line end."""
    return f"{method} {path} HTTP/1.1\r\n".encode()


def instance_fields(host: str, port: int, tls: bool, bearer: str | None) -> bytes:
    """The fields that are the same in every request to an instance: its host and the credential that the gate shows it.

    Without a word about codings any would be welcome (RFC 9110 section 12.5.3), and the gate has to read what it passes on.
    """
    name = f"[{host}]" if ":" in host else host
    default = 443 if tls else 80
    lines = f"host: {name}\r\n" if port == default else f"host: {name}:{port}\r\n"
    lines += "accept-encoding: identity\r\n"
    if bearer:
        lines += f"authorization: Bearer {bearer}\r\n"
    return lines.encode()


def answer_fields(fields: Mapping[bytes, bytes], names: tuple[bytes, ...]) -> bytes:
    """The header lines of an instance's answer that pass: those of `names` (`FieldNames(ANSWER_FIELDS_PASSED)` knows which)."""
    passed = b""
    for name in names:
        passed += _answer_line(name, fields[name])
    return passed


@lru_cache(REMEMBERED_SETS)
def _answer_line(name: bytes, value: bytes) -> bytes:
    """One line of them, or nothing where the value is none of those that the field is for."""
    if name == b"content-type":
        value = value if _MEDIA_TYPE.fullmatch(value) else value.partition(b";")[0].rstrip(b" \t")
    return b"%b: %b\r\n" % (name, value) if _ANSWER_VALUES[name].fullmatch(value) else b""


_TOLD = b"x-request-id: %b\r\nserver-timing: queue;dur=%b, upstream;dur=%d.%03d, gate;dur=%d.%03d\r\n"
_HEAD = b"%b%b%b%b" + _TOLD + b"\r\n"
_WHOLE = STATUS_LINES[200] + b"%b%bcontent-length: %d\r\n" + _TOLD + b"%b\r\n%b"


def answer_head(
    status: int, passed: bytes, date: bytes, request_id: bytes, waited: tuple[int, int, int], framing: bytes
) -> bytes:
    """The head of a forwarded answer, with its empty line.

    `passed`, `framing` and `date` are whole header lines; `waited` is the time in line, the instance's time to its first
    byte, and the gate's own before, in microseconds, for `server-timing` (W3C Server Timing, which counts in milliseconds).
    """
    queue, upstream, gate = waited
    return _HEAD % (
        STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status,
        date,
        passed,
        framing,
        request_id,
        b"%d.%03d" % (queue // 1000, queue % 1000) if queue else b"0",
        upstream // 1000,
        upstream % 1000,
        gate // 1000,
        gate % 1000,
    )


def whole_answer(
    passed: bytes, date: bytes, request_id: bytes, waited: tuple[int, int, int], fields: bytes, body: bytes
) -> bytes:
    """A forwarded answer of status 200 whose body is all there, put together in one go: `fields` are more header lines, and
    may be long. The rest as in `answer_head`.
    """
    # The times are written out here as they are there: nearly every answer comes this way, and would pay for a call.
    queue, upstream, gate = waited
    return _WHOLE % (
        date,
        passed,
        len(body),
        request_id,
        b"%d.%03d" % (queue // 1000, queue % 1000) if queue else b"0",
        upstream // 1000,
        upstream % 1000,
        gate // 1000,
        gate % 1000,
        fields,
        body,
    )
