"""Malformed and ambiguous requests: a table of name, bytes, what must become of them, and the section that says so.

A gate and the instance behind it must never read the same bytes as different requests. So each of these is refused, with nothing
sent on, or is sent on as exactly one request that can be read in one way only. Two readings of the RFCs are held to at once:
what a recipient MAY take or refuse may be either here, and what it MUST or SHOULD refuse is refused. It opens no socket; what
sends the table to a gate is `tests/dataplane/test_client_ambiguous.py` (cut at every byte) and `tests/system/test_ambiguous.py`.
Length: one table, read as one, in the order of a request: line, target, Host, fields, lengths, codings, chunks, what is behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

Becomes = Literal["refused", "one", "either", "two"]
"""`either`: refused, or sent on as one. `two`: it is two requests, and both are sent on."""


LINE, HOST = b"POST /v1/chat/completions HTTP/1.1", b"Host: gate.test"


class Case(NamedTuple):
    name: str
    raw: bytes
    becomes: Becomes
    section: str
    """Of an RFC (9112 where only a section stands here), or what else says so."""


class Sent(NamedTuple):
    """A request as an instance saw it; field names are in lower case."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes


class Table:
    """The table for a gate that knows this key and model; `BODY` of a case is `body`, and what it hides is `hidden`."""

    def __init__(self, key: bytes, model: str) -> None:
        self.key = b"Authorization: Bearer " + key
        self.body = json.dumps({"model": model, "messages": [{"role": "user", "content": "open"}]}).encode()
        """What every good case asks."""
        self.secret = json.dumps({"model": model, "messages": [{"role": "user", "content": "SMUGGLED"}]}).encode()
        """What reaches an instance only where two requests were sent in two."""
        self.hidden = self.post(b"Content-Length: %d" % len(self.secret), body=self.secret)
        self.length = b"Content-Length: %d" % len(self.body)

    def post(
        self,
        *fields: bytes,
        body: bytes | None = None,
        line: bytes = LINE,
        host: bytes | None = HOST,
        end: bytes = b"\r\n",
    ) -> bytes:
        """A request with these fields beside its host and key; `body` None: the good one."""
        lines = [line, *([] if host is None else [host]), self.key, *fields]
        return end.join(lines) + 2 * end + (self.body if body is None else body)

    def sized(
        self,
        *fields: bytes,
        body: bytes | None = None,
        line: bytes = LINE,
        host: bytes | None = HOST,
        end: bytes = b"\r\n",
    ) -> bytes:
        """The same with the good one's Content-Length."""
        return self.post(*fields, self.length, body=body, line=line, host=host, end=end)

    def chunks(self, *pieces: bytes) -> bytes:
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)

    def chunked(self, body: bytes, *fields: bytes) -> bytes:
        return self.post(*fields, b"Transfer-Encoding: chunked", body=body)

    @property
    def good_chunks(self) -> bytes:
        return self.chunks(self.body) + b"0\r\n\r\n"

    def fault(self, case: Case, sent: Sequence[Sent], status: int) -> str:
        """What is wrong with what became of a case: what was sent on, and the status of its first answer (0: it had none, and the
        connection is closed). Empty: nothing."""
        for one, right in zip(sent, (self.body, self.secret), strict=False):
            if one.line != "POST /v1/chat/completions HTTP/1.1" or json.loads(one.body) != json.loads(right):
                return f"another request was sent on: {one}"
            framing = [pair for pair in one.headers if pair[0] in ("content-length", "transfer-encoding")]
            if framing != [("content-length", str(len(one.body)))]:
                return f"what was sent on says otherwise how long it is: {framing}"
        counts = {"refused": (0,), "one": (1,), "either": (0, 1), "two": (2,)}[case.becomes]
        if len(sent) not in counts:
            return f"{len(sent)} requests were sent on, answered with {status}"
        if sent:
            return "" if status == 200 else f"it was sent on, and answered with {status}"
        return "" if 400 <= status < 600 else f"it was answered with {status}"

    def cases(self) -> list[Case]:
        return [
            *self.lines(),
            *self.versions(),
            *self.targets(),
            *self.hosts(),
            *self.field_lines(),
            *self.line_ends(),
            *self.lengths(),
            *self.codings(),
            *self.both(),
            *self.sizes(),
            *self.chunk_data(),
            *self.trailers(),
            *self.hops(),
            *self.behind(),
            *self.bounds(),
        ]

    # -- the request line

    def lines(self) -> Iterator[Case]:
        path = b"/v1/chat/completions"
        bad = {
            "two spaces before the target": b"POST  %b HTTP/1.1",
            "two spaces before the version": b"POST %b  HTTP/1.1",
            "a blank before the method": b" POST %b HTTP/1.1",
            "a tab before the method": b"\tPOST %b HTTP/1.1",
            "a tab for the first space": b"POST\t%b HTTP/1.1",
            "a tab for the second space": b"POST %b\tHTTP/1.1",
            "a vertical tab for a space": b"POST\x0b%b HTTP/1.1",
            "a form feed for a space": b"POST %b\x0cHTTP/1.1",
            "a carriage return for a space": b"POST\r%b HTTP/1.1",
            "a blank behind the version": b"POST %b HTTP/1.1 ",
            "a tab behind the version": b"POST %b HTTP/1.1\t",
            "a word behind the version": b"POST %b HTTP/1.1 x",
            "no version": b"POST %b",
            "no version but its blank": b"POST %b ",
            "no target": b"POST HTTP/1.1",
            "no method": b"%b HTTP/1.1",
            "a blank in the target": b"POST %b /x HTTP/1.1",
            "a null behind the method": b"POST\0 %b HTTP/1.1",
            "a null in the target": b"POST %b\0 HTTP/1.1",
            "a null behind the version": b"POST %b HTTP/1.1\0",
            "a control in the target": b"POST %b\x01 HTTP/1.1",
            "a delete in the target": b"POST %b\x7f HTTP/1.1",
            "bytes over 127 in the target": b"POST %b\xc3\xa4 HTTP/1.1",
            "a no-break space for a space": b"POST\xa0%b HTTP/1.1",
            "a colon in the method": b"PO:ST %b HTTP/1.1",
            "brackets about the method": b"(POST) %b HTTP/1.1",
            "quotes about the method": b'"POST" %b HTTP/1.1',
            "a byte over 127 in the method": b"POST\xff %b HTTP/1.1",
            "a status line": b"HTTP/1.1 200 OK",
            "a method in small letters": b"post %b HTTP/1.1",
            "a method of no API": b"BREW %b HTTP/1.1",
            "a method with a tail": b"POSTS %b HTTP/1.1",
            "an endless method": b"P" * 500 + b" %b HTTP/1.1",
        }
        for name, line in bad.items():
            made = line.replace(b"%b", path)
            yield Case(name, self.sized(line=made), "refused", "3")
        yield Case("a carriage return too many", self.sized(line=b"POST %b HTTP/1.1\r" % path), "refused", "2.2")
        yield Case("a bare line feed ends the line", b"POST %b HTTP/1.1\n" % path + self.sized(line=b"X: y"), "refused", "2.2")
        yield Case("a bare carriage return ends it", b"POST %b HTTP/1.1\r" % path + self.sized(line=b"X: y"), "refused", "2.2")
        yield Case("an empty line before", b"\r\n" + self.sized(), "one", "2.2")
        yield Case("bare line feeds before", b"\n\n" + self.sized(), "refused", "2.2")
        yield Case("a blank line before", b" \r\n" + self.sized(), "refused", "2.2")
        yield Case("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused", "RFC 9113 3.4")
        yield Case("TLS where none is spoken", b"\x16\x03\x01\x00\x05hello", "refused", "3")
        yield Case("SOCKS 4", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "refused", "3")
        yield Case("SMTP", b"EHLO gate.test\r\n\r\n", "refused", "3")

    def versions(self) -> Iterator[Case]:
        bad = (
            b"HTTP/0.9",
            b"HTTP/1",
            b"HTTP/1.",
            b"HTTP/.1",
            b"HTTP/1.10",
            b"HTTP/1.01",
            b"HTTP/01.1",
            b"HTTP/+1.1",
            b"HTTP/-1.1",
            b"HTTP/1.+1",
            b"HTTP/1.x",
            b"HTTP/1,1",
            b"HTTP/11",
            b"HTTP/1. 1",
            b"HTTP /1.1",
            b"HTTP/ 1.1",
            b"http/1.1",
            b"Http/1.1",
            b"HTTPS/1.1",
            b"ICE/1.0",
            b"RTSP/1.0",
            b"HTTP/2.0",
            b"HTTP/2",
            b"HTTP/3.0",
            b"HTTP/9.9",
            b"HTTP/4294967297.1",
            b"HTTP/1.4294967297",
        )
        for version in bad:
            line = b"POST /v1/chat/completions " + version
            yield Case(f"version {version.decode()}", self.sized(line=line), "refused", "2.3")
        yield Case("version HTTP/1.2", self.sized(line=b"POST /v1/chat/completions HTTP/1.2"), "either", "RFC 9110 2.5")

    def targets(self) -> Iterator[Case]:
        bad = {
            "another host": b"http://other.test/v1/chat/completions",
            "another host's port": b"http://gate.test:81/v1/chat/completions",
            "another scheme": b"https://gate.test/v1/chat/completions",
            "a file": b"file:///v1/chat/completions",
            "no host": b"http:///v1/chat/completions",
            "one slash": b"http:/v1/chat/completions",
            "user and password": b"http://a:b@gate.test/v1/chat/completions",
            "the host as user": b"http://gate.test@other.test/v1/chat/completions",
            "authority form": b"gate.test:80",
            "asterisk": b"*",
            "no slash": b"v1/chat/completions",
            "two slashes": b"//v1/chat/completions",
            "a host behind two slashes": b"//gate.test/v1/chat/completions",
            "two slashes within": b"/v1//chat/completions",
            "a slash at the end": b"/v1/chat/completions/",
            "dots": b"/v1/../v1/chat/completions",
            "a dot": b"/./v1/chat/completions",
            "coded dots": b"/v1/%2e%2e/v1/chat/completions",
            "a coded slash": b"/v1/chat%2fcompletions",
            "a coded letter": b"/v1/c%68at/completions",
            "a coded null": b"/v1/chat/completions%00",
            "a coded line end": b"/v1/chat/completions%0d%0aX:%20y",
            "a backslash": b"/v1\\chat\\completions",
            "a semicolon": b"/v1/chat/completions;x=y",
            "capitals": b"/V1/Chat/Completions",
            "a question mark before": b"?/v1/chat/completions",
            "a bad code": b"/v1/chat/completions%zz",
        }
        for name, target in bad.items():
            yield Case(f"target: {name}", self.sized(line=b"POST " + target + b" HTTP/1.1"), "refused", "3.2")
        query = b"POST /v1/chat/completions?a=b HTTP/1.1"
        yield Case("target: a query", self.sized(line=query), "one", "3.2.1")
        absolute = b"POST http://gate.test/v1/chat/completions HTTP/1.1"
        yield Case("target: absolute, as Host says", self.sized(line=absolute), "one", "3.2.2")
        yield Case("target: absolute, without Host", self.sized(line=absolute, host=None), "refused", "3.2")
        yield Case("target: a fragment", self.sized(line=b"POST /v1/chat/completions#x HTTP/1.1"), "refused", "3.2")
        yield Case("target: CONNECT", self.post(line=b"CONNECT gate.test:443 HTTP/1.1", body=b""), "refused", "3.2.3")
        yield Case("target: CONNECT to a path", self.sized(line=b"CONNECT /v1/chat/completions HTTP/1.1"), "refused", "3.2.3")
        yield Case("target: TRACE", self.post(line=b"TRACE /v1/chat/completions HTTP/1.1", body=b""), "refused", "RFC 9110 9.3.8")

    def hosts(self) -> Iterator[Case]:
        bad = {
            "none": None,
            "empty": b"Host:",
            "a blank": b"Host:  ",
            "two": b"Host: gate.test\r\nHost: gate.test",
            "two that differ": b"Host: gate.test\r\nHost: other.test",
            "two in other letters": b"Host: gate.test\r\nhOST: other.test",
            "a list": b"Host: gate.test, other.test",
            "a blank within": b"Host: gate test",
            "a tab within": b"Host: gate\ttest",
            "a path": b"Host: gate.test/v1",
            "a query": b"Host: gate.test?x",
            "a fragment": b"Host: gate.test#x",
            "a user": b"Host: a@gate.test",
            "a scheme": b"Host: http://gate.test",
            "a port too large": b"Host: gate.test:999999",
            "a port of letters": b"Host: gate.test:http",
            "a port below none": b"Host: gate.test:-1",
            "two ports": b"Host: gate.test:80:80",
            "an open bracket": b"Host: [::1",
            "an IPv6 without brackets": b"Host: ::1",
            "a name in brackets": b"Host: [gate.test]",
            "a null": b"Host: gate\0.test",
            "bytes over 127": b"Host: g\xc3\xa4te.test",
            "a quote": b'Host: "gate.test"',
            "a backslash": b"Host: gate.test\\x",
            "folded": b"Host:\r\n gate.test",
            "a blank before the colon": b"Host : gate.test",
            "a blank before its name": b" Host: gate.test",
            "only in a name like it": b"X-Forwarded-Host: gate.test",
        }
        for name, host in bad.items():
            yield Case(f"Host: {name}", self.sized(host=host), "refused", "3.2")
        good = {"a port": b"gate.test:8080", "an address": b"127.0.0.1", "IPv6": b"[::1]:8080", "capitals": b"GATE.test"}
        for name, value in good.items():
            yield Case(f"Host: {name}", self.sized(host=b"Host: " + value), "one", "RFC 9110 7.2")
        odd = {"an empty port": b"gate.test:", "a dot at the end": b"gate.test.", "an underscore": b"gate_1.test"}
        for name, value in {**odd, "a coded letter": b"g%61te.test"}.items():
            yield Case(f"Host: {name}", self.sized(host=b"Host: " + value), "either", "RFC 3986 3.2.2")

    # -- fields

    def field_lines(self) -> Iterator[Case]:
        bad = {
            "no colon": b"X-A",
            "no name": b": x",
            "only a colon": b":",
            "a blank before the colon": b"X-A : x",
            "a tab before the colon": b"X-A\t: x",
            "a blank in the name": b"X A: x",
            "a null in the name": b"X\0A: x",
            "a byte over 127 in the name": b"X\xe4: x",
            "brackets in the name": b"X(A): x",
            "an at sign in the name": b"X@A: x",
            "a slash in the name": b"X/A: x",
            "a quote in the name": b'X"A: x',
            "an equals sign in the name": b"X=A: x",
            "a comma in the name": b"X,A: x",
            "a brace in the name": b"X{A: x",
            "a delete in the name": b"X\x7f: x",
            "a null in the value": b"X-A: a\0b",
            "a control in the value": b"X-A: a\x01b",
            "a bell in the value": b"X-A: \x07",
            "a backspace in the value": b"X-A: a\x08b",
            "a vertical tab in the value": b"X-A: a\x0bb",
            "a form feed in the value": b"X-A: a\x0cb",
            "an escape in the value": b"X-A: \x1b[2J",
            "a delete in the value": b"X-A: a\x7f",
            "folded with a blank": b"X-A: a\r\n b",
            "folded with a tab": b"X-A: a\r\n\tb",
            "folded before its value": b"X-A:\r\n b",
            "folded to nothing": b"X-A: a\r\n ",
            "a line of blanks": b"   ",
        }
        for name, line in bad.items():
            yield Case(f"field: {name}", self.sized(line), "refused", "5")
            yield Case(f"field, last: {name}", self.post(self.length, line), "refused", "5")
        yield Case("field: the first is folded", self.sized(host=b" folded\r\nHost: gate.test"), "refused", "2.2")
        good = {
            "empty": b"X-A:",
            "no blank": b"X-A:x",
            "many blanks": b"X-A: \t  x \t ",
            "all letters of a name": b"!#$%&'*+-.^_`|~09azAZ: x",
            "twice": b"X-A: a\r\nX-A: b",
            "in capitals": b"X-A: x\r\nACCEPT: */*",
        }
        for name, line in good.items():
            yield Case(f"field: {name}", self.sized(line), "one", "RFC 9110 5.5")
        yield Case("field: bytes over 127 in the value", self.sized(b"X-A: \xc3\xa4\xff"), "either", "RFC 9110 5.5")

    def line_ends(self) -> Iterator[Case]:
        yield Case("bare line feeds", self.sized(end=b"\n"), "refused", "2.2")
        yield Case("bare carriage returns", self.sized(end=b"\r"), "refused", "2.2")
        yield Case("line ends the wrong way round", self.sized(end=b"\n\r"), "refused", "2.2")
        yield Case("two carriage returns", self.sized(end=b"\r\r\n"), "refused", "2.2")
        for name, end in {"line feed": b"\n", "carriage return": b"\r", "null": b"\0", "two returns": b"\r\r\n"}.items():
            hidden = b"X-A: x" + end + b"Transfer-Encoding: chunked"
            yield Case(f"a bare {name} before a coding", self.sized(hidden), "refused", "2.2")
            yield Case(f"a bare {name} before a length", self.post(b"X-A: x" + end + self.length), "refused", "2.2")
        head = self.sized(body=b"")[:-4]
        for end in (b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\r", b"\r\n\r", b"\r\n\r\r\n", b"\r\n \r\n"):
            yield Case(f"the head ends with {end!r}", head + end + self.body, "refused", "2.2")

    # -- how long the body is

    def lengths(self) -> Iterator[Case]:
        size = len(self.body)
        bad = {
            "empty": b"",
            "a plus": b"+%d" % size,
            "a minus": b"-%d" % size,
            "minus nought": b"-0",
            "in hexadecimal": b"0x%x" % size,
            "in bare hexadecimal": b"%xh" % size,
            "in octal": b"0o%o" % size,
            "a fraction": b"%d.0" % size,
            "a comma": b"%d," % size,
            "a comma before": b",%d" % size,
            "a list of one and the same": b"%d, %d" % (size, size),
            "a list": b"%d, %d" % (size, size + 1),
            "a list without blanks": b"%d,0" % size,
            "an exponent": b"%de0" % size,
            "an underscore": b"%d_%d" % (size // 10, size % 10),
            "a blank within": b"%d %d" % (size // 10, size % 10),
            "a word behind": b"%d bytes" % size,
            "a semicolon": b"%d;" % size,
            "quotes": b'"%d"' % size,
            "a vertical tab before": b"\x0b%d" % size,
            "a form feed behind": b"%d\x0c" % size,
            "a null behind": b"%d\0" % size,
            "wide digits": "".join(chr(0xFF10 + int(digit)) for digit in str(size)).encode(),
            "Arabic digits": "".join(chr(0x0660 + int(digit)) for digit in str(size)).encode(),
            "a superscript": b"%d\xb2" % size,
            "a word": b"none",
            "2^64": b"18446744073709551616",
            "2^64 and the right one": b"%d" % (2**64 + size),
            "2^32 and the right one": b"%d" % (2**32 + size),
            "2^63": b"9223372036854775808",
            "thirty digits": b"9" * 30,
            "five hundred digits": b"1" * 500,
            "folded": b"\r\n %d" % size,
            "folded behind": b"%d\r\n 0" % size,
        }
        for name, value in bad.items():
            yield Case(f"length: {name}", self.post(b"Content-Length: " + value), "refused", "RFC 9110 8.6")
        twice = {"two that differ": b"Content-Length: 0", "two in other letters": b"content-LENGTH: 0"}
        for name, line in twice.items():
            yield Case(f"length: {name}", self.post(self.length, line), "refused", "6.3")
            yield Case(f"length: {name}, the other way round", self.post(line, self.length), "refused", "6.3")
        yield Case("length: two that are the same", self.post(self.length, self.length), "either", "6.3")
        yield Case("length: noughts before", self.post(b"Content-Length: 000%d" % size), "either", "RFC 9110 8.6")
        yield Case("length: blanks about it", self.post(b"Content-Length: \t %d \t" % size), "one", "RFC 9110 5.5")
        for line in (b"Content-Length : %d", b"Content-Length\t: %d", b" Content-Length: %d", b"Content-Length\0: %d"):
            start = line.partition(b"%")[0]
            yield Case(f"length: as {start!r}", self.post(line % size), "refused", "5.1")
        for line in (b"Content_Length: %d", b"Content-Lengt: %d", b"X-Content-Length: %d"):
            start = line.partition(b"%")[0]
            yield Case(f"length: as {start!r}, which it is not", self.post(line % size), "refused", "6.3")
        yield Case("length: none, and a body", self.post(), "refused", "6.3")
        yield Case("length: nought, and a body", self.post(b"Content-Length: 0", body=self.body), "refused", "6.3")

    def codings(self) -> Iterator[Case]:
        bad = {
            "empty": b"",
            "identity": b"identity",
            "gzip": b"gzip",
            "gzip, chunked": b"gzip, chunked",
            "identity, chunked": b"identity, chunked",
            "chunked, identity": b"chunked, identity",
            "chunked, gzip": b"chunked, gzip",
            "chunked twice": b"chunked, chunked",
            "a comma before": b",chunked",
            "a comma behind": b"chunked,",
            "a parameter": b"chunked;q=1",
            "a semicolon": b"chunked;",
            "a letter more": b"xchunked",
            "a letter less": b"chunke",
            "letters behind": b"chunkedx",
            "a word behind": b"chunked x",
            "a word before": b"x chunked",
            "quotes": b'"chunked"',
            "single quotes": b"'chunked'",
            "a null before": b"\0chunked",
            "a null within": b"chu\0nked",
            "a vertical tab before": b"\x0bchunked",
            "a vertical tab behind": b"chunked\x0b",
            "a form feed behind": b"chunked\x0c",
            "a no-break space before": b"\xa0chunked",
            "a Kelvin sign for a k": "chun\u212aed".encode(),
            "an escape": b"chunked\x1b",
            "folded": b"\r\n chunked",
            "folded behind": b"chunked\r\n ",
            "folded to another": b"chunked\r\n , gzip",
            "another": b"cow",
        }
        for name, value in bad.items():
            line = b"Transfer-Encoding: " + value
            yield Case(f"coding: {name}", self.post(line, body=self.good_chunks), "refused", "6.1")
            yield Case(f"coding and length: {name}", self.post(line, self.length), "refused", "6.1")
        odd = {"a tab before": b"\tchunked", "a tab behind": b" chunked\t", "tabs and blanks": b" \tchunked \t"}
        for name, value in odd.items():
            made = self.post(b"Transfer-Encoding:" + value, body=self.good_chunks)
            yield Case(f"coding: {name}", made, "either", "RFC 9110 5.5; refused by those who have seen it hide a coding")
        good = {"no blank": b"chunked", "blanks": b"  chunked  ", "capitals": b" Chunked", "all capitals": b" CHUNKED"}
        for name, value in good.items():
            yield Case(f"coding: {name}", self.post(b"Transfer-Encoding:" + value, body=self.good_chunks), "one", "7")
        lines = [b"Transfer-Encoding: chunked"] * 2
        yield Case("coding: twice the same", self.post(*lines, body=self.good_chunks), "refused", "6.1")
        for second in (b"identity", b"gzip", b"", b"x"):
            lines = [b"Transfer-Encoding: chunked", b"Transfer-Encoding: " + second]
            yield Case(f"coding: two lines, {second!r} second", self.post(*lines, body=self.good_chunks), "refused", "6.1")
            yield Case(f"coding: two lines, {second!r} first", self.post(*lines[::-1], body=self.good_chunks), "refused", "6.1")
        coding = b"Transfer-Encoding"
        for field in (coding + b" ", coding + b"\t", b" " + coding, coding + b"\0", coding.replace(b"-", b" ")):
            yield Case(f"coding: as {field!r}", self.post(field + b": chunked", self.length), "refused", "5.1")
        for field in (b"Transfer_Encoding", b"X-Transfer-Encoding", b"TE"):
            yield Case(f"coding: as {field!r}, which it is not", self.post(field + b": chunked", self.length), "one", "6.1")
        old = b"POST /v1/chat/completions HTTP/1.0"
        aged = self.post(b"Transfer-Encoding: chunked", line=old, body=self.good_chunks)
        yield Case("coding: in HTTP/1.0", aged, "refused", "6.1")
        yield Case("a coded body", self.sized(b"Content-Encoding: gzip"), "refused", "RFC 9110 8.4")

    def both(self) -> Iterator[Case]:
        """A length and a coding: what one of two reads as a body, the other reads as the next request."""
        coding = b"Transfer-Encoding: chunked"
        hiding = b"0\r\n\r\n" + self.hidden
        for size in (0, 4, len(self.body), len(hiding)):
            length = b"Content-Length: %d" % size
            yield Case(f"length {size} before a coding", self.post(length, coding, body=hiding), "refused", "6.3")
            yield Case(f"length {size} behind a coding", self.post(coding, length, body=hiding), "refused", "6.3")
            yield Case(f"length {size}, good chunks", self.post(length, coding, body=self.good_chunks), "refused", "6.3")
        fit = b"Content-Length: %d" % len(hiding)
        old = b"POST /v1/chat/completions HTTP/1.0"
        yield Case("length and coding in HTTP/1.0", self.post(fit, coding, line=old, body=hiding), "refused", "6.3")
        yield Case("length, coding and a close", self.post(fit, coding, b"Connection: close", body=hiding), "refused", "6.3")
        named = b"Connection: content-length"
        yield Case("a length that Connection names, and a coding", self.post(named, fit, coding, body=hiding), "refused", "6.3")

    # -- chunks

    def sizes(self) -> Iterator[Case]:
        size = b"%x" % len(self.body)
        bad = {
            "empty": b"",
            "a plus": b"+" + size,
            "a minus": b"-" + size,
            "0x": b"0x" + size,
            "a blank before": b" " + size,
            "a tab before": b"\t" + size,
            "an underscore": size[:1] + b"_" + size[1:],
            "a letter": b"g",
            "an h": size + b"h",
            "a dot": size + b".0",
            "a comma": size + b",0",
            "quotes": b'"' + size + b'"',
            "a blank within": size[:1] + b" " + size[1:],
            "a word behind": size + b" x",
            "a null behind": size + b"\0",
            "a vertical tab behind": size + b"\x0b",
            "wide digits": "\uff15\uff10".encode(),
            "2^64 and the right one": b"%x" % (2**64 + len(self.body)),
            "2^32 and the right one": b"%x" % (2**32 + len(self.body)),
            "sixteen digits": b"f" * 16,
            "a hundred noughts before": b"0" * 100 + size,
            "a bare carriage return behind": size + b"\r",
            "an extension with a null": size + b";a=\0",
            "an extension with a bare line feed": size + b";a\n",
            "an extension with a carriage return": size + b";a\rb",
            "an extension with a control": size + b";\x01",
            "an extension without a semicolon": size + b" a=b",
            "an endless extension": size + b";a=" + b"b" * 4000,
        }
        for name, text in bad.items():
            body = text + b"\r\n" + self.body + b"\r\n0\r\n\r\n"
            yield Case(f"chunk size: {name}", self.chunked(body), "refused", "7.1")
        for name, end in {"line feed": b"\n", "carriage return": b"\r", "line end the wrong way round": b"\n\r"}.items():
            yield Case(f"chunk size: a bare {name}", self.chunked(size + end + self.body + b"\r\n0\r\n\r\n"), "refused", "7.1")
        good = {"capitals": size.upper(), "an extension": size + b";a=b", "an extension, quoted": size + b';a="b;c"'}
        for name, text in good.items():
            yield Case(f"chunk size: {name}", self.chunked(text + b"\r\n" + self.body + b"\r\n0\r\n\r\n"), "one", "7.1.1")
        for name, text in {"noughts before": b"000" + size, "blanks before an extension": size + b" ;a=b"}.items():
            yield Case(f"chunk size: {name}", self.chunked(text + b"\r\n" + self.body + b"\r\n0\r\n\r\n"), "either", "7.1.1")
        for name, text in {"a blank behind": size + b" ", "a tab behind": size + b"\t"}.items():
            yield Case(f"chunk size: {name}", self.chunked(text + b"\r\n" + self.body + b"\r\n0\r\n\r\n"), "either", "7.1.1")

    def chunk_data(self) -> Iterator[Case]:
        size, body = len(self.body), self.body
        bad = {
            "longer than its size": b"%x\r\n%bx\r\n0\r\n\r\n" % (size, body),
            "shorter than its size": b"%x\r\n%b\r\n0\r\n\r\n" % (size + 1, body),
            "no end": b"%x\r\n%b0\r\n\r\n" % (size, body),
            "a bare line feed behind": b"%x\r\n%b\n0\r\n\r\n" % (size, body),
            "a bare carriage return behind": b"%x\r\n%b\r0\r\n\r\n" % (size, body),
            "two line ends behind": b"%x\r\n%b\r\n\r\n0\r\n\r\n" % (size, body),
            "blanks behind": b"%x\r\n%b \r\n0\r\n\r\n" % (size, body),
            "no chunks, but the body": body + b"0\r\n\r\n",
            "a last chunk of minus nought": self.chunks(body) + b"-0\r\n\r\n",
            "a last chunk of 0x0": self.chunks(body) + b"0x0\r\n\r\n",
            "a last chunk with a bare line feed": self.chunks(body) + b"0\n\n",
            "a last chunk with a bare carriage return": self.chunks(body) + b"0\r\r\n",
            "a hidden request for the last line": self.chunks(body) + b"0\r\n" + self.hidden,
            "a hidden request behind a bare line feed": self.chunks(body) + b"0\r\n\n" + self.hidden,
        }
        for name, data in bad.items():
            yield Case(f"chunk: {name}", self.chunked(data), "refused", "7.1")
        good = {
            "many": self.chunks(*(body[at : at + 7] for at in range(0, size, 7))) + b"0\r\n\r\n",
            "a last chunk with an extension": self.chunks(body) + b"0;a=b\r\n\r\n",
            "a line end within": self.chunks(body[:-1] + b"\r\n}") + b"0\r\n\r\n",
        }
        for name, data in good.items():
            yield Case(f"chunk: {name}", self.chunked(data), "one", "7.1")
        yield Case("chunk: a last one of many noughts", self.chunked(self.chunks(body) + b"000\r\n\r\n"), "either", "7.1")

    def trailers(self) -> Iterator[Case]:
        start = self.chunks(self.body) + b"0\r\n"
        bad = {
            "no colon": b"X-A\r\n\r\n",
            "no name": b": x\r\n\r\n",
            "a blank before the colon": b"X-A : x\r\n\r\n",
            "folded": b"X-A: x\r\n y\r\n\r\n",
            "a null": b"X-A: \0\r\n\r\n",
            "a bare line feed": b"X-A: x\n\r\n",
            "a bare carriage return": b"X-A: x\rY: z\r\n\r\n",
            "a blank line": b" \r\n\r\n",
            "endless": b"X-A: " + b"x" * 20_000 + b"\r\n\r\n",
            "ever so many": b"X-A: x\r\n" * 3000 + b"\r\n",
        }
        for name, data in bad.items():
            yield Case(f"trailer: {name}", self.chunked(start + data), "refused", "7.1.2")
        for field in (b"X-A", b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization", b"X-Forwarded-For"):
            data = start + field + b": 1\r\n\r\n"
            yield Case(f"trailer: {field.decode()}, which nobody heeds", self.chunked(data), "one", "RFC 9110 6.5.1")

    # -- what is for this hop only, and what comes behind

    def hops(self) -> Iterator[Case]:
        good = {
            "Connection names the length": b"Connection: content-length",
            "Connection names the host": b"Connection: host",
            "Connection names the key": b"Connection: authorization",
            "Connection names it all": b"Connection: close, host, content-length, transfer-encoding, authorization",
            "Connection is empty": b"Connection:",
            "Connection has commas": b"Connection: ,, keep-alive ,",
            "TE": b"TE: trailers, chunked",
            "Proxy-Connection": b"Proxy-Connection: close",
            "Keep-Alive": b"Keep-Alive: timeout=99999",
            "Trailer": b"Trailer: Content-Length",
            "Max-Forwards": b"Max-Forwards: 0",
            "X-HTTP-Method-Override": b"X-HTTP-Method-Override: DELETE",
            "X-Original-URL": b"X-Original-URL: /v1/models",
            "X-Rewrite-URL": b"X-Rewrite-URL: /api/pull",
        }
        for name, line in good.items():
            yield Case(f"hop: {name}", self.sized(line), "one", "RFC 9110 7.6.1")
        offers = {
            "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
            "h2c, not named": b"Upgrade: h2c",
            "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13",
            "to TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.0",
        }
        for name, line in offers.items():
            yield Case(f"an offer to upgrade: {name}", self.sized(line), "one", "RFC 9110 7.8")
        yield Case("an expectation of anything else", self.sized(b"Expect: 200-ok"), "refused", "RFC 9110 10.1.1")
        yield Case("two expectations", self.sized(b"Expect: 100-continue\r\nExpect: 100-continue"), "refused", "RFC 9110 10.1.1")

    def behind(self) -> Iterator[Case]:
        good = self.sized()
        yield Case("two requests at once", good + self.hidden, "two", "9.3.2")
        yield Case("two, with an empty line between", good + b"\r\n" + self.hidden, "two", "2.2")
        yield Case("two, the first in chunks", self.chunked(self.good_chunks) + self.hidden, "two", "9.3.2")
        yield Case("two, but the first closes", self.sized(b"Connection: close") + self.hidden, "one", "9.6")
        old = b"POST /v1/chat/completions HTTP/1.0"
        yield Case("two, but the first is HTTP/1.0", self.sized(line=old) + self.hidden, "one", "9.3")
        yield Case("garbage behind a good one", good + b"\0\1\2garbage\r\n\r\n", "one", "2.2")
        yield Case("an answer behind a good one", good + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "one", "3")
        yield Case("a request behind a bad one", self.post(b"Content-Length: x") + self.hidden, "refused", "6.3")
        twice = self.post(self.length, b"Content-Length: 5")
        yield Case("a request behind one with two lengths", twice + self.hidden, "refused", "6.3")
        yield Case("a request behind a bad chunk", self.chunked(b"zz\r\n") + self.hidden, "refused", "7.1")
        yield Case("a request behind a bad line", b"POST /v1/chat/completions\r\n\r\n" + self.hidden, "refused", "3")
        yield Case("a request behind half a line", b"POST /v1/chat\r\n" + self.hidden, "refused", "3")
        yield Case("a request behind an upgrade to nothing", b"PRI * HTTP/2.0\r\n\r\n" + self.hidden, "refused", "3.4")

    def bounds(self) -> Iterator[Case]:
        yield Case("a target of 70,000", self.sized(line=b"POST /" + b"a" * 70_000 + b" HTTP/1.1"), "refused", "3")
        query = b"POST /v1/chat/completions?" + b"a" * 70_000 + b" HTTP/1.1"
        yield Case("a query of 70,000", self.sized(line=query), "refused", "3")
        yield Case("a value of 70,000", self.sized(b"X-A: " + b"a" * 70_000), "refused", "5.4")
        yield Case("a name of 70,000", self.sized(b"a" * 70_000 + b": x"), "refused", "5.4")
        yield Case("300 fields", self.sized(*(b"X-%d: x" % number for number in range(300))), "refused", "5.4")
        yield Case("300 fields of one name", self.sized(*([b"X-A: x"] * 300)), "refused", "5.4")
