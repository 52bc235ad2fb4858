"""Files of policy tests: users, cases, and what is expected of each, read as strictly as the configuration itself.

The same reader finds every fault with its line. Cases that differ in little may stand in a table of `columns` and `rows`,
which is unfolded before it is read. What a case comes to is `running.py`'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec

from slmgate.control.config.auth_options import NAME, NOTHING
from slmgate.control.config.document import MAX_BYTES, Entry, Mapping, Node, Scalar, Sequence, Span, parse
from slmgate.control.config.faults import BadValueError, ConfigFault
from slmgate.control.config.kinds import Choice, Kind, Network, Number, Plain, Size, Switch, Text, Whole
from slmgate.control.config.options import PARAMETER
from slmgate.control.config.reading import Place, Reader
from slmgate.control.config.table import Option, Section
from slmgate.control.trials.wish import BadTrial, parse_when
from slmgate.dialects import ENDPOINTS
from slmgate.errors import FAULTS
from slmgate.policy.networks import NOWHERE, number_of
from slmgate.policy.roles import Scalar as Value

MAX_CASES = 20_000
"""Of one file. Each is judged in some microseconds, and read in some hundred."""
EXPECTED = ("admit", "refuse")
LISTED = ("*",)
"""The models of a case that does not say which must be listed."""


class When(Kind, frozen=True, kw_only=True):
    """A moment, also by the clock of a zone; seconds since the epoch once read."""

    label: ClassVar[str] = "time"

    def read(self, text: str) -> float:
        try:
            return parse_when(text)
        except BadTrial:
            raise BadValueError(
                "is not a time that comes", "write 2026-11-24T08:00:00Z, or with a zone 2026-11-24 08:00 Europe/Berlin"
            ) from None

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def own_values(self) -> str:
        return "a time like `2026-11-24T08:00:00Z` or `2026-11-24 08:00 Europe/Berlin`"


class From(Kind, frozen=True, kw_only=True):
    """One address."""

    label: ClassVar[str] = "address"
    textual: ClassVar[bool] = True

    def read(self, text: str) -> str:
        if number_of(text) == NOWHERE:
            raise BadValueError("is not an address", "write 203.0.113.9 or 2001:db8::1")
        return text

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string"}

    def own_values(self) -> str:
        return "an IPv4 or IPv6 address"


ANY = Text(pattern=r"[^\x00-\x1f\x7f]{0,512}", described="at most 512 characters, none of them a control character")
EXPECT = Choice(values=(*EXPECTED, *FAULTS))
COUNT = Whole(low=0, high=1_000_000_000)


class User(Section, frozen=True, kw_only=True):
    """A test user: a declared key, or a would-be principal."""

    key: Annotated[str | None, Option("The declared key that it calls with; it has that key's roles and team.", NAME)] = None
    roles: Annotated[tuple[str, ...], Option("Its roles, where it is no key.", NAME)] = ()
    team: Annotated[str | None, Option("Its team, where it is no key.", NAME)] = None
    networks: Annotated[tuple[str, ...], Option("From where alone it may call, where it is no key.", Network())] = ()
    address: Annotated[str | None, Option("Where it calls from, unless a case says otherwise.", From())] = None


class Case(Section, frozen=True, kw_only=True):
    """One request of a user, and what is expected of it."""

    user: Annotated[str, Option("Who asks: one of `users`.", NAME)]
    expect: Annotated[str, Option("`admit`, `refuse`, or the code of a refusal.", EXPECT)]
    name: Annotated[str | None, Option("What the case is about.", ANY)] = None
    model: Annotated[str | None, Option("The model that is asked for.", ANY)] = None
    endpoint: Annotated[str | None, Option("What is asked of it.", Choice(values=ENDPOINTS))] = None
    stream: Annotated[bool, Option("Whether a streamed answer is asked for.", Switch())] = False
    parameters: Annotated[dict[str, Value], Option("What the request sets.", Plain(), key=PARAMETER)] = NOTHING
    address: Annotated[str | None, Option("Where it comes from.", From())] = None
    at: Annotated[float | None, Option("When it comes.", When())] = None
    body_size: Annotated[int | None, Option("The size of its body.", Size(low=0, high=1024**4))] = None
    prompt_tokens: Annotated[int | None, Option("The length of its prompt.", COUNT)] = None
    used: Annotated[
        dict[str, float], Option("How much of which limits was used before it, by their words or places.", Number(), key=ANY)
    ] = NOTHING
    rule: Annotated[str | None, Option("The rule that must decide; `*` stands for any characters.", ANY)] = None
    role: Annotated[str | None, Option("The role that must admit.", NAME)] = None
    settings: Annotated[dict[str, Value], Option("What the gate must set.", Plain(), key=PARAMETER)] = NOTHING
    route: Annotated[
        str | None, Option("What every instance that it may go to must be called; `*` stands for any characters.", ANY)
    ] = None
    models: Annotated[tuple[str, ...], Option("The models that must be listed, for `endpoint: models`; `*`: any.", ANY)] = LISTED


class TestFile(Section, frozen=True, kw_only=True):
    """A file of policy tests."""

    __test__: ClassVar[bool] = False  # its name is no test's

    users: Annotated[dict[str, User], Option("Who asks, by name.", at_least=1, key=NAME)]
    cases: Annotated[tuple[Case, ...], Option("What is asked, and what is expected.", at_least=1)]
    model: Annotated[str | None, Option("The model of cases that name none.", ANY)] = None
    endpoint: Annotated[str, Option("The endpoint of cases that name none.", Choice(values=ENDPOINTS))] = "chat"
    address: Annotated[str | None, Option("The address of cases and users that name none.", From())] = None
    at: Annotated[float | None, Option("The time of cases that name none.", When())] = None


class Placed(msgspec.Struct, frozen=True):
    """A case with its place: `line` from 1, `column` from 1, and its path in the file."""

    case: Case
    line: int
    column: int
    option: str


class Tests(msgspec.Struct, frozen=True):
    """What a file came to: `content` None where it has faults. `lines` are those of its text, for excerpts."""

    __test__: ClassVar[bool] = False

    file: str
    content: TestFile | None
    cases: tuple[Placed, ...] = ()
    faults: tuple[ConfigFault, ...] = ()
    lines: tuple[str, ...] = ()


def read_tests(path: Path) -> Tests:
    """Read the file at `path`. Never raises for its content or absence."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode()
    except OSError as error:
        return _unreadable(path, f"the file of policy tests cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return _unreadable(path, "the file of policy tests is not UTF-8 text")
    if len(data) > MAX_BYTES:
        return _unreadable(path, f"the file of policy tests is larger than {MAX_BYTES // 1024 // 1024} MiB")
    return read_text(text, str(path))


def _unreadable(path: Path, problem: str) -> Tests:
    return Tests(str(path), None, faults=(ConfigFault(file=str(path), line=0, column=0, option="", problem=problem),))


def read_text(text: str, name: str) -> Tests:
    """Read policy tests from `text`, called `name` in faults."""
    text = text.removeprefix("\ufeff")
    reader = Reader(name, text, Path(), {})
    root, troubles = parse(text)
    for trouble in troubles:
        span = Span(trouble.line, trouble.column, trouble.line, trouble.column)
        reader.blame(None, span, trouble.problem, trouble.hint)
    if root is None and not troubles:
        reader.blame(None, Span(0, 0, 0, 0), "the file is empty", "begin with users: and cases:")
    unfolded = _unfold(root, reader) if root is not None else None
    content = reader.document(TestFile, unfolded) if unfolded is not None else None
    if isinstance(content, TestFile):
        _check(content, reader)
    faults = tuple(map(_as_written, reader.faults()))
    usable = content if isinstance(content, TestFile) and not faults else None
    if usable is None or not isinstance(unfolded, Mapping):
        return Tests(name, None, faults=faults)
    listed = next(entry.value for entry in unfolded.entries if entry.key.text == "cases")
    assert isinstance(listed, Sequence)
    pairs = enumerate(zip(usable.cases, listed.items, strict=True))  # without a fault, none was left out
    cases = tuple(Placed(case, node.span.line + 1, node.span.column + 1, f"cases[{at}]") for at, (case, node) in pairs)
    return Tests(name, usable, cases, lines=tuple(text.splitlines()))


def _as_written(fault: ConfigFault) -> ConfigFault:
    """The fault of a case that names nobody, by the word that its writer knows: `as` is none that a field can have."""
    if fault.problem != "user is missing":
        return fault
    return msgspec.structs.replace(fault, problem="as is missing", hint="write as: and one of users")


def _check(content: TestFile, reader: Reader) -> None:
    """What the options of a file must be to each other."""
    if len(content.cases) > MAX_CASES:
        place = reader.places[id(content), "cases"]
        reader.blame(place, place.node.span, f"there are more than {MAX_CASES:,} cases", "split the file")
    for user in content.users.values():
        key = _place(reader, user, "key")
        if key is not None and (user.roles or user.team is not None or user.networks):
            reader.blame(key, key.node.span, "a key has roles, a team and networks of its own", "leave key out, or those")
    for case in content.cases:
        who = _place(reader, case, "user")
        if who is not None and case.user not in content.users:
            hint = f"there is {', '.join(list(content.users)[:8])}"
            reader.blame(who, who.node.span, f"there is no user {case.user!r}", hint)
        expect = _place(reader, case, "expect")
        if expect is not None and case.expect != "admit" and (case.role or case.route or case.settings or case.models != LISTED):
            said = "only what is admitted has a role, a route, settings or models"
            reader.blame(expect, expect.node.span, said, "write expect: admit")


def _place(reader: Reader, section: Section, option: str) -> Place | None:
    return reader.places.get((id(section), option))


# -- tables


def _unfold(root: Node, reader: Reader) -> Node:
    """The document with `as` read as `user`, and each table among its cases as the cases that it stands for."""
    if not isinstance(root, Mapping):
        return root
    entries = tuple(
        Entry(entry.key, _cases(entry.value, reader))
        if entry.key.text == "cases" and isinstance(entry.value, Sequence)
        else entry
        for entry in root.entries
    )
    return Mapping(root.span, entries, root.size)


def _cases(listed: Sequence, reader: Reader) -> Sequence:
    items: list[Node] = []
    for item in listed.items:
        members = {entry.key.text: entry.value for entry in item.entries} if isinstance(item, Mapping) else {}
        if "rows" in members or "columns" in members:
            items += _table(item, members, reader)
        else:
            items.append(_renamed(item))
    return Sequence(listed.span, tuple(items), listed.size)


def _renamed(item: Node) -> Node:
    if not isinstance(item, Mapping):
        return item
    entries = (Entry(msgspec.structs.replace(e.key, text="user"), e.value) if e.key.text == "as" else e for e in item.entries)
    return Mapping(item.span, tuple(entries), item.size)


def _table(item: Node, members: dict[str, Node], reader: Reader) -> list[Node]:
    """The cases of a table. What stands beside `columns` and `rows` is said of each of them."""
    columns, rows = members.get("columns"), members.get("rows")
    assert isinstance(item, Mapping)
    if not isinstance(columns, Sequence) or not isinstance(rows, Sequence):
        reader.blame(None, item.span, "a table of cases needs columns and rows, both lists", "write columns: [as, model, expect]")
        return []
    shared = [entry for entry in item.entries if entry.key.text not in ("columns", "rows")]
    names = [column for column in columns.items if isinstance(column, Scalar)]
    made: list[Node] = []
    for row in rows.items:
        cells = row.items if isinstance(row, Sequence) else ()
        if len(cells) != len(columns.items) or len(names) != len(columns.items):
            reader.blame(None, row.span, f"a row of this table is a list of {len(columns.items)}", "write ~ for what is left out")
            continue
        made.append(_renamed(_row(row, names, cells, shared)))
    return made


def _row(row: Node, names: Many[Scalar], cells: Many[Node], shared: Many[Entry]) -> Mapping:
    """One row as a case. A column `parameters.max_tokens` is an option below another."""
    entries = list(shared)
    below: dict[str, list[Entry]] = {}
    for name, cell in zip(names, cells, strict=True):
        if isinstance(cell, Scalar) and cell.plain and cell.text in ("", "~", "null"):
            continue
        outer, dot, inner = name.text.partition(".")
        if dot:
            below.setdefault(outer, []).append(Entry(Scalar(cell.span, inner, True), cell))
        else:
            entries.append(Entry(Scalar(cell.span, outer, True), cell))
    entries += [
        Entry(Scalar(row.span, outer, True), Mapping(row.span, tuple(inner), len(inner) + 1)) for outer, inner in below.items()
    ]
    return Mapping(row.span, tuple(entries), len(entries) + 1)
