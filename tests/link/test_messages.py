"""The messages of the link: each comes back from its trip as what it was, and a stranger's is refused.

How they are cut into pieces on the way is `test_channel.py`'s affair.
"""

from __future__ import annotations

import msgspec
import pytest

from slmgate.link.messages import (
    Cancelled,
    CancelLive,
    Captured,
    CaptureKept,
    Captures,
    Checked,
    CheckedOut,
    Confirm,
    Grounds,
    Hello,
    InstanceTally,
    KeysChanged,
    KeysWhole,
    ListLive,
    Live,
    LiveFilter,
    LiveRequest,
    Look,
    Looked,
    Message,
    Publish,
    Tally,
    Verified,
    Verify,
)
from slmgate.policy.specs import SnapshotSpec
from slmgate.terms import Bearer, Key, LimitSpec, Refuse

KEY = Key(id="k1", name="bot", team="acme", roles=("a",), networks=("10.0.0.0/8",), digests=((b"d" * 32, 5.0),))
LIMIT = LimitSpec(name="limits[0]", text="1 concurrent", identity="i", unit="concurrent", amount=1, per=())
LIVE = LiveRequest(id="0123456789ab00000001", request_id="r", since=5.5, state="streaming", tokens=12)
MESSAGES = [
    Hello(0, 1, "0123456789ab"),
    Hello(3, 99, "0123456789ab", 7),
    Publish(SnapshotSpec(generation=7)),
    Publish(SnapshotSpec(generation=7), (KEY,), ("declared:gone",)),
    KeysWhole(7, (KEY,), first=True, last=True),
    KeysChanged(8, (KEY,), ("gone",)),
    Confirm(0, 7),
    Tally(0, 1, 2, 3, 4, 5),
    Verify(1, "token"),
    Verified(1, Bearer(id="https://i#bot", name="bot", kind="token", team="a", roles=("r",), grounds="g"), 5.0),
    Verified(1, refuse=Refuse("invalid_api_key", "No.", rule="auth")),
    KeysChanged(8, (Key(id="k2", name="own", limits=(LIMIT,)),)),
    Look(7, (LIMIT,), ((0, "k1"), (0, ""))),
    Looked(7, ((0, 1), (2**62, 10**18))),
    Looked(7, None),
    ListLive(7, LiveFilter(), 100),
    ListLive(7, LiveFilter(client="bot", team="a", model="m", instance="m/a", state="queued"), 0),
    Live(7, (), True),
    Live(7, (LIVE,), False, 2, 1, (("bot", 2, 1),)),
    CancelLive(7, "0123456789ab00000001"),
    CancelLive(7, "0123456789ab00000001", look=True),
    Cancelled(7, LIVE),
    Cancelled(7, None, over=True),
    Captures(1, (Captured("r1", "kept", 5.5, "openai", True, b"asked", False, b"\xff", True),), 2),
    Captures(2, (Captured("r1", "kept", 5.5, "openai"),)),
    CaptureKept(1, 2),
    Grounds(()),
    Grounds(("a", "b")),
    Tally(0, 1, 2, 3, 4, 5, (InstanceTally("m/a", "m", 1, 2, True),)),
    Tally(0, 1, 2, 3, 4, 5, (InstanceTally("m/a", "m", 1, 2, False, "ejected", "it cannot be reached", 0.5, 3),)),
    Checked(),
    Checked(out=(CheckedOut("m/a", "silent", "no answer"),), well=("m/b", "m/c")),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_a_round_trip(message: Message) -> None:
    decoded: Message = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Message)
    assert decoded == message


@pytest.mark.parametrize("told", [{}, {"type": "other"}, {"type": "hello"}, {"type": "confirm", "slot": "x", "generation": 1}, 1])
def test_anything_else_is_refused(told: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Message)


def test_a_token_does_not_show() -> None:
    assert repr(Verify(7, "secret-token")) == "Verify(7)"


def test_a_field_of_a_newer_version_is_let_pass() -> None:
    """While a gate is upgraded, an old worker may hear a newer control."""
    told = {"type": "confirm", "slot": 1, "generation": 2, "mood": "good"}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=Message) == Confirm(1, 2)


def test_what_was_captured_shows_nothing_of_itself() -> None:
    record = Captured("r1", "kept", 5.5, "openai", prompt=b"secret")
    assert repr(record) == "Captured(r1)"
    assert "secret" not in repr(Captures(1, (record,)))
