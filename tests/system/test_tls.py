"""TLS towards clients through the whole gate: certificates that change under load, names, resumption, revocation lists.

Whom client certificates stand for is in test_certificates.py. Nobody may notice a change but who looks at serial numbers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from slmgate.dataplane import openssl
from tests.system.conftest import SHARED, Launch, running
from tests.tools.authority import Authority, TlsWire, serial_of
from tests.tools.gate import SECRET, Gate, eventually, free_port, model
from tests.tools.load import LONG
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ClosedEarlyError, Wire, ask, chat, request

NAMES = ("a.example", "b.example", "*.wild.example")
SERVED_WITHIN = 1.0 if LONG else 5.0
"""Seconds after which a new certificate is shown; a busy machine gets more in the short form."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def shared_named(authority: Authority, shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    own = [authority.server(f"n{number}", name) for number, name in enumerate(NAMES)]
    models = {"tiny": model(shared_upstream.url)}
    made = Gate(tmp_path_factory.mktemp("named"), models, tls={"certificates": own}, **{**SHARED, "workers": 2})
    running.append(made)
    yield made
    running.remove(made)
    made.stop()


@pytest.fixture
def named(shared_named: Gate, upstream: MockUpstream) -> Gate:
    """Two workers that listen with certificates for several names."""
    assert shared_named.process.poll() is None, f"the gate died:\n{shared_named.text()}"
    return shared_named


def any_name(authority: Authority) -> ssl.SSLContext:
    """A client that trusts the authority and takes a certificate for whatever name."""
    context = authority.context()
    context.check_hostname = False
    return context


