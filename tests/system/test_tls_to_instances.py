"""TLS towards instances through the whole gate: who is believed, what the others never hear, and what operators and clients read.

Each instance is a mock behind a front that speaks TLS in one way. What a front has received is what came out of TLS there: of one
that must not be believed, nothing at all. Certificates are from authorities of the test's own.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.config.trust_checks import UNVERIFIED
from tests.system.conftest import SHARED, Launch, running
from tests.system.test_instances import admin, rows, slmgate
from tests.tools.authority import Authority
from tests.tools.gate import SECRET, Gate, eventually
from tests.tools.tls_front import TlsFront, Way
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Answer, Wire, ask, chat, numbers, request, sse

BEARER, PROMPT = "canary-bearer-of-the-instance", "canary-prompt-of-the-client"
PAST: dict[str, Any] = {"not_before": datetime.now(UTC) - timedelta(days=9), "not_after": datetime.now(UTC) - timedelta(days=2)}
HEALTH = {"interval": "500ms", "timeout": "8s"}
TIMEOUTS = {"connect": "8s", "first_byte": "8s"}
SHORT: dict[str, Any] = {"health": {**HEALTH, "timeout": "1s"}, "timeouts": {**TIMEOUTS, "connect": "1s"}}
UNKNOWN = "its certificate is from an unknown authority"
NOT_BELIEVED = {
    "unknown": UNKNOWN,
    "expired": "its certificate has expired",
    "wrong": "its certificate is not for 127.0.0.1",
    "itself": "its certificate is signed by itself, and by no authority that is trusted",
    "old": "it speaks no TLS of version 1.2 or newer",
    "plain": "it does not speak TLS there: is it plain HTTP, or another port?",
    "silent": "no answer within 1 s",
    "asks12": "it needs a client certificate, or takes none like that of tls.cert",
    "asks13": "client certificate",
}
"""Fronts that must hear nothing, and what operators read of them."""


def serving(authority: Authority, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.ca.issue_cert(*(names or ("127.0.0.1",)), **options).configure_cert(context)
    return context


def asking(authority: Authority, newest: ssl.TLSVersion) -> ssl.SSLContext:
    """It lets nobody in without a client certificate."""
    context = serving(authority)
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, newest
    authority.ca.configure_trust(context)
    return context


def old(authority: Authority) -> ssl.SSLContext:
    context = serving(authority)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is the point that the versions are old
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def by_itself(home: Path) -> ssl.SSLContext:
    """A certificate that nobody but its own key has signed, as `openssl req -x509` makes them."""
    made = Authority(home)
    file = home / "alone.pem"
    file.write_bytes(made.ca.cert_pem.bytes() + made.ca.private_key_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authorities")


@pytest.fixture(scope="module")
def authority(home: Path) -> Authority:
    return Authority(home / "known")


@pytest.fixture(scope="module")
def stranger(home: Path) -> Authority:
    return Authority(home / "stranger")


@pytest.fixture(scope="module")
def fronts(home: Path, authority: Authority, stranger: Authority, shared_upstream: MockUpstream) -> Iterator[dict[str, TlsFront]]:
    ways: dict[str, Way] = {
        "good": serving(authority),
        "named": serving(authority, "vllm.test"),
        "unknown": serving(stranger),
        "expired": serving(authority, **PAST),
        "wrong": serving(authority, "other.test", common_name="127.0.0.1"),
        "itself": by_itself(home / "itself"),
        "old": old(authority),
        "plain": "plain",
        "silent": "silent",
        "asks12": asking(authority, ssl.TLSVersion.TLSv1_2),
        "asks13": asking(authority, ssl.TLSVersion.TLSv1_3),
        "anybody": serving(stranger, "other.test", **PAST),
        "shown12": asking(authority, ssl.TLSVersion.TLSv1_2),
        "shown13": asking(authority, ssl.TLSVersion.TLSv1_3),
        "turns": serving(authority),
    }
    made = {name: TlsFront(shared_upstream.port, way) for name, way in ways.items()}
    yield made
    for front in made.values():
        front.close()


@pytest.fixture(scope="module")
def shared_gate(authority: Authority, fronts: dict[str, TlsFront], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A model for each front. All trust one authority, for most it is said once, at the model."""
    own = {"named": {"server_name": "vllm.test"}, "shown12": authority.server("gate12"), "shown13": authority.server("gate13")}
    models: dict[str, Any] = {
        name: {
            "instances": [{"url": front.url, "bearer": BEARER, **({"tls": own[name]} if name in own else {})}],
            "tls": {"ca": str(authority.file)},
            "health": HEALTH,
            "timeouts": TIMEOUTS,
        }
        for name, front in fronts.items()
    }
    models["anybody"] |= {"tls": {"verify": False}}
    models["silent"] |= SHORT
    models["either"] = {**models["good"], "instances": [{"url": fronts[name].url} for name in ("wrong", "good")], "health": "off"}
    made = Gate(tmp_path_factory.mktemp("gate"), models, wait=False, **SHARED)
    running.append(made)
    made.wait_ready(60)
    yield made
    running.remove(made)
    made.stop()


