"""What each route of the admin API does: questions to the keyring and the store, answers as the records of `views.py`.

Handlers that touch the store are plain functions, run in a thread; they raise what is wrong as it is, and `app.py` makes
problems of it. Who may call is not decided here. The web framework is not imported here, but named in annotations.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, cast, get_args

import msgspec

from slmgate.control import keyfiles
from slmgate.control.accounts import UnknownOperator
from slmgate.control.admin import views
from slmgate.control.admin.context import GateStatus
from slmgate.control.audit import line
from slmgate.control.instance_words import state, takes_requests
from slmgate.control.keyfields import DECLARED, BadKeyInput, parse_duration, parse_expiry, parse_moment
from slmgate.control.keyring import EDITABLE, KeyDeclared, KeyRevoked, NameTaken, SecretTaken, UnknownKey, utc_now
from slmgate.control.live import NobodyCancels
from slmgate.control.looking import NobodyLooks
from slmgate.control.roster import BadInstance, InstanceOfFile, InstanceTaken, UnknownInstance
from slmgate.control.trials.wish import BadTrial
from slmgate.stores.records import (
    USAGE_GROUPS,
    AuditFilter,
    AuditRecord,
    AuditVerdict,
    KeyFilter,
    KeyState,
    LedgerUnavailable,
    ReceiptFilter,
    unknown_groups,
)
from slmgate.terms import Receipt

if TYPE_CHECKING:
    from litestar import Response
    from litestar.params import FromPath, FromQuery, JSONBody

    from slmgate.control.admin.params import Caller, Context, Cursor, Limit, Moment, Status

KEY_STATES = get_args(KeyState)
TAKEN = "The configuration was read and is in force"

_log = logging.getLogger("slmgate.admin")


class BadQuery(ValueError):
    """A query that cannot be answered; the message says why and what would do."""


class Unknown(LookupError):
    """There is no such record."""


class NotUnderWay(ValueError):
    """The request has come to its end already."""


class NotNoted(Exception):
    """What was asked for is done, but is not in the audit log; the message says both."""


STATUS: Mapping[type[Exception], int] = {
    UnknownKey: 404,
    UnknownInstance: 404,
    UnknownOperator: 404,
    Unknown: 404,
    BadInstance: 400,
    BadKeyInput: 400,
    BadQuery: 400,
    BadTrial: 400,
    InstanceOfFile: 409,
    InstanceTaken: 409,
    KeyRevoked: 409,
    KeyDeclared: 409,
    NameTaken: 409,
    SecretTaken: 409,
    LedgerUnavailable: 503,
    NobodyCancels: 503,
    NobodyLooks: 503,
    NotNoted: 503,
    NotUnderWay: 409,
}
"""What handlers raise -> the HTTP status that says it."""


async def healthz() -> views.Health:
    """Alive: the admin listener answers."""
    return views.Health("ok")


async def readyz(context: Context) -> Response[views.Readiness]:
    """Ready: every model has an instance. 503 when not, with the models that have none, and each instance that takes nothing.

    Instances that do not list their model, and how much is wrong with names and files, are told in either case: not
    what is, for that may quote a file, and this needs no credential.
    """
    from litestar import Response

    now = context.status()
    rows = [msgspec.structs.asdict(row) for row in now.instances]
    body = views.Readiness(
        ready=now.ready,
        draining=now.draining,
        models={model.name: model.ready for model in now.models},
        instances={row["id"]: state(row) for row in rows if not takes_requests(row)},
        missing={
            row.id: row.catalogue.text for row in now.instances if row.catalogue is not None and row.catalogue.state == "missing"
        },
        notes=len(now.notes),
    )
    return Response(body, status_code=200 if now.ready else 503)


async def status(context: Context) -> GateStatus:
    """The gate as it is now: generation, models, instances, workers, faults of the last refused configuration."""
    return context.status()


def usage(
    context: Context,
    by: FromQuery[str] = "",
    since: Moment = None,
    until: Moment = None,
    client: FromQuery[str | None] = None,
    team: FromQuery[str | None] = None,
    model: FromQuery[str | None] = None,
    key: FromQuery[str | None] = None,
    shadow: FromQuery[bool] = False,
) -> views.UsageReport:
    """Requests and tokens, summed by any of client, team, key, model, instance, dialect, endpoint, status, reason, ended,
    hour, day, month (`by`, with commas). `key` is an id. With `shadow`, of copies of requests, which are in no other sum."""
    names = [name.strip() for name in by.split(",") if name.strip()]
    unknown = unknown_groups(names)
    if unknown:
        raise BadQuery(f"Usage cannot be grouped by {unknown[0]!r}; `by` takes {', '.join(USAGE_GROUPS)}.")
    if len(set(names)) < len(names):
        raise BadQuery("`by` names the same group twice.")
    verdict = "shadow" if shadow else None
    which = ReceiptFilter(
        since=_moment(since), until=_moment(until), client=client, team=team, model=model, key=key, verdict=verdict
    )
    start, end = context.store.answered(names, which)
    rows = context.store.usage(names, which)
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


def keys(
    context: Context,
    key: FromQuery[str | None] = None,
    owner: FromQuery[str | None] = None,
    team: FromQuery[str | None] = None,
    role: FromQuery[str | None] = None,
    tag: FromQuery[str | None] = None,
    in_state: FromQuery[str | None] = None,
    search: FromQuery[str | None] = None,
    limit: Limit = 100,
    after: FromQuery[str | None] = None,
) -> views.KeyPage:
    """Keys, oldest first, from behind the id `after`; revoked ones too, declared ones before all. Secrets are in none.

    `in_state` is active, disabled, expired or revoked; `search` is in the id, name, owner or team. `key` is one key's id or name,
    and alone.
    """
    if key is not None:
        return views.KeyPage([_key(context, key)], None)
    if in_state not in (None, *KEY_STATES):
        raise BadQuery(f"A key is never {in_state!r}, but {', '.join(KEY_STATES)}.")
    which = KeyFilter(owner=owner, team=team, role=role, tag=tag, search=search, state=cast("KeyState | None", in_state))
    page = _declared(context, which, after)[:limit]
    if len(page) < limit:
        behind = None if after is None or after.startswith(DECLARED) else after
        stored = context.keyring.page(which, limit - len(page), behind)
        page += [views.key_view(context.keyring, record) for record in stored]
    return views.KeyPage(page, page[-1].id if len(page) == limit else None)


def _declared(context: Context, which: KeyFilter, after: str | None) -> list[views.KeyView]:
    """The declared keys that are meant, from behind `after`."""
    keyring = context.keyring
    all_of_them = [views.declared_view(key, keyring.now(), None) for key in keyring.declared()]
    if after is not None:
        place = next((place for place, view in enumerate(all_of_them) if view.id == after), len(all_of_them))
        all_of_them = all_of_them[place + 1 :]
    return [msgspec.structs.replace(view, used=context.store.key_use(view.id)) for view in all_of_them if _is_meant(view, which)]


def _is_meant(view: views.KeyView, which: KeyFilter) -> bool:
    """What the store does for stored keys."""
    texts = (view.id, view.name, view.owner or "", view.team or "")
    return (
        which.owner in (None, view.owner)
        and which.team in (None, view.team)
        and (which.role is None or which.role in view.roles)
        and (which.tag is None or which.tag in view.tags)
        and which.state in (None, view.state)
        and (which.search is None or any(which.search.lower() in text.lower() for text in texts))
    )


def _key(context: Context, key: str) -> views.KeyView:
    try:
        return views.key_view(context.keyring, context.keyring.show(key))
    except UnknownKey:
        declared = context.keyring.find_declared(key)
        if declared is None:
            raise
    return views.declared_view(declared, context.keyring.now(), context.store.key_use(DECLARED + declared.name))


def key(context: Context, id: FromPath[str]) -> views.KeyView:
    """One key, by its id or name."""
    return _key(context, id)


def create_key(context: Context, caller: Caller, data: JSONBody[views.NewKey]) -> views.IssuedKey:
    """Issue a key. The secret is in this answer and nowhere else."""
    record, secret = context.keyring.create(
        data.name,
        data.team,
        data.roles,
        parse_expiry(data.expires, utc_now()),
        caller.name,
        owner=data.owner,
        tags=data.tags,
        networks=data.networks,
        limits=data.limits,
    )
    return views.IssuedKey(key=views.key_view(context.keyring, record), secret=secret)


def edit_key(context: Context, caller: Caller, id: FromPath[str], data: JSONBody[views.KeyEdit]) -> views.KeyView:
    """Change owner, team, roles, tags, networks, limits or expiry of a key; what is left out stays."""
    changes = {name: value for name in EDITABLE if (value := getattr(data, name)) is not msgspec.UNSET}
    if "expires" in changes:
        changes["expires"] = parse_expiry(changes["expires"], utc_now())
    return views.key_view(context.keyring, context.keyring.edit(id, changes, caller.name))


def import_keys(context: Context, caller: Caller, data: JSONBody[views.KeyImport]) -> views.ImportedKeys:
    """Take in many keys, all or none. Those without a hash get secrets, which are in this answer and nowhere else."""
    made = keyfiles.import_keys(context.keyring, data.keys, caller.name, data.dry_run)
    return views.ImportedKeys(count=0 if data.dry_run else len(data.keys), secrets=made)


def export_keys(context: Context, limit: Limit = 100, after: FromQuery[str | None] = None) -> views.ExportPage:
    """Keys that are not revoked, with the hashes of their secrets, as an import takes them. Declared keys are not among them."""
    found = context.keyring.page(KeyFilter(), limit, after)
    rows = [keyfiles.exported(record) for record in found if record.revoked is None]
    return views.ExportPage(rows, found[-1].id if len(found) == limit else None)


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
    applied = {"applied": "no" if faults else "yes"}
    told = f"The configuration cannot be taken: {'; '.join(faults)}; the old one stays" if faults else TAKEN
    await note_done(context, line(utc_now(), caller.name, "reload", "configuration", applied), told)
    return Response(views.ReloadReport(applied=not faults, faults=faults), status_code=409 if faults else 200)


async def note_done(context: Context, done: AuditRecord, told: str) -> None:
    """Add the line of what is done already, and cannot be undone where that fails. `told` says what it is. Raises NotNoted."""
    try:
        await asyncio.to_thread(context.store.append_audit, done)
    except LedgerUnavailable as error:
        _log.error("%s of %s by %s is not in the audit log: %s", done.action, done.target, done.actor, error)
        raise NotNoted(f"{told}, but the audit log could not be written; the log of slmgate says why.") from error


def audit(
    context: Context,
    limit: Limit = 100,
    before: Cursor = None,
    actor: FromQuery[str | None] = None,
    action: FromQuery[str | None] = None,
    target: FromQuery[str | None] = None,
    since: Moment = None,
    until: Moment = None,
) -> views.AuditPage:
    """Every change that was made, by whom, newest first. `action` may be a beginning with a dot: `key.` is all that keys met."""
    which = AuditFilter(actor=actor, action=action, target=target, since=_moment(since), until=_moment(until))
    changes = context.store.audit(limit, before, which)
    return views.AuditPage(changes, changes[-1].id if len(changes) == limit else None)


def verify_audit(context: Context, head: FromQuery[str] = "") -> AuditVerdict:
    """Whether the audit log is as it was written: every row follows from the one before, and none is missing at the end.

    `head` is what an earlier answer, or the gate's log, told as the newest row (`NUMBER:SEAL`), where it was kept elsewhere.
    """
    try:
        return context.store.verify_audit(head)
    except ValueError as error:
        raise BadQuery(str(error)) from None


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_moment(text, utc_now())
