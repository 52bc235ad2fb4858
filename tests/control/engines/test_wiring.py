"""What engines are tied to, on stand-ins: whose word they go by, and how they are asked whether they are ready."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import httpx

from slmgate.control.checker import Checker, Checkup, Outcome, Target
from slmgate.control.engines.service import Engines
from slmgate.control.engines.wiring import Prober, connect
from slmgate.policy.health import Checks

TARGET = Target(
    url="http://127.0.0.1:1", path="/health", strict=False, bearer=None, interval=5, timeout=2, healthy_after=2, unhealthy_after=2
)


def test_whose_word_counts() -> None:
    engines = cast("Engines", SimpleNamespace())
    bad, good = Checks(), Checks()
    bad.verdict, good.verdict = "unhealthy", "healthy"
    checkups = {"m/a": Checkup("m/a", TARGET, 0.0, bad, out_at=7.0), "m/b": Checkup("m/b", TARGET, 0.0, good)}
    publisher: Any = SimpleNamespace(agreed=lambda: True, refresh=lambda: None, broadcast=lambda _: None)
    roster: Any = SimpleNamespace(drained=frozenset({"m/a"}))
    checker: Any = SimpleNamespace(checkups=lambda: checkups)
    connect(engines, publisher, roster, checker, lambda: (0, 1))
    assert [engines.out_since(id) for id in ("m/a", "m/b", "m/c")] == [7.0, None, None]
    assert (engines.drained(), engines.workers(), engines.agreed()) == ({"m/a"}, (0, 1), True)
    roster.drained = frozenset()
    assert engines.drained() == frozenset(), "as it is now"
    assert (engines.on_change, engines.tell) == (publisher.refresh, publisher.broadcast)


def test_asking() -> None:
    async def asks() -> list[Outcome]:
        statuses = iter((503, 200))
        transport = httpx.MockTransport(lambda _: httpx.Response(next(statuses)))
        prober = Prober(Checker(lambda _: None, lambda _: None), transport)
        await prober.close()
        found = [await prober.ask(TARGET), await prober.ask(TARGET)]
        await prober.close()
        return found

    loading, ready = asyncio.run(asks())
    assert (loading.kind, ready.kind) == ("refused", None)
