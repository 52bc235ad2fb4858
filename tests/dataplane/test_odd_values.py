"""Requests and answers with odd values in every field that we read: none of them may meet a fault of our own.

Whatever is refused and whatever passes, each request leaves its one receipt. The choice is random, by the seed in its name;
what each value should come to is tested where it is read.
"""

from __future__ import annotations

import json
import traceback
from random import Random
from typing import Any

import msgspec
import pytest

from slmgate.dataplane.worker import Worker
from slmgate.dialects import TABLE
from slmgate.policy.roles import ParameterRule, RoleSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.stage import KEY, Stage, reply, request

HUGE = 10**400
ODD: list[Any] = [
    *(HUGE, -HUGE, 2**63, 10**19, -1, 0, 0.5, 1e308, "", "x", "\0", "\u2028", "é" * 300, "true", None, True, False),
    *([], {}, [[]], [{}], [None], [True], ["a", HUGE], {"type": None}, {"type": HUGE}, {"a": [1]}),
    *([{"type": "image_url", "image_url": {"url": 5}}], [{"role": 5, "content": [5, None, [], {}]}]),
    [{"role": "user", "content": [{"type": "image_url", "image_url": None}]}],
]
ASKED = [
    "model",
    "stream",
    "stream_options",
    "messages",
    "prompt",
    "input",
    "inputs",
    "options",
    "parameters",
    "max_tokens",
    "max_completion_tokens",
    "n_predict",
    "num_predict",
    "max_new_tokens",
    "n",
    "n_cmpl",
    "best_of",
    "logprobs",
    "top_logprobs",
    "n_probs",
    "top_n_tokens",
    "prompt_logprobs",
    "tools",
    "functions",
    "decoder_input_details",
    "tool_choice",
    "function_call",
    "response_format",
    "format",
    "text",
    "grammar",
    "json_schema",
    "stop",
    "stop_sequences",
    "details",
    "chat_template",
    "chat_template_kwargs",
    "temperature",
]
TOLD = [
    "usage",
    "prompt_eval_count",
    "eval_count",
    "done",
    "tokens_evaluated",
    "tokens_predicted",
    "stop",
    "details",
    "generated_text",
    "choices",
    "type",
    "response",
    "message",
]
FIGURES = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
PATHS = [route.path for route in TABLE.values() if route.kind == "json"]
RULES = (
    ParameterRule(name="n", max=2),
    ParameterRule(name="max_tokens", max=50, default=5),
    ParameterRule(name="logprobs", deny=True),
    ParameterRule(name="image_url", deny=True),
)


def some(chance: Random, names: list[str]) -> dict[str, Any]:
    return {chance.choice(names): chance.choice(ODD) for _ in range(chance.randint(1, 5))}


def asks(chance: Random) -> bytes:
    fields = some(chance, ASKED)
    for nested in ("options", "parameters"):
        if chance.random() < 0.4:
            fields[nested] = some(chance, ASKED)
    if chance.random() < 0.7:
        fields |= {"model": "m", "stream": chance.random() < 0.5}
    return request(fields, line=f"POST {chance.choice(PATHS)} HTTP/1.1".encode())


def answers(chance: Random) -> bytes:
    said = some(chance, TOLD)
    if chance.random() < 0.5:
        said["usage"] = {name: chance.choice(ODD) for name in FIGURES}
    text = json.dumps(said)
    if chance.random() < 0.5:
        return reply(text.encode())
    streamed = chance.choice((f"data: {text}\n\ndata: [DONE]\n\n", f"{text}\n", f"event: message_start\ndata: {text}\n\n"))
    kind = chance.choice((b"text/event-stream", b"application/x-ndjson"))
    return reply(streamed.encode(), fields=b"content-type: %b\r\n" % kind)


@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_value_is_a_fault_of_ours(open_road: OpenRoad, seed: int, ruled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, faults = Random(seed), list[str]()
    monkeypatch.setattr(Worker, "report_fault", lambda self: faults.append(traceback.format_exc()))
    road = open_road()
    stage: Stage = road.stage
    stage.loop.told = lambda *_: None
    if ruled:
        stage.publish(roles=(RoleSpec(name="r", parameters=RULES),), keys=(msgspec.structs.replace(KEY, roles=("r",)),))
    for count in range(500):
        asked = asks(chance)
        road.end_of("client").feed(asked)
        stage.loop.settle()
        if len(stage.receipts) == count:
            next(end for end in reversed(stage.loop.opened["a"]) if not end.closing).feed(answers(chance))
            stage.loop.settle()
        assert not faults, f"{asked[-500:]!r}\n{faults[-1]}"
        assert len(stage.receipts) == count + 1, asked
