"""Files of instances, followed as they change: what each lists, as instances of the configuration.

Files are looked at `LOOK_SECONDS` apart, in a thread. A list is taken whole or not at all: while its file is absent, half written
or bad, the last good one stays in force, over restarts too, and it is said what is wrong. What a list may say is
`config/instance_list.py`'s; names in it are followed by `discovery.py`. It knows no worker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from slmgate.control.config import Config
from slmgate.control.config.compile import instance_id
from slmgate.control.config.faults import ConfigFault
from slmgate.control.config.instance_list import CannotRead, Listed, Read, Rules, instance_of, read_file, read_list
from slmgate.control.config.options import Instance
from slmgate.control.config.stamps import Stamp, stamp, stamps

LOOK_SECONDS = 0.5
RESTLESS = 20
"""Looks after which a file that is different each time is read all the same."""


class _Told(NamedTuple):
    """What a file came to when it was read: its entries with its text, or what is wrong."""

    entries: tuple[Listed, ...] = ()
    text: str = ""
    wrong: str = ""
    stamp: Stamp = None


class Followed(msgspec.Struct):
    """One file. `text` is that of the list in force; empty: none ever was. `stamp` is that of the file as it was read last."""

    path: Path
    text: str = ""
    entries: tuple[Listed, ...] = ()
    read: bool = False
    stamp: Stamp = None
    seen: Stamp = None  # at the last look
    restless: int = 0  # looks at which it was another one each time
    trouble: str = ""


class Lists:
    """Follows the files of one configuration at a time. All calls are made on the event loop."""

    def __init__(
        self,
        kept: Path,
        say: Callable[[str], None],
        aside: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        """`kept` is the file in which lists outlive this process. `aside` runs what touches files beside the event loop."""
        self._file = kept
        self._say = say
        self._aside = aside
        self._rules = Rules()
        self._most = Config(models={}).discovery.max_addresses
        self._kept = _read_kept(kept)
        self._files: dict[Path, Followed] = {}
        self._sources: dict[str, str] = {}  # of instances in the last configuration that was expanded, by id
        self._telling: asyncio.Handle | None = None
        self.on_change: Callable[[], None] = lambda: None  # called once for all that changes in one turn of the loop

    def __repr__(self) -> str:
        return f"<Lists: {', '.join(f'{path} {len(one.entries)}' for path, one in self._files.items()) or 'no files'}>"

    # -- files

    async def prepare(self, config: Config, seconds: float) -> None:
        """Follow the files of `config` beside the others, and read those that are new; so long at the most."""
        self._go_by(config)
        new = [one for path in _paths(config) if not (one := self._follow(path)).read]
        with contextlib.suppress(TimeoutError):  # a disk that hangs must not hold up a start
            async with asyncio.timeout(seconds):
                for one in new:
                    await self._read(one)

    def configure(self, config: Config) -> None:
        """Follow the files of `config` and no others."""
        self._go_by(config)
        paths = _paths(config)
        gone = [path for path in self._files if path not in paths]
        for path in gone:
            del self._files[path]
        for path in paths:
            self._follow(path)
        if gone or self._kept.keys() - {str(path) for path in paths}:
            self._keep()

    def _go_by(self, config: Config) -> None:
        rules = Rules.of(config)
        if (rules, config.discovery.max_addresses) != (self._rules, self._most):
            self._rules, self._most = rules, config.discovery.max_addresses
            for one in self._files.values():
                one.read = False  # it may be right or wrong now

    def _follow(self, path: Path) -> Followed:
        one = self._files.get(path)
        if one is None:
            one = self._files[path] = Followed(path)
            text = self._kept.get(str(path), "")
            entries, faults = read_list(text, str(path), self._rules) if text else ((), ())
            if text and not faults:
                one.text, one.entries = text, entries[: self._most]
                self._changed()
        return one

    async def look(self) -> None:
        """Read what has changed, and stands still again."""
        files = list(self._files.values())
        found: list[Stamp] = await self._aside(stamps, [one.path for one in files])
        for one, now in zip(files, found, strict=True):
            still, one.seen = now == one.seen, now
            if one.read and now == one.stamp:
                one.restless = 0
            elif still or not one.read or one.restless >= RESTLESS:
                await self._read(one)
            else:
                one.restless += 1  # its writer may be in the middle of it

    async def _read(self, one: Followed) -> None:
        rules = self._rules
        told: _Told = await self._aside(_look_into, one.path, rules)
        if self._files.get(one.path) is not one or rules is not self._rules:
            return  # it is not followed any more, or to be read by other rules
        one.read, one.stamp, one.restless = True, told.stamp, 0
        if told.wrong:
            count = len(one.entries)
            kept = f"the {count} instances that it had are used on" if one.text else "it has no instances"
            self._trouble(one, f"{told.wrong}; {kept}")
            return
        entries = self._cut(one, told.entries)
        if len(entries) < len(told.entries):
            words = f"{one.path}: {len(told.entries)} instances, of which {len(entries)} are used (max_addresses)"
            self._trouble(one, words)
        elif one.trouble:
            one.trouble = ""
            self._say(f"{one.path}: all is well again, {len(entries)} instances")
        changed = entries != one.entries
        one.entries = entries
        if told.text != one.text:
            one.text = told.text
            self._keep()
        if changed:
            self._changed()

    def _cut(self, one: Followed, entries: tuple[Listed, ...]) -> tuple[Listed, ...]:
        """No more than may be used; of more, those that were there first."""
        if len(entries) <= self._most:
            return entries
        there = {entry.url: place for place, entry in enumerate(one.entries)}
        ordered = sorted(entries, key=lambda entry: there.get(entry.url, len(there)))
        return tuple(ordered[: self._most])

    def _changed(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = None
        self.on_change()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._files:
                continue
            try:
                await self.look()
            except Exception as fault:  # noqa: BLE001  # whatever it was, one look must not be the last
                self._say(f"files of instances could not be looked at ({type(fault).__name__})")

    def _keep(self) -> None:
        self._kept = {str(one.path): one.text for one in self._files.values() if one.text}
        _write_kept(self._file, self._kept)

    # -- what is wrong

    def _trouble(self, one: Followed, text: str) -> None:
        if one.trouble != text:
            one.trouble = text
            self._say(text)

    @property
    def troubles(self) -> list[str]:
        """What is wrong with files now, a line for each."""
        return [self._files[path].trouble for path in sorted(self._files) if self._files[path].trouble]

    # -- instances

    def expand(self, config: Config) -> Config:
        """The configuration with what its files list, names too, behind what stands in it."""
        expanded, self._sources = self._expanded(config)
        return expanded

    def listed(self, config: Config) -> Config:
        """The same for a configuration that is not in force yet."""
        return self._expanded(config)[0]

    def _expanded(self, config: Config) -> tuple[Config, dict[str, str]]:
        """With what each instance was found in, by id."""
        rules = Rules.of(config)
        models = dict(config.models)
        sources: dict[str, str] = {}
        for name, model in config.models.items():
            if all(one.file is None for one in model.instances):
                continue
            there = {instance_id(name, one) for one in model.instances if one.url is not None}
            found: list[Instance] = []
            for entry in model.instances:
                followed = None if entry.file is None else self._files.get(entry.file)
                for listed in () if followed is None else followed.entries:
                    made = instance_of(entry, listed)
                    if made.url is None:
                        found.append(made)
                        continue
                    # A list that was good under other rules stays in force, but not where these allow no instance.
                    id = instance_id(name, made)
                    if id not in there and rules.fault(made.url) is None:
                        there.add(id)
                        found.append(made)
                        sources[id] = f"file:{entry.file.name if entry.file is not None else ''}"
            models[name] = msgspec.structs.replace(model, instances=(*model.instances, *found))
        return msgspec.structs.replace(config, models=models), sources

    def source(self, id: str) -> str | None:
        """In what an instance was found: `file:` and its name; None: it was not found here."""
        return self._sources.get(id)


def list_faults(config: Config) -> tuple[ConfigFault, ...]:
    """The faults of the files of instances that a configuration names; of those that are not there yet, none."""
    rules = Rules.of(config)
    found: list[ConfigFault] = []
    for path in _paths(config):
        if not path.exists():
            continue
        try:
            read = _read_still(path)
        except CannotRead as why:
            found.append(ConfigFault(file=str(path), line=0, column=0, option="", problem=str(why)))
        else:
            found.extend(read_list(read.text, str(path), rules)[1])
    return tuple(found)


def _paths(config: Config) -> list[Path]:
    paths = (one.file for model in config.models.values() for one in model.instances)
    return list(dict.fromkeys(path for path in paths if path is not None))


def _read_still(path: Path) -> Read:
    """Raises CannotRead."""
    for _ in range(3):
        if (read := read_file(path)) is not None:
            return read
    raise CannotRead("it is being written")


def _look_into(path: Path, rules: Rules) -> _Told:
    before = stamp(path)  # if another file is there by now, the next look finds that it is not this one
    try:
        read = _read_still(path)
    except CannotRead as why:
        return _Told(wrong=f"{path}: {why}", stamp=before)
    entries, faults = read_list(read.text, str(path), rules)
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        return _Told(wrong=f"{faults[0]}{more}", stamp=read.stamp)
    return _Told(entries, read.text, stamp=read.stamp)


def _read_kept(file: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _write_kept(file: Path, kept: dict[str, str]) -> None:
    """When a list changes. Where it cannot be written, the next process has none before it has read the files."""
    new = file.with_suffix(".new")
    try:
        new.touch(mode=0o600)
        new.write_bytes(msgspec.json.encode(kept))
        new.replace(file)
    except OSError:
        return
