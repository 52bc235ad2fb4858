"""Rules on what stands beside the code: news fragments, addresses of machines, dependencies and their reasons, faults.

The rules take texts and return complaints; they open no file, and they do not know whether a sentence is true.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

NEWS_KINDS = ("feature", "fix", "change", "removal", "security", "docs")
NEWS_NAME = re.compile(rf"(?:\d+|\+[a-z0-9-]+)\.(?:{'|'.join(NEWS_KINDS)})(?:\.\d+)?\.md")

MACHINE = re.compile(
    "|".join(
        [
            r"/home/(?!user\b)[a-z][\w.-]*/",
            r"/Users/[A-Za-z][\w.-]*/",
            r"(?<![\w.])/root/",
            r"/opt/pypi",
            r"/tmp/(?:lab|bash_jobs)",
            r"file:///(?:opt|tmp|home|var)",
            r"--(?:extra-)?index-url",
            r"--find-links",
            r"--trusted-host",
            r"^-i http",
            r"pypi\.org/simple",
            r"registry\.npmjs\.org",
        ]
    ),
    re.MULTILINE,
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")


def normal(name: str) -> str:
    """A package's name as indexes compare it (PyPA: name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    found = NAME.search(requirement)
    return normal(found[0]) if found else ""


def news_rule(name: str, text: str) -> Iterable[str]:
    """A fragment is named `<issue>.<kind>.md` (or `+<word>.<kind>.md`) and holds whole sentences."""
    if not NEWS_NAME.fullmatch(name):
        yield f"news/{name}: name it <issue>.<kind>.md, kind one of {', '.join(NEWS_KINDS)}"
    if not text.strip().endswith((".", "!", ")", "`")) or len(text.split()) < 4:
        yield f"news/{name}: say in a sentence what changes for users"


def machine_rule(path: str, text: str) -> Iterable[str]:
    """No path of somebody's machine and no package index in a file that is kept."""
    for found in MACHINE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield f"{path}:{line}: {found[0]!r} is an address of one machine or one index"


def pin_rule(constraints: str, wanted: Iterable[str]) -> Iterable[str]:
    """Constraints are comments and exact pins only, each once, and every declared dependency has one."""
    pinned: set[str] = set()
    for number, line in enumerate(constraints.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not PIN.fullmatch(line):
            yield f"constraints.txt:{number}: {line!r} is not an exact pin"
        elif requirement_name(line) in pinned:
            yield f"constraints.txt:{number}: {line!r} is there twice"
        pinned.add(requirement_name(line))
    for requirement in wanted:
        if requirement_name(requirement) not in pinned:
            yield f"constraints.txt: no pin for {requirement_name(requirement)}"


def reason_rule(page: str, wanted: Iterable[str]) -> Iterable[str]:
    """Every declared dependency has a row of a table in docs/dependencies.md that names it in backquotes."""
    named = {
        requirement_name(name) for line in page.splitlines() if line.startswith("|") for name in re.findall(r"`([^`]+)`", line)
    }
    for requirement in wanted:
        if requirement_name(requirement) not in named:
            yield f"docs/dependencies.md: no row for {requirement_name(requirement)}"


def heading_rule(page: str, faults: Mapping[str, int]) -> Iterable[str]:
    """docs/errors.md has one heading for each fault (code -> status), with its status, and no other of that level."""
    found = dict(re.findall(r"^## `([a-z_]+)` \((\d{3})\)$", page, re.MULTILINE))
    for code, status in faults.items():
        if found.get(code) != str(status):
            yield f"docs/errors.md: no heading '## `{code}` ({status})'"
    for code in sorted(found.keys() - faults.keys()):
        yield f"docs/errors.md: the fault {code} does not exist"


def verb_rule(makefile: str) -> Iterable[str]:
    """At most ten verbs, each with its line of help, none a file's name by accident.

    `help` and `clean` are not counted: every Makefile has them, and nobody has to learn them.
    """
    phony = {verb for line in makefile.splitlines() if line.startswith(".PHONY:") for verb in line.split()[1:]}
    verbs = {line.partition(":")[0] for line in makefile.splitlines() if re.fullmatch(r"[a-z][a-z-]*:(?!=).*", line)}
    helped = {line.partition(":")[0] for line in makefile.splitlines() if re.fullmatch(r"[a-z][a-z-]*:(?!=).*## \S.*", line)}
    if (many := len(verbs - {"help", "clean"})) > 10:
        yield f"Makefile: {many} verbs, ten at most"
    for verb in sorted((verbs ^ phony) | (verbs - helped)):
        yield f"Makefile: {verb} needs a recipe, its place in .PHONY and a line of help"
