"""Proxies before the gate: whose a request is behind nginx and HAProxy, and who else may say so: nobody.

Clients are addresses of the loopback: 127.0.0.1 is where trusted proxies are, all others are strangers. Each attack has its
positive control. nginx and HAProxy run the samples of docs/security.md.
Length: one gate behind the same proxies; a second file would start them all again.
"""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.system.conftest import Launch, running
from tests.tools.authority import Authority
from tests.tools.front import haproxy, nginx, sample
from tests.tools.gate import OTHER, SECRET, Gate, digest, eventually, free_port, get, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import CHAT, Answer, ClosedEarlyError, Wire, chat, request

PROXY, CLIENT, FRIEND, STRANGER = "127.0.0.1", "127.0.0.7", "127.0.0.8", "127.0.0.66"
HEADER = b"PROXY TCP4 203.0.113.9 192.0.2.1 50000 443\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 9, 192, 0, 2, 1]) + struct.pack("!HH", 50000, 443)
KEYS: list[dict[str, Any]] = [
    {"name": "main", "roles": ["internal"], "hash": digest(SECRET)},
    {"name": "other", "roles": ["internal"], "hash": digest(OTHER), "networks": [f"{FRIEND}/32"]},
]
ROLES: dict[str, Any] = {
    "internal": {"models": ["*"]},
    "public": {"models": ["*"], "limits": [{"limit": "3 requests/hour", "per": "ip"}]},
}


class Place(NamedTuple):
    """A gate that listens for proxies too: `plain` and `sealed` take the PROXY protocol, the latter before TLS."""

    gate: Gate
    plain: int
    sealed: int
    authority: Authority


