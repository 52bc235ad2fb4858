"""Two versions of a model with real processes: who is served by which, while shares change and versions die.

How each is decided is told by `tests/policy/test_split.py` and `tests/dataplane/test_split.py`; here the mock instances' journals
say what was really asked of them.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from tests.system.conftest import Launch
from tests.system.scenes import plain
from tests.system.test_commands import slmgate
from tests.system.test_instances import admin
from tests.tools.gate import OTHER, SECRET, Gate, digest, eventually, model
from tests.tools.load import Background, Loader
from tests.tools.upstream import MockUpstream
from tests.tools.wire import ask, chat, request

KEYS = [{"name": "main", "hash": digest(SECRET), "team": "acme"}, {"name": "other", "hash": digest(OTHER), "roles": ["own"]}]


def models(first: str, second: str, **canary: Any) -> dict[str, Any]:
    return {"tiny": model(first, canary={"model": "next", **canary}), "next": model(second, hidden=True)}


def used(gate: Gate, by: str) -> dict[str, int]:
    rows = gate.rows()
    return {name: sum(row[by] == name for row in rows) for name in {row[by] for row in rows}}


def test_who_is_served_by_which_and_what_it_costs(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    prices = {"tiny": {"prompt": "1/1M", "completion": "1/1M"}, "next": {"prompt": "7/1M", "completion": "9/1M"}}
    gate = launch(
        models(upstream.url, second.url, principals=["main"]),
        roles={"own": {"models": ["tiny"]}},
        teams={"acme": {"plan": "gold", "roles": ["own"]}},
        plans={"gold": {"currency": "EUR", "prices": prices}},
        keys=KEYS,
    )
    answer = ask(gate.port, plain("a"))
    assert (answer.status, answer.header("x-slmgate-model"), answer.json()["tag"]) == (200, "next", "a")
    assert json.loads(second.journal()[0]["body"])["model"] == "next"
    row = gate.receipt(answer.header("x-request-id"))
    assert (row["model"], row["parameters"], row["price"], row["rule"]) == (
        "next",
        "canary=tiny",
        "EUR 1000 1000",
        "roles.own",
    ), row
    answer = ask(gate.port, request(chat(tag="b"), secret=OTHER))
    assert (answer.status, answer.header("x-slmgate-model")) == (200, None)
    assert gate.receipt(answer.header("x-request-id"))["model"] == "tiny"
    assert ask(gate.port, request(chat(model="next"), secret=SECRET)).code == "model_not_found"
    listed = ask(gate.port, request(b"", method="GET", path="/v1/models", secret=SECRET)).json()
    assert [one["id"] for one in listed["data"]] == ["tiny"]


def test_a_share_that_changes_under_load(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """From 10 to 50 to 0 per cent by reloads, and the version is killed meanwhile: nobody notices."""
    gate = launch(models(upstream.url, second.url, share="10%", by="request"))
    loader = Loader(gate.port, SECRET, seed=52)

    with Background(loader.run(100, 6.0, delay=0.01)):
        for share in ("50%", "30%"):
            time.sleep(1.2)
            gate.write(models=models(upstream.url, second.url, share=share, by="request"))
        time.sleep(1.2)
        second.kill()
        time.sleep(1.0)
        second.start()
        gate.write(models=models(upstream.url, second.url, share="0%", by="request"))
    assert not loader.bad(), loader.told()
    gate.receipts(each.id for each in loader.journal if each.id)
    served = used(gate, "model")
    print(served)
    assert served["next"] > 50 and served["tiny"] > served["next"]
    before = len(second.journal())
    assert all(ask(gate.port, plain("z")).header("x-slmgate-model") is None for _ in range(20))
    assert len(second.journal()) == before


def test_how_even_a_share_is(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    gate = launch(models(upstream.url, second.url, share="25%", by="request"), workers=1)
    answers = [ask(gate.port, plain("x")) for _ in range(100)]
    count = sum(one.header("x-slmgate-model") == "next" for one in answers)
    assert 22 <= count <= 28, count
    assert len(second.journal()) == count


# --- copies


def told(gate: Gate, *command: str) -> Any:
    """What a command says in JSON."""
    result = slmgate(gate.home, *command, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def shadowed(first: str, second: str, **shadow: Any) -> dict[str, Any]:
    return {"tiny": model(first, shadow={"model": "next", "share": "100%", **shadow}), "next": model(second, hidden=True)}


def test_copies_are_booked_apart(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """Streams too; nothing of them is in usage, in the limit or in the statement, and the sums are right."""
    plan = {"currency": "EUR", "prices": {"*": {"prompt": "1/1M", "completion": "1/1M"}}}
    gate = launch(
        shadowed(upstream.url, second.url),
        roles={"own": {"models": ["tiny"], "limits": ["20 requests/hour"]}},
        teams={"acme": {"plan": "gold", "roles": ["own"]}},
        plans={"gold": plan},
        keys=KEYS,
        workers=1,
    )
    answers = [ask(gate.port, request(chat(stream=bool(number % 2), events=3), secret=SECRET)) for number in range(10)]
    assert [one.status for one in answers] == [200] * 10
    assert int(answers[-1].header("x-ratelimit-remaining-requests") or -1) == 10, "copies were counted"
    rows = eventually(lambda: gate.rows() if len(gate.rows()) == 20 else [], 5, "all receipts are there")
    copies = [row for row in rows if row["verdict"] == "shadow"]
    assert len(copies) == 10 == len(second.journal())
    ids = {row["id"] for row in rows if row["verdict"] == "admit"}
    assert {row["parameters"] for row in copies} == {f"shadow={id}" for id in ids}
    assert {(row["model"], row["principal"], row["price"], row["cost"], row["ended"]) for row in copies} == {
        ("next", "main", "", 0, "complete")
    }
    assert all(row["completion_tokens"] for row in copies)
    assert {json.loads(one["body"])["model"] for one in second.journal()} == {"next"}
    usage = told(gate, "usage", "--by", "model")
    assert [(row["group"]["model"], row["requests"]) for row in usage["rows"]] == [("tiny", 10)]
    usage = told(gate, "usage", "--by", "model", "--shadow")
    assert [(row["group"]["model"], row["requests"], row["cost"]) for row in usage["rows"]] == [("next", 10, {})]
    statement = told(gate, "statement", "--team", "acme", "--month", f"{datetime.now(UTC):%Y-%m}")
    assert [(line["model"], line["requests"]) for line in statement["lines"]] == [("tiny", 10)]
    assert statement["usage_cost"] == statement["receipts_cost"]
    checked = slmgate(gate.home, "db", "verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_frozen_shadow_costs_nobody_anything(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """It accepts and never answers: no request waits or fails, only so many copies are there, and a stop does not wait."""
    gate = launch(shadowed(upstream.url, second.url, in_flight=3), workers=1)
    second.default(do="silence")
    loader = Loader(gate.port, SECRET, seed=53)
    with Background(loader.run(100, 3.0)):
        pass
    assert not loader.bad(), loader.told()
    slow = sorted((one.end or 0.0) - one.due for one in loader.journal)[int(len(loader.journal) * 0.99)]
    assert slow < 0.5, slow
    assert len(second.journal()) == 3

    def counted() -> tuple[int, int]:
        (worker,) = admin(gate, "GET", "/api/v1/status")["workers"]
        return worker["shadows"], worker["shadows_dropped"]

    eventually(lambda: counted() == (0, len(loader.journal) - 3), 3, "those that were not sent are counted", 0.2)
    began = time.monotonic()
    assert gate.terminate() == 0
    assert time.monotonic() - began < 5
    assert sum(row["ended"] == "gate_stopped" and row["verdict"] == "shadow" for row in gate.rows()) == 3


# --- a second instance for embeddings


def embed(**script: Any) -> bytes:
    body = json.dumps({"model": "tiny", "input": "hi", "script": script}).encode()
    return request(body, path="/v1/embeddings", secret=SECRET)


def test_a_frozen_instance_is_passed_by(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """One of two takes everything and answers nothing: embeddings come from the other, once each, and its work is ended."""
    gate = launch(
        {"tiny": model(upstream.url, second.url, hedge={"after": "100ms"}, balance="round_robin", health={"errors": 0})},
        workers=1,
    )
    second.default(do="silence")
    began = time.monotonic()
    answers = [ask(gate.port, embed()) for _ in range(10)]
    assert [one.status for one in answers] == [200] * 10
    assert time.monotonic() - began < 3
    rows = gate.receipts(one.header("x-request-id") or "" for one in answers).values()
    assert len(gate.rows()) == 10, "one receipt each"
    assert {row["instance"].rpartition("/")[2] for row in rows} == {upstream.url.rpartition("/")[2]}
    assert sorted({row["attempts"] for row in rows}) == [1, 2]
    frozen = eventually(lambda: [one for one in second.journal() if one["ended"]], 2, "its work is ended")
    assert {one["ended"] for one in frozen} == {"peer_closed"}
    assert len(second.journal()) == sum(row["attempts"] == 2 for row in rows)


def test_hedges_are_within_the_budget(launch: Launch, upstream: MockUpstream, second: MockUpstream) -> None:
    """Where both are slow, a few are asked twice, and not all of them."""
    gate = launch({"tiny": model(upstream.url, second.url, hedge={"after": "20ms"})}, workers=1)
    for one in (upstream, second):
        one.default(delay=0.1)
    answers = [ask(gate.port, embed(delay=0.1)) for _ in range(60)]
    assert [one.status for one in answers] == [200] * 60
    asked = len(upstream.journal()) + len(second.journal())
    assert 60 < asked <= 60 + 12 + 10, asked
