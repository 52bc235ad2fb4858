"""TLS and client certificates through the whole gate: who is let in by one, who is not, and what failed handshakes cost.

Certificates come from authorities of the test's own. The gate has a plain listener beside the one with TLS, as most would.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trustme

from tests.system.conftest import SHARED, Launch, running
from tests.system.scenes import assert_refused
from tests.tools.authority import Authority, TlsWire
from tests.tools.gate import OTHER, SECRET, Gate, digest, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, ClosedEarlyError, ask, chat, request

ROLES: dict[str, Any] = {"internal": {"models": ["*"]}, "partner": {"models": ["other"]}}
KEYS = [
    {"name": "main", "roles": ["internal"], "hash": digest(SECRET)},
    {"name": "other", "roles": ["partner"], "hash": digest(OTHER)},
]
BY_NAME: dict[str, Any] = {"principal": "subject_cn", "role": "internal", "team": "subject_o"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the gate does not know."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def options(authority: Authority, **more: Any) -> dict[str, Any]:
    return {"certificates": [authority.server()], "client_ca": str(authority.file), **more}


@pytest.fixture(scope="module")
def shared_tls(authority: Authority, shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    models = {"tiny": model(shared_upstream.url), "other": model(shared_upstream.url)}
    auth = {"client_certificates": BY_NAME}
    home = tmp_path_factory.mktemp("tls")
    made = Gate(home, models, tls=options(authority), auth=auth, roles=ROLES, **{**SHARED, "keys": KEYS})
    running.append(made)
    yield made
    running.remove(made)
    made.stop()


@pytest.fixture
def gate(shared_tls: Gate, upstream: MockUpstream) -> Gate:
    """One worker, a plain listener and one with TLS that takes certificates of `authority`."""
    assert shared_tls.process.poll() is None, f"the gate died:\n{shared_tls.text()}"
    return shared_tls


def say_hi(gate: Gate, context: ssl.SSLContext, *headers: str, secret: str | None = None, name: str = "tiny") -> Answer:
    with TlsWire(gate.tls_port, context) as wire:
        return wire.ask(request(chat(model=name), secret=secret, headers=headers))


def not_let_in(gate: Gate, context: ssl.SSLContext) -> None:
    """The handshake fails, or the first bytes after it do: with TLS 1.3 a client learns late what the gate thinks of it."""
    with pytest.raises((ssl.SSLError, ConnectionError, ClosedEarlyError)):
        say_hi(gate, context)


def assert_calm(gate: Gate) -> None:
    """No handshake left a traceback, and the gate serves."""
    assert gate.process.poll() is None
    assert "Traceback" not in gate.text(), gate.text()
    assert ask(gate.port, request(chat(), secret=SECRET)).status == 200


# --- who is let in -----------------------------------------------------------------------------------------------------


def test_a_certificate_says_who_calls(gate: Gate, authority: Authority) -> None:
    answer = say_hi(gate, authority.context(authority.client("billing-bot", organization="acme")))
    assert answer.status == 200, answer
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["principal"], row["team"], row["verdict"], row["rule"]) == ("billing-bot", "acme", "admit", "roles.internal"), row
    assert row["key"].startswith("cert:"), row


def test_a_renewed_certificate_is_the_same_caller(gate: Gate, authority: Authority) -> None:
    ids = [
        gate.receipt(say_hi(gate, authority.context(authority.client(name))).header("x-request-id"))["key"]
        for name in ("renewed", "renewed", "somebody else")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_no_certificate(gate: Gate, authority: Authority, upstream: MockUpstream) -> None:
    assert_refused(gate, say_hi(gate, authority.context()), 401, "invalid_api_key")
    assert upstream.journal() == []
    assert say_hi(gate, authority.context(), secret=SECRET).status == 200, "a key opens without a certificate"


@pytest.mark.parametrize(
    "header",
    [
        "X-Client-Cert: CN=billing-bot",
        "X-SSL-Client-S-DN: CN=billing-bot",
        "X-SSL-Client-Verify: SUCCESS",
        "X-Forwarded-Client-Cert: Subject=CN=billing-bot",
        "Client-Cert: :MIIB:",
    ],
)
def test_a_forged_header_is_nothing(gate: Gate, authority: Authority, header: str) -> None:
    assert_refused(gate, say_hi(gate, authority.context(), header), 401, "invalid_api_key")
    assert_refused(gate, ask(gate.port, request(chat(), headers=(header,))), 401, "invalid_api_key")
    shown = authority.context(authority.client("who-it-is"))
    answer = say_hi(gate, shown, header)
    assert gate.receipt(answer.header("x-request-id"))["principal"] == "who-it-is"


def test_a_key_decides_alone(gate: Gate, authority: Authority) -> None:
    """What a certificate may is not added to what a key may; a wrong key is not helped by a certificate."""
    shown = authority.context(authority.client("billing-bot"))
    answer = say_hi(gate, shown, secret=OTHER, name="other")
    assert gate.receipt(answer.header("x-request-id"))["principal"] == "other"
    assert_refused(gate, say_hi(gate, shown, secret=OTHER), 404, "model_not_found")
    assert_refused(gate, say_hi(gate, shown, secret="sk-slm-wrong-0123456789"), 401, "invalid_api_key")
    assert_refused(gate, say_hi(gate, shown, "Authorization: Basic YTpi"), 401, "invalid_api_key")


def test_on_one_connection(gate: Gate, authority: Authority) -> None:
    """Requests with and without a key take turns; neither is taken for the other, heads repeated or not."""
    with TlsWire(gate.tls_port, authority.context(authority.client("turns"))) as wire:
        for secret, principal in ((None, "turns"), (None, "turns"), (OTHER, "other"), (OTHER, "other"), (None, "turns")):
            answer = wire.ask(request(chat(model="other"), secret=secret))
            assert gate.receipt(answer.header("x-request-id"))["principal"] == principal


@pytest.mark.parametrize("name", [None, "bot\u200b", " padded "])
def test_a_certificate_that_does_not_say_who(gate: Gate, authority: Authority, name: str | None) -> None:
    answer = say_hi(gate, authority.context(authority.client(name)))
    assert_refused(gate, answer, 401, "invalid_api_key")
    assert "certificate" in answer.json()["error"]["message"]


def test_nothing_on_the_plain_listener(gate: Gate) -> None:
    assert_refused(gate, ask(gate.port, request(chat())), 401, "invalid_api_key")


# --- who is not ----------------------------------------------------------------------------------------------------------


def test_another_authority(gate: Gate, authority: Authority, stranger: Authority) -> None:
    not_let_in(gate, authority.context(stranger.client("billing-bot")))
    assert_calm(gate)


def test_expired(gate: Gate, authority: Authority) -> None:
    now = datetime.now(UTC)
    old = authority.client("late", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    not_let_in(gate, authority.context(old))
    early = authority.client("early", not_before=now + timedelta(days=1), not_after=now + timedelta(days=2))
    not_let_in(gate, authority.context(early))
    assert_calm(gate)


def test_it_ends_while_the_connection_is_kept(gate: Gate, authority: Authority) -> None:
    short = authority.client("short", not_after=datetime.now(UTC) + timedelta(seconds=4))
    with TlsWire(gate.tls_port, authority.context(short)) as wire:
        for _ in range(3):
            assert wire.ask(request(chat())).status == 200
        for _ in range(3):  # idle connections are kept for 3 s
            time.sleep(1.6)
            answer = wire.ask(request(chat()))
        assert_refused(gate, answer, 401, "invalid_api_key")
        assert "expired" in answer.json()["error"]["message"]
        assert wire.ask(request(chat(), secret=SECRET)).status == 200, "a key still opens"
    not_let_in(gate, authority.context(short))


def test_required(launch: Launch, authority: Authority, stranger: Authority, upstream: MockUpstream) -> None:
    """No handshake without a certificate, key or not. Without `auth.client_certificates` one opens nothing by itself."""
    tls = options(authority, client_auth="required", min_version="1.3")
    models = {name: model(upstream.url) for name in ("tiny", "other")}
    gate = launch(models, tls=tls, auth={"anonymous": {"role": "partner"}}, roles=ROLES, keys=KEYS)
    with pytest.raises((ssl.SSLError, ConnectionError, ClosedEarlyError)):
        say_hi(gate, authority.context(), secret=SECRET)
    not_let_in(gate, authority.context(stranger.client("x")))
    shown = authority.context(authority.client("x"))
    assert say_hi(gate, shown, secret=SECRET).status == 200
    assert_refused(gate, say_hi(gate, shown), 404, "model_not_found")
    shown.maximum_version = ssl.TLSVersion.TLSv1_2
    not_let_in(gate, shown)
    assert_calm(gate)


def test_roles_are_those_in_force(launch: Launch, authority: Authority, upstream: MockUpstream) -> None:
    """A changed role holds for the next request on a connection that stands."""
    models = {"tiny": model(upstream.url), "other": model(upstream.url)}
    gate = launch(models, tls=options(authority), auth={"client_certificates": BY_NAME}, roles=ROLES, keys=KEYS, workers=1)
    with TlsWire(gate.tls_port, authority.context(authority.client("x", organization="acme"))) as wire:
        assert [wire.ask(request(chat())).status for _ in range(3)] == [200] * 3
        gate.write(auth={"client_certificates": {**BY_NAME, "role": "partner"}})
        eventually(lambda: wire.ask(request(chat())).status == 404, 5, "the new role holds")
        assert wire.ask(request(chat(model="other"))).status == 200
        gate.write(auth={})
        eventually(lambda: wire.ask(request(chat(model="other"))).status == 401, 5, "certificates open nothing any more")


# --- TLS itself ------------------------------------------------------------------------------------------------------------


def test_the_protocol(gate: Gate, authority: Authority) -> None:
    context = authority.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with TlsWire(gate.tls_port, context) as wire:
        assert (wire.tls.version(), wire.tls.selected_alpn_protocol(), wire.tls.compression()) == ("TLSv1.3", "http/1.1", None)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsWire(gate.tls_port, context) as wire:
        cipher = wire.tls.cipher()
        assert cipher is not None and cipher[0].startswith("ECDHE-") and wire.tls.version() == "TLSv1.2"
        assert wire.ask(request(chat(), secret=SECRET)).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")  # old on purpose
def test_old_versions_are_refused(gate: Gate, authority: Authority) -> None:
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = authority.context()
        context.set_ciphers("ALL:@SECLEVEL=0")  # so that it is the gate that refuses
        context.minimum_version = context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            say_hi(gate, context, secret=SECRET)
    weak = authority.context()
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES128-SHA256:ECDHE-RSA-AES128-SHA256")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        say_hi(gate, weak, secret=SECRET)
    assert_calm(gate)


def test_bytes_that_are_no_handshake(gate: Gate) -> None:
    """Plain HTTP on the TLS port, garbage, a silent client, one that leaves: each costs its own connection."""
    for data in (request(chat(), secret=SECRET), b"\x16\x03\x01\x00\x05hello", b"\x00" * 1000, b""):
        with socket.create_connection(("127.0.0.1", gate.tls_port), timeout=10) as link:
            link.sendall(data)
            if not data:
                continue
            got = b""
            while piece := _received(link):
                got += piece
            assert b"HTTP/1.1 200" not in got
    with socket.create_connection(("127.0.0.1", gate.tls_port), timeout=10) as silent:
        started = time.monotonic()
        assert _received(silent) == b""
        assert 4 < time.monotonic() - started < 8
    assert_calm(gate)


def _received(link: socket.socket) -> bytes:
    try:
        return link.recv(65536)
    except ConnectionResetError:
        return b""


def test_large_bodies_and_many_requests(gate: Gate, authority: Authority) -> None:
    with TlsWire(gate.tls_port, authority.context(authority.client("large"))) as wire:
        for size in (1, 16 * 1024, 200 * 1024):
            answer = wire.ask(request(chat(do="flood", size=size, filler="x" * size)))
            assert (answer.status, answer.complete) == (200, True)
            assert len(answer.body) >= size
        answers = [wire.ask(request(chat(tag=str(n)))) for n in range(50)]
        assert [each.json()["tag"] for each in answers] == [str(n) for n in range(50)]
        wire.send(request(b"", headers=("Content-Length: 999999999",)).replace(b"Content-Length: 0\r\n", b""))
        assert wire.answer().status == 413
        assert wire.closed(5)


def test_a_client_that_leaves_a_stream(gate: Gate, authority: Authority) -> None:
    with TlsWire(gate.tls_port, authority.context(authority.client("leaver"))) as wire:
        wire.send(request(chat(stream=True, events=1000, rate=20), headers=("x-request-id: leaver-1",)))
        assert wire.head()[0] == 200
        assert wire.event()
    assert gate.receipt("leaver-1")["ended"] == "client_left"


def test_a_stop_lets_streams_end(launch: Launch, authority: Authority, upstream: MockUpstream) -> None:
    """A connection in the middle of a stream is drained; one in the middle of its handshake holds up nothing for long."""
    models = {name: model(upstream.url) for name in ("tiny", "other")}
    gate = launch(models, tls=options(authority), auth={"client_certificates": BY_NAME}, roles=ROLES)
    with (
        TlsWire(gate.tls_port, authority.context(authority.client("x"))) as wire,
        socket.create_connection(("127.0.0.1", gate.tls_port)),
    ):
        wire.send(request(chat(stream=True, events=20, rate=20)))
        assert wire.head()[0] == 200
        started = time.monotonic()
        gate.process.terminate()
        body, complete = wire.chunks()
        assert complete and body.endswith(b"data: [DONE]\n\n")
        assert gate.process.wait(15) == 0
        assert time.monotonic() - started < 12
    assert "Traceback" not in gate.text()


# --- the official client ---------------------------------------------------------------------------------------------------


def client(gate: Gate, context: ssl.SSLContext, **options: Any) -> Any:
    http: Any = httpx.Client(verify=context, trust_env=False)
    return openai.OpenAI(base_url=f"https://127.0.0.1:{gate.tls_port}/v1", http_client=http, max_retries=0, timeout=20, **options)


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def shown(authority: Authority, request: pytest.FixtureRequest) -> ssl.SSLContext:
    """A client's context with a certificate, by version."""
    context = authority.context(authority.client("official"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if request.param == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    return context


def test_openai_with_a_key(gate: Gate, authority: Authority) -> None:
    with client(gate, authority.context(), api_key=SECRET) as made:
        for _ in range(5):
            assert made.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}]).choices
        stream = made.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], stream=True)
        assert [piece.choices[0].delta.content for piece in stream if piece.choices]


