"""The options of `listen[].tls.acme`: certificates that the gate gets by itself, from whom, for which names and how.

A part of `options.py`'s table in a file of its own, with the kind of its names. This module asks nobody; what is done by these
options is `control/acme`'s affair.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.config.addresses import WebUrl
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import NOT_YET, Choice, Kind, Location, Password, Secret, Switch, Text
from slmgate.control.config.table import Option, Section

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
HTTP_01: Literal["http-01"] = "http-01"
TLS_ALPN_01: Literal["tls-alpn-01"] = "tls-alpn-01"
HTTP_PORT = 80
"""Where http-01 asks, whatever the authority (RFC 8555 section 8.3)."""
MAX_DOMAINS = 100

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"


class Domain(Kind, frozen=True, kw_only=True):
    """A name that an authority can check by asking there: in lower case, without a dot at its end."""

    label: ClassVar[str] = "domain"
    textual: ClassVar[bool] = True

    def read(self, text: str) -> str:
        if text.startswith("*."):
            raise BadValueError(
                f"is a wildcard, which needs the challenge dns-01, and that {NOT_YET}",
                "write each name, or give a wildcard certificate of your own in certificates",
            )
        if _is_address(text):
            raise BadValueError("is an address, and certificates are got for names", "write a name that leads to this gate")
        if not text.isascii():
            raise BadValueError("is not in ASCII", "write it as DNS has it: xn--...")
        name = text.removesuffix(".")
        if len(name) > 253 or not re.fullmatch(_DOMAIN, name):
            raise BadValueError("is not a domain", "write the name alone, like gate.example.com")
        return name.lower()

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": rf"^{_DOMAIN}\.?$"}

    def own_values(self) -> str:
        return "a name like `gate.example.com`"


class HmacKey(Password, frozen=True, kw_only=True):
    """A key in base64url (RFC 4648 section 5), as authorities hand it out. Never shown."""

    def read(self, text: str) -> Secret:
        secret = super().read(text)
        if not re.fullmatch(r"[A-Za-z0-9_-]{16,1024}={0,2}", text) or not _decodes(text):
            raise BadValueError("is not base64url", "copy it as the authority shows it", private=True)
        return secret


class ExternalAccount(Section, frozen=True, kw_only=True):
    """What ties the gate's account to one that the operator has at the authority (external account binding, RFC 8555 7.3.4)."""

    kid: Annotated[
        str,
        Option(
            "The key identifier that the authority gave.",
            Text(pattern=r"[!-~]{1,256}", described="at most 256 visible ASCII characters"),
            example="kid-1",
        ),
    ]
    hmac_key: Annotated[
        Secret, Option("The key that belongs to it, in base64url, as the authority gave it.", HmacKey(), example="${env:EAB_KEY}")
    ]


class Acme(Section, frozen=True, kw_only=True):
    """Certificates that the gate gets and renews by itself (ACME, RFC 8555); docs/security.md."""

    domains: Annotated[
        tuple[str, ...],
        Option(
            "The names to have certificates for, one for each. DNS must lead them to this gate.",
            Domain(),
            at_least=1,
            lone=True,
            example="[gate.example.com]",
        ),
    ]
    email: Annotated[
        str | None,
        Option(
            "Where the authority may write to about the account. Unset: nowhere.",
            Text(
                pattern=r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9.-]{1,190}",
                described="an address like ops@example.com",
            ),
            example="ops@example.com",
        ),
    ] = None
    directory: Annotated[
        str,
        Option("The authority, by the address of its ACME directory; by default, Let's Encrypt.", WebUrl(path=True)),
    ] = LETS_ENCRYPT
    agree_to_terms: Annotated[
        bool,
        Option("`true`: you agree to the authority's terms of service. Without, no public one gives certificates.", Switch()),
    ] = False
    challenges: Annotated[
        tuple[Literal["http-01", "tls-alpn-01"], ...],
        Option(
            "How the authority may check that a name is this gate's: `http-01` asks on port 80, which must lead to a listener "
            "without TLS, `tls-alpn-01` on port 443, which must lead to this one. The first is tried first, then the next. "
            "Empty: tls-alpn-01, then http-01 where a listener without TLS has port 80.",
            Choice(values=(HTTP_01, TLS_ALPN_01), later=("dns-01",)),
            lone=True,
        ),
    ] = ()
    ca: Annotated[
        Path | None,
        Option(
            "The authorities (PEM) whose certificate the ACME server itself must show, for one of your own. Unset: the usual "
            "public ones.",
            Location(),
            example="acme-root.pem",
        ),
    ] = None
    eab: Annotated[
        ExternalAccount | None,
        Option("An account at the authority to which this gate's is bound, where it asks for that. Unset: none."),
    ] = None


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _decodes(text: str) -> bool:
    try:
        return bool(urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)))
    except ValueError:
        return False