def started(launch: Launch, models: dict[str, Any], **options: Any) -> Gate:
    """A gate of a test's own, however busy the machine is."""
    made = launch(models, workers=1, wait=False, **options)
    made.wait_ready(60)
    return made


def say(gate: Gate, name: str, **more: Any) -> Answer:
    body = chat(model=name, **more).replace(b'"hi"', f'"{PROMPT}"'.encode())
    return ask(gate.port, request(body, secret=SECRET), timeout=30)


def row(gate: Gate, name: str, front: TlsFront) -> dict[str, Any]:
    found: dict[str, Any] = rows(gate).get(f"{name}/127.0.0.1:{front.port}", {"state": "", "check": "", "why": ""})
    return found


def test_the_right_authority_and_connections_that_are_used_again(
    gate: Gate, fronts: dict[str, TlsFront], upstream: MockUpstream
) -> None:
    front = fronts["good"]
    for _ in range(10):
        assert say(gate, "good").status == 200
    assert {asked["connection"] for asked in upstream.journal()} == {upstream.journal()[0]["connection"]}
    assert front.versions[-1] == "TLSv1.3"
    eventually(lambda: row(gate, "good", front)["state"] == "healthy", 30, "its checks believe it too", 0.1)
    heard = front.received
    assert BEARER.encode() in heard and PROMPT.encode() in heard
    assert f"host: 127.0.0.1:{front.port}".encode() in heard.lower()


def test_a_stream(gate: Gate, upstream: MockUpstream) -> None:
    answer = ask(gate.port, request(chat(stream=True, model="good", events=40, pad=2000), secret=SECRET), timeout=30)
    assert answer.status == 200
    assert numbers(sse(answer.body)) == list(range(40))


@pytest.mark.parametrize("name", NOT_BELIEVED)
def test_who_is_not_believed_hears_nothing(gate: Gate, fronts: dict[str, TlsFront], name: str, upstream: MockUpstream) -> None:
    """No byte of a request or a check, and so no prompt and no credential; operators read why, and clients nothing of it."""
    front, began = fronts[name], time.monotonic()
    answer = say(gate, name)
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert time.monotonic() - began < 20, "a handshake is waited for as a connection is (timeouts.connect)"
    told = answer.body.decode() + str(answer.headers)
    for inside in ("TLS", "certificate", str(front.port), "127.0.0.1", "authority"):
        assert inside not in told

    def said() -> bool:
        known = row(gate, name, front)
        words = NOT_BELIEVED[name]
        return known["state"] == "unhealthy" and words in known["check"] and words in known["why"]

    eventually(said, 30, "its checks fail, and say why", 0.1)
    assert NOT_BELIEVED[name] in gate.log.read_text()
    assert front.received == b"" and upstream.journal() == []
    assert say(gate, name).status in (502, 503)
    assert front.received == b""


def test_whoever_answers_where_the_operator_says_so(gate: Gate, fronts: dict[str, TlsFront]) -> None:
    """What shows that the fronts would hear it: this one is expired, of an unknown authority and of another name."""
    front = fronts["anybody"]
    assert say(gate, "anybody").status == 200
    assert BEARER.encode() in front.received and PROMPT.encode() in front.received
    eventually(lambda: row(gate, "anybody", front)["state"] == "healthy", 30, "its checks believe it too", 0.1)
    line = f"anybody/127.0.0.1:{front.port}: {UNVERIFIED}"
    assert f"WARNING: {line}" in gate.log.read_text()
    assert line in admin(gate, "GET", "/api/v1/status")["notes"]


@pytest.mark.parametrize("name", ["shown12", "shown13"])
def test_a_client_certificate_that_is_given(gate: Gate, fronts: dict[str, TlsFront], name: str) -> None:
    assert say(gate, name).status == 200
    eventually(lambda: row(gate, name, fronts[name])["state"] == "healthy", 30, "its checks show it too", 0.1)
    assert fronts[name].versions[-1] == f"TLSv1.{name[-1]}"


