"""How a line of the access log looks: the receipt's own JSON, the Combined Log Format of web servers, or logfmt.

Each takes whole lines of JSON as they were journaled and gives lines that nobody can forge: whatever stands in a path or a name,
one receipt is one line, and none of its fields can end before its end. This module knows no file and no receipt's meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from slmgate.control.gatelog import visible

Name = Literal["json", "combined", "logfmt"]
NAMES: tuple[Name, ...] = ("json", "combined", "logfmt")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# What may stand in a field of the Combined format as it is: visible ASCII but for what ends a field or begins an escape.
_PLAIN = re.compile(r"[!#-Z^-~]*")
# What may stand between quotes, as nginx and Apache have it.
_QUOTED = re.compile(r"[ !#-\[\]-~]*")
_BARE = re.compile(r"[A-Za-z0-9_./:@+,#~*%;()-]+")
"""What logfmt has without quotes."""


class _Seen(msgspec.Struct, gc=False):
    """What the Combined format has of a receipt."""

    time: str
    address: str = ""
    bytes_out: int = 0
    method: str = ""
    path: str = ""
    status: int = 0
    verdict: str = ""
    principal: str = ""
    referer: str | None = None
    user_agent: str | None = None


_seen = msgspec.json.Decoder(_Seen).decode
_seen_lines = msgspec.json.Decoder(_Seen).decode_lines
_encode = msgspec.json.Encoder().encode


def as_json(lines: bytes) -> bytes:
    """The receipts themselves, safe for terminals."""
    return visible(lines)


def combined(lines: bytes) -> bytes:
    """The Combined Log Format. Referer and User-Agent stand in lines of requests that were made while it was configured.

    Copies of requests (`shadow`) are left out, as web servers leave out requests of their own making. What cannot be read is too.
    """
    try:
        receipts = _seen_lines(lines)
    except msgspec.MsgspecError:
        receipts = [seen for line in lines.splitlines() if (seen := _read(line)) is not None]
    return "".join([_combined(one) for one in receipts if one.verdict != "shadow"]).encode()


def logfmt(lines: bytes) -> bytes:
    """`name=value` with a space between; what is empty is left out."""
    return b"".join([_logfmt(line) for line in lines.splitlines()])


FORMATS: dict[Name, Callable[[bytes], bytes]] = {"json": as_json, "combined": combined, "logfmt": logfmt}

_NOTE = b'{"dropped":%d,"message":"lines of the access log could not be written"}\n'


def note(name: Name, dropped: int) -> bytes:
    """What the log itself says of lines that it could not keep; nothing where the format has no room for that."""
    return b"" if name == "combined" else FORMATS[name](_NOTE % dropped)


def _read(line: bytes) -> _Seen | None:
    try:
        return _seen(line)
    except msgspec.MsgspecError:
        return None


def _combined(one: _Seen) -> str:
    request = f"{_field(one.method)} {_field(one.path)} HTTP/1.1" if one.method else "-"
    user = _field(one.principal) if one.principal != "-" else "\\x2D"
    who = f"{_field(one.address) or '-'} - {user or '-'}"
    told = f'"{_quoted(one.referer)}" "{_quoted(one.user_agent)}"'
    return f'{who} [{_moment(one.time)}] "{request}" {one.status:03} {one.bytes_out} {told}\n'


def _field(text: str) -> str:
    """Text in which nothing ends a field: every other byte (of UTF-8) as `\\xHH`."""
    return text if _PLAIN.fullmatch(text) else _escaped(text, _PLAIN)


def _quoted(text: str | None) -> str:
    """The same of what stands between quotes, where a blank ends nothing; `-`: there was none."""
    return "-" if text is None else text if _QUOTED.fullmatch(text) else _escaped(text, _QUOTED)


def _escaped(text: str, plain: re.Pattern[str]) -> str:
    return "".join([chr(byte) if plain.fullmatch(chr(byte)) else f"\\x{byte:02X}" for byte in text.encode("utf-8", "replace")])


def _moment(time: str) -> str:
    """A receipt's time, which is UTC, as web servers write it: months in English, whatever the locale."""
    return f"{time[8:10]}/{_MONTHS[int(time[5:7]) - 1]}/{time[:4]}:{time[11:19]} +0000"


def _logfmt(line: bytes) -> bytes:
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        return b""
    pairs = [b"%b=%b" % (name.encode(), _value(value)) for name, value in fields.items() if value is not None and value != ""]
    return b" ".join(pairs) + b"\n"


def _value(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode() if _BARE.fullmatch(value) else visible(_encode(value))
    return _encode(value)
