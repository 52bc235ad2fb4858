"""Parts of the gate that are broken on purpose, and the tests that must then fail: `python -m tests.tools.broken` shows it.

Each row is a class of the list of attacks, a stand-in for what keeps it off, and tests that hold to it. The tests run in this
process, where the part is another: every case of a test that is written `every:` must fail, of another at least one. What is
broken from outside, a gate that relays bytes, is `tests/system/test_honesty.py`. It starts no process and opens no socket.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, NamedTuple

import pytest


class Broken(NamedTuple):
    """`parts`: functions, as module:name, and what stands in for each; its globals are the part's own module's."""

    attack: str
    stand_in: str
    parts: dict[str, Callable[..., Any]]
    tests: tuple[str, ...]


def yes(*_: Any, **__: Any) -> Any:
    return True


def nothing(*_: Any, **__: Any) -> Any:
    return None


def itself(given: Any) -> Any:
    return given


# Of what is called with more or fewer arguments than these take, or refers to other names, a stand-in has its own function below.


def any_jwt(token: Any) -> Any:
    from slmgate.control.identity.jwt import Jwt

    return Jwt({}, {"x": token}, b"", b"")


def believed(self: Any, token: Any) -> Any:
    from slmgate.terms import Bearer

    return Bearer(id="x", name="x"), self._clock() + 60


async def always_fetched(self: Any, token: Any) -> Any:
    from slmgate.control.identity.outcomes import TokenRefused, UnknownKey

    await self.fetch()
    try:
        return self.verify(token)
    except UnknownKey:
        raise TokenRefused("x") from None


async def fetched_and_kept(self: Any) -> None:
    from slmgate.control.identity.keyset import read_keys

    self.keys = (*self.keys, *read_keys(await self._fetcher.get(await self._where())))
    self.fetched = self._clock()


def active(self: Any, answer: Any, now: Any) -> Any:
    return now + 60


def first_shown(fields: Any) -> Any:
    return next((value.split()[-1] for value in fields.values() if value), b"x")


async def an_owner(connection: Any, context: Any, signin: Any) -> Any:
    from slmgate.control.operators import Operator, Permission

    return Operator("ann", max(Permission))


def never_waits(self: Any, name: Any, now: Any) -> Any:
    return 0.0


def shown(self: Any, value: Any) -> Any:
    return str(value)


def a_line(name: Any, value: Any) -> Any:
    return b"%b: %b\r\n" % (name, value)


def another(self: Any, host: Any, minor: Any) -> Any:
    return True


def the_value(self: Any, label: Any, value: Any) -> Any:
    return value


def the_values(self: Any, name: Any, values: Any, known: Any) -> Any:
    return values


def without_hashes(text: Any) -> Any:
    from tests.tools.supply import Locked, normal

    pins = [line.split()[0].partition("==") for line in text.splitlines() if "==" in line]
    return {normal(name): Locked(version, "", frozenset()) for name, _, version in pins}


def old_tls(spec: Any, identities: Any, ticket_key: Any = b"") -> Any:
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


IDENTITY = "slmgate.control.identity"
ADMIN = "slmgate.control.admin"
TESTS = "tests/control"
BROKEN = [
    Broken(
        "No or odd credentials",
        "the first credential will do, however it stands there",
        {"slmgate.policy.identify:credential": first_shown},
        ("every:tests/policy/test_identify.py::test_two", "tests/policy/test_identify.py::test_malformed"),
    ),
    Broken(
        "JWT algorithm, key choice, claims",
        "every token is believed",
        {f"{IDENTITY}.jwt:parse": any_jwt, f"{IDENTITY}.issuer:Issuer.verify": believed},
        (f"every:{TESTS}/identity/test_issuer.py::test_attacks",),
    ),
    Broken(
        "JWKS life: a storm of unknown names",
        "the keys are fetched for every name",
        {f"{IDENTITY}.issuer:Issuer.verify_with_news": always_fetched},
        (f"{TESTS}/identity/test_issuer.py::test_a_new_key",),
    ),
    Broken(
        "JWKS life: a key that is taken back",
        "keys are never forgotten",
        {f"{IDENTITY}.issuer:Issuer._fetch": fetched_and_kept},
        (f"{TESTS}/identity/test_issuer.py::test_a_key_that_was_taken_back",),
    ),
    Broken(
        "Introspection",
        "whatever the provider says, the token is good",
        {f"{IDENTITY}.introspection:Introspector._check": active},
        (f"{TESTS}/identity/test_introspection.py::test_answers_that_let_nobody_in",),
    ),
    Broken(
        "Key storage, timing: guessing of passwords",
        "nobody waits",
        {f"{ADMIN}.signin.throttle:Throttle.wait": never_waits},
        (f"{TESTS}/admin/signin/test_throttle.py::test_each_failure_doubles_the_delay",),
    ),
    Broken(
        "Smuggling: Host",
        "every Host is good",
        {"slmgate.http1.heads:HeadReader._is_good_host": another},
        ("tests/http1/test_heads.py::test_refused",),
    ),
    Broken(
        "SSRF by admin",
        "every address may be named and asked",
        {f"{ADMIN}.signin.fetch:may_ask": yes, f"{ADMIN}.signin.fetch:may_name": yes},
        (
            f"{TESTS}/admin/signin/test_fetch.py::test_addresses",
            f"every:{TESTS}/admin/signin/test_fetch.py::test_urls_that_may_not",
        ),
    ),
    Broken(
        "Admin exposure",
        "whoever asks is an owner",
        {f"{ADMIN}.app:_operator": an_owner},
        (
            f"every:{TESTS}/admin/test_app.py::test_no_row_without_a_credential[None-GET /api/v1/keys]",
            f"{TESTS}/admin/test_app.py::test_the_matrix_of_permissions",
        ),
    ),
    Broken(
        "Dashboard: requests of other sites",
        "no page is looked at, and every Host is ours",
        {f"{ADMIN}.app:_check_own_page": nothing, f"{ADMIN}.app:_known_host": yes},
        (f"every:{TESTS}/admin/test_app.py::test_unknown_hosts[evil.example]",),
    ),
    Broken(
        "Dashboard: open redirect",
        "every path leads on",
        {f"{ADMIN}.signin.flow:own_path": itself},
        (f"{TESTS}/admin/signin/test_flow.py::test_other_paths_lead_home",),
    ),
    Broken(
        "XSS, CSV: cells that are computed",
        "cells go as they are",
        {"slmgate.control.sheets:guarded": itself},
        (f"{TESTS}/test_sheets.py::test_what_a_spreadsheet_would_compute_is_quoted",),
    ),
    Broken(
        "Logs",
        "texts go as they are",
        {"slmgate.link.lines:one_line": itself, "slmgate.control.gatelog:visible": itself},
        ("tests/link/test_lines.py::test_one_line", f"{TESTS}/test_gatelog.py::test_lines_of_json_say_the_same_and_hide_nothing"),
    ),
    Broken(
        "Metrics",
        "every value has a series of its own",
        {
            "slmgate.control.metrics.counting:Counts._value": the_value,
            "slmgate.control.metrics.counting:Counts._bounded": the_values,
        },
        (
            f"{TESTS}/metrics/test_counting.py::test_however_many_clients_there_are",
            f"{TESTS}/metrics/test_counting.py::test_what_no_bound_of_a_label_holds_the_family_does",
        ),
    ),
    Broken(
        "Secrets",
        "what is private is written",
        {"slmgate.control.config.kinds:Kind.write": shown},
        (f"{TESTS}/config/test_show.py::test_secrets_are_struck_out",),
    ),
    Broken(
        "Response splitting",
        "an instance's fields go as they are",
        {"slmgate.http1.heads:_answer_line": a_line},
        ("tests/http1/test_heads.py::test_what_a_field_of_an_answer_may_say",),
    ),
    Broken(
        "TLS",
        "what OpenSSL speaks by itself",
        {"slmgate.dataplane.tls:server_context": old_tls},
        ("tests/dataplane/test_tls.py::test_only_forward_secrecy_and_authenticated_encryption",),
    ),
    Broken(
        "Supply chain",
        "a lock file without hashes",
        {"tests.tools.supply:locked": without_hashes},
        ("every:tests/house/test_supply.py::test_every_package_has_its_hashes_and_the_pinned_version",),
    ),
]


def part(name: str) -> FunctionType:
    """The function that `module:name` stands for."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for step in path.split("."):
        found = getattr(found, step)
    function = inspect.unwrap(found)
    assert isinstance(function, FunctionType), name
    return function