@pytest.fixture(scope="module")
def shared_place(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    plain, sealed = free_port(), free_port()
    gate = Gate(
        tmp_path_factory.mktemp("gate"),
        {"tiny": model(shared_upstream.url)},
        more_listeners=[
            {"address": f"127.0.0.1:{plain}", "proxy_protocol": True},
            {"address": f"127.0.0.1:{sealed}", "proxy_protocol": True, "tls": {"certificates": [authority.server()]}},
        ],
        guard={"trusted_proxies": [PROXY]},
        keys=KEYS,
        roles=ROLES,
        auth={"anonymous": {"role": "public"}},
    )
    running.append(gate)
    yield Place(gate, plain, sealed, authority)
    running.remove(gate)
    gate.stop()


@pytest.fixture
def place(shared_place: Place, upstream: MockUpstream) -> Place:
    assert shared_place.gate.process.poll() is None, f"the gate died:\n{shared_place.gate.text()}"
    return shared_place


def ask_from(source: str, port: int, *headers: str, secret: str | None = SECRET, first: bytes = b"") -> Answer:
    with Wire(port, source=source) as wire:
        wire.send(first)
        return wire.ask(request(chat(), secret=secret, headers=headers))


def addresses_of(gate: Gate, answers: list[Answer]) -> list[str]:
    assert {answer.status for answer in answers} == {200}, answers
    ids = [str(answer.header("x-request-id")) for answer in answers]
    rows = gate.receipts(ids)
    return [str(rows[one]["address"]) for one in ids]


def address_of(gate: Gate, answer: Answer) -> str:
    return addresses_of(gate, [answer])[0]


# --- nginx -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def front(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of nginx with the sample before the gate's plain HTTP; TLS is left out here."""
    port = free_port()
    changes = {
        "127.0.0.1:8080": f"127.0.0.1:{shared_place.gate.port}",
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "    ssl_certificate     chat.example.com.pem;\n    ssl_certificate_key chat.example.com.key;\n": "",
    }
    with nginx(tmp_path_factory.mktemp("front") / "nginx", port, changes):
        yield port


def test_whose_a_request_is_behind_nginx(place: Place, front: int) -> None:
    """Its connections to the gate are kept, and each carries requests of several clients."""
    sources = [CLIENT, FRIEND, CLIENT, STRANGER, FRIEND]
    assert addresses_of(place.gate, [ask_from(source, front) for source in sources]) == sources
    line = eventually(
        lambda: [one for one in place.gate.log.read_text().splitlines() if f'"address":"{STRANGER}"' in one],
        5,
        "it is in the access log",
    )
    assert json.loads(line[0])["address"] == STRANGER
    events = Wire(front, source=CLIENT)
    answer = events.ask(request(chat(stream=True), secret=SECRET))
    assert answer.events()[-1] == "[DONE]"


WRITTEN: list[tuple[str, ...]] = [
    (f"X-Forwarded-For: {FRIEND}",),
    (f"X-Forwarded-For: {FRIEND}, {PROXY}",),
    (f"X-Forwarded-For: {FRIEND}", f"X-Forwarded-For: {FRIEND}"),
    (f"x-forwarded-for: {FRIEND}", "Connection: close, X-Forwarded-For"),
    (f"X_Forwarded_For: {FRIEND}",),
    ('X-Forwarded-For: "',),
    ("X-Forwarded-For: " + f"{FRIEND}," * 500,),
    (f"Forwarded: for={FRIEND}", f"X-Real-IP: {FRIEND}", f"X-Client-IP: {FRIEND}", f"True-Client-IP: {FRIEND}"),
]


def test_what_a_client_writes_before_nginx_does(place: Place, front: int) -> None:
    answers = [ask_from(STRANGER, front, *headers) for headers in WRITTEN]
    assert addresses_of(place.gate, answers) == [STRANGER] * len(WRITTEN)
    assert [ask_from(STRANGER, front, *headers, secret=OTHER).status for headers in WRITTEN] == [403] * len(WRITTEN)
    assert ask_from(FRIEND, front, secret=OTHER).status == 200


def test_limits_by_address_behind_nginx(place: Place, front: int) -> None:
    """Three for each client, though all come over the same connections; words of his own buy nobody a fourth."""
    for source in ("127.0.0.21", "127.0.0.22"):
        told = [ask_from(source, front, f"X-Forwarded-For: 127.0.1.{n}", secret=None).status for n in range(4)]
        assert told == [200, 200, 200, 429]


# --- HAProxy -----------------------------------------------------------------------------------------------------------


def talk(port: int, source: str, context: ssl.SSLContext | None, *headers: str) -> Answer:
    with Wire(port, source=source) as wire:
        if context is not None:
            wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
        return wire.ask(request(chat(), secret=SECRET, headers=headers))


@pytest.mark.parametrize("words", ["send-proxy-v2 check", "send-proxy", "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl"])
def test_the_proxy_protocol_of_haproxy(place: Place, tmp_path: Path, words: str) -> None:
    """TLS goes through it to the gate. Its checks of the gate are no connections of a client, and nothing to complain of."""
    port = free_port()
    mark = len(place.gate.text())
    changes = {"127.0.0.1:8443": f"127.0.0.1:{place.sealed}", "bind :443": f"bind 127.0.0.1:{port}", "send-proxy-v2 check": words}
    with haproxy(tmp_path / "haproxy", port, sample("haproxy", changes)):
        context = place.authority.context()
        answers = [talk(port, source, context, f"X-Forwarded-For: {FRIEND}") for source in (CLIENT, STRANGER)]
        assert addresses_of(place.gate, answers) == [CLIENT, STRANGER]
    assert "closed" not in place.gate.text()[mark:]


def test_haproxy_that_adds_a_header(place: Place, tmp_path: Path) -> None:
    """It writes a line of its own behind the client's lines."""
    port = free_port()
    changes = {
        "127.0.0.1:8443 send-proxy-v2 check": f"127.0.0.1:{place.gate.port}",
        "bind :443": f"bind 127.0.0.1:{port}",
        "mode tcp": "mode http\n    option forwardfor",
    }
    with haproxy(tmp_path / "haproxy", port, sample("haproxy", changes)):
        assert address_of(place.gate, talk(port, CLIENT, None)) == CLIENT
        spoofed = (f"X-Forwarded-For: {FRIEND}", f"x-forwarded-for: {FRIEND}", f"Forwarded: for={FRIEND}")
        assert address_of(place.gate, talk(port, STRANGER, None, *spoofed)) == STRANGER


# --- whoever is no proxy -----------------------------------------------------------------------------------------------

SPOOFED = [
    f"X-Forwarded-For: {FRIEND}",
    "X-Forwarded-Host: inside.example",
    "X-Forwarded-Proto: https",
    "X-Forwarded-User: root",
    "X-Forwarded-Port: 443",
    f"Forwarded: for={FRIEND};host=inside.example;proto=https",
    f"X-Real-IP: {FRIEND}",
    f"X-Client-IP: {FRIEND}",
    f"True-Client-IP: {FRIEND}",
    f"CF-Connecting-IP: {FRIEND}",
    f"X-Cluster-Client-IP: {FRIEND}",
    "X-Remote-User: root",
    "Remote-User: root",
    "X-Auth-Request-User: root",
    "X-Original-URL: /api/pull",
    "X-Rewrite-URL: /api/pull",
    "X-Original-Method: DELETE",
]


def spoofs(line: str) -> list[tuple[str, ...]]:
    """Every way in which this line may come, but for trailers."""
    name, _, value = line.partition(": ")
    return [
        (line,),
        (f"{name.upper()}: {value}",),
        (f"{name.replace('-', '_')}: {value}",),
        (line, line),
        (f"{line}, {value}",),
        (f"Connection: keep-alive, {name}", line),
    ]


@pytest.mark.parametrize("source", [STRANGER, PROXY], ids=["a stranger", "a proxy that names one"])
def test_spoofed_headers(place: Place, upstream: MockUpstream, source: str) -> None:
    """Nothing of them reaches an instance, and nobody is somebody else by one: not by receipt, networks or limits.

    Behind a trusted proxy the same holds for what its client wrote beside the proxy's own word, which comes last.
    """
    told = () if source == STRANGER else (f"X-Forwarded-For: {STRANGER}",)
    served: dict[str, tuple[str, ...]] = {}
    with Wire(place.gate.port, source=source) as wire:
        for line in SPOOFED:
            for headers in spoofs(line):
                answer = wire.ask(request(chat(), secret=SECRET, headers=(*headers, *told)))
                assert answer.status == 200, headers
                served[str(answer.header("x-request-id"))] = headers
                assert wire.ask(request(chat(), secret=OTHER, headers=(*headers, *told))).status == 403, headers
            trailed = b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(chat()), chat(), line.encode())
            answer = wire.ask(request(None, secret=SECRET, headers=("Transfer-Encoding: chunked", *told)) + trailed)
            served[str(answer.header("x-request-id"))] = ("trailer", line)
    seen = upstream.journal()
    names = {line.partition(":")[0].lower() for line in SPOOFED}
    assert len(seen) == len(served) > 5 * len(SPOOFED)
    for asked in seen:
        assert asked["path"] == CHAT
        assert not {name.lower().replace("_", "-") for name, _ in asked["headers"]} & names
        for invented in (FRIEND, STRANGER, "inside.example", "/api/pull"):
            assert invented not in json.dumps(asked["headers"])
    for request_id, row in place.gate.receipts(served).items():
        assert row["address"] == STRANGER, served[request_id]


