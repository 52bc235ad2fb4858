"""What requests are counted against and cost: who is counted together, which limits apply, and the figures of a tariff."""

from __future__ import annotations

import pytest

from slmgate.policy.charges import ENGINE_HOLD, Charges, Tariff, amount_text, network_of
from slmgate.policy.limits import LimitSpec, Per, PlanSpec, Price, Unit
from slmgate.policy.roles import RoleSpec, TeamSpec
from slmgate.policy.specs import InstanceSpec, ModelSpec, SnapshotSpec
from slmgate.terms import Key, Principal, Usage


def limit(name: str, unit: Unit = "requests", per: tuple[Per, ...] = ("principal",), **fields: object) -> LimitSpec:
    window: dict[str, object] = {} if unit == "concurrent" else {"seconds": 60}
    return LimitSpec(name=name, text=name, identity=name, unit=unit, amount=10, per=per, **{**window, **fields})  # type: ignore[arg-type]  # a table of fields


JANE = Principal(id="k1", name="jane", team="acme", roles=("partner",))
BOB = Principal(id="k2", name="bob")
MODEL = ModelSpec(name="tiny", instances=(InstanceSpec(id="a", host="h", port=1),), limits=(limit("model", per=("model",)),))
SPEC = SnapshotSpec(
    generation=1,
    models=(MODEL, ModelSpec(name="other", instances=())),
    roles=(
        RoleSpec(name="partner", limits=(limit("role"),)),
        RoleSpec(name="plain"),
        RoleSpec(name="ip", limits=(limit("ip", per=("ip",)),)),
    ),
    teams=(TeamSpec(name="acme", plan="gold", limits=(limit("team", per=("team",)),)), TeamSpec(name="poor", roles=("plain",))),
    plans=(PlanSpec(name="gold", currency="EUR", prices=(("ti*", Price(100, 300)), ("*", Price(1, 1)))),),
    limits=(limit("all", per=()),),
    key_limits=(("k1", (limit("key"),)),),
)


def names(tariff: Tariff) -> list[str]:
    return [meter.spec.name for meter in tariff.meters]


def test_which_limits_apply() -> None:
    charges = Charges(SPEC)
    assert charges.any
    assert names(charges.tariff(JANE, "tiny", "partner", "")) == ["all", "model", "team", "role", "key"]
    assert names(charges.tariff(BOB, "other", "plain", "")) == ["all"]
    assert names(charges.tariff(BOB, "tiny", "partner", "")) == ["all", "model", "role"]
    assert repr(charges.tariff(BOB, "other", "plain", "")) == "<Tariff all>"


def test_limits_that_a_key_brings_along() -> None:
    charges = Charges(SPEC)
    own = Key(id="k3", name="own", limits=(limit("own"),))
    assert names(charges.tariff(own, "other", "plain", "")) == ["all", "own"]
    assert charges.tariff(own, "other", "plain", "").subjects == ("", "k3")
    assert [spec.name for spec in charges.of_key(own)] == ["own"]
    assert [spec.name for spec in charges.of_key(JANE)] == ["key"]
    assert charges.of_key(BOB) == ()


def test_keys_with_other_limits() -> None:
    """Whoever kept a tariff sees by the other object that it may be old."""
    bare = Charges(SnapshotSpec(generation=1))
    assert (bare.any, bare.keys_as_of) == (False, 0)
    other = bare.again(3)
    assert (other.any, other.keys_as_of, other is bare) == (True, 3, False)
    assert Charges(SnapshotSpec(generation=1), 3).any


def test_nothing_to_count() -> None:
    charges = Charges(SnapshotSpec(generation=1, models=(ModelSpec(name="m", instances=()),), teams=(TeamSpec(name="t"),)))
    assert not charges.any


def test_who_is_counted_together() -> None:
    charges = Charges(SPEC)
    assert charges.tariff(JANE, "tiny", "partner", "").subjects == ("", "tiny", "team acme", "k1", "k1")
    assert charges.by_address(BOB, "tiny", "ip") and not charges.by_address(BOB, "tiny", "partner")
    assert charges.tariff(BOB, "other", "ip", "10.0.0.7").subjects == ("", "10.0.0.7")
    both = SnapshotSpec(generation=1, limits=(limit("b", per=("team", "role", "ip")),))
    assert Charges(both).tariff(BOB, "m", "r", "::1").subjects == ("k2\0r\0::/64",)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_whom_an_address_stands_for(address: str, network: str) -> None:
    assert network_of(address) == network


