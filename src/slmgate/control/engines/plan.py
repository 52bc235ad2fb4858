"""What a configuration says of the engines that the gate is to start, each ready to be run but for its port.

Pure: a configuration in, plans out. It starts nothing, and looks only at the environment that it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from slmgate.control.checker import Target, target_of
from slmgate.control.config import Config
from slmgate.control.config.compile import LOOPBACK, START_WITHIN, instance_id
from slmgate.control.config.engine_checks import PORT, program
from slmgate.control.config.options import Instance, Model

STOP_WITHIN = 10.0
KEPT = frozenset({"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"})
"""What engines get of the gate's environment, with all `LC_*`: the rest may hold the gate's secrets."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One engine. `words` and `env` have `{port}` where its port is to stand. `port` None: it is given a free one.

    `idle` None: it is never stopped for want of requests. `target` is how it is checked, once its address is known.
    """

    id: str
    model: str
    words: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    directory: str
    target: Target
    port: int | None = None
    always: bool = False
    start_within: float = START_WITHIN
    stop_within: float = STOP_WITHIN
    idle: float | None = None
    output: Literal["start", "all", "none"] = "start"

    def command(self, port: int) -> list[str]:
        """Its program and arguments, on this port."""
        return [word.replace(PORT, str(port)) for word in self.words]

    def environment(self, port: int) -> dict[str, str]:
        """All of its environment, on this port."""
        return {name: value.replace(PORT, str(port)) for name, value in self.env}

    def checked_at(self, port: int) -> Target:
        """How it is checked on this port."""
        return msgspec.structs.replace(self.target, url=f"http://{LOOPBACK}:{port}")


def plans(config: Config, base: Path, env: Mapping[str, str]) -> dict[str, Plan]:
    """The engines of `config`, by their ids; relative paths count from `base`, `env` is the gate's environment."""
    return {
        instance_id(name, instance): _plan(name, model, instance, base, env)
        for name, model in config.models.items()
        for instance in model.instances
        if instance.command
    }


def _plan(name: str, model: Model, instance: Instance, base: Path, env: Mapping[str, str]) -> Plan:
    folder = instance.directory or base
    first, *others = instance.command
    kept = {name: value for name, value in env.items() if name in KEPT or name.startswith("LC_")}
    return Plan(
        id=instance_id(name, instance),
        model=name,
        words=(program(first, folder, env) or first, *others),
        env=tuple({**kept, **{name: str(value) for name, value in instance.environment.items()}}.items()),
        directory=str(folder),
        target=target_of(name, model, instance, ""),
        port=instance.port,
        always=instance.start == "always",
        start_within=instance.start_within or START_WITHIN,
        stop_within=instance.stop_within or STOP_WITHIN,
        idle=instance.idle,
        output=instance.output or "start",
    )
