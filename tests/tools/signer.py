"""Access tokens as an identity provider signs them, and as an attacker would like to: any header, any claims, any key.

Signing is done by hand over `cryptography`, so that a token can be wrong in every way that a library forbids. `ATTACKS` is the
table that the tests of the verifier and of the whole gate share; nothing here knows the gate.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(data: bytes | str | dict[str, Any]) -> str:
    """base64url without padding; of an object, its JSON."""
    raw = json.dumps(data).encode() if isinstance(data, dict) else data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@cache
def key(name: str) -> PrivateKey:
    """A key made once: its name begins with rsa, small (1024 bits of RSA), ec, p384 or ed."""
    if name.startswith(("rsa", "small")):
        return rsa.generate_private_key(65537, 1024 if name.startswith("small") else 2048)
    if name.startswith("ed"):
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if name.startswith("p384") else ec.SECP256R1())


def jwk(name: str, **members: Any) -> dict[str, Any]:
    """The public key as a provider publishes it; `members` are added or, when None, left out."""
    private = key(name)
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.public_key().public_numbers()
        made: dict[str, Any] = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        made = {"kty": "OKP", "crv": "Ed25519", "x": b64(private.public_key().public_bytes_raw())}
    else:
        point = private.public_key().public_numbers()
        size = point.curve.key_size // 8
        crv = {256: "P-256", 384: "P-384"}[point.curve.key_size]
        made = {"kty": "EC", "crv": crv, "x": number(point.x, size), "y": number(point.y, size)}
    made |= {"kid": name, "use": "sig", **members}
    return {member: value for member, value in made.items() if value is not None}


def sign(algorithm: str, name: str, signed: bytes) -> bytes:
    """A signature by the private key `name`, as RFC 7518 section 3 lays it out."""
    private = key(name)
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 = hashes.SHA256()
    if algorithm.endswith("384"):
        digest = hashes.SHA384()
    elif algorithm.endswith("512"):
        digest = hashes.SHA512()
    if isinstance(private, rsa.RSAPrivateKey):
        if algorithm.startswith("PS"):
            return private.sign(signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return private.sign(signed, padding.PKCS1v15(), digest)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(signed)
    r, s = decode_dss_signature(private.sign(signed, ec.ECDSA(digest)))
    size = private.curve.key_size // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


ISSUER, AUDIENCE = "https://login.example.com", "slmgate"


class Signer:
    """Tokens of one issuer for one audience, good from now on."""

    def __init__(self, issuer: str = ISSUER, clock: Callable[[], float] = time.time) -> None:
        self.issuer = issuer
        self._clock = clock

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good claims; `changes` are added or, when None, left out. `exp`, `nbf` and `iat` of int or float are from now."""
        now = int(self._clock())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "bot", "groups": ["ml-team"], "exp": 300, "iat": 0, **changes}
        for name in ("exp", "nbf", "iat"):
            if isinstance(claims.get(name), int | float) and not isinstance(claims[name], bool) and abs(claims[name]) < 1e8:
                claims[name] += now
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, name: str = "rsa", algorithm: str = "RS256", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token with these changes to a good header and good claims, signed with the key `name`."""
        head = {"alg": algorithm, "typ": "at+jwt", "kid": name, **(header or {})}
        return self.signed(b64({k: v for k, v in head.items() if v is not None}), b64(self.claims(**claims)), algorithm, name)

    def signed(self, head: str, claims: str, algorithm: str = "RS256", name: str = "rsa") -> str:
        """A token of these two parts as they are."""
        first = f"{head}.{claims}"
        return f"{first}.{b64(sign(algorithm, name, first.encode()))}"

    def hmac(self, secret: bytes, kid: str | None = "rsa") -> str:
        """HS256 with a text that everybody knows as the secret."""
        first = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{b64(self.claims())}"
        return f"{first}.{b64(hmac.new(secret, first.encode(), hashlib.sha256).digest())}"


def pem(name: str) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key(name).public_key().public_bytes(serialization.Encoding.PEM, form)


def der(name: str) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key(name).public_key().public_bytes(serialization.Encoding.DER, form)


GOOD = {"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}
PUBLISHED = ("rsa", "ec", "ed")
"""The keys that the issuer publishes; every other key is an attacker's."""


def _none(algorithm: str) -> Callable[[Signer], str]:
    return lambda signer: f"{b64({'alg': algorithm, 'typ': 'JWT'})}.{b64(signer.claims())}."


def _kid(kid: Any) -> Callable[[Signer], str]:
    return lambda signer: signer.token(header={"kid": kid})


def _raw(signer: Signer, head: str | None = None, claims: str | None = None) -> str:
    """A token whose JSON texts are given as they are."""
    return signer.signed(b64(head or json.dumps(GOOD)), b64(claims or json.dumps(signer.claims())))


def _tampered(signer: Signer) -> str:
    head, _, signature = signer.token().split(".")
    return f"{head}.{b64(signer.claims(sub='admin'))}.{signature}"


def _with(signer: Signer, member: str) -> str:
    """Good claims as JSON text with `member` behind them."""
    return json.dumps(signer.claims())[:-1] + f", {member}}}"


