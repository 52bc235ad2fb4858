"""Automatic certificates against a real ACME server, Caddy's: got, served, renewed, kept over restarts, and refused with a word.

Every test has an address of its own, on which the gate listens at the ports 80 and 443, where the authority asks.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.tools.caddy import Caddy, own_address, shown
from tests.tools.gate import ROOT, SECRET, Gate, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import chat, request

NAME, HELD, LOST = "gate.example.test", "held.example.test", "lost.example.test"
GOT = 30.0
"""Seconds within which a certificate has to be here, on a slow machine."""


class AcmeGate(Gate):
    """A gate with a plain listener on port 80 of `address` and one with TLS on port 443, beside the usual one."""

    def __init__(self, home: Path, upstream: MockUpstream, address: str, acme: dict[str, Any], **more: Any) -> None:
        self.address, self.acme, self.tls_more = address, acme, more
        home.mkdir(exist_ok=True)
        super().__init__(home, {"tiny": model(upstream.url)}, wait=True)

    def start(self, wait: bool = True) -> None:
        self.process = self._launched()
        if wait:
            self.wait_ready(GOT)

    def write(self, **changes: Any) -> None:
        self.config["listen"] = [
            {"address": f"127.0.0.1:{self.port}"},
            {"address": f"{self.address}:80"},
            {"address": f"{self.address}:443", "tls": {"acme": self.acme, **self.tls_more}},
        ]
        super().write(**changes)

    def shown(self, *offered: str, name: str = NAME) -> str:
        """Who vouches for the certificate that is shown: `authority`, or the words of one that nobody vouches for."""
        return shown(self.address, name, *offered)[0]

    def serial(self, name: str = NAME) -> int:
        return shown(self.address, name)[1]

    def wait_for(self, name: str = NAME, within: float = GOT) -> None:
        try:
            eventually(lambda: "Caddy" in self.shown(name=name), within, f"{name} has a certificate", 0.1)
        except AssertionError:
            raise AssertionError(f"{name} has no certificate:\n{self.text()}") from None

    def certificates(self) -> list[dict[str, Any]]:
        """What the command says."""
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-m", "slmgate", "certificates", "list", "--json", "-c", str(self.file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60)
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def file_of(self, name: str = NAME) -> Path:
        (found,) = self.state.glob(f"acme/*/{name}.pem")
        return found


def options(caddy: Caddy, *domains: str, challenge: str = "http-01") -> dict[str, Any]:
    return {"domains": list(domains), "directory": caddy.directory, "ca": str(caddy.root), "challenges": [challenge]}


@pytest.fixture
def address() -> str:
    return own_address()


@contextlib.contextmanager
def gate_of(gate: AcmeGate) -> Iterator[AcmeGate]:
    try:
        yield gate
        assert "Traceback" not in gate.text(), gate.text()
    finally:
        gate.stop()


class Talking:
    """A client that connects anew all the time, and remembers whom it met and what went wrong."""

    def __init__(self, gate: AcmeGate) -> None:
        self.serials: list[int] = []
        self.first: dict[int, float] = {}  # when each was met first
        self.failed: list[str] = []
        self._gate = gate
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Talking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(0.02):
            try:
                self.serials.append(self._gate.serial())
                self.first.setdefault(self.serials[-1], time.time())
            except (OSError, ssl.SSLError) as error:
                self.failed.append(repr(error))


def test_from_a_gate_without_certificate_to_the_next_one(upstream: MockUpstream, tmp_path: Path, address: str) -> None:
    """The authority is away at first; a restart asks it nothing; what comes to its end is renewed, and nobody is dropped."""
    with Caddy(tmp_path / "caddy", {NAME: address}) as caddy:
        caddy.stop()
        with gate_of(AcmeGate(tmp_path / "gate", upstream, address, options(caddy, NAME))) as gate:
            assert "no certificate yet" in gate.shown()
            eventually(lambda: "cannot be reached" in gate.text(), 20, "the operator is told")
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with socket.create_connection((address, 443)) as plain, context.wrap_socket(plain, server_hostname=NAME) as early:
                assert b" 200 " in said(early)
                caddy.start()
                gate.wait_for()
                assert b" 200 " in said(early), "a connection that was there before goes on"
            serial = gate.serial()
            assert {gate.serial() for _ in range(20)} == {serial}, "all workers show it"
            (row,) = gate.certificates()
            assert (row["names"], row["state"], row["error"], row["source"]) == ([NAME], "valid", "", "127.0.0.1"), row
            files = list((gate.state / "acme").rglob("*.*"))
            assert {path.stat().st_mode & 0o777 for path in files if path.is_file()} == {0o600}
            assert caddy.orders() == 1
            assert get_at(address, "/.well-known/acme-challenge/something") == 404

            gate.terminate()
            gate.start()
            assert gate.serial() == serial
            eventually(lambda: gate.certificates()[0]["state"] == "valid", 10, "what was stored is known")
            assert caddy.orders() == 1, "a restart makes no order"

            gate.terminate()
            gate.file_of().write_bytes(old_certificate(NAME))
            gate.start()
            with Talking(gate) as talking:
                gate.wait_for()
                eventually(lambda: talking.serials and talking.serials[-1] == gate.serial(), 5, "who connects meets the new one")
            assert talking.failed == [] and len(set(talking.serials)) <= 2
            assert serial not in talking.serials and caddy.orders() == 2
            since = talking.first[gate.serial()] - gate.file_of().stat().st_mtime
            assert since < 5.0, "in force soon after it came; a second where nothing else is at work"


def test_asked_in_the_handshake_beside_a_name_that_leads_elsewhere(upstream: MockUpstream, tmp_path: Path, address: str) -> None:
    """tls-alpn-01. A name that is not ours gets a message and no certificate, and does not stand in the other's way."""
    with Caddy(tmp_path / "caddy", {NAME: address, LOST: own_address()}) as caddy:
        acme = options(caddy, LOST, NAME, challenge="tls-alpn-01")
        with gate_of(AcmeGate(tmp_path / "gate", upstream, address, acme)) as gate:
            gate.wait_for()
            lost, good = gate.certificates()
            assert (lost["names"], lost["state"], good["state"]) == ([LOST], "waiting", "valid")
            assert "port 443 of the name must lead to this listener" in lost["error"] and lost["next_try"]
            assert f"no certificate for {LOST}: " in gate.text()
            assert "no certificate yet" in gate.shown(name=LOST)
            assert gate.shown("acme-tls/1") == gate.shown("http/1.1") == gate.shown(), "nothing is pending any more"
            # control dies and another one takes its place: the certificate is there, and nobody is asked for it again
            orders, serial = caddy.orders(), gate.serial()
            os.kill(before := gate.control(), signal.SIGKILL)
            eventually(lambda: [pid for pid in gate.pids("slmgate.control.process") if pid != before], 10, "another control")
            eventually(lambda: gate.certificates()[1]["state"] == "valid", 20, "it knows the certificate")
            assert gate.serial() == serial and caddy.orders() - orders <= 1, "LOST may be due, NAME is not"


