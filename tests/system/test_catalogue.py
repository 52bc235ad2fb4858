"""What instances say they serve: by mocks that say the truth, lie, and answer with anything but a list; and by a real llama.cpp.

Real processes throughout. What is shown is read where operators read it: the command's table, `/readyz` and the admin API.
"""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.test_instances import PLAIN, admin, named, rows, slmgate
from tests.tools.engine import Engine
from tests.tools.gate import SECRET, Gate, eventually, get, model
from tests.tools.load import RATE, Background, Loader
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ask, request

OFTEN = {"interval": "500ms", "timeout": "1s", "slow_start": "0s"}


def said(gate: Gate, id: str) -> dict[str, Any]:
    """What the admin API tells of what an instance said; nothing before it was asked."""
    return rows(gate).get(id, {}).get("catalogue") or {}


def shows(gate: Gate, id: str, text: str) -> None:
    eventually(lambda: text in said(gate, id).get("text", ""), 10, f"{id} shows {text}", 0.1)


@pytest.mark.parametrize(("engine", "path"), [("ollama", "/api/version"), ("vllm", "/health")])
def test_an_instance_without_the_model(
    launch: Launch, upstream: MockUpstream, second: MockUpstream, engine: str, path: str
) -> None:
    """No client hears of it: it gets no requests until it has the model. It is seen where operators look, with what it has."""
    there = "tiny:latest" if engine == "ollama" else "tiny"
    upstream.default(lists=[there])
    second.default(lists=["other:1b", "\x1b[2Jevil"])
    gate = launch({"tiny": model(upstream.url, second.url, engine=engine, health=OFTEN)}, workers=2)
    without = "tiny is not there: it lists other:1b, \u00b7[2Jevil"
    eventually(lambda: rows(gate).get(named(second), {}).get("why") == without, 10, "the workers know", 0.1)
    eventually(lambda: said(gate, named(upstream)).get("state") == "listed", 10, "the other one has it", 0.1)
    second.clear()
    loader = Loader(gate.port, SECRET, seed=81)
    with Background(loader.run(RATE, 2)):
        row = rows(gate)[named(second)]
        assert (row["state"], row["healthy"], row["check"]) == ("unhealthy", False, f"GET {path} answered 200")
        assert row["catalogue"] == {
            "state": "missing",
            "text": without,
            "serves": ["other:1b", "\u00b7[2Jevil"],
            "count": 2,
            "absent": True,
        }
        ready = admin(gate, "GET", "/readyz")
        assert (ready["ready"], ready["missing"], ready["instances"]) == (
            True,
            {named(second): without},
            {named(second): "unhealthy"},
        )
        assert without in slmgate(gate, "list")
    assert not loader.bad(), loader.told()
    assert second.journal() == [], "a request went to an instance that has not the model"
    assert f"{named(second)}: {without}; no worker asks it" in gate.text()

    second.default(lists=["other:1b", there])  # somebody has pulled it
    eventually(lambda: rows(gate)[named(second)]["healthy"], 15, "it is asked again", 0.2)
    assert [ask(gate.port, PLAIN).status for _ in range(12)] == [200] * 12
    assert second.journal()
    assert admin(gate, "GET", "/readyz")["missing"] == {}
    assert f"{named(second)}: the model is not missing there any more (listed)" in gate.text()
    lists = second.gauges()["lists"]
    print(f"asked {second.gauges()['checks']} times, {lists} times of these what it serves")
    assert lists <= 8


