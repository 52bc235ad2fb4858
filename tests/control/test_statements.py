"""Statements over stores filled by hand: months by the plan's clocks, exact sums, and forms that are safe to open."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slmgate.control import statements
from slmgate.control.config import load_text
from slmgate.control.config.plan_options import Plan
from slmgate.control.statements import NoStatement, Statement, make_statement
from slmgate.policy.billing import cost, price_text
from slmgate.policy.limits import NANO, Price
from slmgate.stores.records import Batch
from slmgate.stores.sql import SqlStore, open_store
from slmgate.terms import Receipt
from tests.tools.journal_writer import make_receipt

CONFIG = """\
models: {m: {instances: [{url: "http://127.0.0.1:1"}]}}
plans:
  gold: {currency: EUR, timezone: Europe/Berlin, prices: {m: {prompt: 0.10/1M, completion: 0.30/1M}}}
  full: {currency: EUR, included: 1M tokens/month, base: 49.00 EUR, credit: 20 EUR}
  fiver: {currency: EUR, included: 5 EUR/month}
  yen: {currency: JPY}
"""
LATER = datetime(2027, 6, 1, tzinfo=UTC)
SMALL = Price(100, 300)
DEAR = Price(2_000_000, 0)


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return load_text(CONFIG).unwrap().plans


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger")
    yield store
    store.close()


def charged(id: str, price: Price = SMALL, currency: str = "EUR", plan: str = "gold", **fields: object) -> Receipt:
    receipt = make_receipt(id, plan=plan, price=price_text(currency, price), **fields)
    return msgspec.structs.replace(receipt, cost=cost(receipt.prompt_tokens, receipt.completion_tokens, price))


def put(store: SqlStore, *receipts: Receipt) -> None:
    store.write(Batch(receipts=list(receipts)))


def made(store: SqlStore, plans: dict[str, Plan], plan: str = "gold", month: str = "2026-11", now: datetime = LATER) -> Statement:
    return make_statement(store.billing, plans, "acme", plan, month, now)


def test_a_month(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(
        store,
        charged("r1", prompt_tokens=3_000_000, completion_tokens=1_000_000),
        charged("r2", prompt_tokens=1, completion_tokens=1, estimated=True),
        charged("r3", prompt_tokens=1, completion_tokens=0, ended="unknown"),
        charged("other", team="beta"),
        charged("refused", verdict="refuse", prompt_tokens=0, completion_tokens=0),
    )
    month = made(store, plans)
    assert (month.total, month.currency, month.requests, month.estimated, month.unknown) == ("0.60", "EUR", 3, 1, 1)
    assert (month.prompt_tokens, month.completion_tokens) == (3_000_002, 1_000_001)
    assert month.usage_cost == month.receipts_cost == "0.6000005"
    (line,) = month.lines
    assert (line.model, line.prompt_price, line.completion_price, line.amount) == ("smollm2", "0.1", "0.3", "0.60")


def test_two_prices_in_a_month_are_two_lines(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(store, charged("r1", prompt_tokens=10, completion_tokens=0), charged("r2", DEAR, prompt_tokens=10, completion_tokens=0))
    assert [(line.prompt_price, line.amount) for line in made(store, plans).lines] == [("0.1", "0.00"), ("2000", "0.02")]


def test_what_a_plan_includes_and_takes_off(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(store, charged("r1", DEAR, plan="full", prompt_tokens=1_500_000, completion_tokens=500_000))
    month = made(store, plans, "full")
    (line,) = month.lines
    assert (line.included_prompt_tokens, line.included_completion_tokens, line.amount) == (750_000, 250_000, "1500.00")
    assert (month.base, month.credit, month.total, month.included) == ("49.00", "20.00", "1529.00", "1M tokens/month")


def test_money_that_is_included(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(store, charged("r1", DEAR, plan="fiver", prompt_tokens=3_000, completion_tokens=0))
    month = made(store, plans, "fiver")
    assert (month.lines[0].included_money, month.total) == ("5", "1.00")


def test_what_is_not_on_it_is_said(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(
        store,
        charged("r1"),
        charged("r2", plan="yen", currency="JPY"),
        charged("r3", currency="USD"),
        make_receipt("r4"),
        make_receipt("r5", plan="gold", model="unpriced"),
    )
    month = made(store, plans)
    assert [line.model for line in month.lines] == ["smollm2", "unpriced"]
    assert [(each.plan, each.currency, each.requests, each.tokens) for each in month.elsewhere] == [
        ("", "", 1, 12),
        ("gold", "USD", 1, 12),
        ("yen", "JPY", 1, 12),
    ]


@pytest.mark.parametrize(
    ("time", "month"),
    [
        ("2026-10-31T22:59:59.999999Z", "2026-10"),
        ("2026-10-31T23:00:00Z", "2026-11"),
        ("2026-11-30T22:59:59.999999Z", "2026-11"),
        ("2026-11-30T23:00:00Z", "2026-12"),
        ("2026-03-31T21:59:59Z", "2026-03"),  # summer: Berlin is two hours ahead
        ("2026-03-31T22:00:00Z", "2026-04"),
    ],
)
def test_a_month_begins_at_the_plans_midnight(store: SqlStore, plans: dict[str, Plan], time: str, month: str) -> None:
    put(store, charged("r1", time=datetime.fromisoformat(time)))
    months = ("2026-03", "2026-04", "2026-10", "2026-11", "2026-12")
    assert [each for each in months if made(store, plans, month=each).requests] == [month]


def test_an_open_month_is_preliminary(store: SqlStore, plans: dict[str, Plan]) -> None:
    end = datetime(2026, 11, 30, 23, tzinfo=UTC)
    assert made(store, plans, now=end - timedelta(days=9)).preliminary
    assert made(store, plans, now=end + timedelta(minutes=59)).preliminary
    assert not made(store, plans, now=end + timedelta(hours=1)).preliminary


@pytest.mark.parametrize(
    ("plan", "month", "told"),
    [
        ("silver", "2026-11", "There is no plan 'silver'. There is gold"),
        ("gold", "2026-13", "write one like 2027-06"),
        ("gold", "2027-07", "has not begun"),
    ],
)
def test_what_has_no_statement(store: SqlStore, plans: dict[str, Plan], plan: str, month: str, told: str) -> None:
    with pytest.raises(NoStatement, match=told):
        made(store, plans, plan, month)
    with pytest.raises(NoStatement, match="no plans"):
        made(store, {}, plan, month)


def test_a_month_whose_receipts_are_deleted_has_none(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(store, charged("r1", time=datetime(2026, 10, 31, 23, 30, tzinfo=UTC)), charged("r2"))
    store.forget("receipts", datetime(2026, 11, 1, tzinfo=UTC), 100)
    with pytest.raises(NoStatement, match="before 2026-11-01 are deleted"):
        made(store, plans)  # an hour of it was in October by UTC
    assert made(store, plans, "full").requests == 0


def test_receipts_that_are_deleted_meanwhile_are_told(
    store: SqlStore, plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or they are all in it: never a statement without some of them."""
    put(store, charged("r1"))
    billing = store.billing
    first = iter([True])

    def forgets(answer: Callable[..., Any]) -> Callable[..., Any]:
        def answered(*words: Any) -> Any:
            told = answer(*words)
            if next(first, False):  # whichever is asked first
                store.forget("receipts", datetime(2026, 12, 1, tzinfo=UTC), 100)
            return told

        return answered

    monkeypatch.setattr(billing, "kept_since", forgets(billing.kept_since))
    monkeypatch.setattr(billing, "charges", forgets(billing.charges))
    with pytest.raises(NoStatement, match="before 2026-12-01 are deleted"):
        make_statement(billing, plans, "acme", "gold", "2026-11", LATER)


