"""What a set of roles comes to: for each model and endpoint, the offers of which one must take a request whole.

How several roles add up is written here and nowhere else. Each role is one whole grant, so that a request passes if one of them
admits it in everything; but what any of them denies (`deny_models`, `deny_endpoints`, `deny_networks`) is denied, whatever the
hours and networks of that role are. It knows specs, no request, no clock and no key; `decide.py` asks, `explain.py` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf, isnan
from typing import Protocol

import msgspec

from slmgate.policy.networks import networks_of
from slmgate.policy.roles import ParameterRule, RoleSpec, Scalar, first_match
from slmgate.policy.specs import ModelSpec
from slmgate.terms import Ask, Refuse

GENERATING = frozenset(("chat", "completions", "responses", "infill"))
"""Endpoints whose answers are as long as `max_tokens` lets them be."""

TEXTS = frozenset(("stop", "input", "prompt", "documents", "query"))
"""Parameters that are text or lists of it, so that a text of digits is no number."""

LISTING = "models"
"""The endpoint that lists models; the one that is of no model."""

MAX_NAMES = 1000
"""Characters of the roles' names in records: a receipt has a bound, and so have its parts."""

# How far a request came with one role. Of several refusals the one that came furthest is told.
AT_MODEL, AT_ENDPOINT, AT_CONDITION, AT_ASK, AT_PARAMETER = range(5)


class Facts(Protocol):
    """What a rule may ask of a request beside its `Ask`; each is worked out only if a rule asks."""

    @property
    def address(self) -> int:
        """Where it comes from, as `networks.number_of` makes it."""
        ...

    @property
    def body_size(self) -> int:
        """Bytes."""
        ...

    def second(self) -> float:
        """Seconds since the epoch."""
        ...

    def parameter(self, name: str) -> Sequence[Scalar]:
        """The values that the request gives to a parameter under any of its names; none: it leaves it alone."""
        ...


class Admit(msgspec.Struct, frozen=True, gc=False):
    """A verdict: yes. `settings` are parameters that the request must be given before it goes on.

    `rule` is the role that admitted it, as `Refuse.rule`; `priority`, `weight` and `capture` are that role's.
    """

    model: ModelSpec
    role: str
    rule: str
    settings: tuple[tuple[str, Scalar], ...] = ()
    priority: int = 0
    weight: int = 1
    capture: str = ""


class Check(msgspec.Struct, frozen=True):
    """One rule on a request. `demand` says in words what it wants; `test` gives a refusal or None."""

    rule: str
    demand: str
    at: int
    test: Callable[[Ask, Facts], Refuse | None]


class Offer(msgspec.Struct, frozen=True):
    """One role's grant of one endpoint of one model: admitted as `admit` if every check passes.

    `fills` are parameters to set where a request leaves them alone, `bounded` says that the length of the answer is among
    what is ruled, so that the name which every engine knows must be set. `context` bounds prompt and answer together: of an
    answer whose length is left alone, no more is set than the prompt leaves of it.
    """

    admit: Admit
    checks: tuple[Check, ...]
    fills: tuple[tuple[str, Scalar], ...] = ()
    bounded: bool = False
    context: int | None = None


class Offers(msgspec.Struct, frozen=True):
    """What roles offer for one (model, endpoint), in their order, and what any of them denies by the request itself."""

    denials: tuple[Check, ...]
    offers: tuple[Offer, ...]


Row = Admit | Refuse | Offers
"""`Admit`: yes, whatever else the request is. `Refuse`: no, whatever else. `Offers`: it depends."""


def no_such_model(name: str) -> Refuse:
    """The refusal of a model that does not exist, and, in the same words, of one that the caller may not know of."""
    return Refuse("model_not_found", f"The model '{name}' does not exist or you may not use it.", "model")


_UNNAMED = Refuse("model_not_found", "There are several models: name one in the field 'model'.", "model")
NO_ROLE = Refuse(
    "permission_denied", "This credential has no role, so that it may do nothing. Ask the operator for one.", rule="roles"
)
"""Of principals without a role, where the configuration has roles."""