@contextlib.contextmanager
def broken(parts: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """The parts do what their stand-ins do, whoever has imported them by whatever name."""
    functions = [(part(name), stand_in) for name, stand_in in parts.items()]
    kept = [(function, function.__code__, function.__defaults__) for function, _ in functions]
    try:
        for function, stand_in in functions:
            assert isinstance(stand_in, FunctionType)
            function.__code__, function.__defaults__ = stand_in.__code__, stand_in.__defaults__
        yield
    finally:
        for function, code, defaults in kept:
            function.__code__, function.__defaults__ = code, defaults


class Outcomes:
    """What pytest says: by the names of a case and of its test, which cases passed and which failed."""

    def __init__(self) -> None:
        self.passed: dict[str, list[str]] = {}
        self.failed: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for test in {report.nodeid, report.nodeid.partition("[")[0]}:
            if report.when == "call" and report.passed:
                self.passed.setdefault(test, []).append(report.nodeid)
            elif report.failed:
                self.failed.setdefault(test, []).append(report.nodeid)


def survivors(row: Broken) -> tuple[str, list[str]]:
    """How many cases failed of how many, and what should have failed and did not."""
    every = {test.removeprefix("every:"): test.startswith("every:") for test in row.tests}
    seen = Outcomes()
    with contextlib.redirect_stdout(io.StringIO()), broken(row.parts):
        pytest.main(
            [*every, "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore:Module already imported"],
            plugins=[seen],
        )
    left = []
    for test, all_of_it in every.items():
        if not seen.failed.get(test):
            left.append(test)
        elif all_of_it:
            left += seen.passed.get(test, [])
    failed, passed = ({one for cases in found.values() for one in cases} for found in (seen.failed, seen.passed))
    return f"{len(failed)} of {len(failed | passed)}", left


def main() -> int:
    wrong = 0
    for row in BROKEN:
        told, left = survivors(row)
        print(f"{row.attack} | {row.stand_in} | {told} failed" + "".join(f"\n  did not fail: {one}" for one in left), flush=True)
        wrong += len(left)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
