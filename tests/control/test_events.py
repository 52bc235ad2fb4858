"""What there is to tell of the gate: each change once, after two looks, over restarts; ends, bans and limits each once too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from slmgate.control.acme.status import CertificateStatus
from slmgate.control.admin.context import GateStatus, InstanceStatus, ModelStatus
from slmgate.control.events import NAMED, Event, Watch, conditions_of
from slmgate.control.standing import Stand
from slmgate.link.messages import Ban

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WELL = InstanceStatus(id="http://10.0.0.5:8000", model="tiny")
FAILED = msgspec.structs.replace(WELL, healthy=False, state="unhealthy", why="connection refused")


class Watched:
    """A watch with the memory that the store is for it."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self.now = NOW
        self.start()

    def start(self) -> None:
        self.watch = Watch(lambda subjects: {name: self.told[name] for name in subjects if name in self.told})

    def look(self, *instances: InstanceStatus, **fields: Any) -> list[Event]:
        self.now += timedelta(seconds=5)
        events = self.watch.look(GateStatus(instances=instances, **fields), self.now)
        self.told |= {event.subject: event.type for event in events}
        return events

    def types(self, *instances: InstanceStatus, **fields: Any) -> list[str]:
        return [event.type for event in self.look(*instances, **fields)]


@pytest.fixture
def gate() -> Watched:
    return Watched()


def test_an_instance_is_told_of_once_and_when_it_is_back(gate: Watched) -> None:
    assert gate.types(WELL) == gate.types(FAILED) == []
    (event,) = gate.look(FAILED)
    assert (event.type, event.topic, event.subject) == ("instance.down", "instance", "instance http://10.0.0.5:8000")
    assert event.summary == "instance http://10.0.0.5:8000: connection refused"
    assert event.data == {"instance": WELL.id, "model": "tiny", "state": "unhealthy", "why": "connection refused"}
    assert gate.types(FAILED) == gate.types(WELL) == []
    (back,) = gate.look(WELL)
    assert (back.type, back.summary) == ("instance.up", "instance http://10.0.0.5:8000 is well again")
    assert back.id != event.id
    assert gate.types(WELL) == []


def test_what_is_wrong_for_one_look_only_is_not_told(gate: Watched) -> None:
    assert [gate.types(one) for one in (WELL, FAILED, WELL, FAILED, WELL)] == [[]] * 5


def test_a_restart_neither_repeats_nor_forgets(gate: Watched) -> None:
    gate.look(FAILED)
    assert [event.type for event in gate.look(FAILED)] == ["instance.down"]
    gate.start()
    assert [gate.types(FAILED), gate.types(FAILED)] == [[], []]
    gate.start()
    assert [gate.types(WELL), gate.types(WELL)] == [[], ["instance.up"]]


@pytest.mark.parametrize(
    "fields",
    [{"draining": True}, {"source": "removed"}, {"process": "stopped"}, {"process": "starting"}, {"process": "stopping"}],
)
def test_what_somebody_wants_so_is_not_told(gate: Watched, fields: dict[str, Any]) -> None:
    wanted = msgspec.structs.replace(FAILED, **fields)
    assert [gate.types(wanted) for _ in range(4)] == [[]] * 4


def test_an_instance_that_is_gone_is_forgotten(gate: Watched) -> None:
    gate.look(FAILED)
    gate.look()
    assert gate.types(FAILED) == []
    assert gate.types(FAILED) == ["instance.down"]


def test_models_and_configurations(gate: Watched) -> None:
    bad: dict[str, Any] = {
        "models": [ModelStatus(name="tiny", ready=False), ModelStatus(name="secret", ready=False, hidden=True)],
        "faults": ["slmgate.yaml:3:1 models: what"],
    }
    assert gate.types(**bad) == []
    told = {event.type: event for event in gate.look(**bad)}
    assert sorted(told) == ["configuration.refused", "model.unavailable"]
    assert told["configuration.refused"].data["why"] == "slmgate.yaml:3:1 models: what"
    good = {"models": [ModelStatus(name="tiny", ready=True)]}
    gate.look(**good)
    assert sorted(gate.types(**good)) == ["configuration.applied", "model.available"]


def certificate(days: float, **fields: Any) -> CertificateStatus:
    return CertificateStatus(names=("a.example.com",), source="file", not_after=NOW + timedelta(days=days), **fields)


@pytest.mark.parametrize(
    ("days", "told"),
    [(14.1, []), (13.9, [14]), (7.1, [14]), (6.9, [7]), (0.9, [1]), (-1, [0])],
)
def test_ends_of_certificates_are_told_once(gate: Watched, days: float, told: list[int]) -> None:
    one = certificate(days)
    assert [event.data["days"] for event in gate.look(certificates=[one])] == told
    assert gate.look(certificates=[one]) == []
    gate.start()
    again = gate.look(certificates=[one])
    assert [event.data["days"] for event in again] == told, "the store knows it by its identity"
    assert [event.id for event in again] == [event.id for event in Watched().look(certificates=[one])]


