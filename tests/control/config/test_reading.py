"""What the reader promises beside its faults: files, bounds, secrets struck out, one place for each option.

The faults themselves are in the golden files.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.addresses import Origin
from slmgate.control.config.document import parse
from slmgate.control.config.options import Config, Instance
from slmgate.control.config.reading import MAX_FAULTS, Reader

MINIMAL = 'models: {m: {instances: [{url: "http://h:1"}]}}\n'


def test_places_are_those_of_the_file() -> None:
    text = "models:\n  m:\n    instances:\n    - &i {url: 'http://h:1'}\n    - *i\n"
    root, _ = parse(text)
    assert root is not None
    reader = Reader("x", text, Path("/base"), {})
    config = reader.config(root)
    assert isinstance(config, Config)
    first, second = config.models["m"].instances
    assert reader.places[id(first), "url"].option == "models.m.instances[0].url"
    assert reader.places[id(second), "url"].option == "models.m.instances[1].url"
    assert (id(first), "weight") not in reader.places
    assert not reader.broken(first)


def test_relative_paths_count_from_the_base() -> None:
    config = load_text(MINIMAL + "log: {access: a.log}", base_dir=Path("/base")).unwrap()
    assert config.state_dir == Path("/base/slmgate-data")
    assert config.log.access[0].to == Path("/base/a.log")
    assert load_text(MINIMAL + "state_dir: /abs", base_dir=Path("/base")).unwrap().state_dir == Path("/abs")


def test_faults_are_bounded() -> None:
    loaded = load_text(MINIMAL + "".join(f"bogus{i}: 1\n" for i in range(MAX_FAULTS + 5)))
    assert len(loaded.faults) == MAX_FAULTS


def test_many_faults_in_one_line_are_told_in_time() -> None:
    """Each excerpt is cut from a line that is struck through once; a minute, when it was done for each fault."""
    loaded = load_text("{" + ", ".join(f"bogus{i}: 1" for i in range(40_000)) + "}")
    assert len(loaded.faults) == MAX_FAULTS


def test_faults_are_in_the_order_of_the_file() -> None:
    loaded = load_text("workers: 0\nguard: {max_body: 0}\nmodels: {m: {instances: []}}\nbogus: 1\n")
    assert [fault.line for fault in loaded.faults] == [1, 2, 3, 4]


def test_an_excerpt_has_no_secret_on_any_of_its_lines() -> None:
    text = 'models: {m: {instances: [{url: "http://h:1/p", bearer: "canary\n  canary canary", weight: 0}]}}\n'
    loaded = load_text(text)
    assert len(loaded.faults) == 3
    assert not any("canary" in fault.excerpt for fault in loaded.faults)


def test_what_is_no_yaml_shows_no_secret_either() -> None:
    for text in ("a: {bearer: canary, [", 'a: {"bearer": "canary", b', "bearer: canary\n  x: y"):
        loaded = load_text(text)
        assert loaded.faults
        assert not any("canary" in str(fault) + fault.excerpt for fault in loaded.faults)


def test_a_long_line_is_cut_around_the_caret() -> None:
    (fault,) = load_text(MINIMAL.rstrip() + "\nguard: {" + " " * 5000 + "max_body: 0}").faults
    assert fault.excerpt[fault.caret :].startswith("0}")
    assert len(fault.excerpt) <= 160


def test_a_document_that_is_a_list() -> None:
    """Entries that can be read are made in spite of others' faults; options are explained where the configuration's are."""
    text = "- {url: 'http://h:1'}\n- {url: 'http://h:2', weight: 0}\n- 3\n"
    root, _ = parse(text)
    assert root is not None
    reader = Reader("x", text, Path("/base"), {})
    made = reader.entries(Instance, root, "models.NAME.instances[]", "- http://h:1")
    assert [getattr(one, "url", None) for one in made] == [Origin("h", 1), Origin("h", 2)]
    assert [(fault.line, fault.option, fault.see) for fault in reader.faults()] == [
        (2, "[1].weight", "docs/configuration.md#modelsnameinstancesweight"),
        (3, "[2]", "docs/configuration.md#modelsnameinstances"),
    ]
    root, _ = parse("a: 1")
    assert root is not None
    reader = Reader("x", "a: 1", Path("/base"), {})
    assert reader.entries(Instance, root, "", "- http://h:1") == ()
    assert [str(fault) for fault in reader.faults()] == [
        "x:1:1: a mapping is not a list (begin each entry with a dash: - http://h:1)"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "models: {m: {instances: [{url: 'http://127.0.0.1:1'}]}}\nteams: {a: {plan: '${env:S}'}}",
            "there is no plan '${env:S}'",
        ),
        ("models: {m: {instances: [{url: 'http://127.0.0.1:1'}], fallback: ['${env:S}']}}", "there is no model '${env:S}'"),
        ("models: {m: {instances: [{command: ['${env:S}', a]}]}}", "there is no program '${env:S}' in the PATH"),
    ],
)
@pytest.mark.parametrize("secret", ["k3pt", "k3pt-canary", "k3pt-canary-" * 40])
def test_what_a_reference_fetched_is_in_no_fault(text: str, problem: str, secret: str) -> None:
    """Also where it was taken, and judged later by what else is in the file."""
    found = load_text(text, env={"S": secret}).faults
    assert found
    assert all(secret[:8] not in str(fault) for fault in found), found
    if len(secret) < 40:
        assert problem in [fault.problem for fault in found]