def test_while_a_challenge_is_pending(upstream: MockUpstream, tmp_path: Path, address: str) -> None:
    """Only who offers acme-tls/1 with the name is shown the answer, and may say nothing on that connection."""
    with (
        socket.create_server((own_address(), 443)) as silent,
        Caddy(tmp_path / "caddy", {HELD: silent.getsockname()[0]}) as caddy,
    ):
        authority = trustme.CA()
        clients = tmp_path / "clients.pem"
        authority.cert_pem.write_to_path(clients)
        acme = options(caddy, HELD, challenge="tls-alpn-01")
        made = AcmeGate(tmp_path / "gate", upstream, address, acme, client_ca=str(clients))
        with gate_of(made) as gate:
            eventually(lambda: answers(gate), 20, "the challenge is pending: the authority waits for who is silent")
            assert "no certificate yet" in gate.shown(name=HELD)
            assert "no certificate yet" in gate.shown("http/1.1", name=HELD)
            assert not answers(gate, name=NAME)
            whoever = ssl.create_default_context()
            whoever.check_hostname, whoever.verify_mode = False, ssl.CERT_NONE
            whoever.set_alpn_protocols(["acme-tls/1"])
            with socket.create_connection((address, 443)) as plain, whoever.wrap_socket(plain, server_hostname=HELD) as asking:
                with contextlib.suppress(OSError):  # it may be closed already
                    asking.sendall(request(chat(), secret=SECRET))
                with contextlib.suppress(OSError):
                    assert asking.recv(1000) == b"", "nobody is let in by this way"
            assert upstream.journal() == []


# --- what these tests are made of ------------------------------------------------------------------------------------------


def said(tls: ssl.SSLSocket) -> bytes:
    tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: gate\r\n\r\n")
    return tls.recv(4096)


def get_at(address: str, path: str) -> int:
    with contextlib.closing(http.client.HTTPConnection(address, 80, timeout=5.0)) as link:
        link.request("GET", path)
        return link.getresponse().status


def answers(gate: AcmeGate, name: str = HELD) -> bool:
    return "answer to a challenge" in gate.shown("acme-tls/1", name=name)


def old_certificate(name: str) -> bytes:
    """One that is good for another day of its ninety."""
    now = datetime.now(UTC)
    made = trustme.CA().issue_cert(
        name, not_before=now - timedelta(days=89), not_after=now + timedelta(days=1), key_type=trustme.KeyType.ECDSA
    )
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from slmgate.control.acme.making import key_pem

    key = load_pem_private_key(made.private_key_pem.bytes(), None)
    return b"".join(one.bytes() for one in made.cert_chain_pems) + key_pem(key)  # type: ignore[arg-type]  # it is ECDSA