def shown_serial(port: int, context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection is shown; a request is served over it."""
    with TlsWire(port, context) as wire:
        der = wire.tls.getpeercert(binary_form=True)
        assert der is not None
        assert wire.ask(request(chat(), secret=SECRET)).status == 200
        return serial_of(ssl.DER_cert_to_PEM_cert(der).encode())


# --- names


@pytest.mark.parametrize(
    ("asked", "shown"),
    [("a.example", "a.example"), ("B.Example", "b.example"), ("x.wild.example", "*.wild.example"), ("c.example", "a.example")],
)
def test_the_name_chooses(named: Gate, authority: Authority, asked: str, shown: str) -> None:
    with TlsWire(named.tls_port, any_name(authority), name=asked) as wire:
        peer = wire.tls.getpeercert()
        assert peer is not None and ("DNS", shown) in peer["subjectAltName"]
        assert wire.ask(request(chat(), secret=SECRET, host=asked)).status == 200


def test_a_host_of_another_certificate(named: Gate, authority: Authority, upstream: MockUpstream) -> None:
    """421 and closed, nothing upstream; the right one before it is served, and so is a name that no certificate is for."""
    with TlsWire(named.tls_port, any_name(authority), name="a.example") as wire:
        assert wire.ask(request(chat(), secret=SECRET, host="a.example:8443")).status == 200
        assert wire.ask(request(chat(), secret=SECRET, host="gate.internal")).status == 200
        before = len(upstream.journal())
        answer = wire.ask(request(chat(), secret=SECRET, host="b.example"))
        assert (answer.status, answer.json()["error"]["code"]) == (421, "misdirected_request")
        assert wire.closed(5)
    assert len(upstream.journal()) == before
    row = named.receipt(answer.header("x-request-id"))
    assert (row["status"], row["verdict"]) == (421, "refuse"), row


def test_one_name_on_the_plain_listener(named: Gate) -> None:
    assert ask(named.port, request(chat(), secret=SECRET, host="b.example")).status == 200


# --- time


def test_a_slow_handshake_is_cut(named: Gate, authority: Authority) -> None:
    """A client that sends its first message one byte at a time has 5 s for it; others are served meanwhile."""
    out = ssl.MemoryBIO()
    client = any_name(authority).wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = out.read()
    with socket.create_connection(("127.0.0.1", named.tls_port), timeout=0.1) as slow:
        started = time.monotonic()
        for byte in hello:
            slow.sendall(bytes((byte,)))
            try:
                if not slow.recv(1024):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        lasted = time.monotonic() - started
        assert 4 < lasted < 10, lasted
    with TlsWire(named.tls_port, any_name(authority), name="a.example") as wire:
        assert wire.ask(request(chat(), secret=SECRET, host="a.example")).status == 200


def offering(authority: Authority, protocols: int) -> ssl.SSLContext:
    """A client whose first message has so many protocols of 250 bytes in it, beside the one that is meant."""
    context = any_name(authority)
    context.set_alpn_protocols(["http/1.1", *(f"{number:0250}" for number in range(protocols))])
    return context


def test_how_long_the_first_message_may_be(named: Gate, authority: Authority) -> None:
    """10 KiB of it are served; of one of 20 KiB nothing is kept, which is said once a second, and of 200 no more than that."""
    with TlsWire(named.tls_port, offering(authority, 40), name="a.example") as wire:
        assert wire.ask(request(chat(), secret=SECRET, host="a.example")).status == 200
    before = named.rss()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        TlsWire(named.tls_port, offering(authority, 80), name="a.example")
    begun = b"\x16\x03\x01\x40\x00\x01\x01\xe0\x00" + bytes(16 * 1024 - 4)  # the first 16 of 120 KiB
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", named.tls_port), timeout=5) as one, contextlib.suppress(ConnectionError):
            one.sendall(begun)
            assert one.recv(1) == b""
    eventually(lambda: "begins with a message of more than 16384 bytes" in named.log.read_text(), 5, "the operator is told")
    assert named.log.read_text().count("16384 bytes") < 20
    assert named.rss() - before < 4 << 20


def first_message(authority: Authority, protocols: int) -> bytes:
    out = ssl.MemoryBIO()
    client = offering(authority, protocols).wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def without_a_key(message: bytes) -> bytes:
    """The same in one record, but with no key in it that could be used: the server has to ask for another one."""
    at = message.index(b"\x00\x33\x00\x26\x00\x24\x00\x1d\x00\x20")  # key_share: one for X25519
    short = message[:at] + b"\x00\x33\x00\x02\x00\x00" + message[at + 42 :]
    extensions = 43 + 1 + message[43]  # behind version and random, the session's id,
    extensions += 2 + int.from_bytes(message[extensions : extensions + 2])  # cipher suites
    extensions += 1 + message[extensions]  # and compression methods
    for where, size in ((3, 2), (6, 3), (extensions, 2)):
        short = short[:where] + (int.from_bytes(short[where : where + size]) - 36).to_bytes(size) + short[where + size :]
    return short


@pytest.mark.parametrize(
    ("case", "most"), [("nothing of it", 16), ("all but its last byte", 16), ("all of it", 200), ("asked for another", 160)]
)
def test_what_an_unfinished_handshake_costs(named: Gate, authority: Authority, case: str, most: int) -> None:
    """In KiB of a worker for each of 800 connections: of what has not come OpenSSL keeps nothing, and what may be as long as
    OpenSSL likes is asked of a few only.
    """
    first = first_message(authority, 60)
    sent = {"nothing of it": first[:8], "all but its last byte": first[:-1], "all of it": first}.get(case, without_a_key(first))
    second = b"\x16\x03\x03\x40\x00\x01\x01\xe0\x00" + bytes(16 * 1024 - 4) + (b"\x16\x03\x03\x40\x00" + bytes(16 * 1024)) * 6
    pids = named.workers()
    before = [psutil.Process(pid).memory_info().rss for pid in pids]
    with contextlib.ExitStack() as all_of_them:
        for _ in range(800):
            one = all_of_them.enter_context(socket.create_connection(("127.0.0.1", named.tls_port), timeout=5))
            one.sendall(sent)
            if case == "asked for another":
                assert one.recv(6)[5] == 2, "a HelloRetryRequest is a ServerHello"
                one.sendall(second)
        time.sleep(1)  # what all have sent is taken in: that nothing more is cannot be waited for
        grown = sum(psutil.Process(pid).memory_info().rss for pid in pids) - sum(before)
        with TlsWire(named.tls_port, any_name(authority), name="a.example") as wire:
            assert wire.ask(request(chat(), secret=SECRET, host="a.example")).status == 200
    print(f"{grown / 800 / 1024:.1f} KiB for each")
    assert grown < 800 * most * 1024


def test_whoever_is_asked_for_another_first_message_is_served(named: Gate, authority: Authority) -> None:
    """As clients are that begin with a key of a kind which is not taken here."""
    context = any_name(authority)
    assert openssl._control(context, openssl._SET_GROUPS_LIST, 0, b"P-521:P-256")
    with TlsWire(named.tls_port, context, name="a.example") as wire:
        assert wire.ask(request(chat(), secret=SECRET, host="a.example")).status == 200


@pytest.mark.parametrize("at", [0, 1, 4, 2000])
def test_no_record_of_a_first_message_is_empty(named: Gate, authority: Authority, at: int) -> None:
    """OpenSSL passes over some, and took what came behind them for whatever it said of its length."""
    message = b"\x01\x01\xe0\x00" + bytes(12000)
    parts = (*([message[:at]] if at else []), b"", message[at:])
    with socket.create_connection(("127.0.0.1", named.tls_port), timeout=3) as one, contextlib.suppress(ConnectionError):
        one.sendall(b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts))
        assert one.recv(1) == b""


def test_a_first_message_in_records_of_one_byte(named: Gate, authority: Authority) -> None:
    """As some clients send it, lest anybody on the way reads the name in it."""
    out, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = any_name(authority).wrap_bio(back, out, server_hostname="b.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with socket.create_connection(("127.0.0.1", named.tls_port), timeout=5) as one:
        one.sendall(b"".join(b"\x16\x03\x01\x00\x01" + bytes((byte,)) for byte in out.read()[5:]))
        while not (peer := client.getpeercert() if client.version() else None):
            back.write(one.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
    assert ("DNS", "b.example") in peer["subjectAltName"]


# --- resumption


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_goes_on_at_another_worker(named: Gate, authority: Authority, version: ssl.TLSVersion) -> None:
    context = any_name(authority)
    context.minimum_version = context.maximum_version = version

    def visit(session: ssl.SSLSession | None) -> tuple[str, bool, ssl.SSLSession]:
        with TlsWire(named.tls_port, context, name="a.example", session=session) as wire:
            answer = wire.ask(request(chat(), secret=SECRET, host="a.example"))
            assert answer.status == 200
            kept = wire.tls.session
            assert kept is not None and kept.has_ticket
            return str(answer.header("x-request-id"))[:12], bool(wire.tls.session_reused), kept

    first, reused, session = visit(None)
    assert not reused
    visits = [visit(session) for _ in range(24)]  # by chance all go to one worker once in 16 million times
    assert {worker for worker, _, _ in visits} > {first}
    assert all(reused for _, reused, _ in visits)


# --- certificates that change


def test_rotations_that_nobody_notices(launch: Launch, authority: Authority, upstream: MockUpstream, tmp_path: Path) -> None:
    """Ten new certificates, in between a key that does not fit: no handshake fails, and who is connected stays so."""
    own = Authority(tmp_path / "rotating")
    tls = {"certificates": [own.server()]}
    gate = launch({"tiny": model(upstream.url)}, tls=tls, workers=2, guard={"keep_alive": "2m"})
    context = own.context()
    journal: list[tuple[int, float]] = []
    handshakes = 0

    def replace(name: str, *parts: str) -> None:
        for part in parts:
            (own.home / f"{name}.{part}").replace(own.home / f"gate.{part}")

    with TlsWire(gate.tls_port, context, timeout=60) as kept, TlsWire(gate.tls_port, context, timeout=60) as streaming:
        assert kept.ask(request(chat(), secret=SECRET)).status == 200
        streaming.send(request(chat(stream=True, events=400, rate=20), secret=SECRET))
        assert streaming.head()[0] == 200
        for rotation in range(10):
            if rotation == 5:
                before = shown_serial(gate.tls_port, context)
                own.server("wrong")
                replace("wrong", "key")
                eventually(lambda: "is not the key of its certificate" in gate.text(), 10, "the wrong key is named")
                assert {shown_serial(gate.tls_port, context) for _ in range(6)} == {before}
            own.server("next")
            wanted = serial_of((own.home / "next.pem").read_bytes())
            replace("next", "key", "pem")
            started = time.monotonic()
            seen: set[int] = set()
            while seen != {wanted}:  # several in a row, so both workers
                assert time.monotonic() - started < SERVED_WITHIN + 1, f"{seen}, not {wanted}"
                served = time.monotonic() - started
                seen = {shown_serial(gate.tls_port, context) for _ in range(4)}
                handshakes += 4
            assert served <= SERVED_WITHIN
            journal.append((wanted, served))
            assert f"{wanted:x}" in gate.text()
            assert kept.ask(request(chat(), secret=SECRET)).status == 200
            assert streaming.event()
    assert len({serial for serial, _ in journal}) == 10
    print(f"{handshakes} handshakes; new ones after {', '.join(f'{served:.2f}' for _, served in journal)} s")
    assert "Traceback" not in gate.text()


def test_a_worker_and_control_that_start_beside_bad_files(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """A worker that is replaced gets what is in force from control; a control process that is replaced disturbs no worker."""
    own = Authority(tmp_path / "bad")
    gate = launch({"tiny": model(upstream.url)}, tls={"certificates": [own.server()]}, workers=1)
    context = own.context()
    before = shown_serial(gate.tls_port, context)
    good = (own.home / "gate.key").read_bytes()
    (own.home / "gate.key").write_bytes(b"")
    eventually(lambda: "holds no private key" in gate.text(), 10, "the bad file is named")
    (worker,) = gate.workers()
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: gate.workers() not in ([], [worker]), 10, "another worker")
    assert eventually(lambda: _serial_or_none(gate, context), 20, "the new worker serves") == before
    os.kill(gate.control(), signal.SIGKILL)
    eventually(lambda: gate.text().count("holds no private key") >= 2, 20, "another control process")
    assert shown_serial(gate.tls_port, context) == before
    (own.home / "gate.key").write_bytes(good)
    eventually(lambda: gate.text().count("is in force") >= 2, 20, "control has read the good files")
    assert shown_serial(gate.tls_port, context) == before


def _serial_or_none(gate: Gate, context: ssl.SSLContext) -> int | None:
    try:
        return shown_serial(gate.tls_port, context)
    except (OSError, ClosedEarlyError, AssertionError):
        return None


def test_options_change_without_a_restart(launch: Launch, authority: Authority, upstream: MockUpstream) -> None:
    """Another version, and clients asked for certificates: for new connections at once, and the old ones go on."""
    tls: dict[str, Any] = {"certificates": [authority.server("options")]}
    gate = launch({"tiny": model(upstream.url)}, tls=tls, workers=2)
    old = authority.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsWire(gate.tls_port, old) as wire:
        assert wire.ask(request(chat(), secret=SECRET)).status == 200
        gate.write(listen=[gate.config["listen"][0], {**gate.config["listen"][1], "tls": {**tls, "min_version": "1.3"}}])
        eventually(lambda: all(_serial_or_none(gate, old) is None for _ in range(6)), 10, "the old version is refused")
        assert wire.ask(request(chat(), secret=SECRET)).status == 200
    assert _serial_or_none(gate, authority.context()) is not None
    assert "after a restart only" not in gate.text()


# --- revocation lists


def test_revoked(launch: Launch, authority: Authority, upstream: MockUpstream) -> None:
    """Who is on the list is refused from when it is there; a list that has ended lets in nobody with a certificate."""
    good, bad = authority.client("good"), authority.client("bad")
    tls = {"certificates": [authority.server("crl")], "client_ca": str(authority.file), "crl": str(authority.crl())}
    gate = launch({"tiny": model(upstream.url)}, tls=tls, workers=2)

    def let_in(context: ssl.SSLContext) -> bool:
        try:
            with TlsWire(gate.tls_port, context) as wire:
                return wire.ask(request(chat(), secret=SECRET)).status == 200
        except (ssl.SSLError, ConnectionError, ClosedEarlyError):
            return False

    assert all(let_in(authority.context(one)) for one in (good, bad))
    authority.crl(bad)
    eventually(lambda: not any(let_in(authority.context(bad)) for _ in range(4)), 10, "the revoked one is refused")
    assert let_in(authority.context(good)) and let_in(authority.context())
    authority.crl(ends=-timedelta(hours=1))
    eventually(lambda: "a revocation list has ended" in gate.text(), 10, "it is said")
    assert not any(let_in(authority.context(one)) for one in (good, bad))
    assert let_in(authority.context()), "who shows no certificate is not concerned"
    authority.crl(bad)
    eventually(lambda: all(let_in(authority.context(good)) for _ in range(4)), 10, "a new list")
    assert not let_in(authority.context(bad))


def test_silence_at_the_doors_takes_no_clients_descriptor(launch: Launch, authority: Authority, upstream: MockUpstream) -> None:
    """Of 200 that a worker has: as many streams as it lets in are served, however many say nothing at five listeners with TLS."""
    tls = {"certificates": [authority.server("few", "a.example")]}
    ports = [free_port() for _ in range(4)]
    more = [{"address": f"127.0.0.1:{port}", "tls": tls} for port in ports]
    options: dict[str, Any] = {"tls": tls, "more_listeners": more, "prefix": ("prlimit", "--nofile=200:200")}
    gate = launch({"tiny": model(upstream.url)}, workers=1, drain_timeout="1s", **options)
    (worker,) = gate.workers()
    with contextlib.ExitStack() as everybody:

        def silent(count: int) -> None:
            for port in (gate.tls_port, *ports):
                for _ in range(count):
                    everybody.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))

        silent(30)
        time.sleep(0.5)  # for the same: they are let in, and say nothing
        for _ in range(45):
            wire = everybody.enter_context(Wire(gate.port))
            wire.send(request(chat(stream=True, events=100, rate=5), secret=SECRET))
            assert wire.event()
        silent(5)
        time.sleep(1.2)  # in which the journal is forced to the disk, for which two are needed
        assert gate.workers() == [worker]
        assert psutil.Process(worker).num_fds() < 195


# --- the end


def test_whoever_is_silent_at_the_door_holds_up_no_stop(launch: Launch, authority: Authority, upstream: MockUpstream) -> None:
    """Idle clients are sent away, and others are told that the gate goes, while it waits for those who have said nothing yet;
    and that it does for a moment only. Who is in the middle of a handshake is served.
    """
    own = [authority.server("last", "a.example")]
    gate = launch({"tiny": model(upstream.url)}, workers=1, tls={"certificates": own}, drain_timeout="20s")
    with Wire(gate.port) as idle, contextlib.ExitStack() as silent:
        assert idle.ask(request(chat(), secret=SECRET)).status == 200
        for begun in (b"", b"\x16\x03\x01\x10\x00\x01", b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc" + bytes(300)):
            one = silent.enter_context(socket.create_connection(("127.0.0.1", gate.tls_port)))
            one.sendall(begun)
        late = silent.enter_context(socket.create_connection(("127.0.0.1", gate.tls_port), timeout=5))
        time.sleep(0.2)  # all of them stand at the door: what says nothing shows nothing
        started = time.monotonic()
        gate.process.send_signal(signal.SIGTERM)
        assert idle.closed(1), "an idle connection waits for nobody"
        time.sleep(0.3)  # the stop is well under way
        tls = silent.enter_context(any_name(authority).wrap_socket(late, server_hostname="a.example"))
        tls.sendall(request(chat(), secret=SECRET))
        answer = b""
        while more := tls.recv(65536):
            answer += more
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert gate.process.wait(10) == 0
        assert time.monotonic() - started < 4


def test_whoever_was_turned_away_last_does_a_stopping_gate_no_harm(
    launch: Launch, authority: Authority, upstream: MockUpstream
) -> None:
    """The operator is told of it while the last stream goes on, though the listener is closed by then."""
    own = [authority.server("ends", "a.example")]
    gate = launch({"tiny": model(upstream.url)}, workers=1, tls={"certificates": own}, drain_timeout="20s")
    with Wire(gate.port) as wire:
        wire.send(request(chat(stream=True, events=24, rate=20), secret=SECRET))
        assert wire.event()
        for _ in range(2):  # at least one of them since the last whole second of the worker
            with socket.create_connection(("127.0.0.1", gate.tls_port)) as one, contextlib.suppress(ConnectionError):
                one.sendall(b"\x16\x03\x01\x40\x00\x01\x01\xe0\x00")
                assert one.recv(1) == b""
        gate.process.send_signal(signal.SIGTERM)
        events = 1
        while (event := wire.event()) is not None and b"[DONE]" not in event:
            events += 1
        assert event is not None, f"cut after {events} events"
    assert gate.process.wait(10) == 0
    said = gate.log.read_text()
    assert "begins with a message of more than 16384 bytes" in said
    assert "Traceback" not in said
