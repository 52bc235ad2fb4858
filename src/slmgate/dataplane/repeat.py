"""What was worked out for a client's head, kept for when the same head comes again on its connection.

Clients repeat themselves: from one request to the next only the body and its length change. Whose the key is, which dialect
is spoken and what the instance is told follow from the head and the snapshot alone, so a repetition spares them. It holds
no state of a request, and is not asked once another snapshot is in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmgate.http1.heads import RequestHead
from slmgate.http1.repeats import SeenHead
from slmgate.policy.snapshot import Snapshot
from slmgate.terms import Principal

if TYPE_CHECKING:
    from slmgate.dataplane.account import What
    from slmgate.dialects.contract import Route


class Repeat:
    """A head that question 1 let pass, and what follows from it under `snapshot`. `until`: when its key ends, wall clock."""

    __slots__ = (
        "client_fields",
        "content_type",
        "head",
        "principal",
        "route",
        "seen",
        "snapshot",
        "until",
        "what",
    )

    def __init__(
        self, seen: SeenHead, head: RequestHead, route: Route, principal: Principal, until: float, snapshot: Snapshot
    ) -> None:
        # of the head
        self.seen = seen
        self.head = head
        self.route = route
        self.content_type = head.fields.get(b"content-type", b"").decode("latin-1")
        # of the snapshot
        self.snapshot = snapshot
        self.principal = principal
        self.until = until
        # of the last request: its fields for any instance; what its records share with those of others
        self.client_fields = b""
        self.what: What | None = None

    def __repr__(self) -> str:
        return f"<Repeat {self.head.method} {self.head.path} of {self.principal.name}>"
