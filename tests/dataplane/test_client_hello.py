"""How long a ClientHello is, and what it offers: real ones of OpenSSL, every beginning of one, and rubbish.

Nothing of it raises anything.
"""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dataplane.client_hello import length, protocols


def hello(*offered: str, name: str = "gate.example.com", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL says first, without the record around it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    if offered:
        context.set_alpn_protocols(list(offered))
    sent = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return sent.read()[5:]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("offered", [(), ("acme-tls/1",), ("h2", "http/1.1"), ("x" * 255, "acme-tls/1")])
def test_what_openssl_offers(offered: tuple[str, ...], version: ssl.TLSVersion) -> None:
    assert protocols(hello(*offered, version=version)) == tuple(name.encode() for name in offered)


def test_no_beginning_of_one_offers_anything() -> None:
    whole = hello("acme-tls/1")
    assert all(protocols(whole[:end]) == () for end in range(len(whole)))
    assert protocols(whole + b"\0") == ()


def test_a_byte_that_is_wrong_raises_nothing() -> None:
    whole = hello("acme-tls/1")
    for at in range(len(whole)):
        for value in (0, 1, 16, 255):
            protocols(whole[:at] + bytes((value,)) + whole[at + 1 :])


def message(body: bytes, kind: int = 1) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3) + body


def with_extensions(extensions: bytes) -> bytes:
    return message(b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(extensions).to_bytes(2) + extensions)


def alpn(listed: bytes) -> bytes:
    body = len(listed).to_bytes(2) + listed
    return b"\0\x10" + len(body).to_bytes(2) + body


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (with_extensions(alpn(b"\x0aacme-tls/1")), (b"acme-tls/1",)),
        (with_extensions(b"\0\0\0\1x" + alpn(b"\2h2\x0aacme-tls/1")), (b"h2", b"acme-tls/1")),
        (with_extensions(b""), ()),
        (with_extensions(alpn(b"")), ()),
        (with_extensions(alpn(b"\0")), ()),
        (with_extensions(alpn(b"\x0bacme-tls/1")), ()),
        (with_extensions(b"\0\x10\0\1x"), ()),
        (with_extensions(b"\0\x10\xff\xff\0\2\1x"), ()),
        (with_extensions(b"\0\x10"), ()),
        (message(b""), ()),
        (message(b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0"), ()),
        (message(b"\x03\x03" + bytes(32) + b"\xff"), ()),
        (message(with_extensions(alpn(b"\2h2"))[4:], kind=2), ()),
        (b"\x16\x03\x01\0\5hello", ()),
    ],
)
def test_by_hand(data: bytes, expected: tuple[bytes, ...]) -> None:
    assert protocols(data) == expected


def records(data: bytes, *sizes: int) -> bytes:
    """The same bytes in records of these sizes, the rest in a last one."""
    found = b""
    for size in (*sizes, len(data)):
        part, data = data[:size], data[size:]
        found += b"\x16\x03\x01" + len(part).to_bytes(2) + part if part else b""
    return found


@pytest.mark.parametrize("sizes", [(), (1,), (1, 1, 1, 1), (2, 2), (3,), (4,), (3, 2)])
def test_its_length_is_known_from_the_fourth_byte_on(sizes: tuple[int, ...]) -> None:
    whole = hello("http/1.1")
    cut = records(whole, *sizes)
    known = 5 * (1 + sum(sum(sizes[: number + 1]) < 4 for number in range(len(sizes)))) + 4
    for end in range(len(cut) + 1):
        assert length(cut[:end]) == (len(whole) - 4 if end >= known else None), end


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (b"", None),
        (b"\x16", None),
        (b"\x16\x03\x01\xff\xff\x01\xff\xff\xff", 0xFFFFFF),
        (b"G", 0),
        (b"GET / HTTP/1.1\r\n\r\n", 0),
        (b"\x80\x2e\x01", 0),  # of SSL 2
        (b"\x15\x03\x01\x00\x02\x01\x00", 0),
        (b"\x16\x03\x01\x00\x00", 0),
        (b"\x16\x03\x01\x00\x01\x01\x17", 0),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x05", 0),
    ],
)
def test_its_length_by_hand(came: bytes, expected: int | None) -> None:
    assert length(came) == expected


@given(st.binary(max_size=400))
def test_rubbish_raises_nothing(data: bytes) -> None:
    length(data)
    length(b"\x16\x03\x01" + data)
    protocols(data)
    protocols(message(data))
    protocols(with_extensions(data))
    protocols(with_extensions(alpn(data)))
