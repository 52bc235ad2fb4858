"""Access tokens through the whole gate: a certified provider (npm `oidc-provider`), and issuers that a test makes misbehave.

Real tokens are obtained by the standard's endpoints; attacks are signed by the test itself. A refused token reached no instance:
each is sent between two good requests, and the instance's bytes are compared.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.conftest import SHARED, Launch, running
from tests.system.scenes import assert_refused, controlled
from tests.tools.gate import SECRET, Gate, digest, eventually, model
from tests.tools.issuer import FakeIssuer, say
from tests.tools.load import Loader
from tests.tools.provider import CLIENT, CLIENT_SECRET, Provider
from tests.tools.signer import ATTACKS, AUDIENCE, Signer, jwk
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, Wire, ask, chat, request

ROLES: dict[str, Any] = {
    "internal": {"models": ["*"]},
    "public": {"models": ["tiny"], "endpoints": ["models"]},
}
KEYS = [{"name": "main", "roles": ["internal"], "hash": digest(SECRET)}]
GROUPS = {"claim": "realm.groups", "map": {"ml-*": "internal", "all": "public"}}


def oidc(issuer: str, **options: Any) -> dict[str, Any]:
    return {"issuer": issuer, "audience": AUDIENCE, "refresh": "1s", "leeway": "0s", "timeout": "1s", **options}


def introspection(provider: Provider, **options: Any) -> dict[str, Any]:
    return {
        "url": f"{provider.issuer}/token/introspection",
        "client_id": CLIENT,
        "client_secret": CLIENT_SECRET,
        "issuer": provider.issuer,
        "audience": AUDIENCE,
        "principal": "client_id",
        "roles": GROUPS,
        "cache": "1s",
        **options,
    }


def say_hi(gate: Gate, token: str | None, tag: str = "") -> Answer:
    return ask(gate.port, request(chat(tag=tag), secret=token))


# --- a certified provider ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    made = Provider(tmp_path_factory.mktemp("provider") / "provider.log")
    yield made
    made.close()


@pytest.fixture
def provider(shared_provider: Provider) -> Iterator[Provider]:
    """The provider with one key, `a`."""
    shared_provider.turn_keys("a")
    yield shared_provider
    if shared_provider.process.poll() is not None:
        shared_provider.start()


@pytest.fixture
def guarded(launch: Launch, upstream: MockUpstream, provider: Provider) -> Gate:
    """A gate of two workers that takes the provider's tokens of both kinds."""
    auth = {
        "oidc": [oidc(provider.issuer, team="org", roles=GROUPS)],
        "introspection": [introspection(provider)],
    }
    return launch({"tiny": model(upstream.url)}, auth=auth, roles=ROLES, keys=[])


def test_a_signed_token(guarded: Gate, provider: Provider, upstream: MockUpstream) -> None:
    """Discovery, keys, claims, roles: the holder may what its groups say, and the receipt says who it was."""
    token = provider.token()
    answer = say_hi(guarded, token)
    assert answer.status == 200, answer
    row = guarded.receipt(answer.header("x-request-id"))
    assert (row["principal"], row["team"], row["verdict"]) == ("bot", "acme", "admit"), row
    assert token.encode() not in str(upstream.journal()).encode(), "the token went on to the instance"
    stranger = provider.token(client="stranger")
    assert_refused(guarded, say_hi(guarded, stranger), 403, "permission_denied")
    assert ask(guarded.port, request(method="GET", path="/v1/models", secret=stranger), "GET").status == 200
    assert_refused(guarded, say_hi(guarded, provider.token("elsewhere")), 401, "invalid_api_key")


def test_where_a_token_may_stand(guarded: Gate, provider: Provider) -> None:
    token = provider.token()
    for header in ("x-api-key", "api-key"):
        assert_refused(guarded, ask(guarded.port, request(chat(), headers=(f"{header}: {token}",))), 401, "invalid_api_key")
    assert say_hi(guarded, token).status == 200
    assert ask(guarded.port, request(chat(), headers=(f"authorization: bEARER  {token}",))).status == 200


