"""What a record of an instance says, by itself."""

from __future__ import annotations

import pytest

from slmgate.stores.instances import InstanceRecord


@pytest.mark.parametrize(("options", "drained", "nothing"), [("", False, True), ("{}", False, False), ("", True, False)])
def test_says_nothing(options: str, drained: bool, nothing: bool) -> None:
    assert InstanceRecord(id="m/a:1", model="m", options=options, drained=drained).says_nothing is nothing
