"""The options of `auth`: who is let in beside the holders of keys, and how its parts of the option table look.

A part of `options.py`'s table in a file of its own, with what both parts use. This module knows no YAML, no file and no
provider; what a token must be is `control/identity`'s affair.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.config.addresses import WebUrl
from slmgate.control.config.kinds import Choice, Duration, Location, Password, Secret, Text
from slmgate.control.config.table import Option, Section

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000  # milliseconds, as the bounds of a Duration
NOTHING: dict[str, Any] = {}
"""The default of maps that may be empty."""
NAME = Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}",
    described="a letter or digit, then letters, digits and . _ @ -, at most 64 in all",
)
CLAIM = Text(pattern=r"[!-~]{1,256}", described="a claim's name, or names with dots between them")
CLAIM_VALUE = Text(pattern=r"[^\x00-\x1f\x7f]{1,256}", described="at most 256 characters, none of them a control character")
REFRESH = Duration(low=SECOND, high=MINUTE)


class RoleMap(Section, frozen=True, kw_only=True):
    """Which roles a token's holder has."""

    claim: Annotated[
        str | None,
        Option(
            "The claim whose value, or each of whose entries, `map` looks up; dots lead into claims within claims.",
            CLAIM,
            example="realm_access.roles",
        ),
    ] = None
    map: Annotated[
        dict[str, str],
        Option(
            "From a value of the claim to a role; `*` stands for any characters, case counts, and every match gives its role.",
            NAME,
            key=CLAIM_VALUE,
            example="{ml-team: partner}",
        ),
    ] = NOTHING
    default: Annotated[tuple[str, ...], Option("The roles of a holder for whom nothing in `map` matched.", NAME)] = ()


class Oidc(Section, frozen=True, kw_only=True):
    """An OpenID provider whose signed access tokens (JWT, RFC 9068) are taken."""

    issuer: Annotated[
        str,
        Option(
            "The provider's issuer, letter by letter as its tokens say it in `iss`.",
            WebUrl(path=True),
            example="https://login.example.com",
        ),
    ]
    audience: Annotated[
        tuple[str, ...],
        Option(
            "What a token must name in `aud`, exactly; of several, one of them.",
            CLAIM_VALUE,
            at_least=1,
            example="slmgate",
            lone=True,
        ),
    ]
    principal: Annotated[str, Option("The claim that says who calls.", CLAIM)] = "sub"
    team: Annotated[
        str | None, Option("The claim with the holder's team; a token without it has none.", CLAIM, example="org")
    ] = None
    roles: Annotated[RoleMap, Option("Which roles a token's holder has.")] = RoleMap()
    algorithms: Annotated[
        tuple[str, ...],
        Option(
            "The signature algorithms that this issuer's tokens may have; none with a shared secret, and never `none`.",
            Choice(values=("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")),
            at_least=1,
        ),
    ] = ("RS256", "PS256", "ES256", "EdDSA")
    typ: Annotated[
        tuple[str, ...],
        Option(
            "The types that a token's header may say, in any case; a token without one passes where `JWT` is among them.",
            Text(pattern=r"[A-Za-z0-9.+_/-]{1,64}", described="a media type without `application/`"),
            at_least=1,
        ),
    ] = ("JWT", "at+jwt")
    leeway: Annotated[
        float, Option("How far the provider's clock may be off this one when times are compared.", Duration(low=0, high=MINUTE))
    ] = 30.0
    jwks_url: Annotated[
        str | None,
        Option(
            "Where the provider's keys are. Unset: where its `/.well-known/openid-configuration` says.",
            WebUrl(path=True),
            example="https://login.example.com/jwks",
        ),
    ] = None
    refresh: Annotated[
        float,
        Option("How often the keys are fetched anew: a key that the provider took back is refused after that.", REFRESH),
    ] = 30.0
    keep_keys: Annotated[
        float,
        Option(
            "How long the last known keys serve while the provider cannot be asked; after that its tokens get "
            "`identity_unavailable`.",
            Duration(low=0, high=30 * DAY),
        ),
    ] = 86_400.0
    timeout: Annotated[float, Option("How long one answer of the provider may take.", Duration(low=100, high=MINUTE))] = 5.0
    ca_file: Annotated[
        Path | None,
        Option(
            "The certificates (PEM) of the authorities to trust for this provider. Unset: those of the system.",
            Location(),
            example="private-ca.pem",
        ),
    ] = None


class Introspection(Section, frozen=True, kw_only=True):
    """A provider that is asked about each opaque token (RFC 7662)."""

    url: Annotated[str, Option("The introspection endpoint.", WebUrl(path=True), example="https://login.example.com/introspect")]
    client_id: Annotated[
        str,
        Option(
            "The name under which the gate asks.",
            Text(pattern=r"[ -~]{1,256}", described="visible ASCII, at most 256 characters"),
            example="slmgate",
        ),
    ]
    client_secret: Annotated[
        Secret, Option("The secret with which the gate asks.", Password(), example="${env:INTROSPECT_SECRET}")
    ]
    client_auth: Annotated[
        Literal["basic", "post"],
        Option("How the secret is sent: in the `Authorization` field, or in the form.", Choice(values=("basic", "post"))),
    ] = "basic"
    issuer: Annotated[
        str | None,
        Option(
            "The issuer that an answer must name if it names one, and that names the principals. Unset: the endpoint's URL.",
            WebUrl(path=True),
            example="https://login.example.com",
        ),
    ] = None
    audience: Annotated[
        tuple[str, ...],
        Option(
            "What an answer must name in `aud`; of several, one of them. Unset: any token that the provider knows is taken.",
            CLAIM_VALUE,
            lone=True,
        ),
    ] = ()
    principal: Annotated[str, Option("The member of the answer that says who calls.", CLAIM)] = "sub"
    team: Annotated[str | None, Option("The member with the holder's team.", CLAIM, example="org")] = None
    roles: Annotated[RoleMap, Option("Which roles a token's holder has.")] = RoleMap()
    cache: Annotated[
        float,
        Option(
            "How long an answer serves: a token that the provider took back is refused after that.",
            Duration(low=0, high=5 * MINUTE),
        ),
    ] = 30.0
    leeway: Annotated[
        float, Option("How far the provider's clock may be off this one when times are compared.", Duration(low=0, high=MINUTE))
    ] = 30.0
    timeout: Annotated[float, Option("How long one answer of the provider may take.", Duration(low=100, high=MINUTE))] = 2.0
    ca_file: Annotated[
        Path | None,
        Option(
            "The certificates (PEM) of the authorities to trust for this provider. Unset: those of the system.",
            Location(),
            example="private-ca.pem",
        ),
    ] = None


class Anonymous(Section, frozen=True, kw_only=True):
    """Requests without any credential."""

    role: Annotated[str, Option("The role of whoever calls without a credential.", NAME, example="partner")]


class Auth(Section, frozen=True, kw_only=True):
    """Who is let in beside the holders of keys."""

    later: ClassVar[tuple[str, ...]] = ("client_certificates",)

    oidc: Annotated[tuple[Oidc, ...], Option("OpenID providers whose signed access tokens are taken.")] = ()
    introspection: Annotated[
        tuple[Introspection, ...], Option("Providers that are asked, in this order, about tokens that cannot be read.")
    ] = ()
    anonymous: Annotated[Anonymous | None, Option("Lets requests without any credential in. Unset: they are refused.")] = None
