"""Question 2: may this principal have that? Authorize, then limits, then route; the first refusal wins.

In this version every key has the built-in role `internal` (all models, all endpoints, no limits), so what is left to
decide is whether the model exists. It knows a snapshot and an ask; it keeps nothing and waits for nothing.
"""

from __future__ import annotations

from slmgate.policy.snapshot import ModelSpec, Snapshot
from slmgate.terms import Ask, Principal, Refuse


def decide(snapshot: Snapshot, key: Principal, ask: Ask) -> ModelSpec | Refuse:
    """The model to forward to, or why not.

    An API without a model field (`Ask.model` empty) means the only model there is; with several, it must be named.
    """
    if ask.model:
        model = snapshot.models.get(ask.model)
        if model is not None:
            return model
        return Refuse("model_not_found", f"The model '{ask.model}' does not exist or you may not use it.", "model")
    if len(snapshot.models) == 1:
        return snapshot.models[snapshot.model_names[0]]
    return Refuse("model_not_found", "This gate has several models: name one in the field 'model'.", "model")
