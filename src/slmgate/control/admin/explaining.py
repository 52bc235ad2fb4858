"""What the routes about verdicts do: why a request would be, or was, admitted or refused by the configuration in force.

The story itself is made in `control/trials`; here the key or the receipt that is meant is found. Handlers are plain functions,
run in a thread; who may call stands in the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmgate.control.admin import handlers
from slmgate.control.config import Config
from slmgate.control.keyring import UnknownKey, as_term, utc_now
from slmgate.control.trials.asked import declared_key
from slmgate.control.trials.told import Past, Told, past, principal_of, told
from slmgate.control.trials.wish import Wish
from slmgate.terms import Key

if TYPE_CHECKING:
    from litestar.params import FromPath, JSONBody

    from slmgate.control.admin.params import Context


def explain(context: Context, data: JSONBody[Wish]) -> Told:
    """Why a would-be request would be admitted or refused by the configuration in force: every rule looked at."""
    config = _in_force(context)
    principal = principal_of(config, data.who, lambda name: _stored(context, name)[0])
    if principal is None:
        raise handlers.Unknown(f"There is no key {data.name!r} that could still be used; `slmgate keys list` shows all.")
    return told(config, principal, data.trial(utc_now().timestamp()))


def explain_request(context: Context, id: FromPath[str]) -> Past:
    """Why a past request was admitted or refused, and what the configuration in force would say of it."""
    found = handlers.receipt(context, id)
    config = _in_force(context)
    principal, state = declared_key(config, found.key or ""), "active"
    if principal is None and found.key is not None:
        principal, state = _stored(context, found.key)
    return past(config, found, principal, state)


def _in_force(context: Context) -> Config:
    if context.config is None:
        raise handlers.BadQuery("No gate runs here, so that no configuration is in force.")
    return context.config


def _stored(context: Context, name: str) -> tuple[Key | None, str]:
    """A stored key as the road would decide by it, if it is not revoked; and its state."""
    try:
        record = context.keyring.show(name)
    except UnknownKey:
        return None, "active"
    return None if record.revoked else as_term(record), context.keyring.state_of(record)
