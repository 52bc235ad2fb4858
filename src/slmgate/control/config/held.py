"""Instances that were added at run time: where they may be, and which of them are held to that whenever they are connected to.

An address is looked at once, when it is given. A name may lead elsewhere tomorrow, so workers and checks look at what it leads to
each time. What stands in the configuration is not held to anything: whoever writes it may say where prompts go.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from slmgate.control.config.compile import instance_id
from slmgate.control.config.options import Config
from slmgate.policy.places import is_address
from slmgate.policy.specs import HeldSpec, SnapshotSpec


def rule(config: Config) -> HeldSpec:
    """Where names have to lead, by this configuration."""
    return HeldSpec(loopback=config.discovery.loopback, networks=config.discovery.networks)


def held(config: Config, added: Collection[str]) -> dict[str, HeldSpec]:
    """By their ids, those of `added` whose host is a name."""
    if not added:
        return {}
    where = rule(config)
    return {
        id: where
        for name, model in config.models.items()
        for one in model.instances
        if one.url is not None and not is_address(one.url.host) and (id := instance_id(name, one)) in added
    }


def holding(spec: SnapshotSpec, them: dict[str, HeldSpec]) -> SnapshotSpec:
    """The snapshot with what these instances are held to."""
    if not them:
        return spec
    models = tuple(
        msgspec.structs.replace(
            model, instances=tuple(msgspec.structs.replace(one, held=them.get(one.id)) for one in model.instances)
        )
        for model in spec.models
    )
    return msgspec.structs.replace(spec, models=models)