ATTACKS: dict[str, Callable[[Signer], str]] = {
    # the algorithm
    **{f"alg {one}": _none(one) for one in ("none", "None", "nOnE", "NONE", "")},
    "alg none, signed": lambda s: s.token(header={"alg": "none"}),
    "alg missing": lambda s: s.token(header={"alg": None}),
    "alg an array": lambda s: s.token(header={"alg": ["RS256"]}),
    "alg a number": lambda s: s.token(header={"alg": 256}),
    "alg in lower case": lambda s: s.token(header={"alg": "rs256"}),
    "alg unknown": lambda s: s.token(header={"alg": "XX256"}),
    "alg not of the issuer": lambda s: s.token(algorithm="RS512"),
    "HMAC with the PEM": lambda s: s.hmac(pem("rsa")),
    "HMAC with the PEM without its line end": lambda s: s.hmac(pem("rsa").strip()),
    "HMAC with the DER": lambda s: s.hmac(der("rsa")),
    "HMAC with the JWK": lambda s: s.hmac(json.dumps(jwk("rsa")).encode()),
    "HMAC with the modulus": lambda s: s.hmac(jwk("rsa")["n"].encode()),
    "HMAC with the EC key": lambda s: s.hmac(pem("ec"), "ec"),
    "HMAC with nothing": lambda s: s.hmac(b"", None),
    "RS256 with the EC key": lambda s: s.token("ec", header={"alg": "RS256"}),
    "ES256 with the RSA key": lambda s: s.token("rsa", header={"alg": "ES256"}),
    "EdDSA with the EC key": lambda s: s.token("ec", header={"alg": "EdDSA"}),
    "PS256 signature called RS256": lambda s: s.signed(b64(GOOD), b64(s.claims()), "PS256"),
    "RS256 signature called PS256": lambda s: s.signed(b64({**GOOD, "alg": "PS256"}), b64(s.claims()), "RS256"),
    "ES256 of zeros": lambda s: f"{b64({**GOOD, 'alg': 'ES256', 'kid': 'ec'})}.{b64(s.claims())}.{b64(bytes(64))}",
    "ES256 as DER": lambda s: f"{b64({**GOOD, 'alg': 'ES256', 'kid': 'ec'})}.{b64(s.claims())}.{b64(b'0' + bytes(70))}",
    "RS256 of zeros": lambda s: f"{b64(GOOD)}.{b64(s.claims())}.{b64(bytes(256))}",
    "no signature": lambda s: s.token().rpartition(".")[0] + ".",
    "half a signature": lambda s: s.token()[:-100],
    "another payload": _tampered,
    # the header
    "b64 false": lambda s: s.token(header={"b64": False, "crit": ["b64"]}),
    "crit unknown": lambda s: s.token(header={"crit": ["exp"]}),
    "crit empty": lambda s: s.token(header={"crit": []}),
    "zip": lambda s: s.token(header={"zip": "DEF"}),
    "encrypted": lambda s: ".".join([b64({"alg": "RSA-OAEP", "enc": "A256GCM"}), *[b64(b"x" * 16)] * 4]),
    "enc in a signed token": lambda s: s.token(header={"enc": "A256GCM"}),
    "nested": lambda s: s.signed(b64({**GOOD, "cty": "JWT"}), b64(s.token())),
    "ID token by its type": lambda s: s.token(header={"typ": "id_token+jwt"}),
    "logout token by its type": lambda s: s.token(header={"typ": "logout+jwt"}),
    "typ a number": lambda s: s.token(header={"typ": 1}),
    "header twice the same name": lambda s: _raw(s, head='{"alg": "none", "alg": "RS256", "kid": "rsa"}'),
    "header an array": lambda s: _raw(s, head='["RS256"]'),
    "header not JSON": lambda s: _raw(s, head="RS256"),
    "header with NaN": lambda s: _raw(s, head='{"alg": "RS256", "kid": "rsa", "x": NaN}'),
    "header not UTF-8": lambda s: s.signed(b64(b'{"alg": "RS256", "kid": "rsa", "x": "\xff"}'), b64(s.claims())),
    "header nested deep": lambda s: _raw(s, head='{"alg": "RS256", "kid": "rsa", "x": ' + "[" * 5000 + "]" * 5000 + "}"),
    # the key
    **{
        f"kid {what}": _kid(kid)
        for what, kid in {
            "a path": "../../../../dev/null",
            "SQL": "x' union select 'a",
            "a URL": "https://attacker.example/key",
            "empty": "",
            "long": "k" * 5000,
            "unknown": "nobody",
            "an array": ["rsa"],
            "a number": 1,
            "of another key": "ec",
        }.items()
    },
    "an attacker's key under a known kid": lambda s: s.signed(b64(GOOD), b64(s.claims()), name="rsa-attacker"),
    "an attacker's key, no kid": lambda s: s.token("rsa-attacker", header={"kid": None}),
    "jwk in the header": lambda s: s.token("rsa-attacker", header={"jwk": jwk("rsa-attacker")}),
    "jwk in the header, known kid": lambda s: s.token("rsa-attacker", header={"kid": "rsa", "jwk": jwk("rsa-attacker")}),
    "jku": lambda s: s.token("rsa-attacker", header={"jku": "https://attacker.example/jwks"}),
    "x5u": lambda s: s.token("rsa-attacker", header={"x5u": "https://attacker.example/cert"}),
    "x5c": lambda s: s.token("rsa-attacker", header={"x5c": [base64.b64encode(der("rsa-attacker")).decode()]}),
    # the shape
    "two parts": lambda s: s.token().rpartition(".")[0],
    "four parts": lambda s: s.token() + ".x",
    "five parts": lambda s: s.token() + ".x.y",
    "padding": lambda s: s.token() + "=",
    "plain base64": lambda s: f"{b64(GOOD)}.{base64.b64encode(json.dumps(s.claims()).encode()).decode()}.AAAA",
    "bits beyond the end": lambda s: s.token()[:-1] + chr(ord(s.token()[-1]) + 1),
    "empty header": lambda s: "." + s.token().partition(".")[2],
    "dots": lambda s: "..",
    "long": lambda s: s.token(x="y" * 20_000),
    # the claims
    "exp missing": lambda s: s.token(exp=None),
    "exp past": lambda s: s.token(exp=-61),
    "exp a text": lambda s: s.token(exp="9999999999"),
    "exp true": lambda s: s.token(exp=True),
    "exp null": lambda s: _raw(s, claims=json.dumps({**s.claims(), "exp": None})),
    "exp 1e400": lambda s: _raw(s, claims=_with(s, '"x": 1').replace('"exp": ', '"exp": 1e400, "y": ')),
    "exp huge": lambda s: s.token(exp=10**30),
    "exp negative": lambda s: s.token(exp=-(10**12)),
    "exp an array": lambda s: s.token(exp=[9999999999]),
    "exp twice": lambda s: _raw(s, claims=_with(s, '"exp": 9999999999')),
    "nbf in the future": lambda s: s.token(nbf=120),
    "iat in the future": lambda s: s.token(iat=120),
    "nbf a text": lambda s: s.token(nbf="0"),
    "aud missing": lambda s: s.token(aud=None),
    "aud another": lambda s: s.token(aud="another"),
    "aud a prefix": lambda s: s.token(aud="slmgat"),
    "aud longer": lambda s: s.token(aud="slmgate2"),
    "aud in another case": lambda s: s.token(aud="SLMGATE"),
    "aud with a blank": lambda s: s.token(aud="slmgate "),
    "aud an empty list": lambda s: s.token(aud=[]),
    "aud a list without it": lambda s: s.token(aud=["a", "b"]),
    "aud a list of lists": lambda s: s.token(aud=[["slmgate"]]),
    "aud a list with a number": lambda s: s.token(aud=["slmgate", 1]),
    "aud an object": lambda s: s.token(aud={"slmgate": 1}),
    "aud of 2,000": lambda s: s.token(aud=[str(n) for n in range(2000)]),
    "iss missing": lambda s: s.token(iss=None),
    "iss another": lambda s: s.token(iss="https://attacker.example"),
    "iss a prefix": lambda s: s.token(iss=s.issuer[:-1]),
    "iss with a slash": lambda s: s.token(iss=s.issuer + "/"),
    "iss in another case": lambda s: s.token(iss=s.issuer.upper()),
    "iss a list": lambda s: s.token(iss=[s.issuer]),
    "iss twice": lambda s: _raw(s, claims=_with(s, f'"iss": "{s.issuer}"')),
    "sub empty": lambda s: s.token(sub=""),
    "sub missing": lambda s: s.token(sub=None),
    "sub a number": lambda s: s.token(sub=1),
    "sub a list": lambda s: s.token(sub=["bot"]),
    "sub with a line end": lambda s: s.token(sub="bot\nadmin"),
    "sub with a direction mark": lambda s: s.token(sub="bot\u202eadmin"),
    "sub a lone surrogate": lambda s: s.token(sub="\ud800"),
    "sub with a blank": lambda s: s.token(sub="bot "),
    "sub long": lambda s: s.token(sub="b" * 257),
    "groups of objects": lambda s: s.token(groups=[{"ml-team": 1}]),
    "groups an object": lambda s: s.token(groups={"ml-team": True}),
    "groups of 1,001": lambda s: s.token(groups=["ml-team"] + ["x"] * 1000),
    "a name twice, deep": lambda s: _raw(s, claims=_with(s, '"x": {"a": 1, "a": 2}')),
    "claims an array": lambda s: _raw(s, claims="[]"),
    "claims with a BOM": lambda s: _raw(s, claims="\ufeff" + json.dumps(s.claims())),
    "at_hash, as an ID token": lambda s: s.token(at_hash="x"),
    "nonce, as an ID token": lambda s: s.token(header={"typ": "JWT"}, nonce="x"),
    "events, as a logout token": lambda s: s.token(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    "typ Refresh in the claims": lambda s: s.token(typ="Refresh"),
    "token_use id": lambda s: s.token(token_use="id"),
    "bound to a key": lambda s: s.token(cnf={"jkt": "x"}),
}
