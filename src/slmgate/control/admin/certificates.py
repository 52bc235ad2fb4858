"""What the route about certificates tells: those that the gate shows to clients, and how it stands with their renewal.

Nothing is changed here. Who may call stands in the table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmgate.control.acme.status import CertificateStatus

if TYPE_CHECKING:
    from slmgate.control.admin.params import Context


async def certificates(context: Context) -> list[CertificateStatus]:
    """Every certificate of the gate: for which names, from whom, until when, when it is renewed, and why it was not."""
    return list(context.status().certificates)
