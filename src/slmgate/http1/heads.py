"""Request heads checked, and heads built for both sides: what passes, what is dropped, what the gate says itself.

Nothing is copied raw. A request for an instance is written anew from an allow-list, with the gate's own framing, host and
credential; an answer for a client likewise. This module knows no socket and no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from slmgate.terms import Refuse

REQUEST_FIELDS_PASSED = (
    b"content-type",
    b"accept",
    b"user-agent",
    b"anthropic-version",
    b"anthropic-beta",
    b"traceparent",
    b"tracestate",
)
"""The only request fields that an instance sees from a client. No credential, cookie, address or coding is among them."""

ANSWER_FIELDS_PASSED = (b"content-type", b"cache-control", b"content-disposition", b"content-language", b"retry-after")
"""The only fields of an instance's answer that a client sees. None can name a host or a software."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}))(?::[0-9]{1,5})?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_ONCE = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"content-type",
        b"expect",
        b"x-request-id",
    )
)

STATUS_LINES: dict[int, bytes] = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}


class RequestHead(msgspec.Struct):
    """One request's head. `fields` have lower-case names and values without blanks around them; `minor` is the HTTP version's."""

    method: str
    path: str
    fields: dict[bytes, bytes]
    minor: int
    keep_alive: bool


def read_request_head(head: bytes, raw_fields: Mapping[bytes, bytes], count: int) -> RequestHead | Refuse:
    """A request's head from its bytes (without the empty line) and the fields that llhttp found in it.

    `raw_fields` may have lost fields that came twice; `count` is the number of header lines, so that this is noticed and
    the lines are read again one by one. llhttp checks tokens; here is what it leaves open: one space in the request line,
    the version, one valid Host, fields that may come only once, folded lines, bare line feeds.
    """
    line_end = head.find(b"\r\n")
    line = _REQUEST_LINE.fullmatch(head if line_end < 0 else head[:line_end])
    if line is None:
        return Refuse("invalid_request", "The request line is malformed.")
    method, target, major, minor = line.groups()
    if major != b"1" or minor not in (b"0", b"1"):
        return Refuse("version_not_supported", "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
    fields = {name.lower(): value.strip(b" \t") for name, value in raw_fields.items()}
    if len(fields) != count:
        again = _read_fields(head[line_end + 2 :])
        if isinstance(again, Refuse):
            return again
        fields = again
    host = fields.get(b"host")
    if host is None:
        if minor == b"1":
            return Refuse("invalid_request", "The Host header is missing.")
    elif not _HOST.fullmatch(host):
        return Refuse("invalid_request", "The Host header is not valid.")
    if target[:1] != b"/" and target != b"*":
        # absolute-form (RFC 9112 section 3.2.2): accepted where it says the same as Host
        prefix = b"http://" + (host or b"") + b"/"
        if not host or not target.lower().startswith(prefix.lower()):
            return Refuse("invalid_request", "The request target is not a path.")
        target = target[len(prefix) - 1 :]
    path, _, _ = target.partition(b"?")
    connection = fields.get(b"connection")
    if connection is None:
        keep_alive = minor == b"1"
    else:
        options = {option.strip(b" \t") for option in connection.lower().split(b",")}
        keep_alive = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    return RequestHead(method.decode(), path.decode(), fields, 1 if minor == b"1" else 0, keep_alive)


def _read_fields(lines: bytes) -> dict[bytes, bytes] | Refuse:
    """The fields of a head in which a name comes twice, joined as RFC 9110 section 5.3 says, or refused where it may not."""
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n"):
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


def sane_request_id(value: bytes | None) -> str | None:
    """The client's own request id if it is short and harmless in logs and headers, else None."""
    return value.decode() if value is not None and _REQUEST_ID.fullmatch(value) else None


def upstream_request(method: str, path: str, fields: Mapping[bytes, bytes], prefix: bytes, request_id: str, body: bytes) -> bytes:
    """A whole request for an instance. `prefix` is that instance's own fields, made once by `instance_fields`."""
    passed = b""
    for name in REQUEST_FIELDS_PASSED:
        if name in fields:
            passed += b"%b: %b\r\n" % (name, fields[name])
    return b"%b %b HTTP/1.1\r\n%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        method.encode(),
        path.encode(),
        prefix,
        passed,
        request_id.encode(),
        len(body),
        body,
    )


def instance_fields(host: str, port: int, tls: bool, bearer: str | None) -> bytes:
    """The fields that are the same in every request to an instance: its host and the credential that the gate shows it."""
    name = f"[{host}]" if ":" in host else host
    default = 443 if tls else 80
    lines = f"host: {name}\r\n" if port == default else f"host: {name}:{port}\r\n"
    if bearer:
        lines += f"authorization: Bearer {bearer}\r\n"
    return lines.encode()


def answer_head(
    status: int, fields: Mapping[bytes, bytes], date: bytes, request_id: str, waited: tuple[int, int], framing: bytes
) -> bytes:
    """The head of a forwarded answer, with its empty line.

    `framing` and `date` are whole header lines; `waited` is the time in line and the instance's time to its first byte, in
    microseconds, for `server-timing` (W3C Server Timing, which counts in milliseconds).
    """
    passed = b""
    for name in ANSWER_FIELDS_PASSED:
        if name in fields:
            passed += b"%b: %b\r\n" % (name, fields[name])
    queue, upstream = waited
    return b"%b%b%b%bx-request-id: %b\r\nserver-timing: queue;dur=%d.%03d, upstream;dur=%d.%03d\r\n\r\n" % (
        STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status,
        date,
        passed,
        framing,
        request_id.encode(),
        queue // 1000,
        queue % 1000,
        upstream // 1000,
        upstream % 1000,
    )