def test_limits_by_address_stand_still(place: Place) -> None:
    """Whatever a stranger says of himself, he is counted as one; beside him another one is served."""
    told = [
        ask_from(
            "127.0.0.31",
            place.gate.port,
            f"X-Forwarded-For: 10.0.0.{n}",
            f"Forwarded: for=10.0.0.{n}",
            f"X-Real-IP: 10.0.0.{n}",
            secret=None,
        ).status
        for n in range(6)
    ]
    assert told == [200, 200, 200, 429, 429, 429]
    assert ask_from("127.0.0.32", place.gate.port, secret=None).status == 200


# --- the PROXY protocol on the wire ------------------------------------------------------------------------------------


def closed(port: int, data: bytes, source: str = PROXY, within: float = 4.0) -> bool:
    """Whether a connection that says this is closed without a byte."""
    with Wire(port, source=source) as wire:
        try:
            wire.send(data)
            return wire.closed(within)
        except ConnectionError:
            return True


@pytest.mark.parametrize("header", [HEADER, V2], ids=["v1", "v2"])
def test_a_header_in_pieces(place: Place, header: bytes) -> None:
    """Byte by byte, and in one packet with what comes behind; before TLS too."""
    plain = request(chat(), secret=SECRET)
    answers: list[Answer] = []
    with Wire(place.plain) as wire:
        wire.send(header + plain)
        answers.append(wire.answer())
    for context, port in ((None, place.plain), (place.authority.context(), place.sealed)):
        with Wire(port) as wire:
            for byte in header:
                wire.send(bytes((byte,)))
                time.sleep(0.002)
            if context is not None:
                wire.socket = context.wrap_socket(wire.socket, server_hostname="localhost")
            answers += [wire.ask(plain), wire.ask(plain)]
    assert addresses_of(place.gate, answers) == ["203.0.113.9"] * 5


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "data",
    [
        request(chat(), secret=SECRET),
        b"\x16\x03\x01\x00\x05hello",
        HEADER.replace(b"TCP4", b"TCP9"),
        HEADER.replace(b"\r\n", b"\n") + bytes(100),
        b"PROXY TCP4 " + b"1" * 200,
        V2.replace(b"\x21\x11", b"\x31\x11"),
        V2[:14] + b"\xff\xff" + bytes(5000),
    ],
)
def test_no_header_no_answer(place: Place, upstream: MockUpstream, data: bytes, tls: bool) -> None:
    port = place.sealed if tls else place.plain
    assert closed(port, data)
    assert closed(port, data + HEADER + request(chat(), secret=SECRET))
    assert upstream.journal() == []
    assert not closed(port, HEADER, within=0.1), "void: a good one is closed too"


