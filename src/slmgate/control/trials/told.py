"""Why a request is admitted or refused, as a record that commands and the admin API hand on: each rule, and the verdict.

`told` is for a would-be request, `past` for one that a receipt is left of: what was decided then, what would be decided now,
where they differ, and what cannot be known. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from slmgate.control.config import Config
from slmgate.control.trials.asked import Trial, TrialFacts, Verdict, as_asked, declared_key, judge, snapshot_of
from slmgate.dialects import TABLE
from slmgate.dialects.parameters import NOTED, read_noted
from slmgate.policy.access import LISTING
from slmgate.policy.explain import Step as Step
from slmgate.policy.explain import Walk, explain, identity
from slmgate.policy.roles import INTERNAL, Scalar
from slmgate.policy.room import Counted as Counted
from slmgate.policy.snapshot import Snapshot
from slmgate.policy.split import is_named, is_within, place_of
from slmgate.terms import Key, Principal, Receipt

LIMITED = frozenset(("rate_limit_exceeded", "quota_exceeded"))
"""Codes with which limits refuse."""
JUDGED = frozenset(("permission_denied", "model_not_found", "parameter_not_allowed"))
"""Codes with which policy refuses; `request_too_large` is one of them only with a rule, and `invalid_api_key` never leaves a
principal behind."""


class RoleTold(msgspec.Struct, frozen=True, kw_only=True):
    """One role. `of` says whose it is: the principal's own, or its team's. `admits`: all its rules passed."""

    name: str
    of: str
    admits: bool
    steps: tuple[Step, ...]
    settings: dict[str, Scalar] = {}
    shows: tuple[str, ...] = ()


class WhoTold(msgspec.Struct, frozen=True, kw_only=True):
    """The principal. `roles` are all that count, in their order."""

    id: str
    name: str
    kind: str
    team: str | None
    roles: tuple[str, ...]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """`identity` are the rules of the key itself, `first` those that hold whatever the role; `caller` is what it may be told."""

    who: WhoTold
    request: Trial
    verdict: Verdict
    caller: dict[str, str]
    identity: tuple[Step, ...]
    first: tuple[Step, ...]
    roles: tuple[RoleTold, ...]
    notes: tuple[str, ...] = ()


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was. `today` None: it cannot be judged, `unknown` says why.

    `differs` names what is not as it was then.
    """

    receipt: Receipt
    today: Told | None
    differs: tuple[str, ...]
    unknown: tuple[str, ...]


class Who(msgspec.Struct, frozen=True, kw_only=True, rename={"name": "as"}):
    """Who is meant: a key by name or id (`as`), or a would-be principal with these roles and this team."""

    name: str | None = None
    roles: tuple[str, ...] = ()
    team: str | None = None


def told(config: Config, principal: Principal, trial: Trial) -> Told:
    """The whole story of one would-be request under `config`."""
    snapshot = snapshot_of(config)
    facts = TrialFacts(trial)
    steps, _ = identity(principal, facts)
    access = snapshot.access(principal)
    explained = explain(access, trial.ask, trial.endpoint, facts)
    verdict = judge(snapshot, principal, trial)  # apart from the walk, which asks for more facts than a verdict needs
    own = (INTERNAL.name,) if not config.roles else principal.roles
    return Told(
        who=WhoTold(
            id=principal.id,
            name=principal.name,
            kind=principal.kind,
            team=principal.team,
            roles=tuple(role.name for role in access.roles),
        ),
        request=trial,
        verdict=verdict,
        caller=verdict.caller,
        identity=steps,
        first=explained.first,
        roles=tuple(_role(walk, "its own" if walk.role in own else f"of team {principal.team}") for walk in explained.walks),
        notes=(
            *_notes(config, principal),
            *_hidden(snapshot, trial),
            *(_version(snapshot, principal, trial) if verdict.admitted else ()),
            *(_stands_in(snapshot, principal, trial, name) for name in _fallbacks(config, trial, verdict)),
            *(f"No limit of this request is called {name!r}." for name in verdict.strange),
        ),
    )


