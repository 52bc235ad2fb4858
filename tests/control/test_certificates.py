"""TLS files followed on a turned clock: what is good is told, what is bad is named and not, what has ended is said.

What can be wrong with a file is in config/test_tlsfiles.py; what workers make of it in dataplane/test_tls.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slmgate.control import certificates as module
from slmgate.control.certificates import LOOK_SECONDS, TICKET_KEY_SECONDS, Certificates
from slmgate.control.config import Config, load_text
from slmgate.control.config.tlsfiles import read_listener
from slmgate.link.tls import TICKET_KEY_BYTES, Tls
from tests.tools.authority import Authority, serial_of
from tests.tools.fakes import Clock, FakeLoop

TEXT = """
models: {m: {instances: [{url: "http://h:1"}]}}
listen:
  - address: 127.0.0.1:8080
  - address: 127.0.0.1:8443
    tls:
      certificates: [{cert: gate.pem, key: gate.key}]
"""
ASKING = TEXT + "      client_ca: ca.pem\n      crl: clients.crl\n"


class Scene:
    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.loop = FakeLoop(Clock())
        self.authority = Authority(home)
        self.authority.server()
        self.told: list[Tls] = []
        self.said: list[str] = []
        self.complaints: list[str] = []
        self.now = datetime.now(UTC).timestamp()
        self.reads = 0
        real = read_listener

        def counted(*given: Any) -> Any:
            self.reads += 1
            return real(*given)

        patch.setattr(module, "read_listener", counted)

        async def here(work: Callable[..., Any], *given: Any) -> Any:
            return work(*given)

        self.ours = Certificates(self.told.append, self.said.append, self.complaints.append, lambda: self.now, here)
        self.life = self.loop.create_task(self.ours.run())

    def config(self, text: str = TEXT) -> Config:
        return load_text(text, base_dir=self.authority.home, tls_files=False).unwrap()

    def configure(self, text: str = TEXT) -> None:
        task = self.loop.create_task(self.ours.configure(self.config(text)))
        self.loop.settle()
        task.result()

    def turn(self, looks: int = 2) -> None:
        self.loop.turn(looks * LOOK_SECONDS + 0.2)

    def replace(self, name: str, other: str) -> None:
        """As a renewal does: the file is another one from now on."""
        fresh = self.authority.home / "fresh"
        fresh.write_bytes((self.authority.home / other).read_bytes())
        fresh.replace(self.authority.home / name)

    def serial(self) -> int:
        """Of the certificate that workers were told of last."""
        return serial_of(self.told[-1].listeners[0].identities[0].chain)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    made = Scene(tmp_path, monkeypatch)
    yield made
    made.life.cancel()
    made.loop.settle()
    made.loop.close()


def test_what_is_in_force_is_told(scene: Scene) -> None:
    assert scene.ours.message().listeners == ()
    scene.configure()
    (tls,) = scene.told
    assert [spec.name for spec in tls.listeners] == ["127.0.0.1:8443"]
    assert scene.ours.message() == tls
    assert len(tls.ticket_key) == TICKET_KEY_BYTES
    assert "ECDSA certificate" in scene.said[0] and "for localhost (until" in scene.said[0]
    assert repr(scene.ours) == "<Certificates 127.0.0.1:8443>"
    scene.turn(4)
    assert (len(scene.told), scene.reads, scene.ours.troubles) == (1, 1, [])


def test_a_renewal(scene: Scene) -> None:
    scene.configure()
    before = scene.serial()
    scene.authority.server("new")
    scene.replace("gate.key", "new.key")
    scene.replace("gate.pem", "new.pem")
    scene.turn()
    assert scene.serial() != before
    assert len(scene.told) == 2 and scene.complaints == []
    assert f"{scene.serial():x}" in scene.said[-1]


def test_a_renewal_that_is_looked_at_in_the_middle(scene: Scene) -> None:
    scene.configure()
    scene.authority.server("new")
    scene.replace("gate.pem", "new.pem")
    scene.turn(1)
    assert scene.complaints == []
    scene.replace("gate.key", "new.key")
    scene.turn()
    assert len(scene.told) == 2 and scene.complaints == [] and scene.ours.troubles == []


def test_a_key_of_another_certificate(scene: Scene) -> None:
    """Named once; the old one stays in force, for workers that join too; all is well when the right one comes."""
    scene.configure()
    before = scene.ours.message()
    scene.authority.server("new")
    scene.replace("gate.key", "new.key")
    scene.turn(6)
    (complaint,) = scene.complaints
    assert "TLS at 127.0.0.1:8443: tls.certificates[0].key is not the key of its certificate" in complaint
    assert complaint.endswith("what was read before stays in force")
    assert len(scene.ours.troubles) == 1
    assert scene.ours.message() == before and len(scene.told) == 1
    scene.replace("gate.pem", "new.pem")
    scene.turn()
    assert scene.ours.troubles == [] and len(scene.told) == 2


def test_a_file_that_is_gone_and_comes_back(scene: Scene) -> None:
    scene.configure()
    os.rename(scene.authority.home / "gate.pem", scene.authority.home / "away.pem")
    scene.turn(4)
    assert "cannot be read: No such file" in scene.complaints[0]
    os.rename(scene.authority.home / "away.pem", scene.authority.home / "gate.pem")
    scene.turn()
    assert scene.ours.troubles == [] and len(scene.told) == 1, "it is the one that is in force"


def test_bad_from_the_first(scene: Scene) -> None:
    scene.authority.server("new")
    scene.replace("gate.key", "new.key")
    scene.configure()
    assert scene.told == [] and scene.complaints[0].endswith("nobody can connect there")
    scene.configure()
    assert len(scene.complaints) == 1, "the same is said once"
    scene.replace("gate.pem", "new.pem")
    scene.turn()
    assert len(scene.told) == 1


def test_another_configuration(scene: Scene) -> None:
    scene.configure()
    scene.configure(TEXT + '      min_version: "1.3"\n')
    assert scene.told[-1].listeners[0].min_version == "1.3"
    assert scene.said[-1] == "TLS at 127.0.0.1:8443: other options are in force"
    scene.configure("models: {m: {instances: [{url: 'http://h:1'}]}}")
    assert scene.ours.message().listeners == ()


def test_lists_and_authorities(scene: Scene) -> None:
    scene.authority.crl()
    scene.configure(ASKING)
    bad = scene.authority.client("bad")
    scene.authority.crl(bad)
    scene.turn()
    assert scene.said[-1].endswith("other revocation lists are in force")
    assert scene.told[-1].listeners[0].crl == (scene.authority.home / "clients.crl").read_bytes()
    scene.authority.file.write_bytes(scene.authority.file.read_bytes() * 2)
    scene.turn()
    assert scene.said[-1].endswith("other authorities of clients are in force")


def test_what_has_ended_is_said_once(scene: Scene) -> None:
    scene.authority.crl(ends=timedelta(hours=1))
    scene.authority.server(
        "gate", "a.example", *(f"{n}.example" for n in range(4)), not_after=datetime.now(UTC) + timedelta(hours=2)
    )
    scene.configure(ASKING)
    scene.turn()
    assert scene.complaints == []
    scene.now += 3700
    scene.turn(4)
    assert len(scene.complaints) == 1 and "every client certificate is refused" in scene.complaints[0]
    scene.now += 3700
    scene.turn(4)
    assert len(scene.complaints) == 2 and "has ended: clients refuse it" in scene.complaints[1]
    assert "2.example, ..." in scene.complaints[1]
    assert sorted(scene.ours.troubles) == sorted(scene.complaints)
    scene.authority.server()
    scene.authority.crl(ends=timedelta(days=1))
    scene.turn()
    assert scene.ours.troubles == []


def test_the_ticket_key_is_made_anew(scene: Scene) -> None:
    scene.configure()
    first = scene.told[-1]
    scene.now += TICKET_KEY_SECONDS - 1
    scene.turn()
    assert len(scene.told) == 1
    scene.now += 1
    scene.turn()
    assert scene.told[-1].ticket_key != first.ticket_key and scene.told[-1].listeners == first.listeners
    scene.now -= TICKET_KEY_SECONDS  # a clock that was put back
    scene.turn()
    assert len(scene.told) == 3


def test_without_tls_nothing_is_told(scene: Scene) -> None:
    scene.configure("models: {m: {instances: [{url: 'http://h:1'}]}}")
    scene.now += 2 * TICKET_KEY_SECONDS
    scene.turn(4)
    assert scene.told == []


def test_a_look_that_fails_is_not_the_last(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.configure()
    with monkeypatch.context() as patch:
        patch.setattr(scene.ours, "_note_what_ended", lambda: 1 / 0)
        scene.turn(1)
    assert "could not be looked at" in scene.complaints[0]
    scene.authority.server()
    scene.turn()
    assert len(scene.told) == 2
