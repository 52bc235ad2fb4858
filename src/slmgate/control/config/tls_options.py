"""The options of `listen[].tls`: with which certificate the gate answers, and whether clients must show one.

A part of `options.py`'s table in a file of its own. This module opens no file: what must be in them is `tlsfiles.py`'s affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from slmgate.control.config.acme_options import Acme
from slmgate.control.config.kinds import Choice, Location
from slmgate.control.config.table import Option, Section


class ServerCertificate(Section, frozen=True, kw_only=True):
    """A certificate of the gate, with its key."""

    cert: Annotated[
        Path,
        Option(
            "The certificate (PEM), and behind it those up to the authority that clients trust.",
            Location(),
            example="gate.pem",
        ),
    ]
    key: Annotated[Path, Option("Its private key (PEM), without a password.", Location(), example="gate.key")]


class ListenTls(Section, frozen=True, kw_only=True):
    """TLS on one listener. When one of its files changes, the new one is taken over, without dropping anyone."""

    certificates: Annotated[
        tuple[ServerCertificate, ...],
        Option(
            "The certificates that the gate shows, each with its key: to a client that asks for a name those that are for it "
            "(by their subjectAltName, exactly or by a wildcard for one label), one of each kind of key; to others the first.",
        ),
    ] = ()
    min_version: Annotated[
        Literal["1.2", "1.3"],
        Option("The oldest version of TLS that is spoken.", Choice(values=("1.2", "1.3"))),
    ] = "1.2"
    client_ca: Annotated[
        Path | None,
        Option(
            "The certificates (PEM) of the authorities whose client certificates are taken. Unset: clients are asked for none.",
            Location(),
            example="clients.pem",
        ),
    ] = None
    client_auth: Annotated[
        Literal["optional", "required"],
        Option(
            "Whether a client without a certificate may connect; one with a wrong certificate never may.",
            Choice(values=("optional", "required")),
        ),
    ] = "optional"
    crl: Annotated[
        Path | None,
        Option(
            "The revocation lists (PEM) of the authorities in `client_ca`, one of each: revoked certificates are refused. When "
            "one has ended, every client certificate is, until there is a new one. Unset: nothing is looked up.",
            Location(),
            example="clients.crl",
        ),
    ] = None
    acme: Annotated[
        Acme | None,
        Option(
            "Certificates that the gate gets and renews by itself, behind those in `certificates` if there are any. Unset: none."
        ),
    ] = None
