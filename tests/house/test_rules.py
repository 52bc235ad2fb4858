"""Applies the rules of `rules.py` to the checkout, and shows each of them failing on small bad samples.

It knows which folders a rule is for; what a rule looks for is in `rules.py`.
"""

from __future__ import annotations

import pytest

from tests.house import rules
from tests.house.tree import Rule, Source, complaints, python_files, report

CODE = ("src", "bench", "docs", "fuzz", "deploy")
ALL = (*CODE, "tests")

APPLIED: list[tuple[Rule, tuple[str, ...]]] = [
    (rules.docstring_rule, CODE),
    (rules.raise_rule, ("src",)),
    (rules.state_rule, ("src",)),
    (rules.match_rule, ("src",)),
    (rules.sleep_rule, ("tests",)),
    (rules.socket_rule, ("tests",)),
    (rules.clock_rule, ("src",)),
    (rules.length_rule, ALL),
    (rules.pragma_rule, ALL),
    (rules.skip_rule, ("tests",)),
    (rules.except_rule, ALL),
]
OUTSIDE_SYSTEM = {rules.sleep_rule, rules.socket_rule}
SYSTEM = ("tests/system/", "tests/tools/")
"""Where processes are real: the system tests, and the tools that only they (and the benchmarks) start."""

BAD: list[tuple[Rule, str, str]] = [
    (rules.docstring_rule, "src/slmgate/policy/x.py", '"""One sentence only."""'),
    (rules.docstring_rule, "src/slmgate/policy/x.py", "x = 1"),
    (rules.raise_rule, "src/slmgate/policy/decide.py", "def f():\n    raise ValueError"),
    (rules.state_rule, "src/slmgate/x.py", "class A:\n    def a(self): self.state = 1\n    def b(self): self.state = 2"),
    (
        rules.state_rule,
        "src/slmgate/x.py",
        "class A:\n    def a(self): self.state = 1\n    async def b(self): self.x, self.state = 1, 2",
    ),
    (rules.state_rule, "src/slmgate/x.py", "def f(a):\n    a.state = 1"),
    (rules.match_rule, "src/slmgate/x.py", "import re\nre.match('a$', 'a')"),
    (rules.match_rule, "src/slmgate/x.py", "NAME.match('a')"),
    (rules.match_rule, "src/slmgate/x.py", "from re import match"),
    (rules.sleep_rule, "tests/test_x.py", "import time\ntime.sleep(0.1)"),
    (rules.sleep_rule, "tests/test_x.py", "async def f():\n    await sleep(1)"),
    (rules.socket_rule, "tests/test_x.py", "import socket"),
    (rules.socket_rule, "tests/test_x.py", "from socket import socketpair"),
    (rules.socket_rule, "tests/test_x.py", "from http import server"),
    (rules.socket_rule, "tests/test_x.py", "import asyncio\nasyncio.start_server(f)"),
    (rules.clock_rule, "src/slmgate/policy/x.py", "from datetime import datetime\ndatetime.now()"),
    (rules.length_rule, "src/slmgate/x.py", '"""Long. Very."""\n' + "x = 1\n" * 501),
    (rules.pragma_rule, "src/slmgate/x.py", "x = 1  # noqa"),
    (rules.pragma_rule, "src/slmgate/x.py", "x = 1  # noqa: E501"),
    (rules.pragma_rule, "src/slmgate/x.py", "x = 1  # type: ignore[attr-defined]"),
    (rules.pragma_rule, "src/slmgate/x.py", "x = 1  # pragma: no cover"),
    (rules.pragma_rule, "src/slmgate/policy/x.py", "x = 1  # pragma: no cover  it is never reached, by design"),
    (rules.skip_rule, "tests/test_x.py", "import pytest\n@pytest.mark.skip\ndef test(): ..."),
    (rules.skip_rule, "tests/test_x.py", "import pytest\n@pytest.mark.xfail()\ndef test(): ..."),
    (rules.except_rule, "src/slmgate/x.py", "try:\n    pass\nexcept Exception:\n    pass"),
    (rules.except_rule, "src/slmgate/x.py", "try:\n    pass\nexcept:\n    pass"),
]

GOOD: list[tuple[Rule, str, str]] = [
    (rules.docstring_rule, "src/slmgate/policy/x.py", '"""What it holds. It knows nothing else."""'),
    (rules.docstring_rule, "src/slmgate/policy/__init__.py", ""),
    (rules.raise_rule, "src/slmgate/policy/snapshot.py", "raise ValueError"),
    (rules.raise_rule, "src/slmgate/stores/sql.py", "raise ValueError"),
    (
        rules.state_rule,
        "src/slmgate/x.py",
        "class A:\n    def __init__(self): self.state = 1\n    def move(self): self.state = 2",
    ),
    (rules.state_rule, "src/slmgate/x.py", "def f(app):\n    app.state.context = 1"),
    (rules.match_rule, "src/slmgate/x.py", "import re\nre.fullmatch('a', 'a')"),
    (rules.sleep_rule, "tests/test_x.py", "import asyncio\nasync def f():\n    await asyncio.sleep(0)"),
    (rules.socket_rule, "tests/test_x.py", "import http\nfrom tests.tools import feeds"),
    (rules.clock_rule, "src/slmgate/control/x.py", "from datetime import datetime\ndatetime.now()"),
    (rules.length_rule, "src/slmgate/x.py", '"""One table. Length: it is read in one piece."""\n' + "x = 1\n" * 501),
    (rules.pragma_rule, "src/slmgate/x.py", "x = 1  # noqa: E501  the address cannot be split"),
    (rules.pragma_rule, "src/slmgate/x.py", "x = 1  # type: ignore[arg-type]  the stub is wrong here"),
    (
        rules.skip_rule,
        "tests/test_x.py",
        "import pytest\n@pytest.mark.skipif(True, reason='needs a kernel with x')\ndef test(): ...",
    ),
    (
        rules.except_rule,
        "src/slmgate/x.py",
        "try:\n    pass\nexcept Exception:  # whatever it was, the line is dropped\n    pass",
    ),
]


@pytest.mark.parametrize(("rule", "folders"), APPLIED, ids=lambda value: getattr(value, "__name__", ""))
def test_the_checkout_keeps_the_rule(rule: Rule, folders: tuple[str, ...]) -> None:
    sources = [source for folder in folders for source in python_files(folder)]
    if rule in OUTSIDE_SYSTEM:
        sources = [source for source in sources if not source.path.startswith(SYSTEM)]
    found = complaints(rule, sources)
    assert not found, report(found)


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_the_rule_sees_a_bad_sample(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_the_rule_lets_a_good_sample_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def test_every_rule_has_a_bad_sample() -> None:
    assert {rule for rule, _ in APPLIED} == {rule for rule, _, _ in BAD} == {rule for rule, _, _ in GOOD}
