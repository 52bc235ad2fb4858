"""The supply chain as it stands in the checkout: every package pinned, with hashes, named and licensed as somebody agreed to.

What is built is `tests/system/test_build.py`. It asks no index; how the lock files come about is `tests/tools/supply.py`.
"""

from __future__ import annotations

import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution

import httpx
import pytest

from tests.house.tree import ROOT, report
from tests.tools import supply

PINNED = supply.pins((ROOT / "constraints.txt").read_text())
LOCKS = {path.stem: supply.locked(path.read_text()) for path in sorted(supply.LOCKS.glob("*.txt"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
AGAIN = "write the lock files anew: .venv/bin/python -m tests.tools.supply lock"
PERMITTED = re.compile(
    r"Apache(?: Software License|-2\.0| 2\.0| License, Version 2\.0)|BSD(?:-[23]-Clause| License)|ISC(?: License)?"
    r"|3-Clause BSD License"
    r"|MIT(?:-0| License)?|PSF-2\.0|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)|LGPL-3\.0-only"
)
"""Licences under which a package may be used beside ours as it is. LGPL: the driver of PostgreSQL, an extra, not changed."""
_SCANNER = "AGPL: a scanner that a test of TLS alone uses; it is in no lock file but scanner.txt, and nothing of it is given out"
ASIDE = {
    "atheris": "its wheel says nothing; its repository, google/atheris, is under Apache-2.0, and it is for development only",
    "nassl": _SCANNER,
    "sslyze": _SCANNER,
    "tls-parser": _SCANNER,
}
"""Packages whose licence is none of these, or not said -> why they may be used all the same. None is in the lock for users."""


def test_there_is_a_lock_file_for_each_use() -> None:
    assert set(LOCKS) == {*supply.FILES, *supply.ALONE}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_its_hashes_and_the_pinned_version(name: str) -> None:
    assert LOCKS[name], AGAIN
    for package, one in LOCKS[name].items():
        assert package in PINNED, f"{package} has no pin"
        assert one.version == PINNED[package][1], f"{package} is {one.version} here and {PINNED[package][1]} there: {AGAIN}"
        assert one.hashes, package
        assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in one.hashes), package


def test_every_pin_is_in_a_lock_file() -> None:
    known = set().union(*LOCKS.values())
    missing = [f"{name}: {AGAIN}" for name in PINNED if name not in known]
    assert not missing, report(missing)


@pytest.mark.parametrize(("name", "extras"), supply.FILES.items())
def test_a_lock_file_begins_with_what_is_declared(name: str, extras: tuple[str, ...]) -> None:
    for requirement in supply.roots(PROJECT, extras):
        assert supply.normal(re.split(r"[\[<>=!~; ]", requirement)[0]) in LOCKS[name], f"{requirement}: {AGAIN}"


def test_what_is_installed_asks_for_nothing_beyond_the_pins_and_each_pin_is_asked_for() -> None:
    """So no package is in a lock file that nobody reviewed: each is declared, with a reason, or asked for by one that is."""
    alone = [name for names in supply.ALONE.values() for name in names]
    wheels = {name: supply.Wheel("", _requires(name) if name not in alone else ()) for name in PINNED}
    wanted = [*supply.roots(PROJECT, supply.FILES["dev"]), *alone]
    reached = set().union(*(supply.closure(wanted, wheels, place) for place in supply.PLACES))
    assert not reached - PINNED.keys(), f"asked for, and not pinned: {sorted(reached - PINNED.keys())}"
    unasked = [name for name in PINNED.keys() - reached if _is_here(name)]
    assert not unasked, f"pinned, and asked for by nothing that is declared: {unasked}"


def _requires(name: str) -> tuple[str, ...]:
    return tuple(distribution(name).requires or ()) if _is_here(name) else ()


def _is_here(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def test_every_licence_is_one_that_was_agreed_to() -> None:
    found = []
    for package in PINNED:
        if package in ASIDE or not _is_here(package):
            continue
        said = supply.licence(package)
        if not all(PERMITTED.fullmatch(one.removeprefix("(")) for one in re.split(r" (?:OR|AND) ", said)):
            found.append(f"{package}: {said!r}")
    assert not found, report(found)
    assert not ASIDE.keys() & (LOCKS["runtime"].keys() | LOCKS["demo"].keys())


def test_only_known_words_and_hashes_stand_in_a_lock_file() -> None:
    line = re.compile(r"[a-z0-9-]+==[A-Za-z0-9.!+_-]+(?: ; \(.*\))?(?: \\)?|    --hash=sha256:[0-9a-f]{64}(?: \\)?|#.*|")
    for path in supply.LOCKS.glob("*.txt"):
        odd = [one for one in path.read_text().splitlines() if not line.fullmatch(one)]
        assert not odd, odd


def test_the_bill_of_materials() -> None:
    bill = json.loads(json.dumps(supply.bill()))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    refs = [one["bom-ref"] for one in bill["components"]]
    assert len(set(refs)) == len(refs) == len(LOCKS["runtime"]) > 20
    assert all(one["hashes"] and one["licenses"] and one["purl"] == one["bom-ref"] for one in bill["components"])
    (own,) = bill["dependencies"]
    assert own == {"ref": bill["metadata"]["component"]["bom-ref"], "dependsOn": refs}


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (httpx.Response(200, json={"results": [{}] * len(PINNED)}), 0, "0 with known faults"),
        (httpx.Response(200, json={"results": [{"vulns": [{"id": "X-1"}]}, *[{}] * (len(PINNED) - 1)]}), 1, "X-1"),
        (httpx.Response(503), 2, "nothing was looked up"),
        (httpx.Response(200, text="<html>"), 2, "nothing was looked up"),
        (None, 2, "nothing was looked up"),
    ],
)
def test_an_audit_never_passes_in_silence(
    answer: httpx.Response | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        if answer is None:
            raise httpx.ConnectError("nobody is there")
        return answer

    assert supply.audit(httpx.MockTransport(handle)) == code
    assert said in "".join(capsys.readouterr())


def test_closures_follow_extras_and_markers() -> None:
    wheels = {
        "a": supply.Wheel("", ("b[x]>=1", "c; python_version < '3.12'", "d; extra == 'never'")),
        "b": supply.Wheel("", ("e; extra == 'x'",)),
        "e": supply.Wheel("", ("a",)),
    }
    assert supply.closure(["A"], wheels, supply.Place("3.11", "x86_64")) == {"a", "b", "c", "e"}
    assert supply.closure(["A"], wheels, supply.Place("3.12", "x86_64")) == {"a", "b", "e"}


def test_a_lock_file_is_read_as_it_is_written() -> None:
    places = (supply.Place("3.11", "x86_64"), supply.Place("3.12", "x86_64"))
    found = {
        place: {"a-b": supply.Wheel("0" * 64, ("c; python_version < '3.12'",)), "c": supply.Wheel(str(n) * 64, ())}
        for n, place in enumerate(places)
    }
    text = supply.written(["A_b"], {"a-b": ("A.B", "1"), "c": ("c", "2")}, found)
    assert supply.locked(text) == {
        "a-b": supply.Locked("1", "", frozenset(("0" * 64,))),
        "c": supply.Locked("2", places[0].marker, frozenset(("0" * 64,))),
    }
    assert text.startswith("a-b==1 \\\n    --hash=sha256:")