def test_strangers_at_the_door(place: Place, upstream: MockUpstream) -> None:
    """Closed before a byte of theirs is read; many of them cost a line a second, and no proxy notices."""
    mark = len(place.gate.log.read_text())
    began = time.monotonic()
    for n in range(300):
        assert closed(place.plain if n % 2 else place.sealed, HEADER if n % 3 else b"", STRANGER), n
        if n % 50 == 0:
            assert ask_from(PROXY, place.plain, first=HEADER).status == 200
    with pytest.raises((ClosedEarlyError, ConnectionError)):
        ask_from(STRANGER, place.plain, first=HEADER)
    seconds = time.monotonic() - began + 3

    def told() -> list[str]:
        text = place.gate.log.read_text()[mark:]
        return [line for line in text.splitlines() if "only trusted proxies may connect here" in line]

    eventually(lambda: told() and "were closed" in " ".join(told()), 5, "the operator hears of it")
    assert len(told()) <= 2 * 2 * seconds, "a line a second of each worker and listener"
    assert STRANGER in told()[0]
    assert not [asked for asked in upstream.journal() if "203.0.113.9" in json.dumps(asked)]


def test_those_who_say_nothing(place: Place) -> None:
    """They are closed in time, and hold up nobody meanwhile."""
    silent = [Wire(place.plain), Wire(place.sealed), Wire(place.plain)]
    silent[2].send(HEADER[:20])
    assert address_of(place.gate, ask_from(PROXY, place.plain, first=HEADER)) == "203.0.113.9"
    began = time.monotonic()
    assert all(wire.closed(20) for wire in silent)
    assert time.monotonic() - began > 1, "void: they were not waited for"


FLOODS = [
    b"",
    HEADER[:30],
    V2[:20],
    V2[:14] + b"\x10\x00" + bytes(3000),
    b"\x16\x03\x01" * 5,
    b"GET / HTTP/1.1\r\n\r\n",
    V2 + b"\x16",
]
"""What a proxy that has lost its mind may send and stop at: nothing, parts of headers, other protocols, half a handshake."""


