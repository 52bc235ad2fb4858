"""The public keys of an issuer (JWK Set, RFC 7517), each pinned to what it may verify.

A key verifies only algorithms of its own type and curve, and only the one that it names, if it names one; keys for encryption,
shared secrets, private keys and weak ones are passed over. Where a set comes from is not known here.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from joserfc.jws import JWSRegistry

from slmgate.control.identity.strict import base64url, json_object

MAX_KEYS = 1000
MIN_RSA_BYTES, MAX_RSA_BYTES = 256, 1024
"""2048 bits (RFC 7518 section 3.3) to 8192, beyond which one look at a signature costs too much."""
# algorithm -> key type, curve (RFC 7518 section 3.1, RFC 8037 section 3.1), and what joserfc calls it
_ALGORITHMS = {
    **{name: ("RSA", None, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    "ES256": ("EC", "P-256", "ES256"),
    "ES384": ("EC", "P-384", "ES384"),
    "ES512": ("EC", "P-521", "ES512"),
    "EdDSA": ("OKP", "Ed25519", "Ed25519"),
}
_SAME = {"Ed25519": "EdDSA"}  # RFC 9864's name for it, in a key
_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class PublicKey:
    """One usable key. `thumb` names it and what it may verify; `kid` is the provider's own name for it."""

    __slots__ = ("_algorithm", "_curve", "_key", "_members", "_type", "kid", "thumb")

    def __init__(self, jwk: dict[str, Any]) -> None:
        """Raises ValueError for a key that may verify nothing."""
        self._type = jwk.get("kty")
        names = _PUBLIC.get(self._type) if isinstance(self._type, str) else None
        if names is None or not all(isinstance(jwk.get(name), str) for name in names) or "d" in jwk:
            raise ValueError("no public key")
        if jwk.get("use", "sig") != "sig" or ("key_ops" in jwk and "verify" not in _list(jwk["key_ops"])):
            raise ValueError("not for signatures")
        kid, algorithm = jwk.get("kid"), jwk.get("alg")
        if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
            raise ValueError("malformed")
        if self._type == "RSA" and not MIN_RSA_BYTES <= len(base64url(jwk["n"].encode()).lstrip(b"\0")) <= MAX_RSA_BYTES:
            raise ValueError("too short or too long")
        self._curve = jwk.get("crv")
        self._algorithm = _SAME.get(algorithm, algorithm) if algorithm is not None else None
        self._members = {"kty": self._type, **{name: jwk[name] for name in names}}
        self._key: Key | None = None  # made when the key is first used: a set may hold a thousand
        self.kid = kid
        said = json.dumps([self._members, self.kid, self._algorithm], sort_keys=True)
        self.thumb = sha256(said.encode()).hexdigest()[:24]

    def __repr__(self) -> str:
        return f"<PublicKey {self._type} {self.thumb}>"

    def may_verify(self, algorithm: str) -> bool:
        kind, curve, _ = _ALGORITHMS[algorithm]
        return self._type == kind and (curve is None or self._curve == curve) and self._algorithm in (None, algorithm)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` over `signed` was made with this key and `algorithm`."""
        if not self.may_verify(algorithm):
            return False
        try:
            if self._key is None:
                self._key = import_key(self._members)
            return bool(JWSRegistry.algorithms[_ALGORITHMS[algorithm][2]].verify(signed, signature, self._key))
        except (JoseError, ValueError, TypeError):  # a key that is no point of its curve, a signature of another length
            return False


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def read_keys(document: bytes) -> tuple[PublicKey, ...]:
    """The usable keys of a JWK Set; raises ValueError where it is none, or has more than `MAX_KEYS` keys."""
    keys = json_object(document).get("keys")
    if not isinstance(keys, list):
        raise ValueError("there is no list of keys")
    if len(keys) > MAX_KEYS:
        raise ValueError(f"there are more than {MAX_KEYS} keys")
    found: list[PublicKey] = []
    for jwk in keys:
        try:
            if isinstance(jwk, dict):
                found.append(PublicKey(jwk))
        except ValueError:
            continue
    return tuple(found)
