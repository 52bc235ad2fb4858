"""slmgate itself as a target: one worker, everything on that it always does.

Key check by digest, model check, journaled intent and receipt, the ledger that control fills from the journal, and
the JSON access log. The processes that do this (supervisor, control, worker) all count.
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


def command() -> list[str]:
    """How to start slmgate: the script beside this interpreter, where it is installed."""
    script = Path(sys.executable).with_name("slmgate")
    if script.exists():
        return [str(script)]
    raise MissingError("slmgate is not installed beside this interpreter: pip install -e . (or give --gate COMMAND)")


def relay() -> Target:
    """Bytes forwarded on the gate's own event loop and nothing else: the floor that its figures stand on."""
    return Target(
        "relay",
        "bytes only, on uvloop",
        False,
        lambda _wanted: version("uvloop"),
        lambda place: Start([sys.executable, str(Path(__file__).parents[1] / "relay.py"), str(place.port), str(place.upstream)]),
    )


def target(given: str | None) -> Target:
    """The gate's row; `given` is another command line to use in place of the installed script."""

    def words() -> list[str]:
        return shlex.split(given) if given else command()

    def have(_wanted: bool) -> str:
        return install.run([*words(), "--version"], 20).strip().rpartition(" ")[2] or "unknown"

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
