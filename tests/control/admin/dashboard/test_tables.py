"""Tables of pages: their order, their parts at the borders, and CSV that no spreadsheet takes for anything but figures."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from slmgate.control.admin.dashboard.tables import SIZE, Cell, Column, Table, asked, place, wanted, whole
from tests.tools.page_ask import ask

COLUMNS = (
    Column("name", "Client"),
    Column("requests", "Requests", "count"),
    Column("p95", "p95", "seconds"),
    Column("errors", "Errors", "share"),
    Column("cost", "Cost", "money", unit="EUR"),
    Column("bytes", "Size", "bytes"),
    Column("seen", "Seen", "time"),
    Column("spark", "", "html", sort=False),
)


def rows(count: int) -> list[dict[str, Any]]:
    return [{"name": f"client-{number:03}", "requests": number} for number in range(count)]


def names(table: Table) -> list[str]:
    return [str(row["name"]) for row in table.rows]


def test_the_usual_order_is_the_tables_own() -> None:
    assert names(whole(ask(), COLUMNS, rows(3), "-requests")) == ["client-002", "client-001", "client-000"]
    assert names(whole(ask(query={"sort": "name"}), COLUMNS, rows(3), "-requests"))[0] == "client-000"


@pytest.mark.parametrize("sort", ["nothing", "-nothing", "--name", "spark", "", "-"])
def test_an_order_that_there_is_not(sort: str) -> None:
    assert wanted(ask(query={"sort": sort}), COLUMNS, "-requests") == "-requests"


def test_values_of_every_kind_in_one_column() -> None:
    mixed = [{"name": value} for value in ("b", None, 2, "A", 1, Cell(3, href="/x"), datetime(2026, 1, 1, tzinfo=UTC))]
    table = whole(ask(query={"sort": "name"}), COLUMNS, mixed, "name")
    assert [getattr(row["name"], "value", row["name"]) for row in table.rows] == [
        None,
        1,
        2,
        3,
        datetime(2026, 1, 1, tzinfo=UTC),
        "A",
        "b",
    ]


@pytest.mark.parametrize(
    ("count", "page", "at", "first", "last", "follows"),
    [
        (0, "1", 1, 1, 0, False),
        (1, "1", 1, 1, 1, False),
        (SIZE, "1", 1, 1, SIZE, False),
        (SIZE + 1, "1", 1, 1, SIZE, True),
        (SIZE + 1, "2", 2, SIZE + 1, SIZE + 1, False),
        (SIZE + 1, "3", 2, SIZE + 1, SIZE + 1, False),
        (3, "0", 1, 1, 3, False),
        (3, "-1", 1, 1, 3, False),
        (3, "x", 1, 1, 3, False),
        (3, "9" * 30, 1, 1, 3, False),
        (3, "²", 1, 1, 3, False),
    ],
)
def test_parts(count: int, page: str, at: int, first: int, last: int, follows: bool) -> None:
    table = whole(ask(query={"page": page}), COLUMNS, rows(count), "name")
    assert (table.page, table.first, table.last, table.follows, table.total) == (at, first, last, follows, count)


def test_two_tables_of_one_page_do_not_meet() -> None:
    asked_for = ask("/x", {"models-sort": "name", "models-page": "2", "sort": "requests"})
    models, clients = (whole(asked_for, COLUMNS, rows(60), "-requests", name) for name in ("models", "clients"))
    assert (models.sort, models.page, clients.sort, clients.page) == ("name", 2, "-requests", 1)
    assert models.turned(1) == "/x?models-sort=name&sort=requests"
    assert clients.turned(2) == "/x?models-sort=name&models-page=2&sort=requests&clients-page=2"
    assert place(asked_for, "clients") == 1


def test_titles_lead_to_orders() -> None:
    table = whole(ask("/x", {"sort": "-requests", "page": "2"}), COLUMNS, rows(60), "name")
    assert table.sorting(COLUMNS[0]) == "/x?sort=name"
    assert table.sorting(COLUMNS[1]) == "/x?sort=requests"
    assert (table.direction(COLUMNS[0]), table.direction(COLUMNS[1])) == ("", "descending")
    again = whole(ask("/x", {"sort": "name"}), COLUMNS, rows(2), "name")
    assert (again.sorting(COLUMNS[0]), again.direction(COLUMNS[0])) == ("/x?sort=-name", "ascending")


def test_cells_in_words() -> None:
    row = {
        "name": Cell("a", href="/clients/a", tone="bad"),
        "requests": 12345,
        "p95": 1.5,
        "errors": 0.25,
        "cost": "1.50",
        "bytes": 2048,
        "seen": datetime(2026, 11, 28, 9, tzinfo=UTC),
        "spark": Cell(None, html="<svg>"),
    }
    shown = whole(ask(), COLUMNS, [row], "name").cells(row)
    assert [cell.text for cell in shown] == [
        "a",
        "12,345",
        "1.5 s",
        "25 %",
        "1.50",
        "2 KiB",
        "2026-11-28 09:00:00",
        "\N{EN DASH}",
    ]
    assert (shown[0].href, shown[0].tone, shown[7].html) == ("/clients/a", "bad", "<svg>")
    empty = whole(ask(), COLUMNS, [{}], "name")
    assert {cell.text for cell in empty.cells({})} == {"\N{EN DASH}"}
    assert whole(ask(), COLUMNS, [{}], "name").cells({"name": ("a", "b")})[0].text == "a, b"


def test_csv_has_every_row_as_it_is() -> None:
    wants = ask("/x", {"csv": "table", "sort": "name", "page": "2"})
    assert asked(wants, "") and not asked(wants, "clients")
    table = whole(
        wants,
        COLUMNS,
        [*rows(120), {"name": "=1+1", "requests": -5, "p95": 0.25, "seen": datetime(2026, 1, 1, tzinfo=UTC)}],
        "name",
    )
    read = list(csv.DictReader(io.StringIO(table.csv().decode(), newline="")))
    assert len(read) == 121
    assert "spark" not in read[0]
    assert read[0] == {
        "name": "'=1+1",
        "requests": "-5",
        "p95": "0.25",
        "errors": "",
        "cost": "",
        "bytes": "",
        "seen": "2026-01-01T00:00:00+00:00",
    }
    assert table.csv_address == "/x?sort=name&page=2&csv=table"


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "  =1"])
def test_csv_holds_no_formula(text: str) -> None:
    table = whole(ask(query={"csv": "table"}), COLUMNS, [{"name": text}], "name")
    assert next(csv.reader([table.csv().decode().split("\n", 1)[1]]))[0].startswith("'")
