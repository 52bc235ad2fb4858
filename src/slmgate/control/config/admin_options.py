"""The rows of the option table under `admin`: the listener for operators, and how they sign in with a browser.

Part of `options.py` in all but place, under the same rules: frozen records, times in seconds once loaded. This module knows
no YAML and no file.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from slmgate.control.config.addresses import Address, Listener, WebUrl
from slmgate.control.config.kinds import Choice, Duration, Password, Secret, Switch, Text
from slmgate.control.config.table import Option, Section

MINUTE, DAY = 60_000, 86_400_000  # milliseconds, as the bounds of a Duration

CLAIM = Text(
    pattern=r"[!-~]{1,128}",
    described="1 to 128 visible ASCII characters, no spaces",
)
CLIENT_ID = Text(pattern=r"[ -~]{1,255}", described="at most 255 ASCII characters")
SCOPE = Text(pattern=r"[!#-\[\]-~]{1,128}", described="one scope: visible ASCII without spaces, quotes and backslashes")
AdminRole = Literal["viewer", "operator", "owner"]
ADMIN_ROLES = Choice(values=("viewer", "operator", "owner"))


class AdminRoles(Section, frozen=True, kw_only=True):
    """Which admin role somebody has that an issuer vouches for."""

    claim: Annotated[
        str,
        Option(
            "The claim of the ID token with the names to go by: a text or a list of them; `a.b` is `b` within `a`.",
            CLAIM,
            example="groups",
        ),
    ] = "groups"
    map: Annotated[
        dict[str, AdminRole],
        Option(
            "What a name in the claim comes to: `viewer` sees, `operator` also changes what can be undone, `owner` changes "
            "everything. The highest counts; who has none is not let in.",
            ADMIN_ROLES,
            at_least=1,
            example="{gate-admins: owner}",
        ),
    ]


class AdminOidc(Section, frozen=True, kw_only=True):
    """Sign-in at an OpenID Connect provider: authorization code with PKCE."""

    issuer: Annotated[
        str,
        Option(
            "The provider, exactly as it calls itself.",
            WebUrl(path=True),
            example="https://login.example.com",
        ),
    ]
    client_id: Annotated[str, Option("What the provider calls this gate.", CLIENT_ID, example="slmgate-admin")]
    client_secret: Annotated[
        Secret | None,
        Option(
            "The client's secret at the provider. Unset: a public client, which PKCE alone protects.",
            Password(),
            example="${env:ADMIN_OIDC_SECRET}",
        ),
    ] = None
    scopes: Annotated[
        tuple[str, ...],
        Option("What is asked for beside `openid`, such as the scope that brings the roles' claim.", SCOPE),
    ] = ("profile",)
    principal: Annotated[
        str,
        Option("The claim of the ID token that names somebody in the audit log; take one that its user cannot edit.", CLAIM),
    ] = "sub"
    algorithms: Annotated[
        tuple[str, ...],
        Option(
            "The signatures of ID tokens that are taken.",
            Choice(values=("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")),
            at_least=1,
        ),
    ] = ("RS256",)
    roles: Annotated[AdminRoles, Option("Which admin role the provider's users have.", example="{map: {gate-admins: owner}}")]


class AdminAuth(Section, frozen=True, kw_only=True):
    """How operators sign in with a browser."""

    local: Annotated[bool, Option("Whether the accounts of `slmgate admin users` may sign in.", Switch())] = True
    oidc: Annotated[
        AdminOidc | None, Option("Sign-in at an OpenID Connect provider; a change signs out who came by it. Unset: none.")
    ] = None
    idle: Annotated[
        float, Option("A browser that asks for nothing for so long is signed out.", Duration(low=MINUTE, high=30 * DAY))
    ] = 1800.0
    lifetime: Annotated[
        float, Option("A browser is signed out so long after it signed in.", Duration(low=MINUTE, high=90 * DAY))
    ] = 43_200.0


class Admin(Section, frozen=True, kw_only=True):
    """The listener for operators: the admin API, sign-in, health and the commands of slmgate."""

    later: ClassVar[tuple[str, ...]] = ("tls",)

    address: Annotated[
        Address,
        Option("Where operators reach slmgate; keep it on a private address.", Listener(), False),
    ] = Address("127.0.0.1", 8081)
    plain_http: Annotated[
        bool,
        Option(
            "Whether `address` is meant to be one that can be reached from outside of private networks. This listener speaks "
            "plain HTTP: admin keys and passwords can be read on their way there, unless a proxy with TLS stands before it.",
            Switch(),
        ),
    ] = False
    url: Annotated[
        str | None,
        Option(
            "What browsers call this listener, where a proxy with TLS stands before it. Unset: the address that they asked.",
            WebUrl(plain=True),
            example="https://gate-admin.example.com",
        ),
    ] = None
    auth: Annotated[AdminAuth, Option("How operators sign in with a browser; admin keys work whatever stands here.")] = (
        AdminAuth()
    )