def test_a_name_for_an_address(gate: Gate, fronts: dict[str, TlsFront]) -> None:
    """It is asked for in the handshake and in the request, by checks too, and verified in the address's place."""
    front = fronts["named"]
    assert say(gate, "named").status == 200
    eventually(lambda: row(gate, "named", front)["state"] == "healthy", 30, "its checks go by the name too", 0.1)
    assert set(front.names) == {"vllm.test"}
    hosts = {line for line in front.received.lower().split(b"\r\n") if line.startswith(b"host:")}
    assert hosts == {f"host: vllm.test:{front.port}".encode()}


def test_another_instance_is_asked_instead(gate: Gate, fronts: dict[str, TlsFront]) -> None:
    assert [say(gate, "either").status for _ in range(6)] == [200] * 6
    assert fronts["wrong"].received == b""


def test_an_instance_with_another_certificate(
    gate: Gate, fronts: dict[str, TlsFront], authority: Authority, stranger: Authority
) -> None:
    """A new one of the same authority is no news; one of another authority is not believed from the next connection on."""
    front = fronts["turns"]
    assert say(gate, "turns").status == 200
    front.way = serving(authority)
    front.drop()
    assert say(gate, "turns").status == 200
    front.way = serving(stranger)
    front.drop()
    front.clear()
    assert say(gate, "turns").status == 502
    eventually(lambda: UNKNOWN in row(gate, "turns", front)["why"], 30, "operators read why", 0.1)
    assert front.received == b""
    front.way = serving(authority)
    eventually(lambda: say(gate, "turns").status == 200, 30, "it is believed again", 0.1)


def test_files_that_change(
    launch: Launch, authority: Authority, stranger: Authority, upstream: MockUpstream, tmp_path: Path
) -> None:
    """New ones are taken over while the gate serves, bad ones are refused by name, and what was in force stays."""
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "own.pem", tmp_path / "own.key"
    ca.write_bytes(stranger.file.read_bytes())
    pairs = [authority.server(name, "gate.test") for name in ("first", "second")]
    cert.write_bytes(Path(pairs[0]["cert"]).read_bytes())
    key.write_bytes(Path(pairs[0]["key"]).read_bytes())
    with TlsFront(upstream.port, asking(authority, ssl.TLSVersion.TLSv1_3)) as front:
        tls = {"ca": str(ca), "cert": str(cert), "key": str(key)}
        models = {"tiny": {"instances": [{"url": front.url, "tls": tls}], "health": HEALTH, "timeouts": TIMEOUTS}}
        gate = started(launch, models)
        assert say(gate, "tiny").status == 502
        ca.write_bytes(authority.file.read_bytes())
        eventually(lambda: say(gate, "tiny").status == 200, 30, "the new authority is believed", 0.1)
        eventually(lambda: row(gate, "tiny", front)["state"] in ("healthy", "recovering"), 30, "by checks too", 0.1)

        key.write_bytes(Path(pairs[1]["key"]).read_bytes())
        named = "instances[0].tls.key: "
        eventually(lambda: named in gate.text(), 30, "the bad pair is named", 0.1)
        front.drop()
        assert say(gate, "tiny").status == 200, "the old pair is shown on"
        mark = gate.text().count("configuration in force")
        cert.write_bytes(Path(pairs[1]["cert"]).read_bytes())
        eventually(lambda: gate.text().count("configuration in force") > mark or None, 30, "the new pair is taken", 0.1)
        assert say(gate, "tiny").status == 200

        ca.write_bytes(stranger.file.read_bytes())
        eventually(lambda: say(gate, "tiny").status == 502, 30, "what was connected before is not used on", 0.1)


