"""Files of instances: every form that is taken, every fault with its line, and what nobody may write there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control.config import instance_list, load_text
from slmgate.control.config.addresses import Address, Origin
from slmgate.control.config.document import MAX_BYTES
from slmgate.control.config.instance_list import CannotRead, Listed, Rules, instance_of, read_file, read_list
from slmgate.control.config.trust_options import InstanceTls

RULES = Rules(loopback=False, gate=(Address("10.0.0.1", 8080),))


def listed(text: str, rules: Rules = RULES) -> list[Listed]:
    entries, faults = read_list(text, "instances.yaml", rules)
    assert not faults, faults
    return list(entries)


def test_every_form() -> None:
    text = """\
# written by deploy.sh
- http://10.0.0.5:8000
- {url: "https://[fd00::5]:8001", weight: 3}
- url: http://vllm.svc:8000
  engine: vllm
  max_in_flight: 16
  upstream_model: org/x
"""
    assert listed(text) == [
        Listed(url=Origin("10.0.0.5", 8000)),
        Listed(url=Origin("fd00::5", 8001, True), weight=3),
        Listed(url=Origin("vllm.svc", 8000), engine="vllm", max_in_flight=16, upstream_model="org/x"),
    ]
    assert listed('["http://10.0.0.5", {"url": "http://10.0.0.6", "weight": 2}]') == [
        Listed(url=Origin("10.0.0.5", 80)),
        Listed(url=Origin("10.0.0.6", 80), weight=2),
    ]
    assert listed('[\n\t{\n\t\t"url": "http://10.0.0.5"\n\t}\n]\n') == [Listed(url=Origin("10.0.0.5", 80))]
    assert listed("\ufeff- http://10.0.0.5\r\n") == [Listed(url=Origin("10.0.0.5", 80))]
    assert listed("[]") == listed("[]\n") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1:1: the file is empty (write - http://10.0.0.5:8000, or [] for none)"),
        ("# nothing yet\n", "1:1: the file is empty"),
        ("{}\n", "1:1: a mapping is not a list (begin each entry with a dash: - http://10.0.0.5:8000)"),
        ("http://10.0.0.5\n", "1:1: 'http://10.0.0.5' is not a list"),
        ("- http://10.0.0.5:80", "1:1: the last line has no end (is it being written? End it with a line feed)"),
        ("- http://10.0.0.5\n- http://10.0", "2:1: the last line has no end"),
        ('[{"url": "http://10.0.0.5"}, {"u', "1:33: this is not YAML"),
        ("- http://10.0.0.5\n---\n- http://10.0.0.6\n", "2:1: a second document begins here"),
        ("- url: http://10.0.0.5\n  url: http://10.0.0.6\n", "2:3: this name is given twice"),
        ("- 10.0.0.5:8000\n", "1:3: [0]: '10.0.0.5:8000' has no scheme (write http:// or https:// in front)"),
        ("- http://10.0.0.5/v1\n", "1:3: [0]: 'http://10.0.0.5/v1' has a path"),
        ("- http://u:p@10.0.0.5\n", "1:3: [0]: the value holds a user name or password"),
        ("- [http://10.0.0.5]\n", "1:3: [0]: a list is not a mapping of options"),
        ("-\n", "1:2: [0]: an empty value has no scheme"),
        ("- {weight: 2}\n", "1:3: [0].url: url is missing"),
        ('- {url: "http://10.0.0.5", weight: 0}\n', "1:36: [0].weight: '0' is less than this option takes"),
        ('- {url: "http://10.0.0.5", wieght: 1}\n', "1:28: [0]: unknown option 'wieght' (did you mean weight?)"),
        ('- {url: "http://10.0.0.5", engine: bolt}\n', "1:36: [0].engine: 'bolt' is not one of the accepted values"),
        ('- {url: "http://10.0.0.5", bearer: x}\n', "1:28: [0]: unknown option 'bearer' (it belongs in models.NAME.instances[])"),
        ("- {dns: vllm.svc, port: 1}\n", "1:3: [0].url: url is missing"),
        ("- {file: more.yaml}\n", "1:3: [0].url: url is missing"),
        ("- http://10.0.0.5\n- http://10.0.0.5:80\n", "2:3: [1]: 'http://10.0.0.5:80' is in the list already (see [0]"),
        ("- http://10.0.0.1:8080\n", "1:3: [0]: 'http://10.0.0.1:8080' is the gate itself"),
    ],
)
def test_faults(text: str, fault: str) -> None:
    _, faults = read_list(text, "instances.yaml", RULES)
    assert str(faults[0]).startswith(f"instances.yaml:{fault}")


def test_all_faults_are_told_with_the_options_documentation() -> None:
    _, faults = read_list('- {url: "http://169.254.169.254", weight: no}\n- http://10.0.0.5/x\n', "x.yaml", RULES)
    assert [(fault.line, fault.option) for fault in faults] == [(1, "[0].url"), (1, "[0].weight"), (2, "[1]")]
    weight = next(fault for fault in faults if fault.option == "[0].weight")
    assert weight.see == "docs/configuration.md#modelsnameinstancesweight"
    assert weight.doc.startswith("Share of the work")


PIECES = [
    "- ",
    "\n",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ": ",
    "url",
    "weight",
    "1",
    '"',
    "http://",
    "10.0.0.5",
    "x.svc",
    ":80",
    "${env:A}",
    "\0",
    "&a",
    "*a",
    "é",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join) | st.text(max_size=40))
def test_any_text(text: str) -> None:
    """It is a list, or it has faults that say where, on one harmless line each."""
    entries, faults = read_list(text, "instances.yaml", RULES)
    assert all(str(fault).isprintable() and fault.line >= 1 for fault in faults)
    assert faults or all(RULES.fault(entry.url) is None for entry in entries)


@pytest.mark.parametrize(
    "text",
    ["- ${env:HOME}\n", '- {url: "http://10.0.0.5", upstream_model: "${file:/etc/x}"}\n', '- {"${env:A}": 1}\n', '- [["${x"]]\n'],
)
def test_nothing_is_fetched(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever may write the file could have the gate send its secrets anywhere."""
    monkeypatch.setenv("HOME", "http://10.0.0.9")
    entries, faults = read_list(text, "instances.yaml", RULES)
    assert entries == ()
    assert [fault.problem for fault in faults] == ["a file of instances fetches nothing"]


