"""What loading came to, for those who want the configuration and nothing else."""

from __future__ import annotations

import pytest

from slmgate.control.config.faults import ConfigError, ConfigFault
from slmgate.control.config.loaded import Loaded
from slmgate.control.config.options import Config


def fault(line: int) -> ConfigFault:
    return ConfigFault(file="f.yaml", line=line, column=5, option="workers", problem="'0' is too few", hint="")


def test_a_configuration() -> None:
    config = Config(models={})
    assert Loaded(config=config).unwrap() is config


def test_faults() -> None:
    with pytest.raises(ConfigError) as caught:
        Loaded(config=None, faults=(fault(3), fault(4))).unwrap()
    assert [each.line for each in caught.value.faults] == [3, 4]
    assert str(caught.value).count("\n") == 1