def test_floods_at_the_door(place: Place, long_run: bool) -> None:
    """By the thousand, over both listeners, from a trusted proxy: who has a header is served at once, and nothing grows."""
    count = 6000 if long_run else 700
    pids = place.gate.workers()
    before = sum(psutil.Process(pid).memory_info().rss for pid in pids)
    took: list[float] = []
    with contextlib.ExitStack() as flood:
        for n in range(count):
            wire = flood.enter_context(Wire(place.plain if n % 2 else place.sealed, source=PROXY))
            wire.send(FLOODS[n % len(FLOODS)])
            if n % 20 == 0:
                began = time.monotonic()
                assert ask_from(PROXY, place.plain, first=HEADER).status == 200
                took.append(time.monotonic() - began)
        grown = sum(psutil.Process(pid).memory_info().rss for pid in pids) - before
    usual = sorted(took)[len(took) // 2] * 1e3
    print(f"{count} at once: {grown / count / 1024:.1f} KiB for each; a request among them {usual:.1f} ms")
    assert grown < (16 << 20) + count * 16 * 1024
    assert max(took) < 2
    assert address_of(place.gate, ask_from(PROXY, place.plain, first=HEADER)) == "203.0.113.9"


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", b"\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00"]
)
def test_a_connection_of_nobodys(place: Place, header: bytes) -> None:
    """It is the proxy's own, and its requests cannot say otherwise."""
    assert address_of(place.gate, ask_from(PROXY, place.plain, f"X-Forwarded-For: {FRIEND}", first=header)) == PROXY


def test_a_named_client_is_no_proxy(place: Place) -> None:
    for words in (f"X-Forwarded-For: {FRIEND}", f"X-Forwarded-For: {FRIEND}, {PROXY}"):
        assert address_of(place.gate, ask_from(PROXY, place.plain, words, first=HEADER)) == "203.0.113.9"
    through = HEADER.replace(b"203.0.113.9", PROXY.encode())
    assert address_of(place.gate, ask_from(PROXY, place.plain, f"X-Forwarded-For: {FRIEND}", first=through)) == FRIEND


# --- the admin listener ------------------------------------------------------------------------------------------------


def test_the_admin_listener_goes_by_the_same_rule(place: Place) -> None:
    secret = (place.gate.state / "admin.key").read_text().strip()

    for n, (source, words, address) in enumerate(
        [
            (PROXY, (f"X-Forwarded-For: {STRANGER}, {CLIENT}",), CLIENT),
            (PROXY, (), PROXY),
            (CLIENT, (f"X-Forwarded-For: {FRIEND}",), CLIENT),
        ]
    ):
        made = json.dumps({"name": f"made-{n}"}).encode()
        headers = ("Content-Type: application/json", *words)
        with Wire(place.gate.admin, source=source) as wire:
            sent = request(made, path="/api/v1/keys", secret=secret, headers=headers).replace(b"gate.test", b"127.0.0.1")
            assert wire.ask(sent).status == 201
            sent = request(method="GET", path="/api/v1/audit?limit=1", secret=secret).replace(b"gate.test", b"127.0.0.1")
            assert f'"{address}"' in json.dumps(wire.ask(sent, "GET").json()), (source, words)


# --- the life of a worker ----------------------------------------------------------------------------------------------


def opened(launch: Launch, upstream: MockUpstream, **options: Any) -> tuple[Gate, int]:
    port = free_port()
    listener = {"address": f"127.0.0.1:{port}", "proxy_protocol": True}
    return launch({"tiny": model(upstream.url)}, more_listeners=[listener], guard={"trusted_proxies": [PROXY]}, **options), port


def test_who_was_at_the_door_is_served(launch: Launch, upstream: MockUpstream) -> None:
    """A worker that stops waits for those whom it has let in and who have yet to speak."""
    gate, port = opened(launch, upstream, workers=1)
    eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "the gate has started")
    with Wire(port) as early:
        early.send(HEADER[:10])
        gate.processes()
        gate.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        early.send(HEADER[10:])
        assert early.ask(request(chat(), secret=SECRET)).status == 200
    assert gate.process.wait(20) == 0


