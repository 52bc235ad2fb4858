"""An exchange's records are tested as a whole in `test_exchange.py`; here is what a receipt says when little is known.

Tokens are the engine's where it said them, estimates where it did not, and nothing where nothing was generated.
"""

from __future__ import annotations

from typing import Any

import pytest

from slmgate.dataplane.account import SHOWN_PATH, usage_of
from slmgate.dataplane.exchange import NO_HEAD, Exchange
from slmgate.dialects.openai import ChunkScanner
from slmgate.terms import Ask, Usage
from tests.tools.road import Road

ASK = Ask("m", prompt_estimate=9)
SAID = Usage(5, 7)


def exchange(**facts: Any) -> Exchange:
    nobody: Any = None
    made = Exchange(nobody, nobody, NO_HEAD, True, "id", "rid", 0.0)
    for name, value in {"attempts": 1, "asked_at": 1.0, "ask": ASK, "upstream_status": 200, "status": 200, **facts}.items():
        setattr(made, name, value)
    return made


def scanner(said: Usage | None) -> ChunkScanner:
    made = ChunkScanner()
    made.usage, made.tokens_seen = said, 3
    return made


@pytest.mark.parametrize(
    ("facts", "usage"),
    [
        ({"attempts": 0}, Usage()),
        ({"usage": SAID}, SAID),
        ({"scanner": scanner(SAID)}, SAID),
        ({"scanner": scanner(None)}, Usage(9, 3, True)),
        ({"upstream_status": 0, "status": 502}, Usage(9, 0, True)),
        ({"upstream_status": 299, "status": 299}, Usage(9, 0, True)),
        ({"upstream_status": 300}, Usage()),
        ({"asked_at": 0.0}, Usage()),
        ({"upstream_status": 400}, Usage()),
        ({"bytes_out": 0}, Usage(9, 0, True)),
        ({"bytes_out": 1}, Usage(9, 1, True)),
        ({"bytes_out": 4}, Usage(9, 1, True)),
        ({"bytes_out": 5}, Usage(9, 2, True)),
        ({"bytes_out": 500, "status": 502}, Usage(9, 0, True)),
    ],
)
def test_tokens(facts: dict[str, Any], usage: Usage) -> None:
    assert usage_of(exchange(**facts)) == usage


def test_a_request_that_could_not_be_read(road: Road) -> None:
    road.plays(r"""
        >> client  \x00\r\n\r\n
        == 400     refused !invalid_request
        << client  400 !invalid_request connection: close
        << client  half-closed
    """)
    receipt = road.stage.receipts[0]
    empty = {name: receipt[name] for name in ("method", "path", "principal", "key", "team", "model", "instance", "endpoint")}
    assert empty == {**dict.fromkeys(empty, ""), "key": None, "team": None}
    assert (receipt["verdict"], receipt["dialect"], receipt["address"]) == ("refuse", "openai", "192.0.2.7")


@pytest.mark.parametrize("past", [0, 1])
def test_a_path_in_no_row_is_shortened(road: Road, past: int) -> None:
    road.end_of("client").feed(b"GET /%b HTTP/1.1\r\nHost: g\r\n\r\n" % (b"x" * (SHOWN_PATH - 1 + past)))
    assert road.stage.receipts[0]["path"] == "/" + "x" * (SHOWN_PATH - 1)
