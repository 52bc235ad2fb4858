"""The names of instances, followed: which addresses each has now, as instances of the configuration.

Each name is asked for when its answer's time to live is over. What comes and goes is told to who publishes; a name that
answers nothing useful keeps the addresses that it had, over restarts too. It asks through `naming.py`, off the road of
every request, and knows no worker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from slmgate.control.config import Config
from slmgate.control.config.addresses import Address, Origin
from slmgate.control.config.compile import instance_id
from slmgate.control.config.discovery_options import Discovery as Options
from slmgate.control.config.options import Instance, Model
from slmgate.control.config.trust_options import InstanceTls
from slmgate.control.naming import CannotTell, Found, ask, family
from slmgate.policy.places import allowed

SHORTEST, LONGEST = 1.0, 3600.0
"""Bounds of the seconds between two questions, whatever the time to live."""

Ask = Callable[[str, Sequence[Address]], Awaitable[Found]]


class Discovery:
    """Follows the names of one configuration at a time. All calls are made on the event loop."""

    def __init__(self, kept: Path, say: Callable[[str], None], ask: Ask = ask) -> None:
        """`kept` is the file in which addresses outlive this process; what cannot be read of it is not known."""
        self._file = kept
        self._say = say
        self._ask = ask
        self._options = Options()
        self._known: dict[str, tuple[str, ...]] = _read(kept)
        self._sources: dict[str, str] = {}  # of instances in the last configuration that was expanded, by id
        self._following: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, asyncio.Event] = {}
        self._troubles: dict[str, str] = {}
        self._telling: asyncio.Handle | None = None
        self.on_change: Callable[[], None] = lambda: None  # called once for all that changes in one turn of the loop

    def __repr__(self) -> str:
        return f"<Discovery: {', '.join(f'{name} {len(self._known.get(name, ()))}' for name in self._following) or 'no names'}>"

    # -- names

    async def prepare(self, config: Config, seconds: float) -> None:
        """Follow the names of `config` beside the others, and wait for the first answer of each; so long at the most."""
        names = _names(config)
        self._go_by(config.discovery)
        self._follow(names)
        with contextlib.suppress(TimeoutError):  # what has not answered by then has its instances later
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(self._asked[name].wait() for name in names if not self._usable(name, config.discovery)))

    def configure(self, config: Config) -> None:
        """Follow the names of `config` and no others."""
        names = _names(config)
        self._go_by(config.discovery)
        for name in [name for name in self._following if name not in names]:
            self._following.pop(name).cancel()
            self._asked.pop(name, None)
            self._troubles.pop(name, None)
            self._known.pop(name, None)
        self._follow(names)

    def _go_by(self, options: Options) -> None:
        if options != self._options:
            self._options = options
            known = list(self._following)
            self.close()
            self._follow(known)  # each is asked for anew, by the new options

    def _follow(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._following:
                self._asked[name] = asyncio.Event()
                self._following[name] = asyncio.get_running_loop().create_task(self._follow_one(name))

    def close(self) -> None:
        for task in self._following.values():
            task.cancel()
        self._following.clear()

    async def _follow_one(self, name: str) -> None:
        while True:
            seconds = await self._look(name)
            self._asked[name].set()
            await asyncio.sleep(seconds)

    async def _look(self, name: str) -> float:
        """Ask once. Returns after how many seconds to ask again."""
        options, known = self._options, self._usable(name, self._options)
        try:
            found = await self._ask(name, options.nameservers)
        except CannotTell as why:
            self._in_trouble(name, str(why))
            return options.refresh
        except Exception as fault:  # noqa: BLE001  # whatever it was, one question must not be the last
            self._in_trouble(name, f"it could not be asked for ({type(fault).__name__})")
            return options.refresh
        usable = [one for one in found.addresses if allowed(one, options.loopback, options.networks)]
        usable += [one for one in known if family(one) in found.unknown and one not in usable]
        if not usable:
            self._in_trouble(name, f"none of its addresses may be an instance: {_some(found.addresses)}")
            return options.refresh
        # Those that were there stay where they were, so that a cut and whoever counts by place find the same ones.
        there = set(usable)
        ordered = [one for one in known if one in there]
        ordered += sorted(there.difference(ordered))
        self._note(name, found, len(ordered))
        new = tuple(ordered[: options.max_addresses])
        if new != self._known.get(name, ()):
            self._known[name] = new
            _write(self._file, self._known)
            if self._telling is None:
                self._telling = asyncio.get_running_loop().call_soon(self._tell)
        return options.refresh if found.ttl is None else min(max(found.ttl, SHORTEST), LONGEST)

    def _usable(self, name: str, options: Options) -> tuple[str, ...]:
        """What is known of a name, and may be an instance by these options, which may be stricter than when it was found."""
        known = self._known.get(name, ())
        return tuple(one for one in known if allowed(one, options.loopback, options.networks))

    def _tell(self) -> None:
        self._telling = None
        self.on_change()

    # -- what is wrong

    def _in_trouble(self, name: str, why: str) -> None:
        count = len(self._usable(name, self._options))
        kept = f"the {count} addresses that it had are used on" if count else "it has no instances"
        self._trouble(name, f"{name}: {why}; {kept}")

    def _note(self, name: str, found: Found, usable: int) -> None:
        """A useful answer; something may be wrong with a part of it."""
        refused = [one for one in found.addresses if not allowed(one, self._options.loopback, self._options.networks)]
        if refused:
            self._trouble(name, f"{name}: not used, as instances may not be there: {_some(refused)}")
        elif usable > self._options.max_addresses:
            self._trouble(name, f"{name}: {usable} addresses, of which {self._options.max_addresses} are used (max_addresses)")
        elif self._troubles.pop(name, None):
            self._say(f"{name}: all is well again, {usable} addresses")

    def _trouble(self, name: str, text: str) -> None:
        if self._troubles.get(name) != text:
            self._troubles[name] = text
            self._say(text)

    @property
    def troubles(self) -> list[str]:
        """What is wrong with names now, a line for each."""
        return [self._troubles[name] for name in sorted(self._troubles)]

    # -- instances

    def expand(self, config: Config) -> Config:
        """The configuration with an instance for each known address of its names, behind those of the file."""
        models = dict(config.models)
        sources: dict[str, str] = {}
        for name, model in config.models.items():
            if all(one.dns is None for one in model.instances):
                continue
            there = {instance_id(name, one) for one in model.instances if one.url is not None}
            found: list[Instance] = []
            for entry in model.instances:
                if entry.dns is None or entry.port is None:
                    continue
                for address in self._usable(entry.dns, config.discovery):
                    origin = Origin(address, entry.port, entry.tls is not None)
                    made = msgspec.structs.replace(entry, url=origin, dns=None, port=None, tls=_named(entry, model))
                    id = instance_id(name, made)
                    if id not in there:
                        there.add(id)
                        found.append(made)
                        sources[id] = f"dns:{entry.dns}"
            models[name] = msgspec.structs.replace(model, instances=(*model.instances, *found))
        self._sources = sources
        return msgspec.structs.replace(config, models=models)

    def source(self, id: str) -> str | None:
        """By what an instance was found: `dns:` and its name; None: it was not found here."""
        return self._sources.get(id)


def _named(entry: Instance, model: Model) -> InstanceTls | None:
    """How TLS is spoken to each address of a name: it must show the name's certificate, whatever the address."""
    if entry.tls is None:
        return None
    name = entry.tls.server_name or (model.tls.server_name if model.tls is not None else None) or entry.dns
    return msgspec.structs.replace(entry.tls, server_name=name)


def _names(config: Config) -> list[str]:
    names = (one.dns for model in config.models.values() for one in model.instances)
    return list(dict.fromkeys(name for name in names if name is not None))


def _some(addresses: Sequence[str]) -> str:
    more = f" and {len(addresses) - 5} more" if len(addresses) > 5 else ""
    return ", ".join(addresses[:5]) + more


def _read(file: Path) -> dict[str, tuple[str, ...]]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, tuple[str, ...]])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _write(file: Path, known: dict[str, tuple[str, ...]]) -> None:
    """A few bytes, when addresses change. Where it cannot be written, the next process asks before it knows."""
    new = file.with_suffix(".new")
    try:
        new.write_bytes(msgspec.json.encode(known))
        new.replace(file)
    except OSError:
        return
