"""Configuration faults as a terminal shows them: place, option, what is wrong, the line with a caret, the way out.

Shared by `check`, `init`, `config` and `serve`. It knows how faults look, not how they come about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slmgate.control.config import ConfigFault


def text(faults: Iterable[ConfigFault]) -> str:
    """All faults, a blank line between two, and how many there are."""
    blocks = ["\n".join(_lines(fault)) for fault in faults]
    count = f"{len(blocks)} fault{'' if len(blocks) == 1 else 's'}"
    return "\n\n".join([*blocks, count])


def _lines(fault: ConfigFault) -> Iterator[str]:
    where = f"{fault.file}:{fault.line}:{fault.column}" if fault.line else fault.file
    yield f"{where}: {f'{fault.option}: ' if fault.option else ''}{fault.problem}"
    if fault.line:
        number = str(fault.line)
        yield f"  {number} | {fault.excerpt}"
        yield f"  {' ' * len(number)} | {' ' * fault.caret}^"
    if fault.hint:
        yield f"  hint: {fault.hint}"
    if fault.doc:
        yield f"  doc:  {fault.doc}{f' ({fault.see})' if fault.see else ''}"
