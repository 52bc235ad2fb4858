"""`${env:NAME}` and `${file:PATH}` in a value: what they stand for, or why not.

Secrets enter a configuration here. A failure names the variable or the path, never a value; this module does not know
which option asks, and it reads files only up to `MAX_FILE` bytes and only regular ones.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from slmgate.control.config.faults import BadValueError, quote_path
from slmgate.control.config.stamps import Stamp, stamp

MAX_FILE = 64 * 1024
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Resolved(NamedTuple):
    """`found`: something was fetched, so that the text may be a secret."""

    text: str
    found: bool


def resolve(text: str, base: Path, env: Mapping[str, str], files: dict[Path, Stamp]) -> Resolved:
    """Put in what the references of `text` name. `$${` is a literal `${`; paths are relative to `base`.

    Every file that is asked for is added to `files`, as it was before it was read; also one that is missing: a watcher waits
    for it to appear.
    Raises `BadValueError` for a reference that cannot be read or fetched.
    """
    if "${" not in text:
        return Resolved(text, False)
    parts: list[str] = []
    found = False
    end = 0
    for match in _REFERENCE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[0] == "$${":
            parts.append("${")
            continue
        if match[2] is None:
            raise BadValueError("has a ${ without its }", "write $${ for a literal ${")
        source, _, name = match[1].partition(":")
        found = True
        if source == "env":
            parts.append(_variable(name, env))
        elif source == "file":
            files.setdefault(base / name, stamp(base / name))
            parts.append(_content(name, base / name))
        else:
            raise BadValueError("has a reference of an unknown kind", _meant(match[1]))
    return Resolved("".join([*parts, text[end:]]), found)


def _meant(inner: str) -> str:
    if inner.lower() == "port":
        return "where a command takes its port, write {port}"
    likely = f"did you mean ${{env:{inner}}}? " if _VARIABLE.fullmatch(inner) else ""
    return likely + "there are ${env:NAME} and ${file:PATH}; write $${ for a literal ${"


def _variable(name: str, env: Mapping[str, str]) -> str:
    if not _VARIABLE.fullmatch(name):
        raise BadValueError("names no environment variable", "write ${env:NAME} with letters, digits and _")
    if name not in env:
        raise BadValueError(f"needs the environment variable {name}, which is not set", "set it where slmgate starts")
    return env[name]


def _content(name: str, path: Path) -> str:
    if not name:
        raise BadValueError("names no file", "write ${file:PATH}; the path is relative to the configuration file")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadValueError(f"needs the file {quote_path(path)}, which is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or "not a path"
        hint = "the path is relative to the configuration file"
        raise BadValueError(f"needs the file {quote_path(path)}, which cannot be read: {reason}", hint) from None
    if len(data) > MAX_FILE:
        raise BadValueError(
            f"needs the file {quote_path(path)}, which is larger than {MAX_FILE // 1024} KiB", "is it the right file?"
        )
    try:
        content = data.decode()
    except UnicodeDecodeError:
        raise BadValueError(f"needs the file {quote_path(path)}, which is not UTF-8 text", "is it the right file?") from None
    return content[:-2] if content.endswith("\r\n") else content.removesuffix("\n")
