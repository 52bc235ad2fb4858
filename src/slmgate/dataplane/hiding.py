"""Which name an exchange's client has for the model: its answer is to say no other.

What else is masked is `dialects/masking.py`'s to say. Pure reading of an exchange's fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmgate.dialects.masking import Mask, mask_of

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange


def mask_for(exchange: Exchange) -> Mask:
    """The mask of an exchange's answer: the model as it was asked for; where the request named none, the only one there is."""
    asked, admit = exchange.asked, exchange.admit
    assert asked is not None and admit is not None
    return mask_of(asked.model or admit.model.name)
