"""What travels of TLS: whole, and unseen where records are shown. What it means is tested where it is used."""

from __future__ import annotations

import msgspec

from slmgate.link.channel import pack
from slmgate.link.messages import Message
from slmgate.link.tls import TICKET_KEY_BYTES, Identity, Tls, TlsSpec

SECRET = b"canary"
SPEC = TlsSpec(
    name="0.0.0.0:8443",
    identities=(Identity(chain=b"chain", key=SECRET, names=("a.example",), kind="RSA"),),
    min_version="1.3",
    client_ca=b"ca",
    client_required=True,
    crl=b"crl",
)


def test_a_round_trip() -> None:
    tls = Tls((SPEC,), SECRET * (TICKET_KEY_BYTES // 5))
    decoded = msgspec.msgpack.decode(pack(tls)[4:], type=Message)
    assert decoded == tls


def test_no_key_is_seen() -> None:
    shown = repr(Tls((SPEC,), SECRET)) + repr(SPEC)
    assert "canary" not in shown
    assert "0.0.0.0:8443" in shown and "a.example: RSA" in shown