def test_nothing_used(store: SqlStore, plans: dict[str, Plan]) -> None:
    assert made(store, plans).total == "0.00"
    assert made(store, plans, "yen").total == "0"
    assert "Nothing was used." in statements.html(made(store, plans))
    assert made(store, plans, "full").total == "29.00"


_PRICES = st.builds(Price, st.integers(0, 10**7), st.integers(0, 10**7))
_USES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 2)), max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_USES, st.lists(_PRICES, min_size=3, max_size=3, unique=True), st.sampled_from(["gold", "yen"]))
def test_it_is_what_a_clerk_would_add_up(
    tmp_path: Path, plans: dict[str, Plan], uses: list[tuple[str, int, int, int]], prices: list[Price], plan: str
) -> None:
    currency = plans[plan].currency
    receipts = [
        charged(f"r{at}", prices[which], currency, plan, model=model, prompt_tokens=prompt, completion_tokens=completion)
        for at, (model, prompt, completion, which) in enumerate(uses)
    ]
    where = tmp_path / "each"
    where.unlink(missing_ok=True)
    store = open_store(where)
    try:
        put(store, *receipts)
        month = made(store, plans, plan)
    finally:
        store.close()
        for file in tmp_path.glob("each*"):
            file.unlink()
    by_hand: dict[tuple[str, str], Decimal] = {}
    for receipt in receipts:
        by_hand[receipt.model, receipt.price] = (
            by_hand.get((receipt.model, receipt.price), Decimal(0)) + Decimal(receipt.cost) / NANO
        )
    places = Decimal("0.01") if currency == "EUR" else Decimal(1)
    rounded = [amount.quantize(places, ROUND_HALF_EVEN) for amount in by_hand.values()]
    assert sorted(Decimal(line.amount) for line in month.lines) == sorted(rounded)
    assert Decimal(month.total) == sum(rounded)
    assert month.usage_cost == month.receipts_cost