class Access:
    """What principals with the same roles may do. `roles` in their order; without any of them, everything is refused."""

    __slots__ = ("models", "names", "roles", "rows")

    def __init__(self, roles: Sequence[RoleSpec], models: Mapping[str, ModelSpec]) -> None:
        self.roles = tuple(roles)
        self.names = ",".join(role.name for role in self.roles)[:MAX_NAMES]
        self.models = models
        # (model, endpoint) -> what is known before anything else of a request. Filled by `row`, when first asked for; only with
        # models that exist: strangers cannot make it grow.
        self.rows: dict[tuple[str, str], Row] = {}

    def __repr__(self) -> str:
        return f"<Access {self.names}>"

    def row(self, model: str, endpoint: str) -> Row:
        """What the roles say of this endpoint of this model, before anything else of a request is known."""
        found = self.rows.get((model, endpoint))
        if found is None:
            found = self._work_out(model, endpoint)
            if model in self.models:
                self.rows[model, endpoint] = found
        return found

    def _work_out(self, model: str, endpoint: str) -> Row:
        if not self.roles:
            return NO_ROLE
        if not model:
            known = self.known()
            return self.row(known[0], endpoint) if len(known) == 1 else _UNNAMED
        spec = self.models.get(model)
        if spec is None:
            return no_such_model(model)
        if (denied := self.denies_model(model)) is not None:
            return msgspec.structs.replace(no_such_model(model), rule=denied)
        granting = [role for role in self.roles if first_match(role.models, model) is not None]
        if not granting:
            return no_such_model(model)
        shut = f"You may not use the endpoint '{endpoint}' of the model '{model}'."
        if (denied := self.denies_endpoint(endpoint)) is not None:
            return Refuse("permission_denied", shut, rule=denied)
        offering = [role for role in granting if first_match(role.endpoints, endpoint) is not None]
        if not offering:
            return Refuse("permission_denied", shut, rule=f"roles.{granting[0].name}.endpoints")
        offers = tuple(offer_of(role, spec, endpoint) for role in offering)
        denials = self.denials()
        if not denials and not offers[0].checks and not offers[0].fills:
            return offers[0].admit
        return Offers(denials, offers)

    def known(self) -> list[str]:
        """The models that may be known of."""
        return [name for name in self.models if self.knows(name)]

    def knows(self, model: str) -> bool:
        """Whether a model that exists may be known of: some role grants it for something, and none denies it."""
        return self.denies_model(model) is None and any(first_match(role.models, model) is not None for role in self.roles)

    def denies_model(self, model: str) -> str | None:
        """The rule that denies this model, whatever grants it."""
        return next((f"roles.{role.name}.deny_models" for role in self.roles if first_match(role.deny_models, model)), None)

    def denies_endpoint(self, endpoint: str) -> str | None:
        """The rule that denies this endpoint, whatever grants it."""
        return next(
            (f"roles.{role.name}.deny_endpoints" for role in self.roles if first_match(role.deny_endpoints, endpoint)), None
        )

    def denials(self) -> tuple[Check, ...]:
        """What roles deny by where a request comes from."""
        return tuple(_denied_networks(role) for role in self.roles if role.deny_networks)

    def listing(self, ask: Ask, facts: Facts) -> tuple[str, ...] | Refuse:
        """The models to show in a list: those that may be used from here and now; or why there is no list at all."""
        if not self.roles:
            return NO_ROLE
        for denial in self.denials():
            if (refused := denial.test(ask, facts)) is not None:
                return refused
        open_now = [role for role in self.roles if all(check.test(ask, facts) is None for check in conditions_of(role))]
        lists = [role for role in self.roles if first_match(role.endpoints, LISTING) is not None]
        if self.denies_endpoint(LISTING) is not None or not lists:
            rule = self.denies_endpoint(LISTING) or f"roles.{self.roles[0].name}.endpoints"
            return Refuse("permission_denied", "You may not list the models.", rule=rule)
        if not any(role in open_now for role in lists):
            return next(refused for check in conditions_of(lists[0]) if (refused := check.test(ask, facts)) is not None)
        return tuple(
            name
            for name in self.models
            if self.denies_model(name) is None and any(first_match(role.models, name) is not None for role in open_now)
        )


