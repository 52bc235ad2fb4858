"""Instances that are drained, added and removed while the gate serves: no request fails, no stream is cut.

Real processes throughout; the mocks' journals say who was asked, the command line is the one that operators use. Numbers of
time are printed, and only those are asserted that hold on a busy machine.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import dns.rcode

from tests.system.conftest import Launch
from tests.tools.gate import ROOT, SECRET, Gate, eventually, get, model
from tests.tools.load import RATE, Background, Loader
from tests.tools.names import Names
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, ask, chat, request

PLAIN = request(chat(), secret=SECRET)
CHECKED = "GET /v1/models answered 200"


def slmgate(gate: Gate, *words: str, code: int = 0) -> str:
    """`slmgate instances ...` beside this gate; what it printed."""
    command = [sys.executable, "-m", "slmgate", "instances", *words, "-c", str(gate.file)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run(command, capture_output=True, text=True, env=env, cwd=gate.home, timeout=60, check=False)
    assert ended.returncode == code, ended.stderr
    return ended.stdout + ended.stderr


def admin(gate: Gate, method: str, path: str, **body: str) -> Any:
    """The JSON that the admin API answers."""
    secret = (gate.state / "admin.key").read_text().strip()
    link = http.client.HTTPConnection("127.0.0.1", gate.admin, timeout=30)
    link.request(
        method,
        path,
        json.dumps(body) if method == "POST" else None,
        {"authorization": f"Bearer {secret}", "content-type": "application/json"},
    )
    answer = json.loads(link.getresponse().read())
    link.close()
    return answer


def rows(gate: Gate) -> dict[str, Any]:
    """The instances as the admin API lists them, which is what the command shows; nothing while no control answers."""
    try:
        return {row["id"]: row for row in admin(gate, "GET", "/api/v1/instances")}
    except (OSError, http.client.HTTPException):
        return {}


def change(gate: Gate, what: str, id: str) -> dict[str, Any]:
    """What the command does, without the time that a command takes to start."""
    row: dict[str, Any] = admin(gate, "POST", f"/api/v1/instances/{what}", id=id)
    return row


def named(upstream: MockUpstream, name: str = "tiny") -> str:
    return f"{name}/127.0.0.1:{upstream.port}"


def test_drain_under_load(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """The drained instance gets nothing new within a second, finishes its streams, and stays drained over a reload, a restart of
    control and one of the gate. Nobody fails."""
    gate = launch({"tiny": model(upstream.url, second.url)}, workers=2)
    streams = [Wire(gate.port) for _ in range(6)]
    for number, wire in enumerate(streams):
        wire.send(request(chat(stream=True, events=100, rate=20, tag=f"s{number}"), secret=SECRET))
    for wire in streams:
        assert wire.event()
    loader = Loader(gate.port, SECRET, seed=71)
    with Background(loader.run(RATE, 5)):
        time.sleep(0.5)
        started = time.monotonic()
        said = slmgate(gate, "drain", named(upstream))
        answered = time.monotonic()
        time.sleep(0.1)  # what the gate had sent by then has arrived
        upstream.clear()
        print(f"drain answered after {(answered - started) * 1000:.0f} ms: {said.strip()}")
        assert said.startswith(f"{named(upstream)}: drain")
        late = slmgate(gate, "drain", named(upstream), "--wait", "--timeout", "0s", code=1)
        assert "in flight after 0s; it stays drained" in late
        gate.write(drain_timeout="9s")  # a reload
        assert slmgate(gate, "drain", named(upstream), "--wait", "--timeout", "20s") == f"{named(upstream)}: drained\n"
    assert upstream.journal() == [], "a request went to a drained instance"
    assert not loader.bad(), loader.told()
    for wire in streams:
        event: bytes | None = b"-"
        while event is not None and b"[DONE]" not in event:
            event = wire.event()
        assert event is not None, "a live stream was cut"
        wire.__exit__()
    assert rows(gate)[named(upstream)]["in_flight"] == 0

    os.kill(gate.control(), signal.SIGKILL)
    eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "control is back")
    eventually(
        lambda: rows(gate).get(named(upstream), {}).get("drained"), 10, "it is drained for the next control process too", 0.2
    )
    gate.terminate()
    gate.start()
    eventually(lambda: rows(gate).get(named(upstream), {}).get("drained"), 10, "it is drained after a restart of the gate", 0.2)
    assert [ask(gate.port, PLAIN).status for _ in range(12)] == [200] * 12
    assert upstream.journal() == []
    assert change(gate, "enable", named(upstream))["draining"] is False
    assert [ask(gate.port, PLAIN).status for _ in range(12)] == [200] * 12
    assert upstream.journal(), "an enabled instance gets its share at once"


def test_one_that_is_enabled_before_it_is_up(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """A drained instance is checked on: it is stopped, enabled too soon, started, and no client hears of any of that."""
    often = {"interval": "500ms", "timeout": "400ms", "slow_start": "1s"}
    gate = launch({"tiny": model(upstream.url, second.url, health=often)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=76)
    with Background(loader.run(RATE, 8)):
        slmgate(gate, "drain", named(second), "--wait")
        second.kill()
        eventually(lambda: rows(gate)[named(second)]["state"] == "unhealthy", 5, "its checks fail", 0.1)
        assert rows(gate)[named(second)]["drained"]
        assert admin(gate, "GET", "/readyz")["instances"] == {named(second): "drained"}
        assert slmgate(gate, "enable", named(second)) == f"{named(second)}: unhealthy\n"
        time.sleep(0.5)
        second.start()
        eventually(second.journal, 5, "it is asked again", 0.1)
    assert not loader.bad(), loader.told()
    assert not [line for line in gate.text().splitlines() if named(second) in line and "cannot connect" in line]


def test_the_only_instance_is_drained(launch: Launch, upstream: MockUpstream) -> None:
    """Its model has none then: refused at once with `overloaded`, not ready on either side, until it is enabled."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    slmgate(gate, "drain", named(upstream), "--wait")
    answer = ask(gate.port, PLAIN)
    assert (answer.status, b"overloaded" in answer.body, answer.header("retry-after")) == (503, True, "1")
    assert (get(gate.port, "/readyz"), get(gate.admin, "/readyz")) == (503, 503)
    slmgate(gate, "enable", named(upstream))
    assert ask(gate.port, PLAIN).status == 200
    assert (get(gate.port, "/readyz"), get(gate.admin, "/readyz")) == (200, 200)


