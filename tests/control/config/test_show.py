"""Writing a configuration out: it reads back the same, secrets excepted, and the sample holds every option.

How single values are written is tested with their kinds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.config import load_text
from slmgate.control.config.options import Config
from slmgate.control.config.show import default_text, dump, flow, sample, to_yaml
from slmgate.control.config.table import Section, rows, walk
from tests.control.config.test_golden import CASES, ENV, GOLDEN, split
from tests.tools.authority import Authority
from tests.tools.tokenizers import written

BASE = Path("/base")
EXAMPLES = Path(__file__).parents[3] / "examples"
TEXT = """\
models:
  "1.5": {instances: [{url: "http://[::1]:1", upstream_model: "$${env:A}", weight: 2}], retry: {on: [connect, 502]}}
listen: [{address: ":80", plain_http: true}]
keys: [{name: "12", hash: "sha256:%s", expires: 2027-01-01, disabled: true}]
guard: {max_body: 10M}
log: {access: off}
""" % ("0a" * 32)


def test_it_reads_back_the_same() -> None:
    config = load_text(TEXT, base_dir=BASE).unwrap()
    assert load_text(to_yaml(config), base_dir=Path("/elsewhere")).unwrap() == config


def loads_again(config: Config) -> None:
    """What `config show` prints loads, and is shown in the same words; a secret has to be put where `***` stands for it."""
    shown = to_yaml(config)
    again = load_text(shown.replace("'***'", "a" * 22), base_dir=Path("/elsewhere"))
    assert again.faults == ()
    assert to_yaml(again.unwrap()) == shown


def samples() -> dict[str, Config]:
    """Every configuration of the golden files and of the examples that loads."""
    texts = {case.name: (split(case)[0], GOLDEN / "files") for case in CASES}
    texts |= {path.name: (path.read_text(), path.parent) for path in EXAMPLES.glob("*.yaml")}
    loaded = {name: load_text(text, base_dir=base, env=ENV).config for name, (text, base) in texts.items()}
    return {name: config for name, config in loaded.items() if config is not None}


SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_shown_loads_again(name: str) -> None:
    loads_again(SAMPLES[name])


def options_in(section: type[Section], told: dict[str, Any], at: str = "") -> Iterator[str]:
    for row in rows(section).values():
        if row.name in told:
            yield f"{at}{row.name}"
            inner = told[row.name]
            many = {"one": [inner], "list": inner, "map": inner.values() if row.shape == "map" else ()}[row.shape]
            step = {"one": ".", "list": "[].", "map": ".NAME."}[row.shape]
            for one in many if row.section is not None else ():
                if isinstance(one, dict):
                    assert row.section is not None
                    yield from options_in(row.section, one, f"{at}{row.name}{step}")


def test_secrets_are_struck_out() -> None:
    text = 'models: {m: {instances: [{url: "http://h", bearer: "${env:KEY}"}]}}'
    config = load_text(text, env={"KEY": "canary"}).unwrap()
    assert dump(config)["models"]["m"]["instances"][0]["bearer"] == "***"
    assert "canary" not in to_yaml(config)


def uncommented() -> str:
    return re.sub(r"^( *)#(?! )", r"\1", sample(), flags=re.MULTILINE)


def without_alternatives(text: str) -> str:
    """Without what can only stand in another's place, which is there as well; and with the other model that a version needs, and
    an instance that is reached over TLS, as options of that have to be looked at."""
    other = 'models:\n  smollm2-next: {instances: [{url: "http://127.0.0.1:8001"}]}\n'
    others = "dns|port|file|command|environment: {}|directory|start|start_within|stop_within|idle: 10m|output"
    secure = text.replace("url: http://127.0.0.1:8000", "url: https://127.0.0.1:8000", 1)
    return re.sub(rf"^ +({others})(: .*)?\n", "", secure, flags=re.MULTILINE).replace("models:\n", other, 1)


def test_the_sample_is_all_defaults() -> None:
    config = load_text(sample(), base_dir=BASE).unwrap()
    minimal = load_text('models: {smollm2: {instances: [{url: "http://127.0.0.1:8000"}]}}', base_dir=BASE).unwrap()
    assert config == minimal


def test_the_sample_without_its_comment_signs_has_every_option(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server("gate")
    authority.crl()
    authority.server("gate-client")
    (tmp_path / "instances-ca.pem").write_bytes(authority.file.read_bytes())
    authority.file.rename(tmp_path / "clients.pem")
    (tmp_path / "acme-root.pem").write_bytes((tmp_path / "clients.pem").read_bytes())
    (tmp_path / "smollm2").mkdir()
    written(tmp_path / "smollm2")
    env = {"VLLM_KEY": "x", "INTROSPECT_SECRET": "x", "ADMIN_OIDC_SECRET": "x", "SLMGATE_NOTIFY_SECRET": "x", "EAB_KEY": "a" * 22}
    config = load_text(without_alternatives(uncommented()), base_dir=tmp_path, env=env).unwrap()
    assert config.keys[0].name == "acme-bot"
    assert config.models["smollm2"].instances[0].bearer is not None
    loads_again(config)
    shown = {option for each in (config, *SAMPLES.values()) for option in options_in(Config, dump(each))}
    assert {option for option, _ in walk(Config)} <= shown, "an option whose printed form nothing loads"
    for _, row in walk(Config):
        assert f"{row.name}:" in uncommented()
        assert f"# {row.option.doc}\n" in sample()


def test_one_line_forms() -> None:
    assert flow(["a", 1, "off"]) == "[a, 1, 'off']"
    assert flow("x") == "x"
    assert default_text(rows(Config)["models"]) == ""
    assert default_text(rows(Config)["workers"]) == "auto"
