"""What an instance must show over TLS: of a spec, for the loop, and for connections that were made when it was something else."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import pytest

from slmgate.dataplane.secured import Secured, Unusable, closing, connecting, secured, trouble
from slmgate.link.trust import Trusts
from slmgate.policy.specs import InstanceSpec, TrustSpec

SPEC = InstanceSpec(id="m/10.0.0.5:443", host="10.0.0.5", port=443, tls=True)
UNUSABLE = Secured("no files", "a")


class Transport:
    """As much of one as is looked at."""

    aborted = 0

    def is_closing(self) -> bool:
        return self.aborted > 0

    def abort(self) -> None:
        self.aborted += 1


def test_of_a_spec() -> None:
    trusts = Trusts()
    assert secured(InstanceSpec(id="m/a:80", host="a", port=80), trusts) is None
    one = secured(SPEC, trusts)
    assert one is not None and isinstance(one.context, ssl.SSLContext) and one.name == "10.0.0.5"
    assert secured(SPEC, trusts) == one
    named = InstanceSpec(id="m/a:1", host="10.0.0.5", port=1, tls=True, server_name="vllm.test", trust=TrustSpec(verify=False))
    other = secured(named, trusts)
    assert other is not None and other.name == "vllm.test"
    assert isinstance(other.context, ssl.SSLContext) and other.context.verify_mode == ssl.CERT_NONE


def test_what_the_loop_is_told() -> None:
    assert connecting(None, 2.0) == {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    told = {"ssl": context, "server_hostname": "a", "ssl_handshake_timeout": 2.0}
    assert connecting(Secured(context, "a"), 2.0) == told
    with pytest.raises(Unusable, match="no files"):
        connecting(UNUSABLE, 2.0)


def test_a_connection_that_was_shown_something_else_is_not_used_again() -> None:
    transport = Transport()
    now = [UNUSABLE]
    is_closing = closing(cast("asyncio.Transport", transport), now[0], lambda: now[0])
    assert not is_closing()
    now[0] = Secured("no files", "b")
    assert is_closing() and is_closing()
    assert transport.aborted == 1


def test_troubles() -> None:
    must = Secured(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "a")
    assert trouble(None, ConnectionResetError()) is None
    assert trouble(must, None) is None
    assert trouble(must, ConnectionRefusedError()) is None
    assert trouble(must, TimeoutError()) == "no connection over TLS came about in time"
    assert trouble(must, Unusable("no files")) == "no files"
    assert trouble(must, ConnectionResetError()) is not None
    assert trouble(must, ConnectionResetError(), opening=False) is None
    assert trouble(must, TimeoutError(), opening=False) is None
