"""The JSON Schema: valid itself, true for all examples, and strict where it can be.

That whatever loads fits is tested with the golden files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from slmgate.control.config.document import parse, plain_value
from slmgate.control.config.options import Config
from slmgate.control.config.schema import schema, schema_text
from slmgate.control.config.table import walk

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.yaml"))
CHECK = jsonschema.Draft202012Validator(schema())


def value(text: str) -> Any:
    root, troubles = parse(text)
    assert root is not None
    assert troubles == []
    return plain_value(root)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert msgspec.json.decode(schema_text()) == schema()


def test_it_knows_every_option() -> None:
    text = schema_text()
    for _, row in walk(Config):
        assert msgspec.json.encode(row.option.doc).decode() in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_fit(path: Path) -> None:
    CHECK.validate(value(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "models: {}",
        "models: {m: {}}",
        "models: {m: {instances: []}}",
        "models: {m: {instances: [{url: 'http://h/v1'}]}}",
        "models: {m: {instances: [{dns: a, port: 1, url: 'http://h'}]}}",
        "models: {m: {instances: [{port: 1}]}}",
        "models: {'a b': {instances: [{url: 'http://h'}]}}",
        "models: {m: {instances: [{url: 'http://h', engine: gpt}]}}",
        "models: {m: {instances: [{url: 'http://h', weight: 0}]}}",
        "models: {m: {instances: [{url: 'http://h'}]}}\nbogus: 1",
        "models: {m: {instances: [{url: 'http://h'}]}}\ncluster: {}",
        "models: {m: {instances: [{url: 'http://h'}]}}\nworkers: 257",
        "models: {m: {instances: [{url: 'http://h'}]}}\ndrain_timeout: 30",
        "models: {m: {instances: [{url: 'http://h'}]}}\ndrain_timeout: ''",
        "models: {m: {instances: [{url: 'http://h'}]}}\nguard: {max_body: 8MB}",
        "models: {m: {instances: [{url: 'http://h'}]}}\nkeys: [{name: a, hash: b}]",
        "models: {m: {instances: [{url: 'http://h'}]}}\nguard:",
    ],
)
def test_what_an_editor_underlines(text: str) -> None:
    assert not CHECK.is_valid(value(text))
