"""The protocols have no code; that a store answers every one of their questions is shown here, what it answers by contracts."""

from __future__ import annotations

from slmgate.stores import base
from slmgate.stores.sql import SqlStore


def test_the_store_has_an_answer_for_every_question() -> None:
    protocols = base.Store.__mro__
    questions = {name for one in protocols if one.__module__.startswith("slmgate.") for name in vars(one) if name[0] != "_"}
    assert len(questions) > 25
    assert not [name for name in sorted(questions) if not hasattr(SqlStore, name)]
