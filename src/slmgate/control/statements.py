"""The statement of a team's month: recomputed from the ledger's receipts each time it is asked for, and shown in three forms.

What is charged, `policy/billing.py` works out in whole numbers; here the receipts are found, the month's bounds are those of the
plan's time zone, and money becomes text. Nothing is kept: the receipts are the books. This module knows no HTTP and no clock.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.config.plan_options import Plan
from slmgate.policy.billing import Line, Terms, Used, bill, minor, money_text, month_bounds, month_of, nano_text, read_price
from slmgate.policy.limits import Price
from slmgate.policy.roles import zone_of
from slmgate.stores.billing import BillingStore, ChargeRow

if TYPE_CHECKING:
    from jinja2 import Environment

_PAGES = Path(__file__).parent / "pages"
LATE = timedelta(hours=1)
"""So long after its end a month may still get receipts, of requests that began in it: until then its statement is preliminary."""

COLUMNS = (
    *("model", "prompt_price", "completion_price", "requests", "prompt_tokens", "completion_tokens"),
    *("included_prompt_tokens", "included_completion_tokens", "included_money", "amount"),
)


class NoStatement(ValueError):
    """There can be no such statement; the message says why and what would do."""


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one price. Prices are for 1M tokens; `included_money` is not rounded, `amount` is."""

    model: str
    prompt_price: str
    completion_price: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    included_prompt_tokens: int
    included_completion_tokens: int
    included_money: str
    amount: str


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of the team in that month that are not on this statement: they came under another plan, or another currency."""

    plan: str
    currency: str
    requests: int
    tokens: int


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """A team's month. Counts are integers, money is decimal text in `currency`; `total` is `base` + `lines` - `credit`.

    `until` is the first moment that is not in it. `receipts_cost` is what the receipts themselves say they cost, unrounded and
    before anything is included; `usage_cost` is the same worked out anew from their tokens.
    """

    team: str
    plan: str
    month: str
    currency: str
    timezone: str
    since: datetime
    until: datetime
    made: datetime
    preliminary: bool
    included: str
    base: str
    lines: tuple[StatementLine, ...]
    credit: str
    total: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    estimated: int
    unknown: int
    usage_cost: str
    receipts_cost: str
    elsewhere: tuple[Elsewhere, ...] = ()


def terms_of(plan: Plan) -> Terms:
    """What a plan asks for beside its prices."""
    included = plan.included
    return Terms(
        currency=plan.currency,
        base=0 if plan.base is None else plan.base.nano,
        credit=0 if plan.credit is None else plan.credit.nano,
        included_tokens=included.amount if included is not None and included.unit == "tokens" else 0,
        included_cost=included.amount if included is not None and included.unit == "cost" else 0,
    )


def make_statement(store: BillingStore, plans: Mapping[str, Plan], team: str, plan: str, month: str, now: datetime) -> Statement:
    """The statement of what `team` used in `month` under the plan named so. Raises NoStatement, LedgerUnavailable."""
    if plan not in plans:
        known = f"There is {', '.join(plans)}." if plans else "The configuration has no plans."
        raise NoStatement(f"There is no plan {plan!r}. {known}")
    terms, zone = terms_of(plans[plan]), plans[plan].timezone
    bounds = month_bounds(month, zone)
    if bounds is None:
        raise NoStatement(f"{month!r} is not a month; write one like {month_of(now, zone)}.")
    since, until = bounds
    if now < since:
        raise NoStatement(f"{month} has not begun in {zone}.")
    rows = store.charges(since, until, team)
    kept = store.kept_since()  # asked afterwards: what was deleted before they were read is told
    if kept is not None and since < kept:
        raise NoStatement(
            f"Receipts from before {kept:%Y-%m-%d} are deleted (`ledger.receipts`), some or all of {month} among them."
        )
    here, elsewhere = _parted(rows, plan, terms.currency)
    uses = [used_of(row) for row in here]
    made = bill(terms, uses)
    included = plans[plan].included
    return Statement(
        team=team,
        plan=plan,
        month=month,
        currency=terms.currency,
        timezone=zone,
        since=since,
        until=until,
        made=now,
        preliminary=now < until + LATE,
        included="" if included is None else str(included),
        base=money_text(made.base, terms.currency),
        lines=tuple(_line(line, terms.currency) for line in made.lines),
        credit=money_text(made.credit, terms.currency),
        total=money_text(made.total, terms.currency),
        requests=sum(used.requests for used in uses),
        prompt_tokens=sum(used.prompt_tokens for used in uses),
        completion_tokens=sum(used.completion_tokens for used in uses),
        estimated=sum(used.estimated for used in uses),
        unknown=sum(used.unknown for used in uses),
        usage_cost=nano_text(sum(used.cost for used in uses)),
        receipts_cost=nano_text(sum(row.cost for row in here)),
        elsewhere=elsewhere,
    )


def used_of(row: ChargeRow) -> Used:
    """What a sum of receipts is charged by. Those without a price cost nothing."""
    price = read_price(row.price)
    return Used(
        model=row.model,
        price=Price() if price is None else price[1],
        requests=row.requests,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        estimated=row.estimated,
        unknown=row.unknown,
    )


def _belongs(row: ChargeRow, plan: str, currency: str) -> bool:
    """Whether it is charged by this plan: it came under it, and at a price in its currency or at none."""
    return row.plan == plan and currency_of(row) in ("", currency)


def currency_of(row: ChargeRow) -> str:
    """That of its price; empty: it has none."""
    price = read_price(row.price)
    return "" if price is None else price[0]


def _parted(rows: Iterable[ChargeRow], plan: str, currency: str) -> tuple[list[ChargeRow], tuple[Elsewhere, ...]]:
    here: list[ChargeRow] = []
    others: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        if _belongs(row, plan, currency):
            here.append(row)
            continue
        requests, tokens = others.get((row.plan, currency_of(row)), (0, 0))
        counted = requests + row.requests, tokens + row.prompt_tokens + row.completion_tokens
        others[row.plan, currency_of(row)] = counted
    elsewhere = (
        Elsewhere(plan=name, currency=money, requests=requests, tokens=tokens)
        for (name, money), (requests, tokens) in sorted(others.items())
    )
    return here, tuple(elsewhere)


def _line(line: Line, currency: str) -> StatementLine:
    used = line.used
    return StatementLine(
        model=used.model,
        prompt_price=nano_text(used.price.prompt * 1_000_000),
        completion_price=nano_text(used.price.completion * 1_000_000),
        requests=used.requests,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        included_prompt_tokens=line.included_prompt,
        included_completion_tokens=line.included_completion,
        included_money=nano_text(line.included_cost),
        amount=money_text(line.amount, currency),
    )


def html(statement: Statement) -> str:
    """The statement as one page that prints on A4: no script, no picture, nothing fetched, every text escaped."""
    zone = zone_of(statement.timezone)
    last = statement.until - timedelta(microseconds=1)
    return (
        _environment()
        .get_template("statement.html")
        .render(
            statement=statement,
            first=f"{statement.since.astimezone(zone):%Y-%m-%d}",
            last=f"{last.astimezone(zone):%Y-%m-%d}",
            made=f"{statement.made.astimezone(zone):%Y-%m-%d %H:%M %Z}",
            zero=money_text(minor(0, statement.currency), statement.currency),
        )
    )


@cache
def page_headers() -> dict[str, str]:
    """What keeps a browser from doing more with the page than to show it: of styles, only its very own one is taken (CSP 3)."""
    style = (_PAGES / "statement.html").read_text().partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return {"content-security-policy": policy, "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


def table(statement: Statement) -> list[list[object]]:
    """The statement as the rows of a CSV, its columns first; `base`, `credit` and `total` are lines of their own.

    Every row says whose month it is, so that files of many teams can be put together.
    """
    head = [statement.team, statement.plan, statement.month, statement.timezone, statement.currency, statement.preliminary]
    columns = ["team", "plan", "month", "timezone", "currency", "preliminary", "line", *COLUMNS]
    rows: list[list[object]] = [[*columns]]
    rows += [[*head, "usage", *(getattr(line, name) for name in COLUMNS)] for line in statement.lines]
    empty = [""] * (len(COLUMNS) - 1)
    amounts = Decimal(statement.base), -Decimal(statement.credit) or Decimal(statement.credit), Decimal(statement.total)
    rows += [[*head, name, *empty, amount] for name, amount in zip(("base", "credit", "total"), amounts, strict=True)]
    return rows


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
