"""What a receipt says of its trace, read: `terms.Receipt.trace`.

Thirty-two hexadecimal digits: a trace that began here and is recorded. Where the client began it, the span that it sent the
request in and the trace's flags stand behind, with dashes between. Empty: there is nothing to be found. It knows no span.
"""

from __future__ import annotations

ID = 32
"""Characters of a trace's id."""


def trace_id(trace: str) -> str:
    """The trace's id; empty: the receipt says none."""
    return trace[:ID]


def is_recorded(trace: str) -> bool:
    """Whether the trace's spans are exported, as far as this gate has a say."""
    return len(trace) == ID or trace[-1:] in ("1", "3")


def recorded_id(trace: str) -> str:
    """The id under which a collector has the trace, or nothing: what an exemplar may point to."""
    return trace[:ID] if is_recorded(trace) else ""


def parent_id(trace: str) -> str:
    """The span that the client sent the request in; empty: the trace began here."""
    return trace[ID + 1 : ID + 17]