def test_all_say_that_they_have_it_not(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """They lie, and are asked all the same: a list that is wrong must not take a model away. It is not ready, and says so."""
    for one in (upstream, second):
        one.default(lists=["other"])
    gate = launch({"tiny": model(upstream.url, second.url, engine="ollama", health=OFTEN)}, workers=1, wait=False)
    eventually(lambda: len(admin_ready(gate).get("missing", {})) == 2, 20, "both are missing it", 0.2)
    eventually(lambda: not any(row["healthy"] for row in rows(gate).values()), 10, "the workers know", 0.1)
    assert [ask(gate.port, PLAIN).status for _ in range(12)] == [200] * 12
    assert (get(gate.admin, "/readyz"), admin_ready(gate)["models"]) == (503, {"tiny": False})
    gate.write(models={"tiny": model(upstream.url, second.url, engine="ollama", health={**OFTEN, "catalogue": "show"})})
    eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "the operator knows better", 0.1)
    eventually(lambda: len(admin_ready(gate)["missing"]) == 2, 10, "and sees it all the same", 0.1)


def test_one_that_lies(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """It lists the model and has it not: no client hears of it where 404 is retried, and it is passed over soon."""
    for one in (upstream, second):
        one.default(lists=["tiny:latest"])
    retry = {"on": ["connect", "502", "503", "404"]}
    gate = launch({"tiny": model(upstream.url, second.url, engine="ollama", health=OFTEN, retry=retry)}, workers=1)
    eventually(lambda: [said(gate, named(one)).get("state") for one in (upstream, second)] == ["listed"] * 2, 10, "asked", 0.1)
    second.default(lists=["tiny:latest"], status=404)
    loader = Loader(gate.port, SECRET, seed=82)
    with Background(loader.run(RATE, 3)):
        eventually(lambda: rows(gate)[named(second)]["state"] == "ejected", 3, "it is passed over", 0.05)
    assert not loader.bad(), loader.told()
    assert second.journal()


def test_another_model_stands_in(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """Where no instance of a model has it, its fallback serves, until one has it."""
    upstream.default(lists=["other"])
    second.default(lists=["spare"])
    models = {
        "tiny": model(upstream.url, engine="ollama", health=OFTEN, fallback=["spare"]),
        "spare": model(second.url, engine="ollama", health=OFTEN),
    }
    gate = launch(models, workers=1, wait=False)
    eventually(lambda: rows(gate) and not rows(gate)[named(upstream)]["healthy"], 20, "the workers know", 0.1)
    eventually(lambda: ask(gate.port, PLAIN).header("x-slmgate-model") == "spare", 5, "the other one serves", 0.1)
    upstream.clear()
    assert [ask(gate.port, PLAIN).header("x-slmgate-model") for _ in range(6)] == ["spare"] * 6
    assert upstream.journal() == []
    upstream.default(lists=["tiny:latest"])
    eventually(lambda: not ask(gate.port, PLAIN).header("x-slmgate-model"), 15, "it serves itself", 0.2)


def admin_ready(gate: Gate) -> dict[str, Any]:
    try:
        found: dict[str, Any] = admin(gate, "GET", "/readyz")
    except OSError:
        return {}
    return found


HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
UNREAD = "unknown: GET /v1/models"
LIES: dict[str, tuple[dict[str, Any], str]] = {
    "huge": ({"do": "flood", "size": 1 << 32}, f"{UNREAD}: the answer is larger than 1024 KiB"),
    "no JSON": (
        {"do": "raw", "bytes": f"{HEAD}Content-Length: 9\r\n\r\n<html>oh!"},
        f"{UNREAD}: the answer is no list of models",
    ),
    "cut": ({"do": "raw", "bytes": f"{HEAD}Content-Length: 99\r\n\r\n{{", "then": "close"}, f"{UNREAD}: no valid answer"),
    "deep": (
        {"do": "raw", "bytes": f"{HEAD}Content-Length: 60009\r\n\r\n" + '{"data": ' + "[" * 60_000},
        f"{UNREAD}: the answer is no list of models",
    ),
    "slow": ({"do": "trickle", "bytes": f"{HEAD}Content-Length: 99\r\n\r\n{{" + " " * 98, "interval": 0.2}, "within 1 s"),
    "silent": ({"do": "silence"}, f"{UNREAD}: no whole answer within 1 s"),
    "elsewhere": (
        {"do": "raw", "bytes": "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"},
        f"{UNREAD} answered 302",
    ),
    "locked": ({"do": "raw", "bytes": "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"}, f"{UNREAD} answered 401"),
    "packed": (
        {"do": "raw", "bytes": f"{HEAD}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"},
        f"{UNREAD}: the answer is compressed",
    ),
}


def test_what_is_no_list(launch: Launch, upstream: MockUpstream) -> None:
    """Whatever an instance answers: it is `unknown`, never missing; requests go on, checks too, and control does not swell."""

    def asks(number: int) -> dict[str, Any]:
        made = model(upstream.url, engine="vllm", health=OFTEN)
        made["instances"][0]["upstream_model"] = f"name-{number}"  # another name, so that it is asked again at once
        return {"tiny": made}

    gate = launch(asks(0), workers=1)
    eventually(lambda: said(gate, named(upstream)), 10, "it was asked", 0.1)
    process = psutil.Process(gate.control())
    before = process.memory_info().rss
    for number, (name, (lie, text)) in enumerate(LIES.items(), 1):
        upstream.default(lists=lie)
        gate.write(models=asks(number))
        shows(gate, named(upstream), text)
        row = rows(gate)[named(upstream)]
        assert (row["healthy"], row["catalogue"]["state"], row["catalogue"]["serves"]) == (True, "unknown", []), name
        assert admin(gate, "GET", "/readyz")["missing"] == {}
        assert ask(gate.port, PLAIN).status == 200
    grown = (process.memory_info().rss - before) / 2**20
    print(f"control grew by {grown:.1f} MiB")
    assert grown < 50
    upstream.default(lists=[f"name-{n}" for n in range(2000)])
    gate.write(models=asks(4000))
    text = "name-4000 is not there: it lists name-0, name-1, name-2, name-3 and 1996 more"
    eventually(lambda: said(gate, named(upstream)).get("text") == text, 10, "a long list is read", 0.1)
    assert len(said(gate, named(upstream))["serves"]) == 20
    ready = admin(gate, "GET", "/readyz")
    assert (ready["ready"], ready["missing"]) == (True, {named(upstream): text}), "a vLLM may have what it does not list"


@pytest.mark.parametrize("configured", ["llamacpp", "openai"])
def test_a_real_llama_cpp(launch: Launch, engine: Engine, configured: str) -> None:
    """It answers to any name and is never taken out; a name that the configuration says is its own is looked for."""
    id = f"smollm2/127.0.0.1:{engine.port}"
    body = json.dumps({"model": "smollm2", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}).encode()

    def under(upstream_model: str | None) -> dict[str, Any]:
        made = model(engine.url, engine=configured, health=OFTEN)
        if upstream_model is not None:
            made["instances"][0]["upstream_model"] = upstream_model
        return {"smollm2": made}

    gate = launch(under(None), workers=1)
    eventually(lambda: said(gate, id), 10, "it was asked", 0.1)
    one = said(gate, id)
    assert (one["state"], one["count"]) == ("any", 1)
    assert one["serves"][0].endswith("SmolLM2-135M-Instruct.Q4_1.gguf")
    assert "takes any name, lists" in slmgate(gate, "list")
    assert ask(gate.port, request(body, secret=SECRET)).status == 200

    gate.write(models=under("qwen3"))
    eventually(lambda: said(gate, id).get("state") == "missing", 10, "what is configured is not what is there", 0.1)
    assert said(gate, id)["text"].startswith("qwen3 is not there: it lists ")
    ready = admin(gate, "GET", "/readyz")
    assert (ready["ready"], list(ready["missing"])) == (True, [id])
    assert rows(gate)[id]["healthy"]
    assert ask(gate.port, request(body, secret=SECRET)).status == 200
    assert f"{id}: qwen3 is not there" in gate.text()
    assert "it is asked all the same" in gate.text()
