"""The PROXY protocol's header: good ones cut everywhere and followed by anything, bad ones by a table, any bytes at all."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.http1.proxy_header import LONGEST, LONGEST_LINE, Announced, Malformed, crc32c, read
from tests.tools.feeds import every_beginning, never_later

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
NONE, TCP4, UDP4, TCP6, UDP6, UNIX, DGRAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32
IPV4 = IPv4Address("203.0.113.9").packed + IPv4Address("192.0.2.1").packed + struct.pack("!HH", 50000, 443)
IPV6 = IPv6Address("2001:db8::9").packed + IPv6Address("2001:db8::1").packed + struct.pack("!HH", 50000, 443)
MAPPED = IPv6Address("::ffff:203.0.113.9").packed + IPv6Address("::ffff:192.0.2.1").packed + struct.pack("!HH", 50000, 443)


def binary(block: bytes = b"", command: int = PROXY, family: int = TCP4, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def tlv(kind: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("!BH", kind, len(value) if length is None else length) + value


def summed(block: bytes, behind: bytes = b"") -> bytes:
    """A header with the right checksum in its midst."""
    whole = binary(block + tlv(3, bytes(4)) + behind)
    at = len(whole) - len(behind) - 4
    return whole[:at] + struct.pack("!I", crc32c(whole)) + whole[at + 4 :]


def summed_with(said: int) -> bytes:
    """A header whose checksum has `said` bytes, and would be right if that were four of them."""
    whole = binary(IPV4 + tlv(3, bytes(said)))
    return whole[:-said] + crc32c(whole[:-said] + bytes(4)).to_bytes(said)


GOOD = [
    (b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443\r\n", "203.0.113.9"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0"),
    (b"PROXY TCP6 2001:db8::9 2001:db8::1 50000 443\r\n", "2001:db8::9"),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:9 ::1 1 2\r\n", "2001:db8::9"),
    (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n", "203.0.113.9"),
    (
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        str(IPv6Address(2**128 - 1)),
    ),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n", None),
    (b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 16) + b"\r\n", None),
    (binary(IPV4), "203.0.113.9"),
    (binary(IPV6, family=TCP6), "2001:db8::9"),
    (binary(MAPPED, family=TCP6), "203.0.113.9"),
    (binary(command=LOCAL, family=NONE), None),
    (binary(IPV4, command=LOCAL), None),
    (binary(b"anything", command=LOCAL, family=UNIX), None),
    (binary(family=NONE), None),
    (binary(tlv(4, b"pad"), family=NONE), None),
    (binary(b"\xff", family=NONE), None),
    (
        binary(IPV4 + tlv(1, b"h2") + tlv(2, b"gate.example.com") + tlv(0x20, b"\x01" + bytes(4) + tlv(0x21, b"TLSv1.3"))),
        "203.0.113.9",
    ),
    (binary(IPV6 + tlv(0xEA, b"\x01vpce-1"), family=TCP6), "2001:db8::9"),
    (binary(IPV4 + tlv(4, b"")), "203.0.113.9"),
    (summed(IPV4), "203.0.113.9"),
    (summed_with(4), "203.0.113.9"),
    (summed(IPV4 + tlv(1, b"h2"), tlv(5, b"id")), "203.0.113.9"),
    (binary(IPV4 + tlv(4, bytes(LONGEST - 16 - 12 - 3))), "203.0.113.9"),
]


@pytest.mark.parametrize(("header", "address"), GOOD)
def test_good_ones(header: bytes, address: str | None) -> None:
    assert every_beginning(read, header) == Announced(len(header), address)


BAD = [
    # neither version
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY\tTCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b" PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY\r\n",
    b"PROXYTCP4",
    b"\r\n\r\n\r\n",
    b"\r\n\r\n\x00\r\nQUIT\r",
    b"\n",
    # version 1
    b"PROXY \r\n",
    b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
    b"PROXY TCP4 1.2.3.4 1 2\r\n",
    b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY unknown\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8.9 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 host 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 -2\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r\n",
    b"PROXY TCP4 1.2.3.4\x00 5.6.7.8 1 2\r\n",
    b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n",
    b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
    b"PROXY TCP6 [::1] ::1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP6 :::1 ::1 1 2\r\n",
    b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
    b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 15) + b"\r\n",
    b"PROXY TCP4 " + b"1" * LONGEST_LINE,
    # version 2
    binary(IPV4, command=0x11),
    binary(IPV4, command=0x31),
    binary(IPV4, command=0x22),
    binary(IPV4, command=0x2F),
    binary(IPV4, family=UDP4),
    binary(IPV6, family=UDP6),
    binary(bytes(216), family=UNIX),
    binary(bytes(216), family=DGRAM),
    binary(IPV4, family=0x01),
    binary(IPV4, family=0x10),
    binary(IPV4, family=0x41),
    binary(IPV4[:11]),
    binary(b""),
    binary(IPV4, family=TCP6),
    binary(IPV6[:35], family=TCP6),
    binary(length=LONGEST - 15),
    binary(length=0xFFFF),
    binary(IPV4 + b"\x01"),
    binary(IPV4 + b"\x01\x00"),
    binary(IPV4 + tlv(1, b"h2", 3)),
    binary(IPV4 + tlv(1, b"h2", 0xFFFF)),
    binary(IPV4 + tlv(1, b"h2") + b"\x00"),
    binary(IPV4 + tlv(3, bytes(4))),
    binary(IPV4 + tlv(3, b"")),
    binary(IPV4 + tlv(3, bytes(8))),
    summed_with(5),
    summed_with(8),
    summed(IPV4)[:-1] + bytes(((summed(IPV4)[-1] + 1) % 256,)),
    summed(IPV4).replace(IPV4[:4], b"\x01\x02\x03\x04"),
]


@pytest.mark.parametrize("header", BAD)
def test_bad_ones(header: bytes) -> None:
    said = never_later(read, header)
    assert isinstance(said, Malformed)
    assert said.why
    assert read(header + b"PROXY UNKNOWN\r\n") == said


def test_what_is_told_early() -> None:
    """A beginning that can become no header is not waited for."""
    assert read(b"") is None
    assert isinstance(read(b"G"), Malformed)
    assert isinstance(read(b"\r\n\r\n\x00\r\nQUIX"), Malformed)
    assert isinstance(read(SIGNATURE + b"\x31"), Malformed)
    assert isinstance(read(SIGNATURE + b"\x21\x31"), Malformed)
    assert isinstance(read(binary(length=LONGEST)), Malformed)
    assert read(SIGNATURE + b"\x20\x31") is None


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_the_bound_of_a_line(beyond: int) -> None:
    """107 bytes with the line's end, as the specification has it."""
    line = b"PROXY UNKNOWN " + b"x" * (LONGEST_LINE - 16 + beyond) + b"\r\n"
    said = read(line)
    assert said == Announced(len(line), None) if beyond <= 0 else isinstance(said, Malformed)
    assert (read(line[:-2]) is None) == (beyond < 2)


