"""Nodes of a YAML document + the option table -> a configuration, strictly, with every fault found.

An unknown option, a wrong shape, a bad value, a missing option: each becomes a fault with its place, and reading goes
on with the rest. Single options are unknown here; what options must be to each other is `checks.py`'s affair.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Env
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from slmgate.control.config.document import Mapping, Node, Scalar, Sequence, Span
from slmgate.control.config.faults import DOCS_PAGE, BadValueError, ConfigFault, anchor, printable, quote
from slmgate.control.config.kinds import NOT_YET, NOT_YET_HINT, Kind, Style, article
from slmgate.control.config.options import Config
from slmgate.control.config.references import resolve
from slmgate.control.config.stamps import Stamp
from slmgate.control.config.table import REQUIRED, Row, Section, rows, walk

MAX_FAULTS = 1000
_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as the YAML parser counts lines
_EXCERPT = 160
_BROKEN: Any = object()
"""Stands for a value that has a fault already."""


class Place:
    """Where something stands: its path in this file, its path in the documentation, its node."""

    __slots__ = ("doc", "node", "option")

    def __init__(self, option: str, doc: str, node: Node) -> None:
        self.option = option
        self.doc = doc
        self.node = node

    def below(self, name: str, node: Node) -> Place:
        """The option `name` of the section that stands here."""
        return Place(f"{self.option}.{name}" if self.option else name, f"{self.doc}.{name}" if self.doc else name, node)


class Reader:
    """Reads one document. One use each; `faults`, `files` and `places` are its results beside the configuration."""

    def __init__(self, name: str, text: str, base: Path, env: Env[str, str]) -> None:
        self._name = name
        self._lines = _LINE_END.split(text)
        self._base = base
        self._env = env
        self._secrets: list[Span] = []  # what excerpts must not show
        self._fetched: list[tuple[Span, str, str]] = []  # where references stand, what each fetched, and how the file has it
        self._faults: list[tuple[Place | None, Span, str, str]] = []
        self._made: list[Section] = []  # kept alive, so that no identity in `places` is used twice
        self._stood_in: set[int] = set()
        self.files: dict[Path, Stamp] = {}  # each as it was before it was read
        # Where each option of each section stands, by the section's identity: `checks.py` points with it.
        self.places: dict[tuple[int, str], Place] = {}

    @property
    def base(self) -> Path:
        """The directory from which relative paths count."""
        return self._base

    @property
    def env(self) -> Env[str, str]:
        """The environment in which the file is read."""
        return self._env

    def config(self, root: Node) -> Config | None:
        """The configuration as far as it can be read, or None; it counts only if `faults()` stays empty."""
        value = self.document(Config, root)
        return value if isinstance(value, Config) else None

    def document(self, section: type[Section], root: Node) -> Section | None:
        """The whole document as a section, as far as it can be read, or None."""
        value = self._section(section, Place("", "", root))
        return value if isinstance(value, Section) else None

    def entries(self, section: type[Section], root: Node, doc: str, example: str) -> tuple[Section, ...]:
        """The whole document as a list of sections, as far as they can be read. `doc` is where their options are documented."""
        if not isinstance(root, Sequence):
            self.blame(None, root.span, f"{self.subject(root)} is not a list", f"begin each entry with a dash: {example}")
            return ()
        made = [self._section(section, Place(f"[{number}]", doc, item)) for number, item in enumerate(root.items)]
        return tuple(value for value in made if value is not _BROKEN)

    def blame(self, place: Place | None, span: Span, problem: str, hint: str = "") -> None:
        """Record one fault."""
        if len(self._faults) < MAX_FAULTS:
            self._faults.append((place, span, problem, hint))

    def faults(self) -> tuple[ConfigFault, ...]:
        """All faults in the order of the file. Excerpts are cut here, once every secret's place is known."""
        shown = self._shown({span.line for _, span, _, _ in self._faults})
        made = [self._fault(fault, shown[fault[1].line]) for fault in self._faults]
        return tuple(sorted(made, key=lambda fault: (fault.line, fault.column)))

    def _shown(self, wanted: set[int]) -> dict[int, str]:
        """The lines `wanted` with every secret struck out, column for column."""
        lines = {number: list(self._lines[number]) if number < len(self._lines) else [] for number in wanted}
        for secret in set(self._secrets):
            for number in wanted.intersection(range(secret.line, secret.end_line + 1)):
                start = secret.column if number == secret.line else 0
                end = secret.end_column if number == secret.end_line else len(lines[number])
                lines[number][start:end] = "*" * (end - start)
        return {
            number: _SECRET.sub(lambda found: found[1] + "*" * len(found[2]), "".join(line)) for number, line in lines.items()
        }

    def _fault(self, fault: tuple[Place | None, Span, str, str], line: str) -> ConfigFault:
        place, span, problem, hint = fault
        cut = max(0, span.column - _EXCERPT // 2)
        option = place.option if place else ""
        # An entry of a list or map is explained where the list or map is.
        doc = place.doc.removesuffix("[]").removesuffix(".NAME") if place else ""
        return ConfigFault(
            file=self._name,
            line=span.line + 1,
            column=span.column + 1,
            option=printable(option),
            problem=self._as_written(place, problem),
            hint=self._as_written(place, hint),
            doc=_DOCS.get(doc, ""),
            see=f"{DOCS_PAGE}#{anchor(doc)}" if doc in _DOCS else "",
            excerpt=printable(line[cut : cut + _EXCERPT].rstrip("\r")),
            caret=span.column - cut,
        )

    def _as_written(self, place: Place | None, text: str) -> str:
        """A sentence about what stands there, with references as the file has them: whoever judges a value later knows no other
        word for it than what was fetched, which may be a secret in a wrong place."""
        if place is None:
            return text
        for span, fetched, written in self._fetched:
            if fetched and _holds(place.node.span, span):
                text = text.replace(quote(fetched), quote(written)).replace(fetched, printable(written))
                if len(fetched) > _TELLING and fetched[:_TELLING] in text:  # cut short, for its length
                    text = "what the reference stands for cannot be used here"
        return text

    def _section(self, section: type[Section], place: Place) -> Any:
        node = place.node
        if isinstance(node, Scalar) and (option := section.short.get(node.text)) is not None:
            made = section(**{option: True})
            self._made.append(made)
            return made
        if isinstance(node, Scalar) and section.text:
            return self._of_text(section, place)
        if not isinstance(node, Mapping):
            hint = f"write {next(iter(rows(section)))}: ... under it" if place.option else "begin with models:"
            if isinstance(node, Scalar) and not node.text:
                hint = "give its options, or leave the line out"
            elif section.text:
                hint = f"write {rows(section)[section.text].option.example}, or its options: {', '.join(rows(section))}"
            elif section.short:
                hint = f"write {' or '.join(section.short)}, or its options: {', '.join(rows(section))}"
            self.blame(place, node.span, f"{self.subject(node)} is not a mapping of options", hint)
            return _BROKEN
        table = rows(section)
        values: dict[str, Any] = {}
        found: dict[str, Place] = {}
        for key, value in node.entries:
            row = table.get(key.text)
            here = place.below(key.text, value)
            if row is None:
                self._unknown(section, place, key, value)
            else:
                values[row.name] = self._value(row, here)
                found[row.name] = here
        self._check_one_of(section, place, found)
        stood_in = False
        for row in table.values():
            if row.name not in values and row.default is REQUIRED:
                self.blame(place.below(row.name, node), node.span, f"{row.name} is missing", _missing(row))
                values[row.name] = _BROKEN
            if row.name not in values:
                values[row.name] = self._base / row.default if isinstance(row.default, Path) else row.default
            elif values[row.name] is _BROKEN:
                found.pop(row.name, None)
                values[row.name] = self._stand_in(row)
                stood_in = True
        if any(value is _BROKEN for value in values.values()):
            return _BROKEN
        made = section(**values)
        self._made.append(made)
        if stood_in:
            self._stood_in.add(id(made))
        for name, where in found.items():
            self.places[id(made), name] = where
        return made

    def _check_one_of(self, section: type[Section], place: Place, found: dict[str, Place]) -> None:
        """Of options that stand for each other, exactly one is given."""
        given = [name for name in found if name in section.one_of]
        if section.one_of and not given:
            first, *others = section.one_of
            hint = f"{_missing(rows(section)[first])}, or {' or '.join(others)} in its place"
            self.blame(place.below(first, place.node), place.node.span, f"{first} is missing", hint)
        for name in given[1:]:
            self.blame(found[name], found[name].node.span, f"{name} stands beside {given[0]}", "give one of them")

    def _of_text(self, section: type[Section], place: Place) -> Any:
        """The section whose one option stands for it all."""
        row = rows(section)[section.text]
        value = self._one(row, place)
        if value is _BROKEN:
            return _BROKEN
        made = section(**{row.name: value})
        self._made.append(made)
        self.places[id(made), row.name] = place
        return made

    def _stand_in(self, row: Row) -> Any:
        """A value in place of a broken one, so that its fault does not hide those of its neighbours.

        A single value without a default has none: its section cannot be made.
        """
        if row.default is not REQUIRED:
            return row.default
        return () if row.shape == "list" else {} if row.shape == "map" else _BROKEN

    def _value(self, row: Row, place: Place) -> Any:
        if row.shape == "list":
            return self._list(row, place)
        if row.shape == "map":
            return self._map(row, place)
        return self._one(row, place)

    def _one(self, row: Row, place: Place) -> Any:
        if row.section is not None:
            return self._section(row.section, place)
        if row.kind is None:
            raise TypeError(f"the option {place.doc} has neither a section nor a kind")
        return self._scalar(row.kind, place)

    def _list(self, row: Row, place: Place) -> Any:
        node = place.node
        if row.option.lone and (isinstance(node, Scalar) or (row.section is not None and isinstance(node, Mapping))):
            return self._alone(row, place)
        if not isinstance(node, Sequence):
            hint = "begin each entry with a dash" if not isinstance(node, Scalar) else f"write [{printable(node.text[:40])}]"
            if row.section is not None and not (row.section.text and isinstance(node, Scalar) and node.text):
                hint = f"begin each entry with a dash: - {next(iter(rows(row.section)))}: ..."
            self.blame(place, node.span, f"{self.subject(node)} is not a list", hint)
            return _BROKEN
        if len(node.items) < row.option.at_least:
            self.blame(place, node.span, "the list is empty", "give at least one entry")
        suffix = "[]" if row.section is not None else ""
        made = [self._one(row, Place(f"{place.option}[{i}]", place.doc + suffix, item)) for i, item in enumerate(node.items)]
        return tuple(value for value in made if value is not _BROKEN)

    def _alone(self, row: Row, place: Place) -> Any:
        """The list that a single value in its place stands for."""
        only = self._one(row, place)
        if only is _BROKEN or row.kind is None:
            return only if only is _BROKEN else (only,)
        try:
            return row.kind.alone(only)
        except BadValueError as wrong:
            self.blame(place, place.node.span, f"{self.subject(place.node)} {wrong.problem}", wrong.hint)
            return _BROKEN

    def _map(self, row: Row, place: Place) -> Any:
        node = place.node
        if not isinstance(node, Mapping):
            self.blame(place, node.span, f"{self.subject(node)} is not a mapping", "write NAME: with its options under it")
            return _BROKEN
        if len(node.entries) < row.option.at_least:
            self.blame(place, node.span, "the mapping is empty", "give at least one entry")
        made: dict[str, Any] = {}
        for key, value in node.entries:
            here = Place(f"{place.option}.{key.text}", f"{place.doc}.NAME", value)
            try:
                name = key.text if row.option.key is None else row.option.key.take(key.text, "plain" if key.plain else "quoted")
            except BadValueError as wrong:
                self.blame(place, key.span, f"the name {quote(key.text)} {wrong.problem}", wrong.hint)
                name = key.text
            made[name] = self._one(row, here)
        return {name: value for name, value in made.items() if value is not _BROKEN}

    def _scalar(self, kind: Kind, place: Place) -> Any:
        node = place.node
        if not isinstance(node, Scalar):
            self.blame(place, node.span, f"{self.subject(node)} is not {article(kind.label)}", f"write {kind.accepts()}")
            return _BROKEN
        bare = _REFERENCE.fullmatch(node.text) is not None  # says where a secret is, not what it is
        if kind.private and not bare:
            self._secrets.append(node.span)
        style: Style = "plain" if node.plain else "quoted"
        fetched = False
        try:
            resolved = resolve(node.text, self._base, self._env, self.files)
            fetched = resolved.found
            if fetched:
                self._fetched.append((node.span, resolved.text, node.text))
            value = kind.take(resolved.text, "fetched" if fetched else style)
        except BadValueError as wrong:
            hidden = (wrong.private or kind.private) and not bare
            if hidden:
                self._secrets.append(node.span)
            # A kind's hint may repeat the text, which is no harm only where the file itself shows it.
            hint = f"what the reference stands for must be: {kind.accepts()}" if fetched else wrong.hint
            self.blame(place, node.span, f"{'the value' if hidden else self.subject(node)} {wrong.problem}", hint)
            return _BROKEN
        return self._base / value if isinstance(value, Path) else value

    def _unknown(self, section: type[Section], place: Place, key: Scalar, value: Node) -> None:
        if len(self._faults) >= MAX_FAULTS:
            return  # finding a likely name costs too much to do it for nothing
        here = place if place.option else None
        if key.text in section.later:
            self.blame(here, key.span, f"{quote(key.text)} {NOT_YET}", NOT_YET_HINT)
            return
        if isinstance(value, Scalar):
            self._secrets.append(value.span)  # the fault is the name; its value may well be a secret under a misspelt one
        table = rows(section)
        near = get_close_matches(key.text[:40], table, 1)
        if key.text == "<<":
            hint = "merge keys are not read: write the options out, or use an alias for the whole value"
        elif near:
            hint = f"did you mean {near[0]}?"
        elif elsewhere := _ELSEWHERE.get(key.text):
            hint = f"it belongs in {elsewhere}" if elsewhere != "" else "it belongs at the top of the file"
        else:
            hint = f"there {'is' if len(table) == 1 else 'are'} {', '.join(table)}"
        self.blame(here, key.span, f"unknown option {quote(key.text)}", hint)

    def broken(self, section: Section) -> bool:
        """Whether an option of the section had a fault, so that its default stands in for it."""
        return id(section) in self._stood_in

    def subject(self, node: Node) -> str:
        """What a message calls the value at `node`: as the file has it, never what a reference fetched."""
        if isinstance(node, Scalar):
            return quote(node.text) if node.text else "an empty value"
        return "a list" if isinstance(node, Sequence) else "a mapping"


_TELLING = 8
"""So many characters of a secret are too many."""


def _holds(outer: Span, inner: Span) -> bool:
    """Whether something lies within something else, or is it."""
    begins = (outer.line, outer.column) <= (inner.line, inner.column)
    return begins and (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)


def _missing(row: Row) -> str:
    return f"write {row.name}: {row.option.example}" if row.option.example else f"write {row.name}: with its entries under it"


# A line that is no YAML has no nodes to tell a secret by; its option's name must do, or that of a header field that holds one.
_NAMES = {row.name for _, row in walk(Config) if row.kind is not None and row.kind.private} - {"headers"}
_PRIVATE = "|".join(sorted(_NAMES | {"[Aa]uthorization", "(?:[A-Za-z0-9]+-)+(?i:key|token|secret)"}))
_SECRET = re.compile(rf"""((?:{_PRIVATE})["']?\s*:\s*)(?!["']?\$\{{)((?:["']?(?:Basic|Bearer|Token)\s+)?[^\s,}}]+)""")
_REFERENCE = re.compile(r"\$\{(?:env|file):[^${}]*\}")
_DOCS = {path: row.option.doc for path, row in walk(Config)}
# Where an option of this name belongs: the first of its places, and one with a name of its own in it only if there is no other.
_PLACES = sorted(walk(Config), key=lambda described: "NAME" in described.path)
_ELSEWHERE = {row.name: path.rpartition(".")[0] for path, row in reversed(_PLACES)}