def test_a_takeover_loses_nobody_at_the_door(launch: Launch, upstream: MockUpstream) -> None:
    """While gates change, clients come who take their time over the proxy's word; each is served, by the old gate or the new."""
    gate, port = opened(launch, upstream, workers=1)
    plain = request(chat(), secret=SECRET)
    faults: list[str] = []
    stop = threading.Event()
    count = 0

    def come() -> None:
        nonlocal count
        while not stop.is_set():
            try:
                with Wire(port) as wire:
                    wire.send(HEADER[:9])
                    time.sleep(0.2)
                    wire.send(HEADER[9:])
                    assert wire.ask(plain).status == 200
            except Exception as fault:  # noqa: BLE001  # whatever it is, the test shows it
                faults.append(repr(fault))
            count += 1

    clients = [threading.Thread(target=come) for _ in range(4)]
    for one in clients:
        one.start()
    try:
        time.sleep(0.5)
        old = gate.take_over()
        assert old.wait(20) == 0
        time.sleep(0.5)
    finally:
        stop.set()
        for one in clients:
            one.join(20)
    assert faults == []
    assert count > 8
    assert ask_from(PROXY, port, first=HEADER).status == 200
    assert closed(port, HEADER, STRANGER)


def test_a_reload_says_who_is_trusted(launch: Launch, upstream: MockUpstream) -> None:
    """For connections that are there as well as for new ones."""
    gate, port = opened(launch, upstream, workers=1)
    with Wire(gate.port, source=CLIENT) as kept:
        plain = request(chat(), secret=SECRET, headers=(f"X-Forwarded-For: {FRIEND}",))
        assert address_of(gate, kept.ask(plain)) == CLIENT
        gate.write(guard={"trusted_proxies": [CLIENT]})
        eventually(lambda: address_of(gate, kept.ask(plain)) == FRIEND, 10, "the new proxy is believed", 0.3)
        assert closed(port, HEADER)
        assert ask_from(CLIENT, port, first=HEADER).status == 200
        gate.write(guard={"trusted_proxies": [PROXY]})
        eventually(lambda: address_of(gate, kept.ask(plain)) == CLIENT, 10, "it is not any more", 0.3)


def test_what_a_proxys_certificate_is_worth(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """Of a proxy that ends TLS, nothing; what comes through it by the PROXY protocol is the client's own."""
    authority = Authority(tmp_path / "authority")
    port = free_port()
    tls = {"certificates": [authority.server()], "client_ca": str(authority.file), "client_auth": "required"}
    gate = launch(
        {"tiny": model(upstream.url)},
        workers=1,
        tls=tls,
        more_listeners=[{"address": f"127.0.0.1:{port}", "proxy_protocol": True, "tls": tls}],
        guard={"trusted_proxies": [PROXY]},
        auth={"client_certificates": {"principal": "subject_cn", "role": "internal"}},
        roles={"internal": {"models": ["*"]}},
        keys=[{"name": "main", "roles": ["internal"], "hash": digest(SECRET)}],
    )

    def with_certificate(port: int, source: str, first: bytes, secret: str | None) -> Answer:
        with Wire(port, source=source) as wire:
            wire.send(first)
            wire.socket = authority.context(authority.client("somebody")).wrap_socket(wire.socket, server_hostname="localhost")
            return wire.ask(request(chat(), secret=secret, headers=(f"X-Forwarded-For: {STRANGER}",)))

    assert with_certificate(gate.tls_port, PROXY, b"", None).status == 401
    assert address_of(gate, with_certificate(gate.tls_port, PROXY, b"", SECRET)) == STRANGER
    assert address_of(gate, with_certificate(gate.tls_port, CLIENT, b"", None)) == CLIENT
    assert address_of(gate, with_certificate(port, PROXY, HEADER, None)) == "203.0.113.9"