def test_the_checksum() -> None:
    """The examples of RFC 3720 appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for beginning in (b"", b"PROXY ", b"PROXY TCP6 ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        said = never_later(read, beginning + data)
        assert not isinstance(said, Announced) or 0 < said.length <= len(beginning + data)


@given(
    st.ip_addresses(v=4),
    st.ip_addresses(),
    st.integers(0, 65535),
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 5, 0x20, 0xE0]), st.binary(max_size=50)), max_size=5),
)
def test_any_connection(
    v4: IPv4Address, any_address: IPv4Address | IPv6Address, port: int, tlvs: list[tuple[int, bytes]]
) -> None:
    """What a proxy may write is read back, in both versions."""
    other = IPv4Address(1) if any_address.version == 4 else IPv6Address(1)
    line = b"PROXY TCP%d %s %s %d %d\r\n" % (any_address.version, str(any_address).encode(), str(other).encode(), port, port)
    block = any_address.packed + other.packed + struct.pack("!HH", port, port)
    mapped = any_address.ipv4_mapped if isinstance(any_address, IPv6Address) else None
    for header in (line, binary(block + b"".join(tlv(*one) for one in tlvs), family=TCP4 if any_address.version == 4 else TCP6)):
        assert read(header + b"GET") == Announced(len(header), str(mapped or any_address))
    assert read(b"PROXY TCP4 %s 1.1.1.1 1 1\r\n" % str(v4).encode()) is not None