def _fallbacks(config: Config, trial: Trial, verdict: Verdict) -> tuple[str, ...]:
    """The models that may stand in for the one that is asked for."""
    model = config.models.get(trial.model)
    return model.fallback if model is not None and verdict.admitted else ()


def _hidden(snapshot: Snapshot, trial: Trial) -> Iterator[str]:
    model = snapshot.models.get(trial.model)
    if model is not None and model.hidden:
        yield f"{model.name} is hidden: nobody may ask for it, and it serves in the place of others."


def _version(snapshot: Snapshot, principal: Principal, trial: Trial) -> Iterator[str]:
    """Which version of the model serves this request, as far as that is known before it comes."""
    model = snapshot.models.get(trial.model)
    canary = None if model is None else model.canary
    if model is None or canary is None:
        return
    if is_named(canary, principal, lambda: [role.name for role in snapshot.access(principal).roles]):
        yield f"{canary.model} serves it as a version of {model.name}: who calls is named in models.{model.name}.canary."
    elif canary.by != "principal":
        told_by = "" if canary.by == "request" else f", told apart by the {canary.by}"
        yield f"{canary.model} serves {canary.share:.0%} of all requests as a version of {model.name}{told_by}."
    elif is_within(place_of(model.name, principal.id.encode()), canary.share):
        yield f"{canary.model} serves it as a version of {model.name}: who calls is among its {canary.share:.0%}."
    else:
        yield f"{canary.model}, a version of {model.name}, does not serve it: who calls is not among its {canary.share:.0%}."


def _stands_in(snapshot: Snapshot, principal: Principal, trial: Trial, name: str) -> str:
    """Whether another model may serve this request where its own cannot."""
    other = judge(snapshot, principal, msgspec.structs.replace(trial, model=name))
    if other.admitted:
        return f"If no instance of {trial.model} can serve it, {name} does, admitted by {other.rule}."
    return f"{name} does not stand in for {trial.model}: this request would be refused there with {other.code} by {other.rule}."


def _role(walk: Walk, of: str) -> RoleTold:
    return RoleTold(name=walk.role, of=of, admits=walk.passed, steps=walk.steps, settings=dict(walk.settings), shows=walk.shows)


def _notes(config: Config, principal: Principal) -> list[str]:
    """What is named and not there, or there and not named."""
    if not config.roles:
        return ["The configuration has no roles, so that every principal has the built-in role internal: everything."]
    notes = [
        f"The role {name} is not in the configuration, and grants nothing."
        for name in principal.roles
        if name not in config.roles
    ]
    if principal.team is not None and principal.team not in config.teams:
        notes.append(f"The team {principal.team} is not in the configuration, and adds no roles.")
    return notes


def past(config: Config, receipt: Receipt, principal: Principal | None, state: str = "active") -> Past:
    """A past request and what `config` would say of it. `principal` None: it is not known any more; `state` is its key's now.

    Its facts are those of then, its time too; the roles are those of now.
    """
    route = TABLE.get((receipt.method, receipt.path))
    if route is None:
        return Past(receipt=receipt, today=None, differs=(), unknown=("Its path is none that the gate serves.",))
    if receipt.key is None:
        return Past(
            receipt=receipt, today=None, differs=(), unknown=("No valid credential came with it, so that no role is known.",)
        )
    if receipt.verdict == "shadow":
        return Past(
            receipt=receipt, today=None, differs=(), unknown=("It is a copy of a request: see the receipt that `shadow` names.",)
        )
    if unread(receipt):
        return Past(
            receipt=receipt, today=None, differs=(), unknown=("It ended before its body was read, so that no model is known.",)
        )
    unknown: list[str] = []
    if principal is None:
        principal = _remembered(receipt)
        unknown.append("Who called is not a key that is known now; the roles are those of its receipt.")
    trial = trial_of(as_asked(receipt), route.access)
    now = told(config, principal, trial)
    unknown += missing(now, receipt)
    if now.verdict.limits:
        unknown.append("how much of its limits was used then: they are shown as if nothing was.")
    differs = list(_differences(receipt, now.verdict))
    if state != "active":
        differs.append(f"The key is {state} now, so that it would be refused with invalid_api_key today.")
    before, after = receipt.roles, ",".join(now.who.roles)
    if before != after:
        differs.append(f"Its roles were {before or 'none'}, and are {after or 'none'}.")
    return Past(receipt=receipt, today=now, differs=tuple(differs), unknown=tuple(dict.fromkeys(unknown)))


