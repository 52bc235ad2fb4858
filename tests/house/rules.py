"""Rules on the text of one Python file: docstrings, raises, states, patterns, sleeps, sockets, length, pragmas, excepts.

Each is a function of a `Source` that yields complaints. They see syntax only, so they err on the side of asking for
a reason; where the reason belongs is said in the complaint.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from tests.house.tree import PURE, Source, calls

SENTENCE_END = re.compile(r"[.!?](?=[\s)`\"']|$)")
MAX_LINES = 500
PRAGMA = re.compile(r"#\s*(?P<what>noqa|type:\s*ignore|pragma:\s*no\s*(?:cover|branch))(?P<rest>.*)")
CODES = re.compile(r"\s*:?\s*\[?[A-Za-z]+[\w-]*(?:,\s*[A-Za-z]+[\w-]*)*\]?")
REASON = re.compile(r"[a-z]{2,}.*\s+.*[a-z]{2,}", re.IGNORECASE)


def docstring_rule(source: Source) -> Iterable[str]:
    """A module opens with two sentences or more: what it holds, what it does not know. Empty `__init__` files say nothing."""
    if not source.text.strip() and source.path.endswith("__init__.py"):
        return
    text = ast.get_docstring(source.tree) or ""
    if len(SENTENCE_END.findall(text)) < 2:
        yield source.at(1, "the module's docstring needs two sentences: what it holds, and what it does not know")


def raise_rule(source: Source) -> Iterable[str]:
    """In `policy`, a refusal is a value: `raise` is for `snapshot.py`, which faces configuration."""
    if source.room == "policy" and not source.path.endswith("/snapshot.py"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Raise):
                yield source.at(node.lineno, "policy returns a Refuse; only snapshot.py raises")


def _state_writes(node: ast.AST) -> Iterator[int]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign):
            targets = inner.targets
        elif isinstance(inner, ast.AugAssign | ast.AnnAssign):
            targets = [inner.target]
        else:
            continue
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            if any(isinstance(part, ast.Attribute) and part.attr == "state" for part in parts):
                yield inner.lineno


def state_rule(source: Source) -> Iterable[str]:
    """`.state =` in one method of a class, beside its `__init__`; nowhere outside a class."""
    for node in source.tree.body:
        if not isinstance(node, ast.ClassDef):
            for line in _state_writes(node):
                yield source.at(line, "a state is changed by the one method of its class that also moves the object")
            continue
        writers = {
            method.name: line
            for method in node.body
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name != "__init__"
            for line in _state_writes(method)
        }
        if len(writers) > 1:
            names = ", ".join(sorted(writers))
            yield source.at(max(writers.values()), f"{node.name}.state is set by several methods ({names}); let one do it")


def match_rule(source: Source) -> Iterable[str]:
    """Input is validated with `fullmatch`: `match` and a `$` also take a trailing newline."""
    for call in calls(source.tree):
        if isinstance(call.func, ast.Attribute) and call.func.attr == "match":
            yield source.at(call.lineno, "use fullmatch (match takes what it likes after the pattern)")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "re" and any(alias.name == "match" for alias in node.names):
            yield source.at(node.lineno, "use fullmatch (match takes what it likes after the pattern)")


def sleep_rule(source: Source) -> Iterable[str]:
    """No test outside tests/system waits for a clock; `asyncio.sleep(0)` gives way and does not wait."""
    for call in calls(source.tree):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        nothing = len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
        if name == "sleep" and not nothing:
            yield source.at(call.lineno, "tests outside tests/system do not sleep: pass the time as an argument")


SOCKET_MODULES = frozenset({"socket", "socketserver", "http.server", "xmlrpc.server"})
SOCKET_CALLS = frozenset(
    {"open_connection", "start_server", "start_unix_server", "create_server", "create_connection", "urlopen"}
)


def socket_rule(source: Source) -> Iterable[str]:
    """No test outside tests/system opens a socket: bytes in, bytes out, on a fake transport."""
    for node in ast.walk(source.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if SOCKET_MODULES & set(names):
            yield source.at(node.lineno, "sockets are for tests/system")  # type: ignore[attr-defined]  # import nodes have lines
    for call in calls(source.tree):
        if isinstance(call.func, ast.Attribute) and call.func.attr in SOCKET_CALLS:
            yield source.at(call.lineno, "sockets are for tests/system")


def clock_rule(source: Source) -> Iterable[str]:
    """On the pure floor the present is an argument: nothing asks for it."""
    if source.room in PURE:
        for call in calls(source.tree):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("now", "utcnow", "today"):
                yield source.at(call.lineno, "the pure floor has no clock: take `now` as an argument")


def length_rule(source: Source) -> Iterable[str]:
    """A file over 500 lines says why, in its docstring, in a sentence that begins with `Length:`."""
    lines = source.text.count("\n")
    if lines > MAX_LINES and "Length:" not in (ast.get_docstring(source.tree) or ""):
        yield source.at(1, f"{lines} lines: split it, or say why in the docstring (`Length: ...`)")


def pragma_rule(source: Source) -> Iterable[str]:
    """`noqa`, `type: ignore` and coverage pragmas name their code and have a reason; the pure floor's coverage has none."""
    for line, comment in source.comments:
        found = PRAGMA.search(comment)
        if not found:
            continue
        what, rest = found["what"], found["rest"]
        if what.startswith("pragma") and source.room in PURE:
            yield source.at(line, "the pure floor excludes nothing from coverage")
        reason = rest
        if not what.startswith("pragma"):
            code = CODES.match(rest) if rest.strip().startswith((":", "[")) else None
            if code is None:
                yield source.at(line, f"`{what}` needs the code that it silences")
            reason = rest[code.end() :] if code else rest
        if not REASON.search(reason):
            yield source.at(line, f"`{what}` needs its reason in the same line")


def skip_rule(source: Source) -> Iterable[str]:
    """A test that is skipped or expected to fail says why."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "xfail"):
            parent = next((call for call in calls(source.tree) if call.func is node), None)
            texts = [] if parent is None else [*parent.args, *(word.value for word in parent.keywords if word.arg == "reason")]
            if not any(isinstance(text, ast.Constant | ast.JoinedStr) and len(ast.unparse(text)) > 8 for text in texts):
                yield source.at(node.lineno, f"`{node.attr}` needs a reason")


def except_rule(source: Source) -> Iterable[str]:
    """`except Exception` (or wider, or bare) has its reason in a comment: on its line, the one above or the one below."""
    commented = {line for line, _ in source.comments}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            wide = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
            if wide and not commented & {node.lineno - 1, node.lineno, node.lineno + 1}:
                yield source.at(node.lineno, "a wide except needs its reason in a comment beside it")
