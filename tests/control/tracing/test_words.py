"""What a receipt says of its trace."""

from __future__ import annotations

import pytest

from slmgate.control.tracing.words import is_recorded, parent_id, recorded_id, trace_id

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("trace", "id", "recorded", "parent"),
    [
        ("", "", False, ""),
        (ID, ID, True, ""),
        (f"{ID}-{SPAN}-00", ID, False, SPAN),
        (f"{ID}-{SPAN}-01", ID, True, SPAN),
        (f"{ID}-{SPAN}-02", ID, False, SPAN),
        (f"{ID}-{SPAN}-03", ID, True, SPAN),
    ],
)
def test_a_trace(trace: str, id: str, recorded: bool, parent: str) -> None:
    assert (trace_id(trace), is_recorded(trace), parent_id(trace)) == (id, recorded, parent)
    assert recorded_id(trace) == (id if recorded else "")
