"""What the doctor sees of files, sockets and answers; what cannot be seen is no failure."""

from __future__ import annotations

import http.client
import signal
import time
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from slmgate.control.acme.files import AcmeFiles
from slmgate.control.acme.making import placeholder_pem
from slmgate.control.config import load_text
from slmgate.control.config.addresses import Origin
from slmgate.control.doctor import facts
from slmgate.link import journal

HEAD = "  sl  local_address rem_address   st tx_queue\n"
ORIGIN = Origin("10.0.0.5", 8000)


def test_modes(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch(mode=0o600)
    tmp_path.chmod(0o700)
    modes = facts.modes_in(tmp_path)
    assert [(one.path, one.mode, one.open_to_others) for one in modes] == [(tmp_path, 0o700, False), (file, 0o600, False)]
    file.chmod(0o640)
    assert [one.open_to_others for one in facts.modes_in(tmp_path)] == [False, True]
    assert facts.mode_of(tmp_path / "none") is None
    assert facts.modes_in(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("   0: 00000000:1F40 00000000:0000 0A", True),
        ("   0: 00000000000000000000000000000000:1F40 00000000:0000 0A", True),
        ("   0: 0100007F:1F40 00000000:0000 0A", False),
        ("   0: 00000000:1F41 00000000:0000 0A", False),
        ("   0: 00000000:1F40 00000000:0000 01", False),
        ("   0: short", False),
    ],
)
def test_who_listens(tmp_path: Path, line: str, found: bool) -> None:
    table = tmp_path / "tcp"
    table.write_text(f"{HEAD}{line}\n")
    assert facts.listening_on_all(8000, (tmp_path / "none", table)) == found


class Link:
    """Stands for a connection of the library's."""

    date: str | None = None
    failure: Exception | None = None

    def __init__(self, *_: Any, **__: Any) -> None:
        self.status = 200

    def request(self, method: str, path: str) -> None:
        assert (method, path) == ("GET", "/v1/models")
        if Link.failure is not None:
            raise Link.failure

    def getresponse(self) -> Link:
        return self

    def getheader(self, name: str) -> str | None:
        assert name == "date"
        return Link.date

    def close(self) -> None:
        pass


@pytest.mark.parametrize("tls", [False, True])
def test_asking_an_instance(monkeypatch: pytest.MonkeyPatch, tls: bool) -> None:
    monkeypatch.setattr(http.client, "HTTPSConnection" if tls else "HTTPConnection", Link)
    origin = ORIGIN._replace(tls=tls)
    endless = "Mon, 01 Jan 2024 00:00:00 +" + 20 * "9"
    for date, skew in ((None, None), ("soon", None), (endless, None), (formatdate(time.time(), usegmt=True), 0.0)):
        Link.date = date
        assert facts.asked(origin, "vllm") == facts.Answer(200, skew)
    Link.date = formatdate(time.time() - 60, usegmt=True)
    answer = facts.asked(origin, "vllm")
    assert answer is not None and answer.skew is not None
    assert -62 < answer.skew < -59
    for failure in (ConnectionRefusedError(), http.client.BadStatusLine("x"), ValueError()):
        monkeypatch.setattr(Link, "failure", failure)
        assert facts.asked(origin, "vllm") is None


def test_what_takes_too_long_as_a_whole() -> None:
    def for_ever() -> None:
        while True:
            time.monotonic()

    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeoutError), facts.within(0.001):
        for_ever()
    with facts.within(1000):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= 900
    assert signal.getsignal(signal.SIGALRM) is before


def test_secrets_that_stand_in_the_file() -> None:
    text = """
models: {m: {instances: [{url: "http://h:1", bearer: x}, {url: "http://h:2", bearer: "${env:B}"}]}}
auth: {introspection: [{url: "https://h", client_secret: y}]}
"""
    assert facts.literal_secrets(text) == ["instances.bearer", "introspection.client_secret"]
    assert facts.literal_secrets("{") == []


def test_certificates(tmp_path: Path) -> None:
    made = trustme.CA().issue_cert("gate.example.com", not_after=datetime(2031, 1, 2, tzinfo=UTC))
    cert = tmp_path / "gate.pem"
    made.cert_chain_pems[0].write_to_path(cert)
    assert facts.ends_at(cert) == datetime(2031, 1, 2, tzinfo=UTC)
    assert facts.ends_at(tmp_path / "none") is None
    assert facts.certificate_files(load_text("models: {m: {instances: [{url: 'http://h:1'}]}}").unwrap()) == []


def test_automatic_certificates(tmp_path: Path) -> None:
    names = ["none.example", "stand-in.example", "own.example", "broken.example", "unreadable.example"]
    config = load_text(
        f"models: {{m: {{instances: [{{url: 'http://h:1'}}]}}}}\nstate_dir: {tmp_path}\n"
        f"listen: [{{address: '0.0.0.0:8443', tls: {{acme: {{domains: [{', '.join(names)}], agree_to_terms: true}}}}}}]"
    ).unwrap()
    assert facts.automatic(load_text("models: {m: {instances: [{url: 'http://h:1'}]}}").unwrap()) == []
    assert facts.automatic(config) == [facts.Automatic(name, None, None) for name in names], "the gate never ran"
    acme = config.listen[0].tls.acme if config.listen[0].tls is not None else None
    assert acme is not None
    files = AcmeFiles(tmp_path / "acme", acme.directory, lambda _: None)
    begin = datetime(2026, 11, 1, tzinfo=UTC)
    files.keep_certificate("stand-in.example", placeholder_pem("stand-in.example", begin.timestamp()))
    made = trustme.CA().issue_cert("own.example", not_before=begin, not_after=datetime(2026, 12, 1, tzinfo=UTC))
    key = load_pem_private_key(made.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.keep_certificate("own.example", made.cert_chain_pems[0].bytes() + pem)
    files.certificate_path("broken.example").write_text("-----BEGIN")
    files.certificate_path("unreadable.example").mkdir()
    found = facts.automatic(config)
    assert found[:2] == [facts.Automatic(name, None, None) for name in names[:2]]
    (own,) = found[2:]
    assert own.ends == datetime(2026, 12, 1, tzinfo=UTC)
    assert own.wanted is not None and datetime(2026, 11, 21, tzinfo=UTC) <= own.wanted <= datetime(2026, 11, 22, tzinfo=UTC)


def test_requests_that_began(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    table = bytearray(journal.HEADER_SIZE + 3 * journal.SLOT)
    for slot, payload in enumerate((b'{"time":"2026-11-28T12:00:00+00:00"}', b'{"no":1}')):
        framed = journal.FRAME.pack(len(payload), crc32(payload)) + payload
        at = journal.HEADER_SIZE + slot * journal.SLOT
        table[at : at + len(framed)] = framed
    (folder / journal.intents_name("w0")).write_bytes(table)
    (folder / journal.intents_name("w1")).mkdir()
    assert facts.open_intents(tmp_path) == [datetime(2026, 11, 28, 12, tzinfo=UTC)]
    assert facts.open_intents(tmp_path / "none") == []


def test_the_open_network() -> None:
    assert [facts.is_global(host) for host in ("8.8.8.8", "10.0.0.5", "vllm.svc", "2606:4700::1", "::1")] == [
        True, False, False, True, False,
    ]  # fmt: skip