def trial_of(receipt: Receipt, endpoint: str) -> Trial:
    """The request of a receipt, as far as receipts keep it."""
    return Trial(
        model=receipt.model,
        endpoint=endpoint,
        stream=receipt.stream,
        parameters=read_noted(receipt.parameters),
        address=receipt.address or None,
        at=receipt.time.timestamp(),
        body_size=receipt.bytes_in,
        prompt_tokens=receipt.prompt_tokens,
    )


def _remembered(receipt: Receipt) -> Principal:
    return Principal(
        id=receipt.key or "",
        name=receipt.principal,
        team=receipt.team,
        roles=tuple(name for name in receipt.roles.split(",") if name),
    )


def missing(now: Told, receipt: Receipt) -> list[str]:
    """What rules asked for and receipts do not hold."""
    found = []
    for step in (step for role in now.roles for step in role.steps):
        name = parameter_in(step.rule)
        if name is not None and name not in NOTED:
            found.append(f"{name}: receipts do not keep it, so that it counts as left alone.")
        if step.rule.endswith(".max_context"):
            what = "the engine's count" if receipt.attempts else "none, as no instance was asked"
            found.append(f"the prompt's length as the gate estimated it; {what} stands for it.")
    return found


def parameter_in(rule: str) -> str | None:
    """The parameter of which a rule speaks: `max_tokens` of `roles.partner.parameters.max_tokens.max`."""
    _, _, behind = rule.rpartition(".parameters.")
    return behind.partition(".")[0] or None if ".parameters." in rule else None


def judged(receipt: Receipt) -> bool | None:
    """What policy decided then: yes, no, or None where it was not asked, or its answer did not come to count."""
    if receipt.verdict == "admit":
        return True
    if receipt.verdict == "refuse" and (receipt.reason in JUDGED or (receipt.reason == "request_too_large" and receipt.rule)):
        return False
    return None


def unread(receipt: Receipt) -> bool:
    """Whether it ended before its body was read, so that nobody knows which model it was for."""
    return not receipt.model and receipt.verdict != "admit"


def _differences(receipt: Receipt, now: Verdict) -> Sequence[str]:
    before = judged(receipt)
    if before is None and receipt.reason in LIMITED:
        return [f"Then it was refused with {receipt.reason}{_by(receipt.rule)}, by what was used then."]
    if before is None:
        return [f"Then it ended with {receipt.reason}, which is not a matter of roles."]
    if before is not now.admitted:
        return [f"Then it was {'admitted' if before else 'refused'}{_by(receipt.rule)}; today it would be {_would(now)}."]
    if not before and receipt.reason != now.code:
        return [f"Then it was refused with {receipt.reason}{_by(receipt.rule)}; today it would be {_would(now)}."]
    if receipt.rule != now.rule and receipt.endpoint != LISTING:
        return [f"Then the rule was {receipt.rule or 'none'}; today it would be {now.rule or 'none'}."]
    return []


def _would(now: Verdict) -> str:
    return f"admitted{_by(now.rule)}" if now.admitted else f"refused with {now.code}{_by(now.rule)}"


def _by(rule: str) -> str:
    return f" by {rule}" if rule else ""


def principal_of(config: Config, who: Who, stored: Callable[[str], Key | None]) -> Principal | None:
    """The principal that is meant; `stored` finds a key that is not declared. None: there is no such key."""
    if who.name is not None:
        return declared_key(config, who.name) or stored(who.name)
    return Principal(id="would-be", name="would-be", roles=who.roles, team=who.team)
