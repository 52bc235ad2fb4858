"""What state an instance is in, in the words that commands, the admin API and the documentation use.

Pure, and made from the fields that the admin API tells, so that a command needs nothing else of the gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any


def condition(row: Mapping[str, Any]) -> str:
    """What an instance is, given the fields of its `InstanceStatus`: taken out, or else what its health says."""
    if row["source"] == "removed":
        return "removed"
    if row["draining"]:
        return "drained" if row["drained"] else "draining"
    process = row.get("process")
    if process not in (None, "up"):
        words = str(process).replace("_", " ")
        return f"{words} for {ceil(row['again'])} s" if row["again"] else words
    words = str(row["state"]).replace("_", "-")
    return f"{words} for {ceil(row['again'])} s" if row["again"] else words


def state(row: Mapping[str, Any]) -> str:
    """The same, with what one that is being taken out still works on."""
    words = condition(row)
    return f"{words}, {row['in_flight']} in flight" if words in ("removed", "draining") else words


def takes_requests(row: Mapping[str, Any]) -> bool:
    """Whether it is given new requests."""
    return bool(row["healthy"]) and not row["draining"] and row["source"] != "removed"
