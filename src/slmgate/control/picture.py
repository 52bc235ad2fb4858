"""The gate's models and instances as they are now: the configuration's, with what the workers last told of them.

Pure: the control process brings both. It knows no process and no API.
"""

from __future__ import annotations

from collections.abc import Iterable

from slmgate.control.admin.context import InstanceStatus, ModelStatus
from slmgate.control.config import Config
from slmgate.control.config.compile import instance_id
from slmgate.link.messages import Tally


def picture(config: Config, tallies: Iterable[Tally]) -> tuple[list[ModelStatus], list[InstanceStatus]]:
    """Every configured model and instance, and instances that are gone from the configuration but still at work.

    Until a worker has told of an instance, nothing is known against it.
    """
    instances = {
        (name, instance_id(name, instance)): InstanceStatus(id=instance_id(name, instance), model=name)
        for name, model in config.models.items()
        for instance in model.instances
    }
    configured = list(instances)
    for tally in tallies:
        for row in tally.instances:
            known = instances.get((row.model, row.id)) or InstanceStatus(id=row.id, model=row.model)
            instances[row.model, row.id] = InstanceStatus(
                id=row.id,
                model=row.model,
                in_flight=known.in_flight + row.in_flight,
                waiting=known.waiting + row.waiting,
                healthy=known.healthy and row.healthy,
            )
    usable = {at[0] for at in configured if instances[at].healthy}
    models = [ModelStatus(name=name, ready=name in usable) for name in config.models]
    return models, sorted(instances.values(), key=lambda row: row.id)
