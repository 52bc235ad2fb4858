"""An ACME server in place of the network of `requests`: each question is answered from memory, as a test has it. No socket.

It believes every signature, and checks nothing but what these tests are about. `broken` maps a path to what is answered
there instead.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import requests
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

HOST = "https://acme.test"
DIRECTORY = f"{HOST}/directory"


class FakeAuthority:
    """`ways`: the challenges it offers. `challenge`: what becomes of them, a status, with an error or without."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.asked: list[tuple[str, str]] = []
        self.said: dict[str, Any] = {}  # what was posted last, by path
        self.broken: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.ways = ["http-01", "tls-alpn-01", "dns-01"]
        self.looks = 1  # at the authorization, until it is decided
        self.decided: dict[str, Any] = {"status": "valid"}
        self.authorized = "pending"
        self.knows_account = False
        self.wants_binding = False
        self.lost_accounts: set[str] = set()
        self.order_error: dict[str, Any] | None = None
        self.names: list[str] | None = None  # for which it gives a certificate; None: those asked for
        self._csr: x509.CertificateSigningRequest | None = None

    def request(self, method: str, url: str, **options: Any) -> requests.Response:
        """In place of `requests.Session.request`."""
        assert options["allow_redirects"] is False and options["timeout"]
        path = url.removeprefix(HOST)
        self.asked.append((method, path))
        payload: Any = None
        if data := options.get("data"):
            text = json.loads(data)["payload"]
            payload = json.loads(urlsafe_b64decode(text + "==")) if text else None
            self.said[path] = payload
        status, headers, body = self.broken.get(path) or self._answer(path, payload)
        made = requests.Response()
        made.status_code, made.url = status, url
        made.headers.update({"replay-nonce": "bm9uY2U", "content-type": "application/json", **headers})
        made.raw = Raw(body)
        return made

    def _answer(self, path: str, payload: Any) -> tuple[int, dict[str, str], bytes]:
        if path == "/directory":
            meta = {"externalAccountRequired": self.wants_binding}
            names = {name: f"{HOST}/{name}" for name in ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")}
            return _json({**names, "meta": meta})
        if path == "/newAccount":
            if payload.get("onlyReturnExisting") and not self.knows_account:
                return problem("accountDoesNotExist", "no such account")
            status = 200 if self.knows_account else 201
            self.knows_account = True
            return _json({"status": "valid"}, status, location=f"{HOST}/account/1")
        if path == "/account/1":
            return _json({"status": "valid", **payload}, location=f"{HOST}/account/1")
        if path == "/newOrder":
            return _json(self._order("pending"), 201, location=f"{HOST}/order/1")
        if path == "/authz/1":
            return _json(self._authorization())
        if path.startswith("/challenge/"):
            return _json(
                {
                    "type": path.rpartition("/")[2],
                    "url": HOST + path,
                    "status": "processing",
                    "token": "dG9rZW4tdG9rZW4tdG9rZW4tdG9rZW4",
                },
                link=True,
            )
        if path == "/finalize/1":
            self._csr = x509.load_der_x509_csr(urlsafe_b64decode(payload["csr"] + "=="))
            return _json(self._order("processing"), location=f"{HOST}/order/1")
        if path == "/order/1":
            return _json(self._order("invalid" if self.order_error else "valid"))
        if path == "/cert/1":
            return 200, {"content-type": "application/pem-certificate-chain"}, self._certificate()
        return (200, {}, b"") if path == "/newNonce" else (404, {}, b"")

    def _order(self, status: str) -> dict[str, Any]:
        order: dict[str, Any] = {"status": status, "authorizations": [f"{HOST}/authz/1"], "finalize": f"{HOST}/finalize/1"}
        order["identifiers"] = [{"type": "dns", "value": "gate.example.com"}]
        if status == "valid":
            order["certificate"] = f"{HOST}/cert/1"
        return order | ({"error": self.order_error} if status == "invalid" else {})

    def _authorization(self) -> dict[str, Any]:
        answered = any(path.startswith("/challenge/") for _, path in self.asked)
        self.looks -= answered
        decided = self.decided if answered and self.looks <= 0 else {}
        status = decided.get("status", self.authorized)
        offers = [
            {
                "type": way,
                "url": f"{HOST}/challenge/{way}",
                "status": "pending",
                "token": "dG9rZW4tdG9rZW4tdG9rZW4tdG9rZW4",
                **decided,
            }
            for way in self.ways
        ]
        identifier = {"type": "dns", "value": "gate.example.com"}
        return {"status": status, "identifier": identifier, "challenges": offers}

    def _certificate(self) -> bytes:
        assert self._csr is not None
        names = self._csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = self.names or names.get_values_for_type(x509.DNSName)
        key = self.ca._private_key
        issuer = x509.load_pem_x509_certificate(self.ca.cert_pem.bytes())
        builder = x509.CertificateBuilder(
            issuer_name=issuer.subject,
            subject_name=x509.Name([]),
            public_key=self._csr.public_key(),
            serial_number=77,
            not_valid_before=issuer.not_valid_before_utc,
            not_valid_after=issuer.not_valid_after_utc,
        )
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in wanted]), critical=False)
        from cryptography.hazmat.primitives.hashes import SHA256

        return builder.sign(key, SHA256()).public_bytes(Encoding.PEM) + self.ca.cert_pem.bytes()


class Raw:
    """What stands behind a response's content: as `urllib3` has it, as far as `requests` asks."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, size: int, decode_content: bool = True) -> Any:
        assert decode_content
        for start in range(0, len(self._body), size):
            yield self._body[start : start + size]

    def close(self) -> None:
        self._body = b""

    def release_conn(self) -> None:
        self.close()


def problem(code: str, detail: str, status: int = 400, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"type": f"urn:ietf:params:acme:error:{code}", "detail": detail}).encode()
    return (
        status,
        {"content-type": "application/problem+json", **{name.replace("_", "-"): value for name, value in headers.items()}},
        body,
    )


def _json(value: Any, status: int = 200, location: str = "", link: bool = False) -> tuple[int, dict[str, str], bytes]:
    headers = {"location": location} if location else {}
    if link:
        headers["link"] = f'<{HOST}/authz/1>;rel="up"'
    return status, headers, json.dumps(value).encode()
