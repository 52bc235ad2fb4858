"""Faults of `tls` towards instances: with real files, good and bad; which files are followed, and who is not verified."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.trust_checks import unverified
from tests.tools.authority import Authority


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.server("one", "gate.test")
    made.server("two", "gate.test")
    (made.home / "text").write_text("nothing\n")
    return made.home


def faults(home: Path, tls: str, url: str = "url: 'https://a:1'") -> list[str]:
    text = f"models:\n  m:\n    instances:\n      - {url}\n        tls: {tls}\n"
    return [f"{one.option.rpartition('.')[2]}: {one.problem}" for one in load_text(text, base_dir=home).faults]


@pytest.mark.parametrize(
    "tls",
    [
        "on",
        "{verify: true}",
        "{verify: false}",
        "{verify: false, server_name: a.test, cert: one.pem, key: one.key}",
        "{ca: ca.pem, cert: one.pem, key: one.key, server_name: A.test}",
        "{ca: system}",
    ],
)
def test_right(home: Path, tls: str) -> None:
    assert faults(home, tls) == []
    assert faults(home, tls, "{dns: a.test, port: 1}".strip("{}").replace(", ", "\n        ")) == []


@pytest.mark.parametrize(
    ("tls", "fault"),
    [
        ("{cert: one.pem}", "cert: key is missing"),
        ("{key: one.key}", "key: cert is missing"),
        ("{cert: one.pem, key: two.key}", "key: 'two.key' is not the key of its certificate"),
        ("{cert: none.pem, key: one.key}", "cert: 'none.pem' cannot be read: No such file or directory"),
        ("{cert: text, key: one.key}", "cert: 'text' holds no certificate"),
        ("{ca: text}", "ca: 'text' holds no certificate that can be read"),
        ("{ca: none.pem}", "ca: 'none.pem' cannot be read: No such file or directory"),
        ("{ca: ca.pem, verify: false}", "ca: ca is never looked at"),
        ("{verify: 'no'}", "verify: 'no' is text, not a boolean: files are read as YAML 1.2"),
        ("{server_name: 10.0.0.5}", "server_name: '10.0.0.5' is an address, not a name"),
        ("{server_name: 'a.test:1'}", "server_name: 'a.test:1' is not a host name"),
        ("{insecure: true}", "tls: unknown option 'insecure'"),
        ("true", "tls: 'true' is not a mapping of options"),
        ("off", "tls: 'off' is not a mapping of options"),
    ],
)
def test_wrong(home: Path, tls: str, fault: str) -> None:
    assert faults(home, tls) == [fault]
    text = f"models:\n  m:\n    instances: [{{url: 'https://a:1'}}]\n    tls: {tls}\n"
    (one,) = load_text(text, base_dir=home).faults
    assert f"{one.option.rpartition('.')[2]}: {one.problem}" == fault


def test_never_looked_at(home: Path) -> None:
    assert faults(home, "on", "url: 'http://a:1'") == ["tls: tls is never looked at"]
    assert faults(home, "on", "command: [/bin/sh, '{port}']") == ["tls: tls is never looked at"]


def test_files_are_followed_good_or_bad(home: Path) -> None:
    text = "models: {m: {instances: [{url: 'https://a:1', tls: {cert: one.pem, key: %s}}], tls: {ca: ca.pem}}}"
    for key in ("one.key", "two.key"):
        assert load_text(text % key, base_dir=home).files.keys() == {home / "one.pem", home / key, home / "ca.pem"}
    loaded = load_text(text % "two.key", base_dir=home, tls_files=False)
    assert loaded.config is not None, "what is gone back to is good, whatever has become of its files"
    assert home / "two.key" in loaded.files


def test_who_is_not_verified() -> None:
    text = """
models:
  m:
    instances:
      - {url: "https://a:1"}
      - {url: "https://a:2", tls: on}
      - {url: "http://a:3"}
      - {dns: b.test, port: 4}
      - {dns: c.test, port: 5, tls: {server_name: c.test}}
      - {file: /some/list.yaml}
    tls: {verify: false}
  n: {instances: [{url: "https://a:1"}]}
"""
    assert unverified(load_text(text).unwrap()) == ["m/a:1", "m, c.test", "m, /some/list.yaml"]
