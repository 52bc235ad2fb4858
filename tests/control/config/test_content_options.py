"""The options of what is kept of prompts and answers: each accepted word, what is refused, and what workers are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.config import Config, ConfigFault, load_text
from slmgate.control.config.compile import compile_snapshot
from slmgate.control.config.content_options import LONGEST

TEXT = """models: {m: {instances: [{url: "http://127.0.0.1:1"}]}}
log: {content: LOG}
roles: {kept: {models: ["*"], content: CONTENT}, plain: {models: ["*"]}}
"""


def loaded(content: str, log: str = "roles") -> tuple[Config | None, tuple[ConfigFault, ...]]:
    result = load_text(TEXT.replace("CONTENT", content).replace("LOG", log), "gate.yaml", Path("/base"))
    return result.config, result.faults


def test_what_is_usual() -> None:
    config, _ = loaded("{capture: both}")
    assert config is not None
    content = config.roles["kept"].content
    assert content is not None
    assert (content.mask, content.patterns, content.keep) == (("email", "card", "iban"), (), 7 * 86400)
    assert config.roles["plain"].content is None


@pytest.mark.parametrize(("log", "capture"), [("roles", "answers"), ("never", "")])
def test_what_workers_are_told(log: str, capture: str) -> None:
    config, _ = loaded("{capture: answers, mask: [phone], patterns: [a+], keep: 1h}", log)
    assert config is not None
    assert [role.capture for role in compile_snapshot(config, 1).roles] == [capture, ""]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{}", "capture is missing"),
        ("{capture: all}", "is not one of the accepted values"),
        ("{capture: both, mask: [emial]}", "did you mean email?"),
        ("{capture: both, patterns: ['(']}", "is not a regular expression"),
        ("{capture: both, patterns: ['a*']}", "fits the empty text"),
        ("{capture: both, patterns: ['" + "a" * (LONGEST + 1) + "']}", f"is longer than {LONGEST} characters"),
        ("{capture: both, keep: 59m}", "is less than this option takes"),
        ("{capture: both, keep: never}", "is not a time"),
    ],
)
def test_faults(content: str, problem: str) -> None:
    config, faults = loaded(content)
    assert config is None
    assert any(problem in str(fault) for fault in faults)