def test_openai_with_a_certificate(gate: Gate, shown: ssl.SSLContext) -> None:
    """The client sends a key unless it is told for each request to leave it out."""
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hi"}],
        "extra_headers": {"Authorization": openai.Omit()},
    }
    with client(gate, shown, api_key="none") as made:
        for _ in range(3):
            raw = made.chat.completions.with_raw_response.create(**asked)
            assert raw.parse().choices
            assert gate.receipt(raw.headers["x-request-id"])["principal"] == "official"
        with made.chat.completions.create(**asked, stream=True, extra_body={"script": {"events": 50}}) as stream:
            assert len([piece for piece in stream if piece.choices]) >= 50


def test_openai_does_not_trust_another(gate: Gate, stranger: Authority) -> None:
    with client(gate, stranger.context(), api_key=SECRET) as made, pytest.raises(openai.APIConnectionError):
        made.models.list()


# --- the start -------------------------------------------------------------------------------------------------------------


def test_faults_are_told_at_the_start(tmp_path: Path, authority: Authority) -> None:
    other = trustme.CA().issue_cert("localhost")
    other.private_key_pem.write_to_path(tmp_path / "other.key")
    tls = options(authority)
    tls["certificates"] = [{**tls["certificates"][0], "key": str(tmp_path / "other.key")}]
    gate = Gate(tmp_path, {"tiny": model("http://127.0.0.1:9")}, tls=tls, wait=False)
    try:
        assert gate.process.wait(20) == 1
        assert "is not the key of its certificate" in gate.text()
    finally:
        gate.stop()