NEVER = "is where no instance may be"


@pytest.mark.parametrize(
    ("url", "fault", "with_loopback"),
    [
        ("http://10.0.0.5", None, None),
        ("http://192.168.1.1", None, None),
        ("http://[fd00::1]", None, None),
        ("http://203.0.113.5", None, None),
        ("http://vllm.svc", None, None),
        ("https://vllm.svc", None, None),
        ("http://127.0.0.1", "is this machine itself", None),
        ("http://127.9.9.9", "is this machine itself", None),
        ("http://[::1]", "is this machine itself", None),
        ("http://[::ffff:127.0.0.1]", "is this machine itself", None),
        ("http://169.254.169.254", NEVER, NEVER),
        ("https://169.254.169.254", NEVER, NEVER),
        ("http://[::ffff:169.254.169.254]", NEVER, NEVER),
        ("http://[64:ff9b::a9fe:a9fe]", NEVER, NEVER),
        ("http://[fe80::1]", NEVER, NEVER),
        ("http://[fe80::1%25eth0]", NEVER, NEVER),
        ("http://[fd00:ec2::254]", NEVER, NEVER),
        ("http://100.100.100.200", NEVER, NEVER),
        ("http://0.0.0.0", NEVER, NEVER),
        ("http://224.0.0.1", NEVER, NEVER),
        ("http://0xa9fea9fe", "has no address", "has no address"),
        ("https://x.0xfe", "has no address", "has no address"),
        ("http://metadata.254", "has no address", "has no address"),
    ],
)
def test_addresses(url: str, fault: str | None, with_loopback: str | None) -> None:
    for loopback, expected in ((False, fault), (True, with_loopback)):
        _, faults = read_list(f"- {url}\n", "instances.yaml", Rules(loopback))
        assert [found.problem for found in faults] == ([] if expected is None else [f"'{url}' {expected}"])


