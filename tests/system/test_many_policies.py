"""The decision core against its slow reference with the whole figure of the goals: 100,000 random policies.

It starts no process; it stands here because it takes half a minute, which the quick run must not.
"""

from __future__ import annotations

from tests.policy.test_reference import compare

POLICIES = 100_000


def test_a_hundred_thousand_policies() -> None:
    compare(POLICIES)