def test_an_opaque_token_and_its_revocation(guarded: Gate, provider: Provider) -> None:
    token = provider.token("opaque")
    answer = say_hi(guarded, token)
    assert answer.status == 200, answer
    assert guarded.receipt(answer.header("x-request-id"))["principal"] == "bot"
    provider.revoke(token)
    eventually(lambda: say_hi(guarded, token).status == 401, 3.5, "the revoked token is refused")
    assert_refused(guarded, say_hi(guarded, "nobody-knows-this-token"), 401, "invalid_api_key")


def test_secrets_of_our_own_never_leave(guarded: Gate, provider: Provider) -> None:
    assert say_hi(guarded, provider.token("opaque")).status == 200
    before = provider.asked()["/token/introspection"]
    assert_refused(guarded, say_hi(guarded, "sk-slm-mistyped-0123456789"), 401, "invalid_api_key")
    assert provider.asked()["/token/introspection"] == before
    assert say_hi(guarded, "another-gateways-key-0123456789").status == 401
    assert provider.asked()["/token/introspection"] == before + 1


def test_an_expired_token_on_a_kept_connection(guarded: Gate, provider: Provider) -> None:
    token = provider.token("short")
    with Wire(guarded.port) as wire:
        for _ in range(3):
            wire.send(request(chat(), secret=token))
            assert wire.answer().status == 200
        time.sleep(5)
        wire.send(request(chat(), secret=token))
        assert_refused(guarded, wire.answer(), 401, "invalid_api_key")


def test_keys_turn_under_load(guarded: Gate, provider: Provider) -> None:
    """No request fails while keys come and go: the first time at once, then each announced before it signs.

    A token of a key that was taken back is refused soon after.
    """
    token = provider.token()
    assert say_hi(guarded, token).status == 200
    stop = threading.Event()
    seen: list[int] = []

    def load() -> None:
        while not stop.is_set():
            seen.append(say_hi(guarded, token).status)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        provider.turn_keys("b", "a")
        token = provider.token()  # signed with a key that the gate does not know yet
        for old, new in itertools.pairwise("bcd"):
            time.sleep(0.5)
            provider.turn_keys(old, new)
            time.sleep(1.5)  # the gate looks every second here
            provider.turn_keys(new, old)
            token = provider.token()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(seen) == {200}, [status for status in seen if status != 200][:10]
    assert say_hi(guarded, token).status == 200
    provider.turn_keys("z")
    eventually(lambda: say_hi(guarded, token).status == 401, 3, "a token of a withdrawn key is refused")


def test_the_provider_dies(guarded: Gate, provider: Provider) -> None:
    """Who was verified goes on, new signed tokens are verified by the known keys, opaque ones get 503."""
    known, fresh, opaque = provider.token(), provider.token(), provider.token("opaque")
    assert say_hi(guarded, known).status == 200
    provider.kill()
    assert say_hi(guarded, known).status == 200
    assert say_hi(guarded, fresh).status == 200
    answer = say_hi(guarded, opaque)
    assert_refused(guarded, answer, 503, "identity_unavailable")
    assert answer.header("retry-after")
    control = psutil.Process(guarded.control())
    control.kill()
    psutil.wait_procs([control], timeout=5)
    assert say_hi(guarded, known).status == 200, "a verified token does not need the control process"
    eventually(lambda: guarded.pids("slmgate.control.process"), 5, "control is back")
    eventually(lambda: say_hi(guarded, forged(fresh)).status == 401, 5, "the known keys outlive a restart")
    assert say_hi(guarded, known).status == 200
    (kept,) = (guarded.state / "identity").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def forged(token: str) -> str:
    """A token that was never seen, under a key that is known: its signature is another one's, so it is refused for good."""
    head, claims, signature = token.split(".")
    return f"{head}.{claims}.{signature[:-8]}AAAAAAA{signature[-1]}"


