"""The two ways in which a token can fail: it is no good, or nobody can say now whether it is.

Both carry a reason for the operator, in words that hold no part of the token; what a client is told of them is always the same,
so that a stranger learns nothing from trying. This module knows no provider.
"""

from __future__ import annotations

from slmgate.terms import Refuse

RETRY_SECONDS = 2


class TokenRefused(Exception):
    """The token opens nothing here, and will not later."""


class CannotTell(Exception):
    """A provider does not answer, or answers what no provider should: the token may be good."""


class UnknownKey(Exception):
    """The token names a key that is not among the known ones: it may be new."""


def refusal(why: TokenRefused) -> Refuse:
    message = "The access token is not valid here, or not any more. Get a new one from your identity provider."
    return Refuse("invalid_api_key", message, rule=f"auth: {why}")


def unavailable(why: str) -> Refuse:
    message = "Access tokens cannot be checked at the moment. Try again soon."
    return Refuse("identity_unavailable", message, retry_after=RETRY_SECONDS, rule=f"auth: {why}")