def offer_of(role: RoleSpec, model: ModelSpec, endpoint: str) -> Offer:
    """What one role offers for an endpoint of a model that it grants."""
    rules = [(f"roles.{role.name}.parameters", rule) for rule in role.parameters]
    rules += [(f"models.{model.name}.parameters", rule) for rule in model.parameters]
    generates = endpoint in GENERATING
    fills = _fills([rule for _, rule in rules], endpoint)
    if generates and role.max_context is not None:
        fills.setdefault("max_tokens", role.max_context)
    ruled = [check for where, rule in rules for check in _parameter_checks(where, rule)]
    checks = (*conditions_of(role), *_ask_checks(role, generates), *ruled)
    bounded = generates and (
        role.max_context is not None or any(rule.name == "max_tokens" and _most(rule) is not None for _, rule in rules)
    )
    admit = Admit(model, role.name, f"roles.{role.name}", (), role.priority, role.weight, role.capture)
    return Offer(admit, checks, tuple(fills.items()), bounded, role.max_context)


def _fills(rules: Sequence[ParameterRule], endpoint: str) -> dict[str, Scalar]:
    """What is set where a request sets nothing: defaults (a role's before its model's), never above any rule's maximum.

    An answer whose length is bounded gets that bound: without one, an engine writes until its context is full.
    """
    fills: dict[str, Scalar] = {}
    for rule in rules:
        if rule.default is not None:
            fills.setdefault(rule.name, rule.default)
        elif rule.name == "max_tokens" and (most := _most(rule)) is not None:
            fills.setdefault(rule.name, int(most))
    for rule in rules:
        value = fills.get(rule.name)
        if rule.max is not None and value is not None and not isinstance(value, str | bool) and value > rule.max:
            fills[rule.name] = int(rule.max) if isinstance(value, int) else rule.max
    if endpoint not in GENERATING:
        fills.pop("max_tokens", None)
    return fills


def _most(rule: ParameterRule) -> float | None:
    """The largest number that a rule lets through; None where it bounds none."""
    if rule.max is not None or rule.allowed is None:
        return rule.max
    return max((value for value in rule.allowed if not isinstance(value, str | bool)), default=None)


# -- checks: each is made once, with all that can be known before a request


def _denied_networks(role: RoleSpec) -> Check:
    denied = networks_of(role.deny_networks)
    rule = f"roles.{role.name}.deny_networks"
    refuse = Refuse("permission_denied", "You may not call from this address.", rule=rule)
    return Check(
        rule,
        f"not from {', '.join(role.deny_networks)}",
        AT_CONDITION,
        lambda _, facts: refuse if denied.holds(facts.address) else None,
    )


def conditions_of(role: RoleSpec) -> Iterator[Check]:
    """From where and when the role holds."""
    if role.networks:
        yield _networks_check(role)
    if role.hours:
        yield _hours_check(role)


def _networks_check(role: RoleSpec) -> Check:
    allowed = networks_of(role.networks)
    rule = f"roles.{role.name}.networks"
    refuse = Refuse("permission_denied", "You may not call from this address.", rule=rule)
    return Check(
        rule, f"from {', '.join(role.networks)}", AT_CONDITION, lambda _, facts: None if allowed.holds(facts.address) else refuse
    )


def _hours_check(role: RoleSpec) -> Check:
    hours = role.hours
    rule = f"roles.{role.name}.hours"
    when = " or ".join(str(window) for window in hours)
    refuse = Refuse("permission_denied", f"You may not call at this time, only {when}.", rule=rule)

    # The answer of one minute, which is the same for all of it: clocks and windows turn at whole minutes. Calendars are dear.
    minute = -1.0
    answer: Refuse | None = None

    def test(_: Ask, facts: Facts) -> Refuse | None:
        nonlocal minute, answer
        now = facts.second()
        if now // 60 != minute:
            answer = None if any(window.holds(now) for window in hours) else refuse
            minute = now // 60
        return answer

    return Check(rule, f"at {when}", AT_CONDITION, test)


def _ask_checks(role: RoleSpec, generates: bool) -> Iterator[Check]:
    """Streaming, size of the body, size of the context."""
    if not role.stream:
        rule = f"roles.{role.name}.stream"
        refuse = Refuse("parameter_not_allowed", 'You may not stream answers: send "stream": false.', "stream", rule=rule)
        yield Check(rule, "not streamed", AT_ASK, lambda ask, _: refuse if ask.stream else None)
    if role.max_body is not None:
        yield _body_check(role.name, role.max_body)
    if role.max_context is not None:
        yield _context_check(role.name, role.max_context, generates)


