"""Which limits are looked at for the metrics: those of nobody alone and of who called last; bounded, and not all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from slmgate.control.config import load_text
from slmgate.control.looking import NobodyLooks, Place
from slmgate.control.metrics.counting import Caller
from slmgate.control.metrics.gauges import Use
from slmgate.control.metrics.limits import MAX_SEATS, LimitsInUse
from tests.tools.admin_gate import AdminGate

CONFIG = (
    'models: {tiny: {instances: [{url: "http://h:1"}], limits: [50 concurrent]}}\n'
    "roles: {user: {models: [tiny], limits: [60 requests/minute]}}\n"
    f'keys: [{{name: here, roles: [user], hash: "sha256:{"0" * 64}"}}]\n'
)


@pytest.fixture
def gate(tmp_path: Path) -> AdminGate:
    made = AdminGate(tmp_path)
    made.config = load_text(CONFIG).unwrap()
    made.keyring.create("k1", roles=("user",), limits=["100 requests/hour"])
    made.keyring.create("gone", roles=("user",))
    return made


def caller(gate: AdminGate, name: str) -> Caller:
    return gate.keyring.show(name).id, name, None, "user"


def look(gate: AdminGate, *callers: Caller, looking: LimitsInUse | None = None) -> Sequence[Use] | None:
    return asyncio.run((looking or LimitsInUse()).look(gate, callers))


def test_who_called_last(gate: AdminGate) -> None:
    known = caller(gate, "k1"), caller(gate, "gone")
    gate.keyring.revoke("gone")
    gate.used = {("60 requests/minute", known[0][0]): 54, ("60 requests/minute", "https://i#x"): 30}
    declared = next(iter(_declared(gate)))
    found = look(
        gate, *known, (declared, "here", None, "user"), ("https://i#x", "x", None, "user,"), ("anonymous", "anonymous", None, "")
    )
    assert found is not None
    assert [(use.labels[1], use.ratio) for use in found] == [
        ("everybody", 0.0),
        ("k1", 0.9),
        ("k1", 0.0),
        ("here", 0.0),
        ("x", 0.5),
    ]
    assert found[1].labels[0] == "roles.user.limits[0]"


def _declared(gate: AdminGate) -> Sequence[str]:
    from slmgate.control.config import declared_keys

    assert gate.config is not None
    return list(declared_keys(gate.config))


def test_a_look_holds_for_a_while(gate: AdminGate) -> None:
    async def twice() -> None:
        looking = LimitsInUse()
        assert await looking.look(gate, ()) == await looking.look(gate, ())
        assert repr(looking) == "<LimitsInUse 1>"

    asyncio.run(twice())
    assert len(gate.asked) == 1


def test_nobody_can_tell(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        raise NobodyLooks("none")

    monkeypatch.setattr(gate, "look", fails)
    assert look(gate) is None


@pytest.mark.parametrize("config", [None, 'models: {tiny: {instances: [{url: "http://h:1"}]}}'])
def test_there_are_none(gate: AdminGate, config: str | None) -> None:
    gate.config = None if config is None else load_text(config).unwrap()
    assert look(gate) == () and gate.asked == []


def test_however_many(gate: AdminGate) -> None:
    look(gate, *((f"https://i#{number}", f"x{number}", None, "user") for number in range(5000)))
    assert len(gate.asked) == MAX_SEATS
