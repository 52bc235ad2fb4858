"""`slmgate doctor` at a real gate: nothing to say of one that is well, with a gate and without; each weak spot made is found."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.system.conftest import Launch
from tests.tools.gate import ROOT, Gate, model
from tests.tools.upstream import MockUpstream

COMMAND = [sys.executable, "-m", "slmgate", "doctor"]


def doctor(gate: Gate, *more: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([*COMMAND, "-c", str(gate.file), "--json", *more], capture_output=True, text=True, timeout=120)
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def weak(report: dict[str, Any]) -> dict[str, str]:
    return {one["check"]: one["verdict"] for one in report["findings"] if one["verdict"] != "ok"}


def test_a_gate_that_is_well_from_both_sides(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"smollm2": model(upstream.url)})
    assert doctor(gate) == (0, doctor(gate)[1])
    assert weak(doctor(gate)[1]) == {}
    code, outside = doctor(gate, "--outside")
    assert (code, weak(outside)) == (0, {})
    assert {one["check"] for one in outside["findings"]} == {"admin paths", "engine paths", "no credential", "headers"}
    gate.terminate()
    assert weak(doctor(gate)[1]) == {}
    assert weak(doctor(gate, "--outside")[1]) == {"reached": "warn"}


def test_weak_spots_are_found_and_the_page_says_what_is_printed(launch: Launch) -> None:
    around = MockUpstream("0.0.0.0")  # that is the weak spot
    try:
        gate = launch({"smollm2": model(f"http://127.0.0.1:{around.port}")})
        state = Path(gate.state)
        state.chmod(0o755)
        code, report = doctor(gate)
        assert (code, weak(report)) == (1, {"around the gate": "bad", "state directory": "bad"})
        done = subprocess.run([*COMMAND, "-c", str(gate.file)], capture_output=True, text=True, timeout=120)
        page = (ROOT / "docs" / "security.md").read_text()
        sample = page.split("$ slmgate doctor -c slmgate.yaml\n")[1].split("```")[0]
        shown = done.stdout.replace(str(state), "/var/lib/slmgate").replace(str(around.port), "8000")
        expected = "".join(re.escape(line) + "\n" if line != "..." else r"(?:.*\n)*" for line in sample.splitlines())
        assert re.fullmatch(expected, shown), shown
        inside = doctor(gate, "--outside", "--url", f"http://127.0.0.1:{around.port}")[1]
        assert weak(inside)["engine paths"] == "bad"
    finally:
        around.close()


def test_one_that_never_comes_to_an_end() -> None:
    """A server that goes on and on with interim answers, each byte in good time, does not keep the doctor for ever."""

    def go_on(listener: socket.socket) -> None:
        one, _ = listener.accept()
        with one, contextlib.suppress(OSError):
            while True:
                one.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                ended.wait(0.1)

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = threading.Thread(target=go_on, args=(listener,))
        serving.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        done = subprocess.run([*COMMAND, "--outside", "--url", url], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"WARN  reached: nothing answers at {url}")
        serving.join(10)
