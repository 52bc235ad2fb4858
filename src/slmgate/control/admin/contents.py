"""What the route about contents does: a prompt and an answer that a role wanted kept, shown to an owner, who is named for it.

Each look is in the audit log before anything is shown. What is kept was masked before it was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slmgate.control.admin.handlers import Unknown
from slmgate.control.audit import line
from slmgate.control.keyring import utc_now
from slmgate.stores.contents import ContentRecord

if TYPE_CHECKING:
    from litestar.params import FromPath

    from slmgate.control.admin.params import Caller, Context


def receipt_content(context: Context, caller: Caller, id: FromPath[str]) -> ContentRecord:
    """What is kept of a request's prompt and answer, by the receipt's id or the `x-request-id`.

    Nothing is, unless the role that admitted it asks for it. Each answer given is noted in the audit log.
    """
    found = context.store.receipt(id)
    content = None if found is None else context.store.contents.get(found.id)
    if found is None or content is None or content.expires <= utc_now():  # deleted in a moment, or when the ledger is back
        raise Unknown(f"Nothing is kept of the prompt and answer of {id!r}: no role asked for it, or its time is over.")
    detail = {"client": found.principal, "role": content.role}
    context.store.append_audit(line(utc_now(), caller.name, "read", f"content/{found.id}", detail))
    return content
