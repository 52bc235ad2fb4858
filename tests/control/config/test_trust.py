"""What an instance's and its model's `tls` come to, and how it is seen that files have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from slmgate.control.config import compile_snapshot, load_text
from slmgate.control.config.options import Model
from slmgate.control.config.trust import stamped, tls_of, trust_of, trusting
from slmgate.control.config.trust_options import InstanceTls
from slmgate.policy.specs import TrustSpec
from tests.tools.authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.server("one", "gate.test")
    made.server("two", "gate.test")
    return made


def model(authority: Authority, own: str = "", shared: str = "") -> Model:
    text = f'models: {{m: {{instances: [{{url: "https://a:1"{own and f", tls: {own}"}}}]{shared and f", tls: {shared}"}}}}}'
    return load_text(text, base_dir=authority.home).unwrap().models["m"]


@pytest.mark.parametrize(
    ("own", "shared", "wanted"),
    [
        ("", "", InstanceTls()),
        ("on", "", InstanceTls(verify=True)),
        ("on", "{verify: false}", InstanceTls(verify=True)),
        ("", "{verify: false}", InstanceTls(verify=False)),
        ("{server_name: a.test}", "{server_name: b.test}", InstanceTls(server_name="a.test")),
        ("{verify: true}", "{server_name: b.test}", InstanceTls(server_name="b.test", verify=True)),
        ("{ca: system}", "{ca: ca.pem}", InstanceTls(ca="system")),
    ],
)
def test_an_instances_own_counts_before_its_models(authority: Authority, own: str, shared: str, wanted: InstanceTls) -> None:
    one = model(authority, own, shared)
    assert tls_of(one, one.instances[0]) == wanted


def test_a_certificate_and_its_key_belong_together(authority: Authority) -> None:
    shared = "{cert: one.pem, key: one.key, ca: ca.pem}"
    one = model(authority, "{server_name: b.test}", shared)
    home = str(authority.home)
    ca = f"{home}/ca.pem"
    assert trust_of(one, one.instances[0]) == TrustSpec(ca=ca, cert=f"{home}/one.pem", key=f"{home}/one.key")
    two = model(authority, "{cert: two.pem, key: two.key}", shared)
    assert trust_of(two, two.instances[0]) == TrustSpec(ca=ca, cert=f"{home}/two.pem", key=f"{home}/two.key")
    assert trust_of(model(authority, "{ca: system, verify: true}", shared), one.instances[0]).ca == ca
    system = model(authority, "{ca: system}", shared)
    assert trust_of(system, system.instances[0]).ca == ""


def test_changed_files_make_it_another_one(tmp_path: Path) -> None:
    assert stamped(TrustSpec()) == TrustSpec()
    file = tmp_path / "ca.pem"
    spec = TrustSpec(ca=str(file))
    missing = stamped(spec)
    file.write_text("a")
    there = stamped(spec)
    file.write_text("ab")
    assert len({missing, there, stamped(spec)}) == 3
    assert stamped(spec) == stamped(spec)


def test_the_stamps_of_a_snapshot(authority: Authority) -> None:
    text = """
models:
  m: {instances: [{url: "https://a:1"}, {url: "http://a:2"}], tls: {ca: ca.pem}}
  n: {instances: [{url: "https://a:1"}]}
"""
    config = load_text(text, base_dir=authority.home).unwrap()
    spec = trusting(compile_snapshot(config, 1))
    m, n = spec.models
    assert m.instances[0].trust == stamped(TrustSpec(ca=str(authority.file)))
    assert (m.instances[1].trust, n.instances[0].trust) == (None, None)
    plain = compile_snapshot(load_text('models: {m: {instances: [{url: "https://a:1"}]}}').unwrap(), 1)
    assert trusting(plain) is plain
