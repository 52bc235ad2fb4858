"""YAML text -> a tree of nodes that know their line and column. Strict where YAML is loose.

It is read as YAML 1.2 is: `on`, `off`, `yes` and `no` are text, and nothing is turned into a date, a number or a boolean
here at all, since each option knows what it takes. Refused: duplicate keys, tags, a second document, more than
`MAX_BYTES`, `MAX_DEPTH` or (with every alias counted as often as it is used) `MAX_NODES`. This module knows no option.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import yaml

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 100_000

# libyaml where PyYAML was built with it (every wheel is): the same events, about twenty times faster.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]{1,4000}|0o[0-7]{1,4000}|0x[0-9a-fA-F]{1,4000}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")


class Span(NamedTuple):
    """Where a node stands: lines and columns from 0, in characters; the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


class Scalar(msgspec.Struct, frozen=True):
    """`plain`: written without quotes, so that YAML may see a number, boolean or null in it."""

    span: Span
    text: str
    plain: bool
    size: int = 1


class Entry(NamedTuple):
    key: Scalar
    value: Node


class Mapping(msgspec.Struct, frozen=True):
    span: Span
    entries: tuple[Entry, ...]
    size: int


class Sequence(msgspec.Struct, frozen=True):
    span: Span
    items: tuple[Node, ...]
    size: int


Node = Scalar | Mapping | Sequence


class Trouble(NamedTuple):
    """Something wrong with the YAML itself, at `line` and `column` from 0."""

    line: int
    column: int
    problem: str
    hint: str = ""


class _BrokenError(Exception):
    """Reading cannot go on after this."""

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble


def parse(text: str) -> tuple[Node | None, list[Trouble]]:
    """The document's root (None: empty, or not readable) and what is wrong with it. Never raises."""
    text = text.removeprefix("\ufeff")
    # One character may be four bytes; measuring only where it could matter spares the copy.
    if len(text) > MAX_BYTES or (len(text) > MAX_BYTES // 4 and len(text.encode(errors="replace")) > MAX_BYTES):
        return None, [Trouble(0, 0, f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB", "is it the right file?")]
    builder = _Builder(text)
    try:
        return builder.document(), builder.troubles
    except _BrokenError as broken:
        return None, [*builder.troubles, broken.trouble]
    except yaml.YAMLError as error:
        return None, [*builder.troubles, _syntax(error)]
    except UnicodeEncodeError:
        return None, [Trouble(0, 0, "the text holds lone surrogates, which are not characters", "save the file as UTF-8")]


def _syntax(error: yaml.YAMLError) -> Trouble:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    hint = "indent with spaces" if "'\\t'" in problem or "tab" in problem else "check quotes, colons and indentation"
    return Trouble(mark.line if mark else 0, mark.column if mark else 0, f"this is not YAML: {problem}", hint)


class _Builder:
    """Builds nodes from PyYAML's events. One use each."""

    def __init__(self, text: str) -> None:
        self.troubles: list[Trouble] = []
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, Node | None] = {}  # None: still open, so that an alias to it would hold itself
        self._nodes = 0

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _BrokenError(_at(event, "a second document begins here", "keep one document in the file"))
                root = self._node(next(self._events), 0)
        return root

    def _node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(1, event)
        if depth >= MAX_DEPTH:
            raise _BrokenError(_at(event, f"the nesting is deeper than {MAX_DEPTH} levels", "no option needs that"))
        if event.tag is not None:
            self.troubles.append(
                _at(event, f"the tag {ascii(event.tag[:60])[1:-1]} is not read here", "remove it: each option knows its type")
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(_span(event, event), event.value, bool(event.implicit[0]))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            raise _BrokenError(_at(event, f"the alias *{event.anchor[:60]} has no anchor before it"))
        node = self._anchors[event.anchor]
        if node is None:
            raise _BrokenError(_at(event, f"the alias *{event.anchor[:60]} stands inside what it names"))
        self._count(node.size, event)
        return node

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _BrokenError(_at(event, f"the file comes to more than {MAX_NODES:,} values, aliases included"))

    def _sequence(self, start: Any, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return Sequence(_span(start, event), tuple(items), 1 + sum(item.size for item in items))

    def _mapping(self, start: Any, depth: int) -> Mapping:
        entries: list[Entry] = []
        first: dict[str, int] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, Scalar):
                self.troubles.append(Trouble(key.span.line, key.span.column, "a list or mapping cannot be an option's name"))
            elif key.text in first:
                before = f"it stands in line {first[key.text] + 1} already"
                self.troubles.append(Trouble(key.span.line, key.span.column, "this name is given twice", before))
            else:
                first[key.text] = key.span.line
                entries.append(Entry(key, value))
        return Mapping(_span(start, event), tuple(entries), 1 + sum(1 + entry.value.size for entry in entries))


def _at(event: Any, problem: str, hint: str = "") -> Trouble:
    return Trouble(event.start_mark.line, event.start_mark.column, problem, hint)


def _span(start: Any, end: Any) -> Span:
    return Span(start.start_mark.line, start.start_mark.column, end.end_mark.line, end.end_mark.column)


def yaml_type(text: str) -> str:
    """What YAML 1.2's core schema sees in a plain scalar: `null`, `boolean`, `number` or `text`."""
    if _NULL.fullmatch(text):
        return "null"
    if _BOOLEAN.fullmatch(text):
        return "boolean"
    return "number" if _INTEGER.fullmatch(text) or _FLOAT.fullmatch(text) else "text"


def plain_value(node: Node) -> Any:
    """The node as JSON has it, by YAML 1.2's core schema: what an editor with our JSON Schema sees."""
    if isinstance(node, Mapping):
        return {entry.key.text: plain_value(entry.value) for entry in node.entries}
    if isinstance(node, Sequence):
        return [plain_value(item) for item in node.items]
    seen = yaml_type(node.text) if node.plain else "text"
    if seen == "null":
        return None
    if seen == "boolean":
        return node.text[0] in "tT"
    if seen == "number":
        decimal = re.fullmatch(r"[-+]?[0-9]+", node.text)
        return int(node.text) if decimal else _other_number(node.text)
    return node.text


def _other_number(text: str) -> int | float:
    if text[:2] in ("0o", "0x"):
        return int(text, 0)
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
