"""Question 2, as far as there is one: does the model exist?

A model that does not exist is refused with the name that the client gave, and nothing else.
"""

from __future__ import annotations

import pytest

from slmgate.policy.decide import decide
from slmgate.policy.snapshot import ModelSpec, Snapshot, SnapshotSpec
from slmgate.terms import Ask, Key, Refuse

KEY = Key(id="k", name="bot")
M, N = ModelSpec(name="m", instances=()), ModelSpec(name="n", instances=())


def verdict(asked: str, *models: ModelSpec) -> ModelSpec | Refuse:
    return decide(Snapshot(SnapshotSpec(generation=1, models=models)), KEY, Ask(asked))


@pytest.mark.parametrize(("asked", "models", "chosen"), [("m", (M,), M), ("n", (M, N), N), ("", (M,), M)])
def test_there(asked: str, models: tuple[ModelSpec, ...], chosen: ModelSpec) -> None:
    assert verdict(asked, *models) is chosen


@pytest.mark.parametrize("asked", ["x", "M", "m ", "m/"])
def test_not_there(asked: str) -> None:
    refused = verdict(asked, M, N)
    assert refused == Refuse("model_not_found", f"The model '{asked}' does not exist or you may not use it.", "model")


@pytest.mark.parametrize("models", [(), (M, N)], ids=["none", "several"])
def test_unnamed_where_there_is_not_one(models: tuple[ModelSpec, ...]) -> None:
    refused = verdict("", *models)
    assert isinstance(refused, Refuse)
    assert (refused.code, refused.param) == ("model_not_found", "model")
