"""What the routes about money do: the statement of a team's month, as data and as a page, and the notices that were sent.

What is on a statement is made in `control/statements.py`; here the plan that is meant is found. Handlers are plain functions,
run in a thread; who may call stands in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from slmgate.control import statements
from slmgate.control.admin import handlers
from slmgate.control.keyring import utc_now
from slmgate.control.statements import NoStatement, Statement

if TYPE_CHECKING:
    from litestar import Response
    from litestar.params import FromQuery

    from slmgate.control.admin.params import Context, Limit


class NoticeView(msgspec.Struct, frozen=True, kw_only=True):
    """One notice and how it fared: to be sent again at `retry`, or `delivered`, or given up where both are null.

    Of a plan, with its team; or of an event of the gate, for one of the webhooks in `notifications`, about `subject`.
    """

    id: str
    team: str
    plan: str
    created: datetime
    attempts: int
    retry: datetime | None
    delivered: datetime | None
    type: str
    webhook: str
    subject: str


def statement(
    context: Context, team: FromQuery[str] = "", month: FromQuery[str] = "", plan: FromQuery[str | None] = None
) -> Statement:
    """The statement of a team's month (`2026-11`), recomputed from the receipts. `plan`: another than the team has now."""
    config = context.config
    if config is None:
        raise handlers.BadQuery("No configuration is in force here, which would say what is charged.")
    named = plan
    if named is None:
        owner = config.teams.get(team)
        named = None if owner is None else owner.plan
    if not team:
        raise handlers.BadQuery("Say whose statement: `team`, and which `month`, like 2026-11.")
    if named is None:
        raise handlers.BadQuery(f"The team {team!r} has no plan: give it one (teams.NAME.plan), or name one for the statement.")
    try:
        return statements.make_statement(context.store.billing, config.plans, team, named, month, utc_now())
    except NoStatement as no:
        raise handlers.BadQuery(str(no)) from None


def statement_page(
    context: Context, team: FromQuery[str] = "", month: FromQuery[str] = "", plan: FromQuery[str | None] = None
) -> Response[str]:
    """The same as a page to print."""
    from litestar import Response

    text = statements.html(statement(context, team, month, plan))
    return Response(text, media_type="text/html", headers=statements.page_headers())


def notices(context: Context, limit: Limit = 100) -> Sequence[NoticeView]:
    """What webhooks were told, or are to be told: notices of plans being used up, and of events; the newest first."""
    return [
        NoticeView(
            id=record.id,
            team=record.team,
            plan=record.plan,
            created=record.created,
            attempts=record.attempts,
            retry=record.retry,
            delivered=record.delivered,
            type=record.type,
            webhook=record.webhook,
            subject=record.subject,
        )
        for record in context.store.billing.notices(limit)
    ]
