"""A verdict and the rules that led to it, as a terminal shows them: `explain` and `test` tell them in the same way.

Lines are no wider than the terminal; colour comes only where a person looks. It knows the records of `control/trials`, and asks
nobody.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import typer

from slmgate.cli.show import visible
from slmgate.control.trials.told import Counted, Step, Told

WIDEST = 110
NARROW = 72
"""Columns; in fewer, what a rule wants and what the request had stand in lines of their own."""


def width() -> int:
    """Columns to write in."""
    return min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns) if sys.stdout.isatty() else WIDEST


def mark(passed: bool) -> str:
    return typer.style("ok", fg="green") if passed else typer.style("NO", fg="red", bold=True)


def lines(told: Told, columns: int) -> Iterator[str]:
    """The whole story, the verdict first."""
    verdict = told.verdict
    yield from headline(told, columns)
    yield ""
    yield from facts(pairs(told), columns)
    shared = [*told.identity, *told.first]
    if shared:
        yield ""
        yield "whatever the role"
        yield from steps(shared, "", columns)
    for role in told.roles:
        yield ""
        yield f"role {visible(role.name)}, {visible(role.of)}: {'admits' if role.admits else 'does not admit'}"
        yield from steps(role.steps, f"roles.{role.name}.", columns)
        if role.settings and role.admits:
            yield from wrapped("sets ", settings(role.settings), columns, "     ")
        if role.shows:
            yield from wrapped("shows ", ", ".join(map(visible, role.shows)), columns, "     ")
    if verdict.limits:
        yield ""
        yield "limits"
        yield from limits(verdict.limits, columns)
    for note in (*told.notes, *(f"{name} was not given, and the verdict needs it." for name in verdict.lacking)):
        yield ""
        yield from wrapped("note: ", visible(note), columns)


def headline(told: Told, columns: int) -> Iterator[str]:
    verdict = told.verdict
    if verdict.admitted:
        word = typer.style("admitted", fg="green", bold=True)
        yield f"{word}{f' by {visible(verdict.rule)}' if verdict.rule else ''}"
        if verdict.models is not None:
            yield from wrapped("it lists ", ", ".join(map(visible, verdict.models)) or "no model", columns)
        if verdict.settings:
            yield from wrapped("it sets ", settings(verdict.settings), columns)
        return
    word = typer.style("refused", fg="red", bold=True)
    yield f"{word} with {verdict.code}{f' by {visible(verdict.rule)}' if verdict.rule else ''}"
    yield from wrapped("the caller is told: ", visible(verdict.message), columns)


def pairs(told: Told) -> Iterator[tuple[str, str]]:
    """Who asked for what."""
    who, request = told.who, told.request
    name = who.name if who.name == who.id else f"{who.name} ({who.id})"
    yield "who", f"{name}{f', team {who.team}' if who.team else ''}"
    yield "roles", ", ".join(who.roles) or "none"
    yield "model", request.model or "-"
    yield "endpoint", f"{request.endpoint}{', streamed' if request.stream else ''}"
    yield "address", request.address or "not given"
    if request.at is not None:
        yield "time", f"{datetime.fromtimestamp(request.at, UTC):%a %Y-%m-%d %H:%M:%S} UTC"
    if request.parameters:
        yield "parameters", settings({name: ", ".join(map(str, values)) for name, values in request.parameters.items()})
    sizes = (("body", request.body_size, "bytes"), ("prompt", request.prompt_tokens, "tokens"))
    yield from ((name, f"{size:,} {unit}") for name, size, unit in sizes if size is not None)
    if told.verdict.route:
        yield "goes to", ", ".join(told.verdict.route)


def facts(rows: Iterable[tuple[str, object]], columns: int) -> Iterator[str]:
    """Names and values in two columns."""
    listed = [(name, visible(value)) for name, value in rows]
    wide = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        yield from wrapped(f"{name:<{wide}}  ", value, columns)


def settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in values.items())


def steps(found: Sequence[Step], prefix: str, columns: int) -> Iterator[str]:
    """One line for each rule: whether it passed, its name, what it wants, what the request had."""
    rows = [
        (bool(step.passed), visible(step.rule.removeprefix(prefix)), visible(step.wants), visible(step.had)) for step in found
    ]
    names, wants = max(len(row[1]) for row in rows), max(len(row[2]) for row in rows)
    had = max(len(row[3]) for row in rows)
    if columns >= NARROW:
        one_line = len("  ok    ") + names + len("  had ") + wants + had <= columns
        for passed, rule, want, has in rows:
            text = f"{want:<{wants}}  had {has}" if one_line else f"{want}; had {has}"
            # the mark may hold codes for colour, which take no room
            folded = (
                list(wrapped(f"  ok  {rule:<{names}}  ", text, columns)) if not one_line else [f"  ok  {rule:<{names}}  {text}"]
            )
            yield f"  {mark(passed)}{folded[0][4:]}"
            yield from folded[1:]
        return
    for passed, rule, want, has in rows:
        yield f"  {mark(passed)}  {rule}"
        yield from wrapped("      wants ", want, columns, "            ")
        yield from wrapped("      had   ", has, columns, "            ")


def limits(found: Sequence[Counted], columns: int) -> Iterator[str]:
    """One line for each limit: whether there was room, its place and words, and the figures before and after."""
    names, words = max(len(visible(row.rule)) for row in found), max(len(visible(row.limit)) for row in found)
    said = max(len(figures(row)) for row in found)
    for row in found:
        rule, limit = visible(row.rule), visible(row.limit)
        if len("  ok      ") + names + words + said <= columns:
            yield f"  {mark(row.passed)}  {rule:<{names}}  {limit:<{words}}  {figures(row)}"
        else:
            yield f"  {mark(row.passed)}  {rule}"
            yield from wrapped("      ", f"{limit}: {figures(row)}", columns)


def figures(row: Counted) -> str:
    """`used 59 of 60, takes 1, then 60`: where there is no room, nothing is taken."""
    said = f"used {_amount(row, row.used)} of {_amount(row, row.amount)}, takes {_amount(row, row.takes)}"
    return f"{said}, then {_amount(row, row.used + row.takes)}" if row.passed else f"{said}: no room"


def _amount(row: Counted, value: int) -> str:
    if row.unit == "cost":
        return f"{Decimal(value).scaleb(-9).normalize():,f} {row.currency}"
    return f"{value / 1e6:g}" if row.unit == "engine_time" else f"{value:,}"


def wrapped(head: str, text: str, columns: int, indent: str | None = None) -> Iterator[str]:
    """`head` and `text`, folded at words; the lines that follow begin under the text, or with `indent`."""
    below = " " * len(head) if indent is None else indent
    room = max(20, columns - len(below))
    folded = textwrap.wrap(text, room, break_long_words=True, break_on_hyphens=False) or [""]
    yield f"{head}{folded[0]}".rstrip()
    yield from (f"{below}{line}" for line in folded[1:])
