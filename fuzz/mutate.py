"""Mutations by chance: what stands in for a coverage-guided engine where there is none, and what a real gate is sent.

Everything follows from the `random.Random` that is given. It knows no format but the marks at which parsers of HTTP and JSON
change their minds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

MARKS = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"/", b"..", b"%2f", b"%00", b"?", b"#", b"\xff"),
    *(b"0", b"-1", b"+1", b"1e400", b"0x", b"99999999999999999999", b"{", b"}", b"[", b"]", b'"', b"\\", b"\\ud800", b"null"),
    *(
        b"Content-Length: 0\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: a\r\n",
        b"Connection: close\r\n",
    ),
    *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"0\r\n\r\n", b'"model":', b'"stream":true', b"data: ", b"\xef\xbb\xbf"),
)


def mutated(seeds: Sequence[bytes], chance: random.Random, largest: int) -> bytes:
    """One of the seeds after one to six changes."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 64)))
        kind = chance.randrange(7)
        if kind == 0:
            data[at:to] = b""
        elif kind == 1:
            data[at:at] = chance.choice(MARKS)
        elif kind == 2:
            data[at:to] = chance.choice(MARKS)
        elif kind == 3:
            data[at:to] = chance.randbytes(to - at)
        elif kind == 4:
            data[at:at] = data[at:to] * chance.choice((1, 1, 2, 40))
        elif kind == 5:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            data[at:to] = other[start : start + chance.choice((8, 64, 4096))]
        elif at < len(data):
            data[at] ^= 1 << chance.randrange(8)
    return bytes(data[:largest])
