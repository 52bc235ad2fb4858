"""What control is told at its start, and how it reads a configuration afresh by that.

What stands in a configuration is tested in `tests/control/config`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from slmgate.control.config import ConfigError
from slmgate.control.orders import ConfigSource, ControlOrders

FILE = ConfigSource(path="/etc/slmgate.yaml")
UPSTREAM = ConfigSource(upstream="http://h:1", models=("m",), engine="vllm")


@pytest.mark.parametrize("source", [FILE, UPSTREAM])
def test_a_round_trip(source: ConfigSource) -> None:
    orders = ControlOrders(source=source, state_dir="/var/s", admin=1, link=2, beats=3, row=4, lifeline=5, again=True)
    assert msgspec.json.decode(msgspec.json.encode(orders), type=ControlOrders) == orders


def test_a_file_is_read_afresh_each_time(tmp_path: Path) -> None:
    path = tmp_path / "slmgate.yaml"
    source = ConfigSource(path=str(path))
    assert source.load().faults
    path.write_text('models: {m: {instances: [{url: "http://h:1"}]}}\n')
    assert list(source.load().unwrap().models) == ["m"]
    path.write_text("models: {m: 1}\n")
    assert source.load().faults


def test_an_upstream() -> None:
    config = UPSTREAM.load().unwrap()
    assert list(config.models) == ["m"]


def test_addresses_and_state_without_a_file(tmp_path: Path) -> None:
    source = ConfigSource(
        upstream="http://h:1",
        models=("m",),
        listen=":9000",
        plain_http=True,
        admin="[::1]:9001",
        state_dir=str(tmp_path / "state"),
    )
    config = source.load().unwrap()
    assert [(str(each.address), each.plain_http) for each in config.listen] == [(":9000", True)]
    assert str(config.admin.address) == "[::1]:9001"
    assert config.state_dir == tmp_path / "state"


@pytest.mark.parametrize(
    "source",
    [
        ConfigSource(upstream="nonsense", models=("m",)),
        ConfigSource(upstream="http://h:1", models=("m",), listen="9000"),
        ConfigSource(upstream="http://h:1", models=("m",), listen=":9000"),
        ConfigSource(upstream="http://h:1", models=("m",), admin="http://h:1"),
    ],
)
def test_an_upstream_that_cannot_be(source: ConfigSource) -> None:
    with pytest.raises(ConfigError):
        source.load()


def test_an_admin_address_that_is_not_private_needs_the_word() -> None:
    source = ConfigSource(upstream="http://h:1", models=("m",), admin="0.0.0.0:9001")
    with pytest.raises(ConfigError) as refused:
        source.load()
    assert refused.value.faults[0].file == "--admin"
    assert "admin keys" in refused.value.faults[0].problem
    assert str(replace(source, plain_http=True).load().unwrap().admin.address) == "0.0.0.0:9001"
