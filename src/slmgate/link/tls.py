"""How listeners speak TLS: what control has read and examined, as it travels to the workers.

Files do not travel, their contents do: all workers speak with the same ones, also one that is started while a file is bad.
Nothing of it is written down anywhere, stands in a command line or shows in a `repr`. This module opens nothing and builds
nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

TICKET_KEY_BYTES = 80
"""Of session tickets: 16 for the key's name, 32 for authentication, 32 for encryption, as OpenSSL wants them."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of the gate with those behind it (`chain`, PEM) and its key (PEM).

    `names` are the DNS names that it is for, in lower case, `*.` in front of one that stands for every name with one more label.
    `kind` is that of its key, like `RSA`: clients that do not speak one kind may speak another.
    """

    chain: bytes
    key: bytes
    names: tuple[str, ...] = ()
    kind: str = ""

    def __repr__(self) -> str:
        return f"Identity({', '.join(self.names)}: {self.kind})"


class TlsSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How one listener speaks; `name` is its address as configured. The first identity is shown where no other fits better.

    `client_ca` and `crl` are PEM; None: clients are asked for no certificate, and nobody says which are revoked.
    """

    name: str
    identities: tuple[Identity, ...]
    min_version: Literal["1.2", "1.3"] = "1.2"
    client_ca: bytes | None = None
    client_required: bool = False
    crl: bytes | None = None


class Tls(msgspec.Struct, frozen=True, tag="tls"):
    """All listeners that speak TLS. One that is missing here goes on as it did.

    `ticket_key` is what session tickets are sealed with from now on, `TICKET_KEY_BYTES` long; all workers have the same.
    """

    listeners: tuple[TlsSpec, ...]
    ticket_key: bytes = b""

    def __repr__(self) -> str:
        return f"Tls({', '.join(each.name for each in self.listeners)})"
