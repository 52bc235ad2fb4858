"""Tokenizers that a configuration names: every way in which a file can be wrong, and what the template of a chat comes to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from slmgate.control.config import compile_snapshot, load_text, measured
from slmgate.control.config.tokenizer_files import EACH_MESSAGE, EACH_REQUEST, MAX_TEMPLATE, tokenizer_fault
from slmgate.policy.specs import SnapshotSpec, TokenizerSpec
from tests.tools.tokenizers import TEMPLATE, written

TEXT = "models: {tiny: {instances: [{url: 'http://127.0.0.1:8000'}], tokenizer: tokenizer.json}}"


def spec_of(folder: Path) -> TokenizerSpec | None:
    spec = measured(compile_snapshot(load_text(TEXT, base_dir=folder).unwrap(), 1))
    return spec.models[0].tokenizer


def test_none_is_named() -> None:
    spec = SnapshotSpec(generation=1)
    assert measured(spec) is spec


def test_the_template_is_counted(tmp_path: Path) -> None:
    written(tmp_path)
    found = spec_of(tmp_path)
    assert found is not None
    assert (found.path, found.each_message, found.each_request) == (str(tmp_path / "tokenizer.json"), 2, 2)
    assert spec_of(tmp_path) is found, "it is read once"
    (tmp_path / "chat_template.jinja").write_text("{% for message in messages %}<s><s><s>{{ message.content }}{% endfor %}")
    again = spec_of(tmp_path)
    assert again is not None and (again.each_message, again.each_request) == (3, 0)
    assert again.stamp != found.stamp, "workers are told that it is another"


def test_default_of_several_templates(tmp_path: Path) -> None:
    written(tmp_path, None)
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": TEMPLATE}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named, "bos_token": "<s>"}))
    found = spec_of(tmp_path)
    assert found is not None and (found.each_message, found.each_request) == (2, 2)


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{}",
        "[]",
        "no json",
        '{"chat_template": 7}',
        '{"chat_template": "{% if"}',
        '{"chat_template": "{{ raise_exception(1) }}"}',
        '{"chat_template": "{{ 1 // 0 }}"}',
        '{"chat_template": "{{ messages[9].content.x.y }}"}',
        '{"chat_template": [{"name": "rag", "template": "x"}]}',
        "x" * (MAX_TEMPLATE + 1),
    ],
)
def test_usual_figures_where_no_template_can_be_tried(tmp_path: Path, config: str | None) -> None:
    written(tmp_path, None)
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(config)
    found = spec_of(tmp_path)
    assert found is not None and (found.each_message, found.each_request) == (EACH_MESSAGE, EACH_REQUEST)


def test_a_template_is_no_program(tmp_path: Path) -> None:
    """It is tried in a sandbox: what it reaches for beyond the chat makes it one that cannot be tried."""
    reach = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    written(tmp_path, reach)
    found = spec_of(tmp_path)
    assert found is not None and (found.each_message, found.each_request) == (EACH_MESSAGE, EACH_REQUEST)


def test_files_that_are_none(tmp_path: Path) -> None:
    fault = tokenizer_fault(tmp_path / "none.json")
    assert fault is not None and fault.problem == "cannot be read: No such file or directory"
    fault = tokenizer_fault(tmp_path)
    assert fault is not None and fault.problem.startswith("cannot be read: Is a directory")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    fault = tokenizer_fault(tmp_path / "model.gguf")
    assert fault is not None and "no tokenizer" in fault.problem
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    fault = tokenizer_fault(tmp_path / "large.json")
    assert fault is not None and "larger than 256 MiB" in fault.problem
    assert tokenizer_fault(written(tmp_path)) is None


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    fault = tokenizer_fault(path)
    assert fault is not None and "pip install 'slmgate[tokenizer]'" in fault.hint


def test_a_load_says_where(tmp_path: Path) -> None:
    (fault,) = load_text(TEXT, base_dir=tmp_path).faults
    assert (fault.option, fault.problem) == (
        "models.tiny.tokenizer",
        "'tokenizer.json' cannot be read: No such file or directory",
    )


def test_a_file_that_went_bad_since_is_left_out(tmp_path: Path) -> None:
    written(tmp_path)
    config = load_text(TEXT, base_dir=tmp_path).unwrap()
    (tmp_path / "tokenizer.json").write_text("{}")
    assert measured(compile_snapshot(config, 1)).models[0].tokenizer is None