def test_networks() -> None:
    config = load_text("models: {m: {instances: [{file: i.yaml}]}}\ndiscovery: {networks: [10.1.0.0/16]}\n").unwrap()
    text = "- http://10.1.0.1:1\n- http://vllm.svc:1\n- http://10.2.0.1:1\n"
    (found,) = read_list(text, "instances.yaml", Rules.of(config))[1]
    assert (found.line, found.problem) == (3, "'http://10.2.0.1:1' is in none of discovery.networks")


def test_instances() -> None:
    """What an entry leaves open is as the configuration says; a name leads to instances, unless TLS holds it to itself."""
    text = "models: {m: {instances: [{file: i.yaml, engine: ollama, weight: 2, bearer: abcd, upstream_model: own}]}}"
    (entry,) = load_text(text).unwrap().models["m"].instances
    plain, own, name, secure = listed(
        "- http://10.0.0.5:1\n- {url: http://10.0.0.6:1, engine: vllm, weight: 3, max_in_flight: 4, upstream_model: x}\n"
        "- http://vllm.svc:8000\n- https://vllm.svc:8001\n"
    )
    made = instance_of(entry, plain)
    assert (made.url, made.file, made.engine, made.weight, made.upstream_model) == (
        Origin("10.0.0.5", 1),
        None,
        "ollama",
        2,
        "own",
    )
    assert str(made.bearer) == "abcd"
    made = instance_of(entry, own)
    assert (made.engine, made.weight, made.max_in_flight, made.upstream_model) == ("vllm", 3, 4, "x")
    made = instance_of(entry, name)
    assert (made.url, made.dns, made.port, made.file) == (None, "vllm.svc", 8000, None)
    made = instance_of(entry, secure)
    assert (made.url, made.dns) == (Origin("vllm.svc", 8001, True), None)


def test_the_list_says_which_are_reached_over_tls_and_the_configuration_whom_to_believe() -> None:
    text = "models: {m: {instances: [{file: i.yaml, tls: {server_name: a.test}}]}}"
    (entry,) = load_text(text).unwrap().models["m"].instances
    made = [instance_of(entry, one) for one in listed("- http://10.0.0.5:1\n- http://vllm.svc:1\n- https://10.0.0.6:1\n")]
    assert [one.tls for one in made] == [None, None, InstanceTls(server_name="a.test")]


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "instances.yaml"
    with pytest.raises(CannotRead, match="there is no such file"):
        read_file(path)
    path.write_text("- http://10.0.0.5\n")
    read = read_file(path)
    assert read is not None
    assert (read.text, read.stamp[1]) == ("- http://10.0.0.5\n", 18)
    with pytest.raises(CannotRead, match="not a regular file"):
        read_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    started = time.monotonic()
    with pytest.raises(CannotRead, match="not a regular file"):
        read_file(tmp_path / "pipe")
    assert time.monotonic() - started < 5
    with pytest.raises(CannotRead, match="cannot be read: Not a directory"):
        read_file(path / "x")
    path.write_bytes(b"- \xff\n")
    with pytest.raises(CannotRead, match="not UTF-8 text: byte 0xff"):
        read_file(path)
    path.write_bytes(b"#" * MAX_BYTES)
    assert read_file(path) is not None
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(CannotRead, match="larger than 4 MiB"):
        read_file(path)
    path.write_text("- http://10.0.0.5\n")
    stamps = iter([(1, 1, 1), (1, 2, 2)])
    monkeypatch.setattr(instance_list, "stamp_of", lambda _: next(stamps))
    assert read_file(path) is None, "it was written to meanwhile"
