"""What a record of contents shows of itself: nothing of what is in it."""

from __future__ import annotations

from datetime import UTC, datetime

from slmgate.stores.contents import ContentRecord


def test_a_record_does_not_show_what_is_in_it() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    assert repr(ContentRecord(id="r1", role="kept", time=now, expires=now, prompt="secret")) == "ContentRecord(r1)"
