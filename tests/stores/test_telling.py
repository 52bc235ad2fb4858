"""The questions that analytics ask are those that the store answers."""

from __future__ import annotations

import inspect

from slmgate.stores.sql_tallies import SqlTallies
from slmgate.stores.telling import TallyStore


def test_the_store_answers_every_question_as_it_is_asked() -> None:
    asked = {name: inspect.signature(each) for name, each in inspect.getmembers(TallyStore, inspect.isfunction) if name[0] != "_"}
    assert set(asked) == {"clients", "counts", "models_of", "prepare", "read", "since", "subjects"}
    assert {name: inspect.signature(getattr(SqlTallies, name)) for name in asked} == asked
