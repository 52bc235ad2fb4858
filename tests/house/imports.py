"""The import table of the house: which room may use which, and which modules the pure floor must not touch.

It reads the imports of a file with `ast`, those inside functions and under `TYPE_CHECKING` too, and knows nothing
of what an import is used for.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.house.tree import PURE, Source, calls

IMPURE = frozenset(
    {
        *("asyncio", "concurrent", "fcntl", "http", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "queue"),
        *("random", "sched", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3"),
        *("ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"),
    }
)
"""Of the standard library: what has a clock, chance, a socket, a task, a file or a log."""
HARMLESS = frozenset({"http.HTTPStatus"})
"""Names in such modules that are nothing but a table."""


class Row(NamedTuple):
    rooms: frozenset[str]
    """Rooms, or single modules as `policy.specs`, that may be imported beside the room itself."""
    packages: frozenset[str]
    """Top-level packages from outside the standard library; `*` for any."""


def row(rooms: str, packages: str) -> Row:
    return Row(frozenset(rooms.split()), frozenset(packages.split()))


TABLE = {
    "slmgate": row("", ""),
    "__main__": row("cli", ""),
    "errors": row("", "msgspec"),
    "terms": row("errors", "msgspec"),
    "policy": row("terms errors", "msgspec"),
    "dialects": row("terms errors", "msgspec"),
    "http1": row("terms errors", "msgspec"),
    "link": row("terms errors policy.specs policy.health", "msgspec uvloop"),
    "dataplane": row("terms errors policy dialects http1 link", "msgspec uvloop httptools tokenizers"),
    "stores": row("terms errors", "msgspec sqlalchemy alembic psycopg redis"),
    "control": row("terms errors policy dialects http1 stores link", "*"),
    "cli": row("terms errors control", "*"),
}


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import; `from a import b` counts as `a.b`, since b may be a module."""
    package = source.module if source.path.endswith("__init__.py") else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
    for call in calls(source.tree):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in ("import_module", "__import__") and call.args and isinstance(call.args[0], ast.Constant):
            yield call.lineno, str(call.args[0].value)


def import_rule(source: Source) -> Iterable[str]:
    """Complaints about imports that the table does not allow."""
    room = source.room
    if room not in TABLE:
        yield source.at(1, f"the room {room!r} has no row in tests/house/imports.py")
        return
    allowed = TABLE[room]
    for line, name in imported(source):
        top, _, rest = name.partition(".")
        if top == "slmgate":
            other = rest.partition(".")[0]
            if other not in TABLE or other == room:  # a name of the package itself (`__version__`), or the own room
                continue
            if other not in allowed.rooms and not any(
                rest == single or rest.startswith(single + ".") for single in allowed.rooms if "." in single
            ):
                yield source.at(line, f"{room} must not import {name}")
        elif top in sys.stdlib_module_names:
            if room in PURE and top in IMPURE and name not in HARMLESS:
                yield source.at(line, f"{room} is on the pure floor and must not import {top}")
        elif top not in allowed.packages and "*" not in allowed.packages:
            yield source.at(line, f"{room} must not import the package {top}")
