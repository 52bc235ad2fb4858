"""Brings the targets into environments of their own: pip and npm into the cache directory, Debian packages when root.

Everything is pinned by the files in this directory, which name no index: the machine's own pip and npm settings
decide where packages come from. Nothing here touches the environment that the benchmark itself runs in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.peers.contract import HERE, MissingError, cache

_BINARIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # where Debian puts servers, often not in a user's PATH


def run(command: list[str], seconds: float, cwd: Path | None = None) -> str:
    """Run a command to its end, return what it printed; raises `MissingError` with its last line when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise MissingError(f"{command[0]}: {type(fault).__name__}") from fault
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise MissingError(f"{Path(command[0]).name} failed: {lines[-1][:160]}")
    return done.stdout


def find(program: str) -> str | None:
    """The path of an installed program, also where only root usually looks."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), *_BINARIES]))


def debian(program: str, install: bool) -> str:
    """The path of a program that Debian packages under its own name; installs it when `install` and we are root."""
    path = find(program)
    if path is None and install:
        _bring(program)
        path = find(program)
    if path is None:
        raise MissingError(f"not installed: apt-get install {program}")
    return path


def _bring(package: str) -> None:
    """Install a Debian package, where that may be done."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _say(f"installing {package} with apt-get")
        run(["apt-get", "install", "-y", "--no-install-recommends", package], 300)


def pip(name: str, install: bool) -> Path:
    """The directory of the virtual environment `name`, holding exactly what `<name>.txt` pins.

    A stamp with the pins is written last, so a half-made environment or an old one is made anew.
    """
    home = cache() / name
    pins = (HERE / f"{name}.txt").read_text()
    stamp = home / "bench-pins.txt"
    if stamp.exists() and stamp.read_text() == pins:
        return home
    if not install:
        raise MissingError("not installed yet: run without --no-install")
    _say(f"installing {name} into {home}")
    shutil.rmtree(home, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(home)], 120)
    # --no-deps: the pins are complete, and a resolver must not add to them
    run([str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(HERE / f"{name}.txt")], 900)
    stamp.write_text(pins)
    return home


def slmgate(install: bool) -> Path:
    """The directory of an environment with this checkout's slmgate on the interpreter that Debian ships.

    nginx and HAProxy are measured as Debian builds them, so the gate's interpreter is Debian's build too: one that was compiled
    by hand without its profile-guided optimisation is a fifth slower at the same Python code.
    """
    home, root = cache() / "slmgate", HERE.parents[1]
    python = Path("/usr/bin/python3")
    if not python.exists() or run([str(python), "-c", "import sys; print(sys.version_info >= (3, 11))"], 10).strip() != "True":
        raise MissingError("Debian's python3 is not there, or older than 3.11")
    parts = [root / "pyproject.toml", root / "constraints.txt"]
    pins = "".join([run([str(python), "--version"], 10), f"{root}\n", *(part.read_text() for part in parts)])
    stamp = home / "bench-pins.txt"
    if stamp.exists() and stamp.read_text() == pins:
        return home
    if not install:
        raise MissingError("not installed yet: run without --no-install")
    try:
        run([str(python), "-c", "import ensurepip"], 10)
    except MissingError:
        _bring("python3-venv")
    _say(f"installing slmgate on {python} into {home}")
    shutil.rmtree(home, ignore_errors=True)
    run([str(python), "-m", "venv", str(home)], 120)
    pip = [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--constraint", str(root / "constraints.txt")]
    run([*pip, "hatchling", "editables"], 300)
    run([*pip, "--no-build-isolation", "--editable", str(root)], 600)
    stamp.write_text(pins)
    return home


def npm(name: str, install: bool) -> Path:
    """The directory with the `node_modules` that `<name>/package-lock.json` pins."""
    home = cache() / name
    pins = (HERE / name / "package-lock.json").read_text()
    stamp = home / "bench-pins.txt"
    if stamp.exists() and stamp.read_text() == pins:
        return home
    if find("node") is None or find("npm") is None:
        raise MissingError("not installed: node and npm 18 or newer (Debian: apt-get install nodejs npm)")
    if not install:
        raise MissingError("not installed yet: run without --no-install")
    _say(f"installing {name} into {home}")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name / file, home)
    run(["npm", "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], 300, home)
    stamp.write_text(pins)
    return home


def pinned(name: str, package: str) -> str:
    """The version of `package` in `<name>.txt`."""
    for line in (HERE / f"{name}.txt").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.partition("==")[2]
    raise MissingError(f"{package} is not pinned in {name}.txt")


def _say(text: str) -> None:
    print(f"bench: {text} ...", file=sys.stderr, flush=True)
