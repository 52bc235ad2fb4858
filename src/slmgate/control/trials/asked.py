"""A request that was never sent: what a policy may ask of one, given by hand, by a test, or by a receipt.

Some of its facts may be missing; which of them a verdict needed is noted while it is found. How a verdict comes about is
`policy`'s affair, and where a request comes from is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from slmgate.control.config import Config, compile_snapshot, declared_keys
from slmgate.control.trials import limited
from slmgate.dialects.parameters import NAMES, URLS, values
from slmgate.policy.access import LISTING, Admit
from slmgate.policy.decide import decide
from slmgate.policy.explain import identity
from slmgate.policy.networks import NOWHERE, number_of
from slmgate.policy.roles import Scalar
from slmgate.policy.room import Counted, weigh
from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Ask, Key, Principal, Receipt, Refuse

_SHARED = {wire: shared for shared, names in NAMES.items() for wire in names}
_SIMPLE = (bool, int, float, str)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """`endpoint` is the name that all APIs share. `parameters` as `plain_parameters` makes them; `at` is seconds since the epoch.

    None: not given. A verdict that needed the address or the time says so (`Verdict.lacking`); sizes not given are none.
    `used` is how much of limits was used before it, by their places or words; a limit that is not named has not been used.
    """

    model: str = ""
    endpoint: str = "chat"
    stream: bool = False
    parameters: dict[str, list[Scalar]] = {}
    address: str | None = None
    at: float | None = None
    body_size: int | None = None
    prompt_tokens: int | None = None
    used: dict[str, float] = {}

    @property
    def ask(self) -> Ask:
        """What a dialect would have read from its body."""
        bounds = [value for value in self.parameters.get("max_tokens", ()) if _is_count(value)]
        most = int(bounds[0]) if bounds else None
        return Ask(self.model, self.stream, prompt_estimate=self.prompt_tokens or 0, max_tokens=most)


class TrialFacts:
    """What rules ask of a trial (`policy.access.Facts`); `lacking` gathers what was asked for and is not given."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.lacking: dict[str, None] = {}  # in the order in which they were asked for

    @property
    def address(self) -> int:
        given = self._trial.address
        if given is None:
            self.lacking["address"] = None
            return NOWHERE
        return number_of(given)

    @property
    def body_size(self) -> int:
        return self._trial.body_size or 0

    def second(self) -> float:
        if self._trial.at is None:
            self.lacking["at"] = None
        return self._trial.at or 0.0

    def parameter(self, name: str) -> Sequence[Scalar]:
        return self._trial.parameters.get(name, ())


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome in plain words. `rule` is the role that admitted or the rule that refused; `message` is the caller's.

    `models` are those that a list of models shows, for that endpoint. `lacking` names facts that it needed and did not have.
    `route` are the instances that it may go to, `limits` those that it comes under, with the figures before it and what it takes;
    `strange` are limits that were said to be used and are none of them.
    """

    admitted: bool
    code: str = "ok"
    rule: str = ""
    role: str = ""
    message: str = ""
    param: str | None = None
    settings: dict[str, Scalar] = {}
    models: tuple[str, ...] | None = None
    priority: int = 0
    weight: int = 1
    lacking: tuple[str, ...] = ()
    route: tuple[str, ...] = ()
    limits: tuple[Counted, ...] = ()
    strange: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`admit by roles.partner`, `parameter_not_allowed by roles.partner.parameters.n.max`."""
        return f"{'admit' if self.admitted else self.code}{f' by {self.rule}' if self.rule else ''}"

    @property
    def caller(self) -> dict[str, str]:
        """What the caller may be told: no rule, no role, no network."""
        if self.admitted:
            return {"code": self.code}
        told = {"code": self.code, "message": self.message}
        return told if self.param is None else {**told, "param": self.param}


def as_asked(receipt: Receipt) -> Receipt:
    """The receipt with the model by which its request was decided: a canary's serve what was asked of another."""
    if "canary=" not in receipt.parameters:
        return receipt
    asked = next(word[7:] for word in receipt.parameters.split() if word.startswith("canary="))
    return msgspec.structs.replace(receipt, model=asked)


