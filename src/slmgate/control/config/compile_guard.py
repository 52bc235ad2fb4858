"""The options under `guard` that are about addresses -> what workers count by (`policy/guard.py`).

Pure, as `compile.py` is, of which it is a part. What `off` and an unset option come to stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from slmgate.control.config.limit_words import LimitWords, write
from slmgate.policy.guard import GuardSpec, RateSpec

if TYPE_CHECKING:
    from slmgate.control.config.options import Guard


def guard_spec(guard: Guard) -> GuardSpec:
    """What each address may do."""
    per_ip = guard.per_ip
    return GuardSpec(
        requests=_rate(per_ip.requests),
        connections=0 if per_ip.connections == "off" else per_ip.connections,
        new_connections=_rate(per_ip.new_connections),
        failed_auth=_rate(per_ip.failed_auth.limit),
        ban=per_ip.failed_auth.ban,
        all_new_connections=_rate(guard.new_connections),
        exempt=guard.exempt + guard.trusted_proxies,
    )


def _rate(words: LimitWords | Literal["off"] | None) -> RateSpec | None:
    if words is None or words == "off":
        return None
    return RateSpec(words.amount, words.seconds, words.amount if words.burst is None else words.burst, write(words))
