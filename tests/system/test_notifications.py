"""A webhook hears of what happens to a real gate: an instance that dies and comes back, a limit that is used up, bans."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from slmgate.control.webhooks import signature
from tests.system.conftest import Launch
from tests.system.test_guard import WRONG, guarded
from tests.system.test_statements import HOOK_SECRET, Hook, hook
from tests.tools.gate import SECRET, Gate, digest, eventually, free_port, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, chat, request

__all__ = ["hook"]  # a fixture
pytestmark = pytest.mark.system


def told(hook: Hook) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in hook.got]


def types(hook: Hook) -> list[str]:
    return [event["type"] for event in told(hook)]


def ask(gate: Gate, data: bytes, source: str = "127.0.0.1") -> int:
    with Wire(gate.port, source=source) as wire:
        return wire.ask(data).status


def test_what_happens_is_told_once(launch: Launch, upstream: MockUpstream, hook: Hook) -> None:
    """Over a death of the control process too; the first try of all fails, and is made again."""
    url = f"http://127.0.0.1:{hook.server_address[1]}/"
    gate = launch(
        {"tiny": model(upstream.url), "gone": model(f"http://127.0.0.1:{free_port()}")},
        keys=[{"name": "main", "hash": digest(SECRET), "roles": ["small"]}],
        roles={"small": {"models": ["*"], "endpoints": ["*"], "limits": ["5 requests/day"]}},
        guard=guarded(failed_auth={"limit": "3/minute", "ban": "10m"}),
        notifications={"ops": {"url": url, "secret": HOOK_SECRET}},
        wait=False,
    )
    eventually(lambda: {"instance.down", "model.unavailable"} <= set(types(hook)), 40, "the instance that is not there")
    assert {event["data"]["model"] for event in told(hook)} == {"gone"}
    for _ in range(4):
        assert ask(gate, request(chat(), secret=SECRET)) == 200
    for _ in range(4):
        assert ask(gate, WRONG, "127.7.0.9") == 401
    eventually(lambda: {"limit.near", "ban.made"} <= set(types(hook)), 40, "the limit that is near, and the ban")
    os.kill(gate.control(), signal.SIGKILL)
    assert ask(gate, request(chat(), secret=SECRET)) == 200
    eventually(lambda: "limit.reached" in types(hook), 40, "the limit that is used up")
    assert sorted(types(hook)) == ["ban.made", "instance.down", "limit.near", "limit.reached", "model.unavailable"]
    by_type = {event["type"]: event["data"] for event in told(hook)}
    assert by_type["ban.made"] == {"count": 1, "addresses": ["127.7.0.9"]}
    assert [by_type[f"limit.{word}"]["client"] for word in ("near", "reached")] == ["main", "main"]
    for header, body in hook.got:
        assert header == signature(HOOK_SECRET, body, int(header[2:].partition(",")[0]))