def test_prices() -> None:
    charges = Charges(SPEC)
    gold = charges.tariff(JANE, "tiny", "partner", "")
    assert (gold.plan, gold.price_text, gold.cost(Usage(7, 5))) == ("gold", "EUR 100 300", 2200)
    assert charges.tariff(JANE, "other", "partner", "").price == Price(1, 1)
    none = charges.tariff(BOB, "tiny", "partner", "")
    assert (none.plan, none.price_text, none.cost(Usage(7, 5))) == ("", "", 0)


UNITS: tuple[Unit, ...] = ("requests", "tokens", "prompt_tokens", "completion_tokens", "cost", "engine_time", "concurrent")


def test_the_figures_of_a_bill() -> None:
    tariff = Tariff([(limit(unit, unit), "") for unit in UNITS], "gold", "EUR", Price(2, 3))
    assert tariff.bounded
    assert tariff.wants(10, 100) == [1, 110, 10, 100, 320, ENGINE_HOLD, 1]
    assert tariff.kept(10) == [1, 10, 10, 0, 20, 0, 0]
    assert tariff.kept(10, 40, 777) == [1, 50, 10, 40, 140, 777, 0]
    assert tariff.grows and Tariff([(limit("e", "engine_time"), "")], "", "", Price()).grows
    assert not Tariff([(limit("p", "prompt_tokens"), ""), (limit("c", "concurrent"), "")], "", "", Price()).grows
    assert tariff.came_to(Usage(11, 50), 777) == [1, 61, 11, 50, 172, 777, 0]
    assert [tariff.tokens_for(index, 100, 10) for index in range(7)] == [-1, 90, -1, 100, 26, -1, -1]
    assert not Tariff([(limit("r"), ""), (limit("p", "prompt_tokens"), "")], "", "", Price()).bounded
    assert Tariff([(limit("c", "cost"), "")], "", "", Price(1, 0)).tokens_for(0, 100, 10) == -1


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        ("requests", 60, "60"),
        ("cost", 25 * 10**9, "25.00 EUR"),
        ("cost", 1, "0.000000001 EUR"),
        ("cost", 1_500_000_000, "1.50 EUR"),
        ("engine_time", 2_500_000, "2.5"),
    ],
)
def test_amounts_for_people(unit: Unit, amount: int, text: str) -> None:
    assert amount_text(limit("x", unit, currency="EUR"), amount) == text


def counts(charges: Charges, who: Principal, roles: tuple[str, ...], models: tuple[str, ...], address: str = "") -> set[str]:
    found = list(charges.counts(who, roles, models, address))
    assert len({(one.spec.identity, one.subject) for one in found}) == len(found)  # each once
    return {f"{one.spec.name}|{one.subject}|{one.role}|{one.model}" for one in found}


def test_every_count_that_somebody_comes_under() -> None:
    charges = Charges(SPEC)
    both = ("tiny", "other")
    assert counts(charges, JANE, ("partner", "plain"), both) == {
        "all|||", "model|tiny||tiny", "team|team acme||", "role|k1||", "key|k1||",
    }  # fmt: skip
    assert counts(charges, BOB, ("ip",), ("other",)) == {"all|||"}
    assert counts(charges, BOB, ("ip",), ("other",), "::ffff:10.0.0.7") == {"all|||", "ip|10.0.0.7||"}
    apart = Charges(
        SnapshotSpec(generation=1, limits=(limit("a", per=("principal", "role", "model")), limit("b", per=("team",))))
    )
    assert counts(apart, BOB, ("r", "s"), both) == {
        *(f"a|k2\0{role}\0{model}|{role}|{model}" for role in "rs" for model in both), "b|k2||",
    }  # fmt: skip


def test_counts_are_those_that_requests_are_counted_by() -> None:
    charges = Charges(SPEC)
    for who, role in ((JANE, "partner"), (BOB, "ip")):
        for model in ("tiny", "other"):
            tariff = charges.tariff(who, model, role, "10.0.0.7")
            asked = {(meter.spec.name, subject) for meter, subject in zip(tariff.meters, tariff.subjects, strict=True)}
            assert asked == {(one.spec.name, one.subject) for one in charges.counts(who, (role,), (model,), "10.0.0.7")}
