"""X-Forwarded-For and Forwarded from the right: tables of what is read, what is not, and what a client may have put before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.http1.forwarded import LONGEST_HOP, forwarded, forwarded_for


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        (b"203.0.113.9", ["203.0.113.9"]),
        (b" \t203.0.113.9 \t", ["203.0.113.9"]),
        (b"203.0.113.9, 10.0.0.5", ["10.0.0.5", "203.0.113.9"]),
        (b"203.0.113.9,10.0.0.5\t,  10.0.0.6", ["10.0.0.6", "10.0.0.5", "203.0.113.9"]),
        (b"203.0.113.9:4711", ["203.0.113.9"]),
        (b"2001:db8::9", ["2001:db8::9"]),
        (b"2001:DB8:0:0:0:0:0:9", ["2001:db8::9"]),
        (b"[2001:db8::9]", ["2001:db8::9"]),
        (b"[2001:db8::9]:4711", ["2001:db8::9"]),
        (b"::ffff:203.0.113.9", ["203.0.113.9"]),
        (b"[::ffff:cb00:7109]:1", ["203.0.113.9"]),
        (b"::1", ["::1"]),
        # what names nobody is the end
        (b"", [None]),
        (b" ", [None]),
        (b"203.0.113.9,", [None]),
        (b"203.0.113.9, ", [None]),
        (b"203.0.113.9,,10.0.0.5", ["10.0.0.5", None]),
        (b",10.0.0.5", ["10.0.0.5", None]),
        (b"unknown", [None]),
        (b"203.0.113.9, unknown", [None]),
        (b"203.0.113.9, _hidden, 10.0.0.5", ["10.0.0.5", None]),
        (b"203.0.113.256", [None]),
        (b"203.0.113", [None]),
        (b"203.0.113.09", [None]),
        (b"203.0.113.9:", [None]),
        (b"203.0.113.9:port", [None]),
        (b"203.0.113.9:123456", [None]),
        (b"203.0.113.9 4711", [None]),
        (b"203.0.113.9;10.0.0.5", [None]),
        (b"203.0.113.9\x00", [None]),
        (b"203.0.113.9\n", [None]),
        (b"0xcb.0.113.9", [None]),
        (b"3405803785", [None]),
        (b"[203.0.113.9]", [None]),
        (b"[2001:db8::9", [None]),
        (b"2001:db8::9]", [None]),
        (b"[2001:db8::9]4711", [None]),
        (b"2001:db8::9:::", [None]),
        (b"fe80::1%eth0", [None]),
        (b"[fe80::1%25eth0]", [None]),
        (b'"203.0.113.9"', [None]),
        (b"for=203.0.113.9", [None]),
        (b"localhost", [None]),
        ("203.0.113.\N{ARABIC-INDIC DIGIT NINE}".encode(), [None]),
        (b"\xff\xfe", [None]),
    ],
)
def test_x_forwarded_for(value: bytes, hops: list[str | None]) -> None:
    assert list(forwarded_for(value)) == hops


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        (b"for=203.0.113.9", ["203.0.113.9"]),
        (b"For=203.0.113.9;proto=https;by=10.0.0.5", ["203.0.113.9"]),
        (b"by=10.0.0.5; host=gate.example.com ;FOR=203.0.113.9", ["203.0.113.9"]),
        (b'for="203.0.113.9:4711"', ["203.0.113.9"]),
        (b'for="[2001:db8::9]"', ["2001:db8::9"]),
        (b'for="[2001:db8::9]:4711";proto=http', ["2001:db8::9"]),
        (b'for="[2001:db8::9]:_port"', ["2001:db8::9"]),
        (b'for="[::ffff:203.0.113.9]"', ["203.0.113.9"]),
        (b"for=203.0.113.9, for=10.0.0.5", ["10.0.0.5", "203.0.113.9"]),
        (b'host="a,b";for=203.0.113.9,for=10.0.0.5;host="c,d"', ["10.0.0.5", "203.0.113.9"]),
        (b'for=203.0.113.9,host="a,b";for=10.0.0.5', ["10.0.0.5", "203.0.113.9"]),
        (b'host="";for=203.0.113.9', ["203.0.113.9"]),
        # what names nobody is the end
        (b"for=unknown", [None]),
        (b"for=_hidden", [None]),
        (b'for="_hidden:4711"', [None]),
        (b"for=203.0.113.9, for=_SEVKISEK", [None]),
        (b"", [None]),
        (b"203.0.113.9", [None]),
        (b"proto=https", [None]),
        (b"for=203.0.113.9,", [None]),
        (b"for=203.0.113.9;", [None]),
        (b"for=203.0.113.9;;proto=http", [None]),
        (b"for=203.0.113.9 proto=http", [None]),
        (b"for=203.0.113.9;for=198.51.100.1", [None]),
        (b"for = 203.0.113.9", [None]),
        (b"for=203.0.113.9:4711", [None]),
        (b"for=2001:db8::9", [None]),
        (b"for=[2001:db8::9]", [None]),
        (b'for="2001:db8::9"', [None]),
        (b'for="203.0.113.9', [None]),
        (b'for=203.0.113.9"', [None]),
        (b'for="203.0.113.\\9"', [None]),
        (b'for="[fe80::1%eth0]"', [None]),
        (b'for=""', [None]),
        (b"for=", [None]),
        (b"for", [None]),
        (b"=203.0.113.9", [None]),
    ],
)
def test_forwarded(value: bytes, hops: list[str | None]) -> None:
    assert list(forwarded(value)) == hops


INVENTED = [
    b"",
    b"198.51.100.1",
    b"for=198.51.100.1",
    b'"',
    b'for="',
    b'for="198.51.100.1',
    b'for=198.51.100.1;by="\\"',
    b"\\",
    b",,,",
    b"x" * 10_000,
    b'"' + b"," * 10_000,
]


@pytest.mark.parametrize("before", INVENTED)
@pytest.mark.parametrize(
    ("read", "said", "hop"),
    [
        (forwarded_for, b"203.0.113.9", "203.0.113.9"),
        (forwarded, b"for=203.0.113.9", "203.0.113.9"),
        (forwarded, b'for="[2001:db8::9]:80";host="a,b";proto=https', "2001:db8::9"),
    ],
)
def test_what_a_client_writes_before_a_proxys_word(
    read: Callable[[bytes], Iterator[str | None]], before: bytes, said: bytes, hop: str
) -> None:
    """Quotes that are not closed, commas, anything: the last word is the proxy's."""
    assert next(iter(read(before + b", " + said))) == hop
    assert next(iter(read(before + b"," + said))) == hop


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_the_bound_of_a_hop(beyond: int) -> None:
    hop = b"203.0.113.9".rjust(LONGEST_HOP + beyond)
    assert list(forwarded_for(b"10.0.0.5," + hop)) == (["203.0.113.9", "10.0.0.5"] if beyond <= 0 else [None])
    assert list(forwarded_for(hop)) == (["203.0.113.9"] if beyond <= 0 else [None])
    assert list(forwarded(b"for=" + hop.strip() + b" " * (LONGEST_HOP - 15 + beyond))) == (
        ["203.0.113.9"] if beyond <= 0 else [None]
    )


def test_no_more_is_read_than_is_asked_for() -> None:
    """A value of a megabyte costs what its end costs."""
    long = b"198.51.100.1, " * 80_000 + b"203.0.113.9"
    assert list(islice(forwarded_for(long), 3)) == ["203.0.113.9", "198.51.100.1", "198.51.100.1"]


@given(st.binary(max_size=200))
def test_any_bytes(value: bytes) -> None:
    for read in (forwarded_for, forwarded):
        hops = list(read(value))
        assert None not in hops[:-1]


@given(st.lists(st.ip_addresses(), min_size=1, max_size=8))
def test_any_addresses(addresses: list[object]) -> None:
    """What proxies write is read back, the last one first."""
    texts = [str(getattr(address, "ipv4_mapped", None) or address) for address in addresses]
    assert list(forwarded_for(", ".join(map(str, addresses)).encode())) == texts[::-1]
    quoted = [f'for="[{address}]:1"' if ":" in str(address) else f"for={address};proto=http" for address in addresses]
    assert list(forwarded(",".join(quoted).encode())) == texts[::-1]
