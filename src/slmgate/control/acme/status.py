"""What operators are told of the certificates of the gate: the record, and those of files in it. It reads no file, gets none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
from cryptography import x509

from slmgate.control.acme.making import described
from slmgate.link.tls import Identity

State = Literal["valid", "waiting", "expired", "busy"]
"""`waiting`: there is none yet, and one that nobody vouches for is shown. `busy`: it is being got just now."""


class CertificateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of the gate, as operators see it. `source` is where it comes from: `file`, or the authority's host.

    `next_try`: when it is renewed, or asked for again; None: nothing is to be done for it here. `error`: why the last try failed;
    empty: it did not.
    """

    names: Sequence[str]
    source: str
    state: State = "valid"
    issuer: str = ""
    serial: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    next_try: datetime | None = None
    error: str = ""
    error_at: datetime | None = None


def of_files(identities: Iterable[Identity], known: Collection[str]) -> list[CertificateStatus]:
    """What is shown beside those whose serial numbers are `known`, and what stands in for one; each once."""
    found: dict[str, CertificateStatus] = {}
    now = datetime.now(UTC)
    for one in identities:
        leaf = described(x509.load_pem_x509_certificates(one.chain)[0])
        if leaf.serial in known or leaf.placeholder:
            continue
        ends = datetime.fromtimestamp(int(leaf.not_after), UTC)
        found[leaf.serial] = CertificateStatus(
            names=one.names,
            source="file",
            state="valid" if ends > now else "expired",
            issuer=leaf.issuer,
            serial=leaf.serial,
            not_before=datetime.fromtimestamp(int(leaf.not_before), UTC),
            not_after=ends,
        )
    return list(found.values())
