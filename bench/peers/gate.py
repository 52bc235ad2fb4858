"""slmgate itself as a target: one worker, everything on that it always does.

Key check by digest, model check, journaled intent and receipt, the ledger that control fills from the journal, and
the JSON access log. The processes that do this (supervisor, control, worker) all count. It runs on Debian's own Python, as its
peers are Debian's own builds, and on this environment's where there is none; the version says on which.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from bench.peers import install
from bench.peers.contract import LOOPBACK, MissingError, Place, Start, Target
from bench.wire import MODEL, SECRET


def python(wanted: bool) -> Path:
    """The interpreter that runs slmgate: of an environment on Debian's, else the one that runs the benchmark."""
    try:
        return install.slmgate(wanted) / "bin/python"
    except MissingError:
        return Path(sys.executable)


def command(wanted: bool) -> list[str]:
    """How to start slmgate: the script beside its interpreter."""
    script = python(wanted).with_name("slmgate")
    if script.exists():
        return [str(script)]
    raise MissingError("slmgate is not installed beside this interpreter: pip install -e . (or give --gate COMMAND)")


def build(wanted: bool) -> str:
    """Which Python that is."""
    found = python(wanted)
    said = install.run([str(found), "-c", "import sys; print(sys.version.split()[0], sys.base_prefix)"], 10).split()
    return f"Python {said[0]} of {'Debian' if said[1] == '/usr' else 'this environment'}"


def relay() -> Target:
    """Bytes forwarded on the gate's own event loop and nothing else: the floor that its figures stand on."""
    return Target(
        "relay",
        "bytes only, on uvloop",
        False,
        lambda wanted: f"{version('uvloop')} on {build(wanted)}",
        lambda place: Start(
            [str(python(False)), str(Path(__file__).parents[1] / "relay.py"), str(place.port), str(place.upstream)]
        ),
    )


def target(given: str | None) -> Target:
    """The gate's row; `given` is another command line to use in place of the installed script."""

    def words(wanted: bool = False) -> list[str]:
        return shlex.split(given) if given else command(wanted)

    def have(wanted: bool) -> str:
        said = install.run([*words(wanted), "--version"], 20).strip().rpartition(" ")[2] or "unknown"
        return said if given else f"{said} on {build(False)}"

    def start(place: Place) -> Start:
        config = {
            "listen": [{"address": f"{LOOPBACK}:{place.port}"}],
            "admin": {"address": f"{LOOPBACK}:{place.spare}"},
            "state_dir": str(place.directory / "state"),
            "workers": 1,
            "models": {MODEL: {"instances": [{"url": f"http://{LOOPBACK}:{place.upstream}"}]}},
            "keys": [{"name": "bench", "hash": f"sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}"}],
            "log": {"access": str(place.directory / "access.log")},
        }
        path = place.write("slmgate.yaml", json.dumps(config, indent=1))  # JSON is YAML
        return Start([*words(), "serve", "-c", str(path)])

    return Target("slmgate", "key, model, receipt, JSON access log", True, have, start, 30)