def snapshot_of(config: Config) -> Snapshot:
    """What workers would decide by under this configuration, but for keys."""
    return Snapshot(compile_snapshot(config, 0))


def declared_key(config: Config, name: str) -> Key | None:
    """The key that the configuration declares under this name or id."""
    return next((key for key in declared_keys(config).values() if name in (key.name, key.id)), None)


def judge(snapshot: Snapshot, principal: Principal, trial: Trial) -> Verdict:
    """The verdict of the road on this trial."""
    facts = TrialFacts(trial)
    _, refused = identity(principal, facts)
    found = refused or decision(snapshot, principal, trial, facts)
    verdict = verdict_of(found, facts)
    return _counted(snapshot, principal, trial, found, verdict) if isinstance(found, Admit) else verdict


def _counted(snapshot: Snapshot, principal: Principal, trial: Trial, admit: Admit, verdict: Verdict) -> Verdict:
    """The verdict with what the limits say, of a request that the roles admit."""
    model = admit.model
    verdict = msgspec.structs.replace(verdict, route=tuple(instance.id for instance in model.instances))
    tariff = snapshot.charges.tariff(principal, model.name, admit.role, trial.address or "")
    used, strange = limited.amounts(tariff, trial.used)
    if not tariff.meters:
        return msgspec.structs.replace(verdict, strange=tuple(strange))
    parameters = {**trial.parameters}
    for name, value in admit.settings:
        parameters[name] = [*parameters.get(name, ()), value]
    needed = limited.need(tariff, trial.endpoint, trial.prompt_tokens or 0, parameters)
    refuse, bound, rows = weigh(tariff, used, needed, trial.at or 0.0)
    lacking = verdict.lacking
    if trial.at is None and any(meter.temporary for meter in tariff.meters):
        lacking = (*lacking, "at") if "at" not in lacking else lacking
    changed = msgspec.structs.replace(verdict, limits=rows, strange=tuple(strange), lacking=lacking)
    if refuse is not None:
        return msgspec.structs.replace(
            changed, admitted=False, code=refuse.code, rule=refuse.rule, role="", message=refuse.message, settings={}, route=()
        )
    if bound is None:
        return changed
    return msgspec.structs.replace(changed, settings={**verdict.settings, "max_tokens": bound})


def decision(snapshot: Snapshot, principal: Principal, trial: Trial, facts: TrialFacts) -> Admit | Refuse | tuple[str, ...]:
    """Question 2, as `dataplane/exchange.py` asks it."""
    access = snapshot.access(principal)
    if trial.endpoint == LISTING:
        return access.listing(trial.ask, facts)
    return decide(access, trial.ask, trial.endpoint, facts)


def verdict_of(found: Admit | Refuse | tuple[str, ...], facts: TrialFacts) -> Verdict:
    """What policy said, in plain words."""
    lacking = tuple(facts.lacking)
    if isinstance(found, Refuse):
        return Verdict(
            admitted=False, code=found.code, rule=found.rule, message=found.message, param=found.param, lacking=lacking
        )
    if isinstance(found, Admit):
        return Verdict(
            admitted=True,
            rule=found.rule,
            role=found.role,
            settings=dict(found.settings),
            priority=found.priority,
            weight=found.weight,
            lacking=lacking,
        )
    return Verdict(admitted=True, models=found, lacking=lacking)


def plain_parameters(given: Mapping[str, Any]) -> dict[str, list[Scalar]]:
    """Parameters of a request as rules see them: by the name that all APIs share, each value a plain one.

    A value may also be what a body would hold: a list of tools counts as its length, an object as its `type`.
    """
    found: dict[str, list[Scalar]] = {}
    for name, value in given.items():
        shared = _SHARED.get(name, name)
        if isinstance(value, str) or (shared in URLS and isinstance(value, _SIMPLE)):
            plain = [value]
        elif shared in URLS and isinstance(value, list) and all(isinstance(one, str) for one in value):
            plain = value
        else:
            plain = values("openai", {name: value}, shared)
        found.setdefault(shared, []).extend(plain)
    return found


def _is_count(value: Scalar) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
