"""What each route of the admin API does: questions to the keyring and the store, answers as the records of `views.py`.

Handlers that touch the store are plain functions, run in a thread; they raise what is wrong as it is, and `app.py` makes
problems of it. Who may call is not decided here. The web framework is not imported here, but named in annotations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from slmgate.control.admin import views
from slmgate.control.admin.context import GateStatus, InstanceStatus
from slmgate.control.keyring import (
    BadKeyInput,
    KeyRevoked,
    NameTaken,
    UnknownKey,
    parse_duration,
    parse_expiry,
    parse_moment,
    utc_now,
)
from slmgate.control.trials.told import Past, Told, declared, past, principal_of, told
from slmgate.control.trials.wish import BadTrial, Wish
from slmgate.stores.base import USAGE_GROUPS, AuditRecord, LedgerUnavailable, ReceiptFilter, unknown_groups
from slmgate.terms import Key, Receipt

if TYPE_CHECKING:
    from litestar import Response
    from litestar.params import FromPath, FromQuery, JSONBody

    from slmgate.control.admin.params import Caller, Context, Cursor, Limit, Moment, Status
    from slmgate.control.config import Config


class BadQuery(ValueError):
    """A query that cannot be answered; the message says why and what would do."""


class Unknown(LookupError):
    """There is no such record."""


STATUS: Mapping[type[Exception], int] = {
    UnknownKey: 404,
    Unknown: 404,
    BadKeyInput: 400,
    BadQuery: 400,
    BadTrial: 400,
    KeyRevoked: 409,
    NameTaken: 409,
    LedgerUnavailable: 503,
}
"""What handlers raise -> the HTTP status that says it."""


async def healthz() -> views.Health:
    """Alive: the admin listener answers."""
    return views.Health("ok")


async def readyz(context: Context) -> Response[views.Readiness]:
    """Ready: every model has an instance. 503 when not, with the models that have none."""
    from litestar import Response

    now = context.status()
    body = views.Readiness(ready=now.ready, draining=now.draining, models={model.name: model.ready for model in now.models})
    return Response(body, status_code=200 if now.ready else 503)


async def status(context: Context) -> GateStatus:
    """The gate as it is now: generation, models, instances, workers, faults of the last refused configuration."""
    return context.status()


async def instances(context: Context) -> list[InstanceStatus]:
    """Every instance with what it carries, over all workers."""
    return list(context.status().instances)


def usage(
    context: Context,
    by: FromQuery[str] = "",
    since: Moment = None,
    until: Moment = None,
    client: FromQuery[str | None] = None,
    team: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
) -> views.UsageReport:
    """Requests and tokens, summed by any of client, team, key, model, instance, dialect, endpoint, status, reason, ended,
    hour, day, month (`by`, with commas)."""
    names = [name.strip() for name in by.split(",") if name.strip()]
    unknown = unknown_groups(names)
    if unknown:
        raise BadQuery(f"Usage cannot be grouped by {unknown[0]!r}; `by` takes {', '.join(USAGE_GROUPS)}.")
    if len(set(names)) < len(names):
        raise BadQuery("`by` names the same group twice.")
    start, end = _moment(since), _moment(until)
    rows = context.store.usage(names, ReceiptFilter(since=start, until=end, client=client, team=team, model=model))
    return views.UsageReport(by=names, since=start, until=end, rows=[views.usage_view(names, row) for row in rows])


def receipts(
    context: Context,
    client: FromQuery[str | None] = None,
    team: FromQuery[str | None] = None,
    key: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    instance: FromQuery[str | None] = None,
    endpoint: FromQuery[str | None] = None,
    status: Status = None,
    verdict: FromQuery[str | None] = None,
    reason: FromQuery[str | None] = None,
    ended: FromQuery[str | None] = None,
    request_id: FromQuery[str | None] = None,
    since: Moment = None,
    until: Moment = None,
    limit: Limit = 100,
    before: Cursor = None,
    after: Cursor = None,
) -> views.ReceiptPage:
    """Receipts, the newest first, from the cursor `before`; or with `after`, the oldest first from there, to follow."""
    if before is not None and after is not None:
        raise BadQuery("Give `before` or `after`, not both.")
    which = ReceiptFilter(
        client=client,
        team=team,
        key=key,
        model=model,
        instance=instance,
        endpoint=endpoint,
        status=status,
        verdict=verdict,
        reason=reason,
        ended=ended,
        request_id=request_id,
        since=_moment(since),
        until=_moment(until),
    )
    found = context.store.receipts(which, limit, before, after)
    page = [views.ReceiptView(numbered.seq, numbered.receipt) for numbered in found]
    return views.ReceiptPage(page, page[-1].cursor if len(page) == limit else None)


def receipt(context: Context, id: FromPath[str]) -> Receipt:
    """One receipt, by its id or by the `x-request-id` that its client saw."""
    found = context.store.receipt(id)
    if found is None:
        raise Unknown(f"There is no receipt {id!r}; a request under way has none yet.")
    return found


def explain(context: Context, data: JSONBody[Wish]) -> Told:
    """Why a would-be request would be admitted or refused by the configuration in force: every rule looked at."""
    config = _in_force(context)
    principal = principal_of(config, data.who, lambda name: _stored(context, name)[0])
    if principal is None:
        raise Unknown(f"There is no key {data.name!r} that could still be used; `slmgate keys list` shows all.")
    return told(config, principal, data.trial(utc_now().timestamp()))


def explain_request(context: Context, id: FromPath[str]) -> Past:
    """Why a past request was admitted or refused, and what the configuration in force would say of it."""
    found = receipt(context, id)
    config = _in_force(context)
    name = found.key or ""
    principal, state = declared(config, name), "active"
    if principal is None:
        principal, state = _stored(context, name)
    return past(config, found, principal, state)


def _in_force(context: Context) -> Config:
    if context.config is None:
        raise BadQuery("No gate runs here, so that no configuration is in force.")
    return context.config


def _stored(context: Context, name: str) -> tuple[Key | None, str]:
    """A stored key as the road would decide by it, if it is not revoked; and its state."""
    try:
        record = context.keyring.show(name)
    except UnknownKey:
        return None, "active"
    return next((key for key in context.keyring.as_terms() if key.id == record.id), None), context.keyring.state_of(record)


def keys(context: Context) -> views.KeyPage:
    """All keys, revoked ones too, oldest first. Secrets are in none."""
    return views.KeyPage([views.key_view(context.keyring, record) for record in context.keyring.all()])


def key(context: Context, id: FromPath[str]) -> views.KeyView:
    """One key, by its id or name."""
    return views.key_view(context.keyring, context.keyring.show(id))


def create_key(context: Context, caller: Caller, data: JSONBody[views.NewKey]) -> views.IssuedKey:
    """Issue a key. The secret is in this answer and nowhere else."""
    expires = parse_expiry(data.expires, utc_now())
    record, secret = context.keyring.create(data.name, data.team, expires=expires, actor=caller.name)
    return views.IssuedKey(key=views.key_view(context.keyring, record), secret=secret)


def rotate_key(
    context: Context, caller: Caller, id: FromPath[str], data: JSONBody[views.Rotation | None] = None
) -> views.IssuedKey:
    """Give a key a new secret; the old ones work on for `overlap`."""
    record, secret = context.keyring.rotate(id, parse_duration(data.overlap if data else "0s"), caller.name)
    return views.IssuedKey(key=views.key_view(context.keyring, record), secret=secret)


def disable_key(context: Context, caller: Caller, id: FromPath[str]) -> views.KeyView:
    """Refuse a key until it is enabled again."""
    return views.key_view(context.keyring, context.keyring.disable(id, caller.name))


def enable_key(context: Context, caller: Caller, id: FromPath[str]) -> views.KeyView:
    """Undo `disable`."""
    return views.key_view(context.keyring, context.keyring.enable(id, caller.name))


def revoke_key(context: Context, caller: Caller, id: FromPath[str]) -> views.KeyView:
    """End a key for good."""
    return views.key_view(context.keyring, context.keyring.revoke(id, caller.name))


async def reload(context: Context, caller: Caller) -> Response[views.ReloadReport]:
    """Read the configuration afresh. 409 with its faults when it cannot be taken; the old one stays then."""
    from litestar import Response

    faults = [str(fault) for fault in await context.reload()]
    detail = {"applied": "no" if faults else "yes"}
    line = AuditRecord(time=utc_now(), actor=caller.name, action="reload", target="configuration", detail=detail)
    await asyncio.to_thread(context.store.append_audit, line)
    return Response(views.ReloadReport(applied=not faults, faults=faults), status_code=409 if faults else 200)


def audit(context: Context, limit: Limit = 100, before: Cursor = None) -> views.AuditPage:
    """Every change that was made, by whom, newest first."""
    changes = context.store.audit(limit, before)
    return views.AuditPage(changes, changes[-1].id if len(changes) == limit else None)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_moment(text, utc_now())
