"""Strict reading of a `multipart/form-data` body (RFC 7578, RFC 2046 section 5.1) for its text fields.

Where two readers could come to two different forms, the body is refused: text before the first or after the last
part, a field twice, escapes in a name, extended parameters but for a file's name, nested parts, encodings. Files are
stepped over, never copied. This module knows no endpoint; it does not know what a field is for.
"""

from __future__ import annotations

import re

import msgspec

from slmgate.dialects.body import GUARDED, unreadable
from slmgate.terms import Refuse

MAX_PARTS = 64
MAX_HEAD = 2048
"""Bytes of one part's headers."""

_TYPE = re.compile(r'multipart/form-data[ \t]*;[ \t]*boundary=(?:"([^"\\]{1,72})"|([^\s";,]{1,72}))[ \t]*', re.IGNORECASE)
# RFC 2046: 1 to 70 of these characters, the last of them no space.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_CHARACTER = r"[0-9A-Za-z!#$&+.^_`|~-]"
# A file's name may hold anything but a quote, a backslash before a quote, and line ends. Values may stand without quotes where
# that is a token (RFC 9110 section 5.6.6) without the characters of extended values, and behind a file's name the same again as
# one of these (RFC 8187): .NET writes both.
_DISPOSITION = re.compile(
    rf"""form-data[ \t]*;[ \t]*name=(?:"([^"\\]{{1,128}})"|([0-9A-Za-z_.-]{{1,128}}))"""
    rf"""(?:[ \t]*;[ \t]*filename=("[^"]{{0,512}}(?<!\\)"|{_CHARACTER}{{1,512}})"""
    rf"""(?:[ \t]*;[ \t]*filename\*=utf-8''(?:{_CHARACTER}|%[0-9A-F]{{2}}){{0,1536}})?)?[ \t]*""",
    re.IGNORECASE,
)
_PLAIN = re.compile(r'[^;]*(?:;[ \t]*charset="?utf-?8"?[ \t]*)?', re.IGNORECASE)
_HEADERS = frozenset(("content-disposition", "content-type", "content-length", "content-transfer-encoding"))


class Part(msgspec.Struct, frozen=True):
    """One part: its name, whether it is a file, and where it stands in the body.

    `start` is the first byte of its headers, `value` the first of its content, `end` the byte after its content.
    """

    name: str
    file: bool
    start: int
    value: int
    end: int


def boundary_of(content_type: str) -> bytes | Refuse:
    """The boundary that a Content-Type names, as its only parameter."""
    found = _TYPE.fullmatch(content_type)
    if found is None:
        kind = content_type.split(";")[0].strip().lower()
        if kind != "multipart/form-data":
            return Refuse("unsupported_media_type", "Send the body as multipart/form-data, with a boundary.")
        return unreadable("The boundary in Content-Type cannot be read: give one boundary of 1 to 70 characters.")
    boundary = found[1] or found[2]
    if not _BOUNDARY.fullmatch(boundary):
        return unreadable("The boundary in Content-Type must have 1 to 70 characters, all of them allowed by RFC 2046.")
    return boundary.encode("ascii")


def parts(body: bytes, boundary: bytes) -> tuple[Part, ...] | Refuse:
    """The parts of `body` in order, or a `Refuse` where they cannot be told in exactly one way."""
    opening = b"--" + boundary
    delimiter = b"\r\n" + opening
    if not body.startswith(opening + b"\r\n"):
        return unreadable("The body must begin with the boundary that Content-Type names.")
    found: list[Part] = []
    names: set[str] = set()
    start = len(opening) + 2
    while len(found) < MAX_PARTS:
        head = body.find(b"\r\n\r\n", start, start + MAX_HEAD)
        if head < 0:
            return unreadable("A part of the form has no headers, or too many: send one Content-Disposition for each part.")
        end = body.find(delimiter, head + 2)
        if end < 0:
            return unreadable("The form has no end: the last boundary, with two hyphens after it, is missing.")
        part = _part(body[start:head], start, head + 4, end)
        if isinstance(part, Refuse):
            return part
        folded = part.name.casefold()
        if folded in names and not part.name.endswith("[]"):
            return unreadable(f"The form field {_shown(folded)} comes twice: send each field once.", _param(folded))
        if folded in GUARDED and (part.file or part.name != folded):
            return unreadable(f"The form field {folded} must be a plain field of that name.", folded)
        names.add(folded)
        found.append(part)
        start = end + len(delimiter) + 2
        after = body[start - 2 : start]
        if after == b"--":
            if body[start:] not in (b"", b"\r\n"):
                return unreadable("There is something after the end of the form: send nothing after its last boundary.")
            # Some readers end lines with a bare LF or CR: a boundary anywhere else could be one for them.
            if body.count(opening) != len(found) + 1:
                return unreadable("The boundary occurs within a part of the form: choose another boundary.")
            return tuple(found)
        if after != b"\r\n":
            return unreadable("A boundary is followed by something other than a line end.")
    return unreadable(f"The form has more than {MAX_PARTS} parts.")


def texts(body: bytes, form: tuple[Part, ...]) -> dict[str, str | list[str]] | Refuse:
    """The text fields; a name that ends in `[]` gives the list of its values."""
    plain: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    for part in form:
        if part.file:
            continue
        try:
            text = body[part.value : part.end].decode("utf-8")
        except UnicodeDecodeError:
            return unreadable(f"The form field {_shown(part.name)} is not valid UTF-8.", _param(part.name))
        if part.name.endswith("[]"):
            lists.setdefault(part.name, []).append(text)
        else:
            plain[part.name] = text
    return {**plain, **lists}


def rebuild(body: bytes, form: tuple[Part, ...], name: str, value: str) -> bytes:
    """`body` with the field `name` written anew with `value`; no other byte changes."""
    for part in form:
        if part.name == name:
            head = f'Content-Disposition: form-data; name="{name}"\r\n\r\n'
            return b"%b%b%b%b" % (body[: part.start], head.encode(), value.encode(), body[part.end :])
    return body


def _part(head: bytes, start: int, value: int, end: int) -> Part | Refuse:
    headers: dict[str, str] = {}
    if value > end:
        return unreadable("A part of the form ends within its headers.")
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        return unreadable("The headers of a part of the form are not valid UTF-8.")
    for line in lines:
        name, colon, text = line.partition(":")
        name, text = name.lower(), text.strip(" \t")  # of other white space, some is a line's end to some readers
        if not colon or name not in _HEADERS or name in headers or not text.isprintable():
            return unreadable("A part of the form has a header that is malformed, repeated, or has no place there.")
        headers[name] = text
    disposition = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
    if disposition is None:
        return unreadable('Each part of the form needs one header Content-Disposition: form-data; name="…".')
    named, file = disposition[1] or disposition[2], disposition[3] is not None
    kind = headers.get("content-type", "")
    coding = headers.get("content-transfer-encoding", "binary").lower()
    if kind.lower().startswith("multipart/") or coding not in ("binary", "8bit", "7bit"):
        return unreadable("A part of the form is nested or encoded: send each field plainly.")
    if not file and not _PLAIN.fullmatch(kind):
        return unreadable("A text field of the form has a charset other than UTF-8.")
    if named == "_charset_":
        return unreadable("The form names a charset: send all text in UTF-8 and leave the field _charset_ out.")
    return Part(named, file, start, value, end)


def _param(name: str) -> str | None:
    return name if name in GUARDED else None


def _shown(name: str) -> str:
    # Only names that we know are shown again: a client's own could be anything.
    return name if name in GUARDED else "at fault"