def _body_check(role: str, most: int) -> Check:
    rule = f"roles.{role}.max_body"

    def test(_: Ask, facts: Facts) -> Refuse | None:
        size = facts.body_size
        if size <= most:
            return None
        return Refuse("request_too_large", f"Your request's body has {size} bytes; at most {most} are allowed.", rule=rule)

    return Check(rule, f"a body of at most {most} bytes", AT_ASK, test)


def _context_check(role: str, most: int, generates: bool) -> Check:
    """Prompt and answer together. A length counts under whatever name it stands, for engines know more names than their API; of
    an answer whose length is left alone, which is bounded later (`Offer.context`), one token must have room.
    """
    rule = f"roles.{role}.max_context"

    def test(ask: Ask, facts: Facts) -> Refuse | None:
        answer: float = (1 if generates else 0) if ask.max_tokens is None else ask.max_tokens
        for value in facts.parameter("max_tokens"):
            length = value if type(value) is int else _amount(value, "max_tokens")
            if length > answer:
                answer = length
        size = ask.prompt_estimate + answer
        if size <= most:
            return None
        said = f"Prompt and answer together may have {most} tokens"
        said += f"; yours may come to about {size:.0f}." if size < inf else ", and yours sets its answer no bound."
        return Refuse("request_too_large", f"{said} Shorten the prompt, or set max_tokens lower.", rule=rule)

    return Check(rule, f"a context of at most {most} tokens", AT_ASK, test)


def _parameter_checks(where: str, rule: ParameterRule) -> Iterator[Check]:
    name = rule.name
    if rule.deny:
        yield _value_check(f"{where}.{name}", f"{name} not set", name, _is_off, f"{name} may not be set here.")
        return
    if rule.max is not None:
        most = rule.max
        told = f"{name} may be at most {most:g}."
        yield _value_check(
            f"{where}.{name}.max",
            f"{name} at most {most:g}",
            name,
            lambda value: (value if type(value) is int else _amount(value, name)) <= most,
            told,
        )
    if rule.min is not None:
        least = rule.min
        told = f"{name} must be at least {least:g}."
        yield _value_check(
            f"{where}.{name}.min",
            f"{name} at least {least:g}",
            name,
            lambda value: (value if type(value) is int else _amount(value, name, inf)) >= least,
            told,
        )
    if rule.allowed is not None:
        allowed = rule.allowed
        words = ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in allowed)
        yield _value_check(
            f"{where}.{name}.allowed",
            f"{name} one of {words}",
            name,
            lambda value: _is_one_of(value, allowed),
            f"{name} may only be one of: {words}.",
        )


def _value_check(rule: str, demand: str, name: str, good: Callable[[Scalar], bool], told: str) -> Check:
    """A check that every value given to a parameter is good; one that is not given is."""
    refuse = Refuse("parameter_not_allowed", told, name, rule=rule)

    def test(_: Ask, facts: Facts) -> Refuse | None:
        for value in facts.parameter(name):
            if not good(value):
                return refuse
        return None

    return Check(rule, demand, AT_PARAMETER, test)


def _amount(value: Scalar, name: str, other: float = -inf) -> float:
    """A value as a number; `other` for what is none, which no bound speaks of. Engines take "9" where they want a number."""
    if isinstance(value, bool):
        return other
    if isinstance(value, str):
        try:
            number = other if name in TEXTS else float(value)
        except ValueError:
            return other
        return -other if isnan(number) else number
    return value


def _is_off(value: Scalar) -> bool:
    """Whether a parameter that is given is as good as not: 0 is not, for it may turn something on (logprobs, keep_alive)."""
    return value is False or value == ""


def _is_one_of(value: Scalar, allowed: tuple[Scalar, ...]) -> bool:
    for one in allowed:
        if isinstance(value, str) and isinstance(one, str):
            if first_match((one,), value) is not None:
                return True
        elif isinstance(value, bool) is isinstance(one, bool) and value == one:
            return True
    return False
