"""Who a client certificate stands for: from the names that an authority certified to a principal, or a refusal.

The handshake has verified the certificate before anything here is asked: that its authority is trusted, that its holder has the
key, that it was valid then. This module knows neither sockets nor X.509; it gets texts, and the second at which they end.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Literal

import msgspec

from slmgate.terms import Principal, Refuse

Field = Literal["subject_cn", "subject_email", "san_dns", "san_uri", "san_email"]

MAX_NAME = 256
"""Characters of a name that may stand in a log, a list and an id."""

RULE = "auth.client_certificates"
_WORDS = {
    "subject_cn": "common name in its subject",
    "subject_email": "email address in its subject",
    "subject_o": "organization in its subject",
    "san_dns": "DNS name",
    "san_uri": "URI",
    "san_email": "email address",
}
_ENDED = Refuse(
    "invalid_api_key", "The client certificate of this connection has expired. Connect with a new one.", rule=f"{RULE}: expired"
)


class CertificateSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How verified client certificates are read: which field says who calls, and `team` whether the organization is the team."""

    principal: Field = "subject_cn"
    roles: tuple[str, ...] = ()
    team: bool = False


class Certificate:
    """The verified certificate of one connection. `names` are its texts by field, `until` its end in seconds since the epoch.

    `issuer` is whatever tells one authority from another.
    """

    __slots__ = ("_known", "_spec", "issuer", "names", "until")

    def __init__(self, names: Mapping[str, tuple[str, ...]], issuer: str, until: float) -> None:
        self.names = names
        self.issuer = issuer
        self.until = until
        # what it came to by the specification that was last asked for: worked out once, since neither changes by itself
        self._spec: CertificateSpec | None = None
        self._known: Principal | Refuse | None = None

    def __repr__(self) -> str:
        return f"<Certificate {dict(self.names)}>"

    def opens(self, spec: CertificateSpec, now: float) -> tuple[Principal, float] | Refuse:
        """Whose it is by `spec`, and until when; `now` is seconds since the epoch."""
        if now >= self.until:
            return _ENDED
        known = self._known
        if known is None or spec is not self._spec:
            self._spec = spec
            known = self._known = self._principal(spec)
        return known if isinstance(known, Refuse) else (known, self.until)

    def _principal(self, spec: CertificateSpec) -> Principal | Refuse:
        name = self._one(spec.principal)
        if isinstance(name, Refuse):
            return name
        team: str | None = None
        if spec.team and self.names.get("subject_o"):
            found = self._one("subject_o")
            if isinstance(found, Refuse):
                return found
            team = found
        # Of the authority and the name, not of the certificate: a renewed one is the same caller, and a name that another
        # authority certifies is not.
        digest = sha256(msgspec.json.encode((self.issuer, spec.principal, name))).hexdigest()
        return Principal(id=f"cert:{digest}", name=name, kind="certificate", team=team, roles=spec.roles)

    def _one(self, field: str) -> str | Refuse:
        """The one text of a field: none says nothing, and several do not say who calls."""
        found = tuple(dict.fromkeys(self.names.get(field, ())))
        words = _WORDS[field]
        if not found:
            return _refuse(f"The client certificate has no {words}, which this gate knows callers by.", f"no {field}")
        if len(found) > 1:
            return _refuse(f"The client certificate has more than one {words}: it must have one.", f"several {field}")
        name = found[0]
        if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
            message = f"The {words} of the client certificate is not a clean text of at most {MAX_NAME} characters."
            return _refuse(message, f"{field} is not clean")
        return name


def _refuse(message: str, why: str) -> Refuse:
    return Refuse("invalid_api_key", message, rule=f"{RULE}: {why}")
