"""How long a ClientHello is, and what it offers: real ones of OpenSSL, every beginning of one, and rubbish.

Nothing of it raises anything.
"""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dataplane import openssl
from slmgate.dataplane.client_hello import BROKEN, Begun, begun, is_asked_again, protocols


def hello(
    *offered: str, name: str = "gate.example.com", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, groups: bytes = b""
) -> bytes:
    """What OpenSSL says first, without the record around it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = version
    if groups:
        assert openssl._control(context, openssl._SET_GROUPS_LIST, 0, groups)
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


@pytest.mark.parametrize("sizes", [(), (1,), (1, 1, 1, 1), (2, 2), (3,), (4,), (3, 2), (1,) * 60, (100, 7, 30)])
def test_every_beginning_of_one(sizes: tuple[int, ...]) -> None:
    """Its length is known from its fourth byte on, and it never says that less is missing than is, nor more."""
    whole = hello("http/1.1")
    cut = records(whole, *sizes)
    known = 5 * (1 + sum(sum(sizes[: number + 1]) < 4 for number in range(len(sizes)))) + 4
    for end in range(len(cut)):
        found = begun(cut[:end])
        assert found is not None
        assert found.length == (len(whole) - 4 if end >= known else 0), end
        assert 0 < found.missing <= len(cut) - end
        assert whole.startswith(found.message)
    assert begun(cut) == begun(cut + b"\x16\x03\x01\x00\x01x") == Begun(whole, len(whole) - 4, 0)


def test_it_is_looked_at_a_few_times_only() -> None:
    """However it is cut: what is missing at the least is waited for."""
    whole = hello(*(f"{number:0250}" for number in range(40)))
    cut = records(whole, *(1,) * len(whole))
    looks = end = 0
    while (found := begun(cut[:end])) is not None and found.missing:
        looks, end = looks + 1, end + found.missing
    assert found == Begun(whole, len(whole) - 4, 0)
    assert looks < 60


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        (b"", Begun(b"", 0, 1)),
        (b"\x16", Begun(b"", 0, 8)),
        (b"\x16\x03\x01\xff\xff\x01\xff\xff\xff", Begun(b"\x01\xff\xff\xff", 0xFFFFFF, 0xFFFFFF)),
        (b"G", None),
        (b"GET / HTTP/1.1\r\n\r\n", None),
        (b"\x80\x2e\x01", None),  # of SSL 2
        (b"\x15\x03\x01\x00\x02\x01\x00", None),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x05", None),
        (b"\x16\x03\x01\x00\x00", BROKEN),  # OpenSSL passes over up to 32 of these
        (b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00", BROKEN),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x09\x03\x16\x03\x01\x00\x00", BROKEN),
        (b"\x16\x03\x01\x00\x01\x01\x17", BROKEN),
        (b"\x16\x03\x01\x00\x01\x01\x15\x03\x01\x00\x02\x01\x5a", BROKEN),
    ],
)
def test_beginnings_by_hand(came: bytes, expected: Begun | None) -> None:
    found = begun(came)
    assert found == expected
    assert (found is BROKEN) == (expected is BROKEN)


def shares(*groups: int, key: int = 32) -> bytes:
    listed = b"".join(group.to_bytes(2) + key.to_bytes(2) + bytes(key) for group in groups)
    return b"\0\x33" + (len(listed) + 2).to_bytes(2) + len(listed).to_bytes(2) + listed


VERSIONS = b"\0\x2b\0\5\4\3\4\3\3"


@pytest.mark.parametrize(
    ("data", "again"),
    [
        (hello(), False),
        (hello(groups=b"P-521:P-256"), True),
        (hello(groups=b"P-384:P-521"), False),
        (hello(version=ssl.TLSVersion.TLSv1_2), False),
        (with_extensions(VERSIONS + shares(29)), False),
        (with_extensions(shares(0x11EC, 23) + VERSIONS), False),
        (with_extensions(VERSIONS + shares(24)), False),
        (with_extensions(VERSIONS), True),
        (with_extensions(VERSIONS + shares()), True),
        (with_extensions(VERSIONS + shares(25, 30, 0x11EC)), True),
        (with_extensions(b"\0\x2b\0\3\2\3\3" + shares()), False),
        (with_extensions(b""), False),
        (with_extensions(VERSIONS + b"\0\x33\0\1\0"), True),
        (with_extensions(VERSIONS + b"\0\x33\0\6\0\4\0\x1d\0\x20"), True),
        (with_extensions(b"\0\x2b\0\1\5"), True),
        (with_extensions(b"\0\x10\0"), True),
        (message(b"\x03\x03" + bytes(32) + b"\xff"), True),
        (b"", True),
    ],
)
def test_who_is_asked_again(data: bytes, again: bool) -> None:
    assert is_asked_again(data) is again


@given(st.binary(max_size=400))
def test_rubbish_raises_nothing(data: bytes) -> None:
    begun(data)
    begun(b"\x16\x03\x01" + data)
    is_asked_again(message(data))
    is_asked_again(with_extensions(VERSIONS + data))
    protocols(data)
    protocols(message(data))
    protocols(with_extensions(data))
    protocols(with_extensions(alpn(data)))
