"""What clients and operators are told of a token that fails."""

from __future__ import annotations

from slmgate.control.identity.outcomes import TokenRefused, refusal, unavailable
from slmgate.errors import FAULTS


def test_the_client_learns_nothing_of_why() -> None:
    one, other = refusal(TokenRefused("expired")), refusal(TokenRefused("forged"))
    assert one.message == other.message
    assert one.rule == "auth: expired"
    assert FAULTS[one.code].status == 401


def test_it_may_come_back() -> None:
    refuse = unavailable("https://login.example.com answered 500")
    assert "example.com" not in refuse.message
    assert "example.com" in refuse.rule
    assert (FAULTS[refuse.code].status, refuse.retry_after) == (503, 2)
