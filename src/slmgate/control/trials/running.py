"""Policy tests run against a configuration: each case judged, what it came to, and why it failed.

Also the loading that configurations go through before they count: one whose own `policy_tests` fail is a configuration with
faults. It prints nothing, and its verdicts are `policy`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from slmgate.control.config import Config, ConfigFault, Loaded, load
from slmgate.control.config.stamps import stamp
from slmgate.control.trials.asked import Trial, Verdict, declared_key, judge, plain_parameters, snapshot_of
from slmgate.control.trials.cases import LISTED, Case, Placed, TestFile, Tests, User, read_tests
from slmgate.policy.roles import matches
from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Principal

BUDGET = 3.0
"""Seconds that the tests of a configuration may take before it is given up: a reload waits for them."""
MAX_FAULTS = 20
"""Failing cases that are told as faults of the configuration."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one case came to. `wrong` is empty where it passed; else each entry is what was expected and what came instead."""

    file: str
    line: int
    column: int
    option: str
    name: str
    verdict: Verdict
    principal: Principal
    trial: Trial
    wrong: tuple[tuple[str, str, str], ...] = ()
    """(option, expected, got)"""

    @property
    def passed(self) -> bool:
        return not self.wrong


def run(config: Config, tests: Tests, snapshot: Snapshot | None = None) -> Iterator[Result]:
    """Judge the cases of a file, in their order."""
    content = tests.content
    assert content is not None
    made = snapshot or snapshot_of(config)
    users = {name: _principal(config, name, user) for name, user in content.users.items()}
    for placed in tests.cases:
        yield _result(tests.file, content, placed, users[placed.case.user], made)


def _principal(config: Config, name: str, user: User) -> Principal | str:
    """The principal of a test user, or why there is none."""
    if user.key is None:
        return Principal(id=name, name=name, roles=user.roles, team=user.team, networks=user.networks)
    return declared_key(config, user.key) or f"the configuration declares no key {user.key}"


def _result(file: str, content: TestFile, placed: Placed, who: Principal | str, snapshot: Snapshot) -> Result:
    case = placed.case
    trial = trial_of_case(content, case)
    nobody = Principal(id=case.user, name=case.user)
    if isinstance(who, str):
        verdict, wrong = Verdict(admitted=False, code="invalid_api_key"), [("as", case.user, who)]
    else:
        verdict = judge(snapshot, who, trial)
        wrong = list(_wrong(case, verdict))
    return Result(
        file=file,
        line=placed.line,
        column=placed.column,
        option=placed.option,
        name=case.name or described(case, trial),
        verdict=verdict,
        principal=nobody if isinstance(who, str) else who,
        trial=trial,
        wrong=tuple(wrong),
    )


def trial_of_case(content: TestFile, case: Case) -> Trial:
    """The request of a case: what it says itself, else its user, else the file."""
    return Trial(
        model=case.model if case.model is not None else content.model or "",
        endpoint=case.endpoint or content.endpoint,
        stream=case.stream,
        parameters=plain_parameters(case.parameters),
        address=case.address or content.users[case.user].address or content.address,
        at=case.at if case.at is not None else content.at,
        body_size=case.body_size,
        prompt_tokens=case.prompt_tokens,
        used=case.used,
    )


def described(case: Case, trial: Trial) -> str:
    """A name for a case that has none."""
    given = "".join(f" {name}={value}" for name, value in case.parameters.items())
    return f"{case.user}: {trial.endpoint} {trial.model}{given}".rstrip()


_FACTS = {"address": "the address", "at": "the time"}


def _wrong(case: Case, verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    for name in verdict.lacking:
        yield name, "a value", f"none, but the verdict depends on {_FACTS[name]}: give the case, its user or the file one"
    for name in verdict.strange:
        yield "used", name, "no limit that this request comes under"
    if verdict.lacking:
        return
    got = "admit" if verdict.admitted else verdict.code
    if case.expect != got and not (case.expect == "refuse" and not verdict.admitted):
        yield "expect", case.expect, got
    if case.rule is not None and not matches(case.rule, verdict.rule):
        yield "rule", case.rule, verdict.rule or "none"
    if case.role is not None and case.role != verdict.role:
        yield "role", case.role, verdict.role or "none"
    if case.route is not None and (not verdict.route or not all(matches(case.route, one) for one in verdict.route)):
        yield "route", case.route, ", ".join(verdict.route) or "none"
    for name, value in case.settings.items():
        if verdict.settings.get(name) != value:
            yield f"settings.{name}", str(value), str(verdict.settings.get(name, "not set"))
    if case.models != LISTED and sorted(case.models) != sorted(verdict.models or ()):
        yield "models", ", ".join(case.models) or "none", ", ".join(verdict.models or ()) or "none"


def load_tested(path: Path, env: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic) -> Loaded:
    """As `load`, and then the configuration's own policy tests: a case that fails is a fault of it.

    `files` holds the files of tests as well, so that mending one is noticed.
    """
    loaded = load(path, env)
    if loaded.config is None or not loaded.config.policy_tests:
        return loaded
    files = {path: stamp(path) for path in loaded.config.policy_tests} | dict(loaded.files)
    faults = tuple(failures(loaded.config, clock))
    return msgspec.structs.replace(loaded, config=None if faults else loaded.config, faults=faults, files=files)


def failures(config: Config, clock: Callable[[], float] = time.monotonic) -> Iterable[ConfigFault]:
    """What the configuration's own policy tests say against it."""
    end = clock() + BUDGET
    snapshot = snapshot_of(config)
    told = 0
    for path in config.policy_tests:
        tests = read_tests(path)
        yield from tests.faults
        if tests.content is None:
            continue
        for result in run(config, tests, snapshot):
            if clock() > end:
                problem = f"the policy tests take longer than {BUDGET:g} s, so that no reload can wait for them"
                yield ConfigFault(file=str(path), line=0, column=0, option="", problem=problem, hint="take out what CI tests too")
                return
            if result.passed:
                continue
            told += 1
            if told > MAX_FAULTS:
                problem = f"more than {MAX_FAULTS} policy tests fail"
                yield ConfigFault(file=str(path), line=0, column=0, option="", problem=problem, hint="`slmgate test` shows all")
                return
            yield _fault(result, tests)


def _fault(result: Result, tests: Tests) -> ConfigFault:
    said = "; ".join(f"{option}: {expected} expected, {got} found" for option, expected, got in result.wrong)
    line = tests.lines[result.line - 1] if result.line <= len(tests.lines) else ""
    return ConfigFault(
        file=result.file,
        line=result.line,
        column=result.column,
        option=result.option,
        problem=f"the policy test {result.name!r} fails: {said}",
        hint="`slmgate test` tells which rules decided",
        excerpt=line[:160],
        caret=min(result.column - 1, 160),
    )