def test_a_certificate_that_ends_is_told_of_at_each_mark(gate: Watched) -> None:
    found = []
    for day in range(20):
        gate.now = NOW + timedelta(days=day)
        found += [(event.type, event.data["days"]) for event in gate.look(certificates=[certificate(16)])]
    expiring = "certificate.expiring"
    assert found == [(expiring, 14), (expiring, 7), (expiring, 1), ("certificate.expired", 0)]


def test_a_certificate_that_cannot_be_renewed(gate: Watched) -> None:
    failing = CertificateStatus(names=("a.example.com",), source="acme.test", error="port 80 must lead here")
    gate.look(certificates=[failing])
    (event,) = gate.look(certificates=[failing])
    assert (event.type, event.data["why"]) == ("certificate.failed", "port 80 must lead here")
    good = msgspec.structs.replace(failing, error="")
    assert [gate.types(certificates=[good]), gate.types(certificates=[good])] == [[], ["certificate.renewed"]]
    assert [one.topic for one in conditions_of(GateStatus(certificates=[certificate(90)]))] == ["configuration"]


def test_bans_are_told_together_once_a_minute() -> None:
    watch = Watch(lambda _: {})
    bans = [Ban(f"10.0.0.{number}", 900 + number, 1) for number in range(40)]
    assert watch.banned(bans[:1], NOW) == [], "who was banned before is known"
    (event,) = watch.banned(bans[:2], NOW)
    assert (event.type, event.summary) == ("ban.made", "banned for too many wrong API keys: 10.0.0.1")
    assert watch.banned(bans[:2], NOW) == []
    assert not watch.has_news
    assert watch.banned(bans[:20], NOW + timedelta(seconds=59)) == []
    assert watch.has_news
    (event,) = watch.banned(bans, NOW + timedelta(seconds=60))
    assert event.data["count"] == 38
    addresses = event.data["addresses"]
    assert isinstance(addresses, list) and len(addresses) == NAMED
    assert event.summary.endswith("10.0.0.39, 10.0.0.38, 10.0.0.37 and 35 more")
    assert watch.banned([], NOW + timedelta(hours=1)) == []
    (again,) = watch.banned(bans[:1], NOW + timedelta(hours=2))
    assert again.id != event.id


def stand(share: float, until: datetime | None = NOW, whose: str = "key ada") -> Stand:
    values: dict[str, Any] = dict.fromkeys(Stand.__struct_fields__)
    values |= {"name": "roles.partner.limits[0]", "limit": "100 requests/day", "whose": whose, "unit": "requests"}
    return Stand(**(values | {"share": share, "whole": until, "amount": 100, "used": int(share * 100), "currency": ""}))


def reached(watch: Watch, *stands: Stand, at: Sequence[int] = (80, 100)) -> list[tuple[str, Any]]:
    return [(event.type, event.data["at"]) for event in watch.reached(stands, at, NOW)]


def test_what_is_known_of_limits_does_not_grow_for_ever() -> None:
    watch = Watch(lambda _: {})
    for day in range(40):
        now = NOW + timedelta(days=day)
        stands = [stand(1.0, now + timedelta(hours=12), f"key {number}") for number in range(10)]
        assert len(watch.reached(stands, (80,), now)) == 10
        assert watch.reached(stands, (80,), now) == []
    assert sum(map(len, watch._reached.values())) <= 20


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_mark_is_reached_with_its_very_amount(percent: int) -> None:
    assert reached(Watch(lambda _: {}), stand(percent / 100), at=[percent]) != []
    assert reached(Watch(lambda _: {}), stand(percent / 100 - 0.0001), at=[percent]) == []


def test_limits_are_told_once_in_each_period() -> None:
    watch = Watch(lambda _: {})
    assert reached(watch, stand(0.79)) == []
    assert reached(watch, stand(0.8)) == [("limit.near", 80)]
    assert reached(watch, stand(0.99)) == []
    assert reached(watch, stand(1.0), stand(0.9, whose="key bob")) == [("limit.reached", 100), ("limit.near", 80)]
    assert reached(watch, stand(1.4), stand(0.2)) == []
    assert reached(watch, stand(1.4, NOW + timedelta(days=1))) == [("limit.near", 80), ("limit.reached", 100)]
    other = Watch(lambda _: {})
    first, again = (each.reached([stand(0.8, None)], (80,), NOW)[0] for each in (other, Watch(lambda _: {})))
    assert first == again, "so that the store knows that it was told"
    assert first.data["until"] is None and first.summary == "key ada has used 80 % of 100 requests/day (roles.partner.limits[0])"