def test_added_and_removed_under_load(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """An added instance has its share at once and over restarts; removed, it gets nothing more and finishes its streams."""
    here = {"loopback": True}  # the mocks are on this machine itself
    gate = launch({"tiny": model(upstream.url)}, workers=2, env={"SECOND_KEY": "hush-hush"}, discovery=here)
    loader = Loader(gate.port, SECRET, seed=72)
    with Background(loader.run(RATE, 4)):
        made = slmgate(gate, "add", "tiny", second.url, "--weight", "1", "--bearer-env", "SECOND_KEY")
        assert made in (f"{named(second)}: checking\n", f"{named(second)}: healthy\n")
        eventually(second.journal, 2, "the added instance is asked", 0.1)
        eventually(lambda: rows(gate)[named(second)]["check"] == CHECKED, 5, "the added instance is checked", 0.1)
        assert {("authorization", "Bearer hush-hush")} <= {tuple(pair) for pair in second.journal()[0]["headers"]}
        os.kill(gate.control(), signal.SIGKILL)
        eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "control is back")
        assert rows(gate)[named(second)]["source"] == "added"
        with Wire(gate.port) as wire:
            change(gate, "drain", named(upstream))
            wire.send(request(chat(stream=True, events=40, rate=20), secret=SECRET))
            assert wire.event()
            change(gate, "enable", named(upstream))
            gone = slmgate(gate, "remove", named(second))
            assert gone.startswith(f"{named(second)}: removed")
            time.sleep(0.1)  # what the gate had sent by then has arrived
            second.clear()
            event: bytes | None = b"-"
            while event is not None and b"[DONE]" not in event:
                event = wire.event()
            assert event is not None, "a live stream was cut"
    assert second.journal() == [], "a request went to an instance that was removed"
    assert not loader.bad(), loader.told()
    eventually(lambda: named(second) not in rows(gate), 5, "it is not listed any more", 0.2)
    assert "stands in the configuration" in change(gate, "remove", named(upstream))["detail"]
    assert "hush-hush" not in gate.log.read_text()


def many(upstream: MockUpstream, changed: int) -> dict[str, Any]:
    """A thousand models, and one with a thousand instances; only `tiny` is asked."""
    models = {f"model-{n}": model(f"http://127.1.{n // 250}.{n % 250 + 1}:9") for n in range(1000)}
    wide = {"wide": model(*(f"http://127.2.{n // 250}.{n % 250 + 1}:9" for n in range(1000)))}
    return {"tiny": model(upstream.url, queue={"waiting": changed}), **models, **wide}


def reload_seconds(gate: Gate, models: dict[str, Any]) -> float:
    """How long `POST /api/v1/reload` takes: the file read, checked, compiled, sent, and confirmed by all workers."""
    gate.write(models=models)
    started = time.monotonic()
    assert admin(gate, "POST", "/api/v1/reload") == {"applied": True, "faults": []}
    return time.monotonic() - started


