"""What the routes about instances do: what each carries, drained and enabled, added and removed at run time.

Bodies and handlers both, since they serve nothing else. A change is in force on every worker when its answer comes (a worker
that is stuck is waited for three seconds). Who may call stands in the table.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from slmgate.control.admin.context import InstanceStatus

if TYPE_CHECKING:
    from litestar.params import JSONBody

    from slmgate.control.admin.params import Caller, Context


class InstanceName(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which instance, by the id that the list has."""

    id: str


class NewInstance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an instance is made from: a model of the configuration, and the options of `models.NAME.instances[]`.

    `bearer_env` names the gate's environment variable that holds the instance's secret; the secret itself is not taken.
    `server_name` is that of `tls`, of which all else is as the model says.
    """

    model: str
    url: str
    engine: str | None = None
    weight: int | None = None
    max_in_flight: int | None = None
    upstream_model: str | None = None
    bearer_env: str | None = None
    server_name: str | None = None

    def options(self) -> dict[str, object]:
        """As the configuration has them."""
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        del given["model"]
        variable = given.pop("bearer_env", None)
        name = given.pop("server_name", None)
        if variable is not None:
            given["bearer"] = f"${{env:{variable}}}"
        if name is not None:
            given["tls"] = {"server_name": name}
        return given


async def instances(context: Context) -> list[InstanceStatus]:
    """Every instance with what it carries, over all workers."""
    return list(context.status().instances)


async def drain_instance(context: Context, caller: Caller, data: JSONBody[InstanceName]) -> InstanceStatus:
    """Give an instance no new request, until it is enabled again; those that it has go on. It outlives reloads and restarts."""
    await asyncio.to_thread(context.roster.drain, data.id, caller.name)
    return _shown(context, data.id)


async def enable_instance(context: Context, caller: Caller, data: JSONBody[InstanceName]) -> InstanceStatus:
    """Undo `drain`."""
    await asyncio.to_thread(context.roster.enable, data.id, caller.name)
    return _shown(context, data.id)


async def add_instance(context: Context, caller: Caller, data: JSONBody[NewInstance]) -> InstanceStatus:
    """Add an instance to a model of the configuration, beside those that stand there. It outlives reloads and restarts."""
    id = await asyncio.to_thread(context.roster.add, data.model, data.options(), caller.name)
    return _shown(context, id)


async def remove_instance(context: Context, caller: Caller, data: JSONBody[InstanceName]) -> InstanceStatus:
    """Take away an instance that was added at run time. It gets no new request; those that it has go on."""
    before = _shown(context, data.id)
    await asyncio.to_thread(context.roster.remove, data.id, caller.name)
    return _listed(context, data.id) or msgspec.structs.replace(before, source="removed", in_flight=0)


def _listed(context: Context, id: str) -> InstanceStatus | None:
    return next((row for row in context.status().instances if row.id == id), None)


def _shown(context: Context, id: str) -> InstanceStatus:
    """The instance as the list has it; one that is not in it has left the configuration."""
    return _listed(context, id) or InstanceStatus(id=id, model="", source="removed")