# --- an issuer under the test's control -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    made = FakeIssuer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def attacked(issuer: FakeIssuer, shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    auth = {"oidc": [oidc(issuer.url, leeway="60s", refresh="1m", roles={"claim": "groups", "map": {"ml-team": "internal"}})]}
    made = Gate(
        tmp_path_factory.mktemp("attacked"),
        {"tiny": model(shared_upstream.url)},
        auth=auth,
        roles=ROLES,
        **{**SHARED, "keys": KEYS},
    )
    running.append(made)
    yield made
    running.remove(made)
    made.stop()


def test_the_tokens_that_the_attacks_are_made_from_are_good(attacked: Gate, upstream: MockUpstream, issuer: FakeIssuer) -> None:
    signer = Signer(issuer.url)
    for name, algorithm in (("rsa", "RS256"), ("rsa", "PS256"), ("ec", "ES256"), ("ed", "EdDSA")):
        answer = say_hi(attacked, signer.token(name, algorithm))
        assert answer.status == 200, (name, answer)
    assert say_hi(attacked, signer.token(header={"kid": None, "typ": None})).status == 200


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks(attacked: Gate, upstream: MockUpstream, issuer: FakeIssuer, attack: str) -> None:
    token = ATTACKS[attack](Signer(issuer.url))
    paths = len(issuer.paths)
    answer = controlled(attacked, upstream, lambda: say_hi(attacked, token))
    assert_refused(attacked, answer, 401, "invalid_api_key")
    assert set(issuer.paths[paths:]) <= {"/jwks", "/.well-known/openid-configuration"}
    assert token not in attacked.log.read_text(errors="replace")


def test_two_tokens_alike_in_all_but_their_end(attacked: Gate, issuer: FakeIssuer) -> None:
    """A cache that knew tokens by a part of them would take the second for the first."""
    signer = Signer(issuer.url)
    good = signer.token(jti="same", x="y" * 3000)
    assert say_hi(attacked, good).status == 200
    for token in (good[:-4] + "AAAA", good[:20] + signer.token(sub="other", jti="same")[20:] + "A"):
        assert say_hi(attacked, token).status == 401
    assert say_hi(attacked, good).status == 200


def test_a_storm_of_unknown_keys(attacked: Gate, issuer: FakeIssuer) -> None:
    """Unknown names of keys cost the provider one question in 30 seconds."""
    signer = Signer(issuer.url)
    before = issuer.paths.count("/jwks")
    for number in range(40):
        assert say_hi(attacked, signer.token(header={"kid": f"unknown-{number}"})).status == 401
    assert issuer.paths.count("/jwks") - before <= 2  # and one for the period


def test_the_body_is_not_asked_for_before_the_verdict(attacked: Gate, issuer: FakeIssuer) -> None:
    signer = Signer(issuer.url)
    for token, status in ((signer.token(jti="1"), 200), (signer.token(jti="2", exp=-100), 401)):
        with Wire(attacked.port) as wire:
            head, _, body = request(chat(), secret=token, headers=("Expect: 100-continue",)).partition(b"\r\n\r\n")
            wire.send(head + b"\r\n\r\n")
            if status == 200:
                assert wire.socket.recv(100).startswith(b"HTTP/1.1 100 ")
                wire.send(body)
            answer = wire.answer()
            assert (answer.status, answer.informational) == (status, ())


def test_a_body_in_pieces_and_requests_behind_each_other(attacked: Gate, issuer: FakeIssuer) -> None:
    signer = Signer(issuer.url)
    whole = request(chat(), secret=signer.token(jti="pieces"))
    with Wire(attacked.port) as wire:
        wire.send(whole[:-20])
        time.sleep(0.2)
        wire.send(whole[-20:])
        assert wire.answer().status == 200
    with Wire(attacked.port) as wire:
        wire.send(request(chat(), secret=signer.token(jti="a")) + request(chat(), secret=signer.token(jti="b", exp=-100)) + whole)
        assert [wire.answer().status for _ in range(3)] == [200, 401, 200]