def test_a_thousand_models_and_instances(launch: Launch, upstream: MockUpstream) -> None:
    """Reloads of a file with 1,001 models and 2,001 instances, under load: nobody fails, and they take less than a second, and
    as long as such a file must, given how long a small one takes."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    calm = Loader(gate.port, SECRET, seed=73)
    with Background(calm.run(RATE, 1)):
        small = min(reload_seconds(gate, {"tiny": model(upstream.url, queue={"waiting": 10 + n})}) for n in range(3))
    loader = Loader(gate.port, SECRET, seed=74)
    with Background(loader.run(RATE, 3)):
        big = min(reload_seconds(gate, many(upstream, 10 + n)) for n in range(4))
    print(f"a reload: {small * 1000:.0f} ms for one model, {big * 1000:.0f} ms for 1,001 with 2,001 instances")
    for what, each in (("calm", calm), ("while it reloads a thousand", loader)):
        waits = sorted(one.end - one.due for one in each.journal if one.end)
        print(f"{what}: p50 {waits[len(waits) // 2] * 1000:.1f} ms, p99 {waits[len(waits) * 99 // 100] * 1000:.1f} ms")
    assert not calm.bad(), calm.told()
    assert not loader.bad(), loader.told()
    assert len(rows(gate)) == 2001
    assert len(json.loads(slmgate(gate, "list", "--json"))) == 2001
    assert big < 300 * small, "what a model costs grows with the number of models"
    assert big < 1, "a reload of them takes a second or more"


def test_the_addresses_of_a_name(launch: Launch, upstream: MockUpstream) -> None:
    """Instances come and go with the addresses of a name, under load; without answers they stay."""
    two = MockUpstream("127.0.0.2", upstream.port)
    three = MockUpstream("127.0.0.3", upstream.port)
    with Names(ttl=1) as names:
        names.names["vllm.test"] = ["127.0.0.2"]
        models = {"tiny": {"instances": [{"dns": "vllm.test", "port": upstream.port}]}}
        gate = launch(models, workers=2, discovery={"nameservers": [names.address], "refresh": "500ms", "loopback": True})
        first, second = (f"tiny/127.0.0.{n}:{upstream.port}" for n in (2, 3))
        assert ask(gate.port, PLAIN).status == 200, "what a name leads to is there when the gate is"
        loader = Loader(gate.port, SECRET, seed=75)
        with Background(loader.run(RATE, 4)), Wire(gate.port) as wire:
            wire.send(request(chat(stream=True, events=90, rate=20), secret=SECRET))
            assert wire.event()
            names.names["vllm.test"] = ["127.0.0.2", "127.0.0.3"]
            eventually(three.journal, 5, "the new address is asked", 0.1)
            eventually(lambda: rows(gate)[second]["check"] == CHECKED, 5, "the new address is checked", 0.1)
            change(gate, "drain", first)
            names.names["vllm.test"] = ["127.0.0.3"]
            eventually(lambda: rows(gate).get(first, {}).get("source") == "removed", 5, "the old address is gone", 0.1)
            two.clear()
            event: bytes | None = b"-"
            while event is not None and b"[DONE]" not in event:
                event = wire.event()
            assert event is not None, "a live stream was cut"
        assert two.journal() == [], "a request went to an address that is gone"
        assert not loader.bad(), loader.told()
        assert rows(gate)[second]["source"] == "dns:vllm.test"
        names.names["vllm.test"] = ["127.0.0.2", "127.0.0.3"]
        eventually(lambda: first in rows(gate), 5, "the address is back", 0.1)
        assert not rows(gate)[first]["draining"], "whoever has the address now was not drained"
        names.names["vllm.test"] = ["127.0.0.3"]
        eventually(lambda: first not in rows(gate), 5, "it is gone once more", 0.1)

        names.rcode = dns.rcode.SERVFAIL
        kept = "vllm.test: no DNS server answers for it; the 1 addresses that it had are used on"
        eventually(lambda: kept in gate.text(), 10, "it is said that nothing answers")
        os.kill(gate.control(), signal.SIGKILL)
        eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "control is back, and knows the addresses")
        assert [ask(gate.port, PLAIN).status for _ in range(8)] == [200] * 8
        eventually(lambda: admin(gate, "GET", "/api/v1/status")["notes"] == [kept], 10, "the status says so too", 0.2)
        assert kept in slmgate(gate, "list")
        names.rcode = None
        eventually(lambda: admin(gate, "GET", "/api/v1/status")["notes"] == [], 10, "all is well again", 0.2)
    two.close()
    three.close()