class Texts(HTMLParser):
    """The elements of a page and the texts in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


EVIL = "<script>alert('x')</script>\"&"


def test_the_page_escapes_everything_and_runs_nothing(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(
        store,
        charged("r1", model=EVIL, team=EVIL, estimated=True, plan="full"),
        charged("r2", model="m", team=EVIL, ended="unknown", plan="full"),
        make_receipt("r3", plan=EVIL, team=EVIL),
    )
    page = statements.html(make_statement(store.billing, plans, EVIL, "full", "2026-11", NOW))
    read = Texts(page)
    assert not read.tags & {"script", "img", "link", "iframe", "form", "object"}
    assert "url(" not in page
    assert read.texts.count(EVIL) == 3
    for told in ("Preliminary", "-20.00", "49.00", "EUR 29.00", "counted by the gate", "is not known", "included: 7"):
        assert any(told in text for text in read.texts), told
    assert "2026-11-01 to 2026-11-30, UTC" in read.texts


NOW = datetime(2026, 11, 24, tzinfo=UTC)


def test_the_rows_of_a_csv(store: SqlStore, plans: dict[str, Plan]) -> None:
    put(store, charged("r1", DEAR, plan="full", prompt_tokens=1_500_000, completion_tokens=500_000, model="=cmd"))
    rows = statements.table(made(store, plans, "full"))
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    read = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(row["line"], row["model"], row["amount"]) for row in read] == [
        ("usage", "=cmd", "1500.00"),
        ("base", "", "49.00"),
        ("credit", "", "-20.00"),
        ("total", "", "1529.00"),
    ]
    assert {row["team"] for row in read} == {"acme"}
    assert [row[-1] for row in statements.table(made(store, plans)) if row[6] == "credit"] == [Decimal("0.00")]


def test_the_page_takes_no_other_style_than_its_own() -> None:
    policy = statements.page_headers()["content-security-policy"]
    assert "unsafe" not in policy and "script" not in policy
    page = (Path(statements.__file__).parent / "pages" / "statement.html").read_text()
    assert page.count("<style") == page.count("<style>") == 1
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "{{" not in style and "{%" not in style  # else its digest would be another one
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