def bad_jwks(act: Callable[[Any], None]) -> Callable[[FakeIssuer], None]:
    return lambda issuer: issuer.acts.update({"/jwks": act})


def endless(handler: Any) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b'{"keys": [' + b" " * 65536)
    except OSError:
        return


def moved(handler: Any) -> None:
    handler.send_response(302)
    handler.send_header("location", "/elsewhere")
    handler.send_header("content-length", "0")
    handler.end_headers()


def discovered(**members: Any) -> Callable[[FakeIssuer], None]:
    def change(issuer: FakeIssuer) -> None:
        document = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks", **members}
        issuer.acts["/.well-known/openid-configuration"] = lambda handler: say(handler, document)

    return change


BROKEN: dict[str, Callable[[FakeIssuer], None]] = {
    "never-ending": bad_jwks(endless),
    "slow": bad_jwks(lambda handler: time.sleep(3)),
    "a redirect": bad_jwks(moved),
    "another type": bad_jwks(lambda handler: say(handler, {"keys": []}, "text/html")),
    "10,000 keys": bad_jwks(lambda handler: say(handler, {"keys": [{"kty": "oct", "k": "AA"}] * 10_000})),
    "an error": bad_jwks(lambda handler: handler.send_error(500)),
    "no JSON": bad_jwks(lambda handler: say(handler, b"<html>")),
    "another issuer's discovery": discovered(issuer="https://attacker.example"),
    "keys at a file": discovered(jwks_uri="file:///etc/passwd"),
    "keys with a user": discovered(jwks_uri="http://a:b@127.0.0.1/jwks"),
    "keys without encryption": discovered(jwks_uri="http://keys.example.com/jwks"),
    "keys in the machine room": discovered(jwks_uri="https://169.254.169.254/jwks"),
}


def test_a_provider_that_is_no_good_lets_nobody_in(launch: Launch, upstream: MockUpstream) -> None:
    """Whatever its keys' address answers, tokens get 503, keys of the gate's own work on, and nothing is followed."""
    issuers = {what: FakeIssuer() for what in BROKEN}
    try:
        for what, issuer in issuers.items():
            BROKEN[what](issuer)
        auth = {"oidc": [oidc(issuer.url, roles={"default": ["internal"]}) for issuer in issuers.values()]}
        gate = launch({"tiny": model(upstream.url)}, auth=auth, roles=ROLES, keys=KEYS, workers=1)
        for what, issuer in issuers.items():
            answer = say_hi(gate, Signer(issuer.url).token())
            assert (answer.status, answer.code) == (503, "identity_unavailable"), what
            assert "/elsewhere" not in issuer.paths, what
            assert say_hi(gate, SECRET).status == 200, what
    finally:
        for issuer in issuers.values():
            issuer.close()


def test_a_thousand_keys(launch: Launch, upstream: MockUpstream) -> None:
    issuer = FakeIssuer()
    try:
        many = [jwk("rsa", kid=f"key-{number}") for number in range(995)]
        issuer.keys = [{"kty": "oct", "k": "AA", "kid": "rsa"}, jwk("rsa", kid="enc", use="enc"), *many, jwk("ec"), jwk("ed")]
        auth = {"oidc": [oidc(issuer.url, roles={"default": ["internal"]})]}
        gate = launch({"tiny": model(upstream.url)}, auth=auth, roles=ROLES, keys=[], workers=1)
        signer = Signer(issuer.url)
        assert say_hi(gate, signer.token("ec", "ES256")).status == 200
        assert say_hi(gate, signer.token(header={"kid": "key-994"})).status == 200
        assert say_hi(gate, signer.token(header={"kid": "enc"})).status == 401
        assert say_hi(gate, signer.token()).status == 401
    finally:
        issuer.close()


