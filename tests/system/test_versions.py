"""Two versions of a model with real processes: who is served by which, while shares change and versions die.

How each is decided is told by `tests/policy/test_split.py` and `tests/dataplane/test_split.py`; here the mock instances' journals
say what was really asked of them.
"""

from __future__ import annotations

import json
import time
from typing import Any

from tests.system.conftest import Launch
from tests.system.scenes import plain
from tests.tools.gate import OTHER, SECRET, Gate, digest, model
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