def test_names_lists_and_instances_that_are_added(
    launch: Launch, authority: Authority, stranger: Authority, upstream: MockUpstream, tmp_path: Path
) -> None:
    """Each is verified as the configuration says: a name's addresses by the name, a list's entries and added ones too."""
    file = tmp_path / "list.yaml"
    with TlsFront(upstream.port, serving(authority, "localhost")) as front, TlsFront(upstream.port, serving(stranger)) as strange:
        file.write_text(f"- https://127.0.0.1:{front.port}\n")
        tls = {"ca": str(authority.file)}
        models = {
            "name": {"instances": [{"dns": "localhost", "port": front.port, "tls": "on"}], "tls": tls},
            "list": {"instances": [{"file": str(file), "tls": {"server_name": "localhost"}}], "tls": tls},
            "added": {"instances": [{"url": "http://127.0.0.1:9"}], "tls": tls, "timeouts": TIMEOUTS},
        }
        gate = started(launch, models, discovery={"loopback": True, "refresh": "500ms"})
        assert say(gate, "name").status == 200
        assert say(gate, "list").status == 200
        said = slmgate(gate, "add", "added", f"https://127.0.0.1:{front.port}", "--server-name", "localhost")
        assert f"added/127.0.0.1:{front.port}" in said
        assert [say(gate, "added").status for _ in range(4)] == [200] * 4
        assert set(front.names) == {"localhost"}
        answer = admin(gate, "POST", "/api/v1/instances", model="added", url="http://127.0.0.1:8", server_name="localhost")
        assert answer["detail"].startswith("tls is never looked at")
        file.write_text(f"- https://127.0.0.1:{strange.port}\n")
        eventually(lambda: say(gate, "list").status == 502, 30, "whoever the list names is verified", 0.1)
        assert strange.received == b""


@pytest.fixture
def alone() -> Iterator[MockUpstream]:
    """A mock that no other gate knows."""
    made = MockUpstream()
    yield made
    made.close()


def test_a_name_that_is_added_leads_only_where_instances_may_be(launch: Launch, alone: MockUpstream) -> None:
    """Not to this machine itself, for one, while the configuration does not say so: neither requests nor checks go there."""
    url = f"http://localhost:{alone.port}"
    models = {"tiny": {"instances": [{"url": "http://127.0.0.1:9"}], "health": HEALTH, "timeouts": TIMEOUTS}}
    gate = started(launch, models)
    answer = admin(gate, "POST", "/api/v1/instances", model="tiny", url=alone.url)
    assert "is this machine itself" in answer["detail"]
    assert admin(gate, "POST", "/api/v1/instances", model="tiny", url=url)["id"] == f"tiny/localhost:{alone.port}"
    assert [say(gate, "tiny").status for _ in range(3)] == [502] * 3
    words = "its name leads where no instance may be"

    def told() -> bool:
        known: dict[str, Any] = rows(gate).get(f"tiny/localhost:{alone.port}", {})
        return [known.get("check"), known.get("why")] == [words] * 2

    eventually(told, 30, "operators read why", 0.1)
    assert alone.gauges()["connections"] == []
    gate.write(discovery={"loopback": True})
    eventually(lambda: say(gate, "tiny").status == 200, 30, "it is allowed by the configuration", 0.1)


def test_init_and_check(authority: Authority, fronts: dict[str, TlsFront], upstream: MockUpstream, tmp_path: Path) -> None:
    """What asks a server before there is a gate believes the same, and writes it into the file."""
    listed = '{"object": "list", "data": [{"id": "tiny", "object": "model"}]}'
    upstream.default(do="raw", bytes=f"HTTP/1.1 200 OK\r\ncontent-length: {len(listed)}\r\n\r\n{listed}")
    url = fronts["good"].url

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "slmgate", *words], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
        )

    refused = run("init", "--upstream", url)
    assert refused.returncode == 3 and f"{url} is not asked: {UNKNOWN}. Name its authority with --ca" in refused.stderr
    made = run("init", "--upstream", url, "--ca", str(authority.file), "--model", "tiny")
    assert made.returncode == 0, made.stderr
    text = (tmp_path / "slmgate.yaml").read_text()
    assert f'tls: {{ca: "{authority.file}"}}' in text or f"tls: {{ca: {authority.file}}}" in text
    assert run("check").returncode == 0
    (tmp_path / "slmgate.yaml").write_text(text.replace("tls: {ca:", "tls: {verify: false} #"))
    loose = run("check")
    assert loose.returncode == 0 and f"WARNING: tiny/127.0.0.1:{fronts['good'].port}: {UNVERIFIED}" in loose.stderr


def test_a_stream_that_is_cut(gate: Gate, fronts: dict[str, TlsFront], upstream: MockUpstream) -> None:
    """A connection that ends without the end of TLS is no end of an answer."""
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, model="good", events=1000, rate=20), secret=SECRET))
        assert wire.event()
        fronts["good"].drop()
        events = []
        while (event := wire.event()) is not None:
            events.append(event)
    assert b"error" in events[-1] and b"[DONE]" not in events[-1]