def test_control_is_away(launch: Launch, upstream: MockUpstream, issuer: FakeIssuer) -> None:
    """A token that cannot be verified waits a moment and gets 503; one that is verified, and every key, goes on."""
    auth = {"oidc": [oidc(issuer.url, refresh="30s", roles={"default": ["internal"]})]}
    gate = launch({"tiny": model(upstream.url)}, auth=auth, roles=ROLES, keys=KEYS, workers=1, worker_timeout="1m")
    signer = Signer(issuer.url)
    known = signer.token(jti="known")
    assert say_hi(gate, known).status == 200
    control = psutil.Process(gate.control())
    control.suspend()
    try:
        begun = time.monotonic()
        answer = say_hi(gate, signer.token(jti="new"))
        assert (answer.status, answer.code) == (503, "identity_unavailable")
        assert 1.5 < time.monotonic() - begun < 3.5
        assert say_hi(gate, known).status == 200
        assert say_hi(gate, SECRET).status == 200
        with socket.create_connection(("127.0.0.1", gate.port)) as leaver:  # leaves before the verdict
            leaver.sendall(request(chat(), secret=signer.token(jti="leaves")))
            time.sleep(0.3)
    finally:
        control.resume()
    eventually(lambda: say_hi(gate, signer.token(jti="after")).status == 200, 5, "new tokens are verified again")


def test_roles_change_without_a_new_token(launch: Launch, upstream: MockUpstream, issuer: FakeIssuer) -> None:
    """Another map of roles is in force at once for tokens that were verified before; under load no request is dropped."""

    def auth(role: str) -> dict[str, Any]:
        return {"oidc": [oidc(issuer.url, refresh="30s", roles={"claim": "groups", "map": {"ml-team": role}})]}

    gate = launch({"tiny": model(upstream.url)}, auth=auth("internal"), roles=ROLES, keys=[], workers=2)
    token = Signer(issuer.url).token()
    assert say_hi(gate, token).status == 200

    async def turning() -> Loader:
        loader = Loader(gate.port, token, 3)
        running = asyncio.create_task(loader.run(100, 4))
        for number in range(3):
            await asyncio.sleep(1)
            gate.write(auth=auth("internal") | {"anonymous": {"role": "public"}} if number % 2 == 0 else auth("internal"))
        await running
        return loader

    loader = asyncio.run(turning())
    assert not loader.bad(), loader.told()
    gate.write(auth=auth("public"))
    eventually(lambda: say_hi(gate, token).status == 403, 3, "the new roles are in force")


def test_anonymous(launch: Launch, upstream: MockUpstream, issuer: FakeIssuer) -> None:
    """Only who shows nothing at all is anonymous; a wrong credential is refused."""
    auth = {"oidc": [oidc(issuer.url)], "anonymous": {"role": "public"}}
    gate = launch({"tiny": model(upstream.url)}, auth=auth, roles=ROLES, keys=[], workers=1)
    models: dict[str, Any] = {"method": "GET", "path": "/v1/models"}
    answer = ask(gate.port, request(**models), "GET")
    assert answer.status == 200
    assert gate.receipt(answer.header("x-request-id"))["principal"] == "anonymous"
    assert_refused(gate, say_hi(gate, None), 403, "permission_denied")
    for header in ("Authorization: Bearer x", "Authorization: Basic x", "Authorization:", "x-api-key:", "api-key: x"):
        assert ask(gate.port, request(**models, headers=(header,)), "GET").status == 401, header
    expired = Signer(issuer.url).token(exp=-100)
    assert ask(gate.port, request(**models, secret=expired), "GET").status == 401


def test_a_role_that_is_not_there(tmp_path: Path, upstream: MockUpstream) -> None:
    auth = {"oidc": [oidc("https://login.example.com", roles={"claim": "groups", "map": {"a": "nowhere"}})]}
    gate = Gate(tmp_path, {"tiny": model(upstream.url)}, auth=auth, roles=ROLES, keys=[], wait=False)
    assert gate.process.wait(10) == 1
    assert "there is no role 'nowhere'" in gate.text()
