"""Which instances there are beside those of the configuration, and which are drained: what operators say at run time.

It keeps that in the store, merges it into each configuration, and tells who publishes when something changed. The strict
checks are those of the configuration. It knows no worker and no API; what an instance carries is not its affair.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from difflib import get_close_matches
from typing import NamedTuple

import msgspec

from slmgate.control import audit
from slmgate.control.config import Config
from slmgate.control.config.compile import has_id, instance_id
from slmgate.control.config.faults import BadValueError, quote
from slmgate.control.config.instance_list import Rules
from slmgate.control.config.one_instance import read_instance
from slmgate.control.config.options import Instance
from slmgate.control.keyring import utc_now
from slmgate.stores.instances import InstanceRecord, InstanceStore
from slmgate.stores.records import AuditRecord

NO_CONFIG = Config(models={})


class UnknownInstance(LookupError):
    """There is no such instance, or no such model for one."""


class BadInstance(ValueError):
    """It cannot be an instance; the message says what is wrong, as `slmgate check` would."""


class InstanceTaken(ValueError):
    """The model has this instance already."""


class InstanceOfFile(ValueError):
    """It stands in the configuration, and is taken away there."""


class _Said(NamedTuple):
    """What was said, replaced as a whole: whoever looks from another thread sees all of a change or nothing."""

    records: Mapping[str, InstanceRecord]
    added: Mapping[str, Instance]
    """By id, those that can be used."""
    drained: frozenset[str]

    def but(self, id: str) -> _Said:
        """Without what was said of this one."""
        records = {known: record for known, record in self.records.items() if known != id}
        added = {known: instance for known, instance in self.added.items() if known != id}
        return _Said(records, added, self.drained - {id})


class Roster:
    """What is said of instances at run time. Any thread may change it; `expand` and `drained` are for the event loop."""

    def __init__(
        self,
        store: InstanceStore,
        say: Callable[[str], None] = lambda _: None,
        env: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """`env` stands for the process's environment. Raises LedgerUnavailable."""
        self._store = store
        self._env = env
        self._clock = clock
        self._lock = threading.Lock()  # a change is looked at, written and told before the next one
        self._said = _Said({}, {}, frozenset())
        self._forgotten: dict[str, InstanceRecord] = {}  # not drained any more, which the store does not know yet
        self.config: Callable[[], Config] = lambda: NO_CONFIG  # the one in force, with what was merged into it
        # What discovery has found: a configuration with it, and by what an instance was found, if it was.
        self.discovered: Callable[[Config], Config] = lambda config: config
        self.found_by: Callable[[str], str | None] = lambda _: None
        self.on_change: Callable[[], None] = lambda: None  # called in the thread that changed something, which waits
        for record in store.all():
            self._know(record)
            if record.options and record.id not in self._said.added:
                say(f"the instance {record.id}, which was added at run time, cannot be used: {self._why_not(record)}")

    # -- for who publishes

    def expand(self, config: Config) -> Config:
        """The configuration with the instances that were added. Where the file has the same one, the file's counts."""
        said = self._said
        config = self.discovered(config)
        models = dict(config.models)
        for id, instance in said.added.items():
            name = said.records[id].model
            model = models.get(name)
            if model is not None and all(one.url is None or instance_id(name, one) != id for one in model.instances):
                models[name] = msgspec.structs.replace(model, instances=(*model.instances, instance))
        return msgspec.structs.replace(config, models=models) if said.added else config

    @property
    def added(self) -> frozenset[str]:
        """The ids of instances that were added."""
        return frozenset(self._said.added)

    @property
    def drained(self) -> frozenset[str]:
        """The ids of instances that get no new request."""
        return self._said.drained

    def source(self, model: str, instance: Instance) -> str:
        """Where an instance of the configuration in force is from: `file`, `added`, or `dns:` or `file:` and what led there."""
        id = instance_id(model, instance)
        return "added" if self._said.added.get(id) is instance else self.found_by(id) or "file"

    # -- changes

    def drain(self, id: str, actor: str) -> None:
        """It gets no new request from now on. Raises UnknownInstance, LedgerUnavailable."""
        self._set(id, True, actor, "instance.drain")

    def enable(self, id: str, actor: str) -> None:
        """Undo `drain`. Raises UnknownInstance, LedgerUnavailable."""
        self._set(id, False, actor, "instance.enable")

    def _set(self, id: str, drained: bool, actor: str, action: str) -> None:
        with self._lock:
            record = self._said.records.get(id) or InstanceRecord(id=id, model=self._found(id)[0])
            if record.drained != drained:
                new = msgspec.structs.replace(record, drained=drained)
                self._store.save(new, self._line(actor, action, new))
                self._know(new)
                self.on_change()

    def add(self, model: str, options: Mapping[str, object], actor: str) -> str:
        """Add an instance to a model of the configuration; returns its id. `options` are those of the configuration.

        Raises UnknownInstance (the model), BadInstance, InstanceTaken, LedgerUnavailable.
        """
        text = msgspec.json.encode(options).decode()
        try:
            instance = read_instance(text, self._env)
        except BadValueError as error:
            raise BadInstance(_sentence(error)) from None
        with self._lock:
            config = self.config()
            if model not in config.models:
                near = get_close_matches(model, config.models, 1)
                raise UnknownInstance(f"There is no model {quote(model)}{f'; did you mean {near[0]}?' if near else '.'}")
            id = instance_id(model, instance)
            if (id in self._said.records and self._said.records[id].options) or any(
                one.url is not None and instance_id(model, one) == id for one in config.models[model].instances
            ):
                raise InstanceTaken(f"{id} is an instance of {model} already.")
            if instance.url is not None and (wrong := Rules.of(config).fault(instance.url)) is not None:
                raise BadInstance(f"{instance.url} {wrong[0]}; {wrong[1]}.")
            record = InstanceRecord(id=id, model=model, options=text)
            self._store.save(record, self._line(actor, "instance.add", record))
            self._know(record)
            self.on_change()
        return id

    def remove(self, id: str, actor: str) -> None:
        """Take away an instance that was added; the requests that it has go on. Raises UnknownInstance, InstanceOfFile,
        LedgerUnavailable."""
        with self._lock:
            record = self._said.records.get(id)
            if record is None or not record.options:
                self._found(id)
                found_by = self.found_by(id)
                where = (
                    "stands in the configuration" if found_by is None else f"is there because of {found_by} in the configuration"
                )
                raise InstanceOfFile(f"{id} {where}: drain it (`slmgate instances drain`), or take that out of the file.")
            self._store.remove(id, self._line(actor, "instance.remove", record))
            self._said = self._said.but(id)
            self.on_change()

    def gone(self, ids: Collection[str]) -> None:
        """These were found by discovery, and are no more: whoever gets their addresses next is not drained.

        So it is from now on, and in the store too, unless this raises LedgerUnavailable: then `catch_up` is to be called later.
        """
        with self._lock:
            for id in self._said.drained.intersection(ids):
                record = self._said.records[id]
                if not record.options:
                    self._forgotten[id] = record
                    self._said = self._said.but(id)
            self._catch_up()

    def catch_up(self) -> None:
        """Write down what `gone` could not. Raises LedgerUnavailable."""
        with self._lock:
            self._catch_up()

    def _catch_up(self) -> None:
        while self._forgotten:
            id, record = next(iter(self._forgotten.items()))
            self._store.remove(id, self._line("slmgate", "instance.gone", record))
            del self._forgotten[id]

    # -- what is known

    def _know(self, record: InstanceRecord) -> None:
        """This is what the store has of it."""
        self._forgotten.pop(record.id, None)
        said = self._said.but(record.id)
        added = said.added
        if record.options:
            with contextlib.suppress(BadValueError):  # then it stays in the store, but is not to be used
                added = {**added, record.id: read_instance(record.options, self._env)}
        drained = said.drained | {record.id} if record.drained else said.drained
        self._said = _Said(said.records if record.says_nothing else {**said.records, record.id: record}, added, drained)

    def _why_not(self, record: InstanceRecord) -> str:
        try:
            read_instance(record.options, self._env)
        except BadValueError as error:
            return _sentence(error)
        return ""

    def _found(self, id: str) -> tuple[str, Instance]:
        """The instance with this id, and its model. Raises UnknownInstance."""
        every = {
            instance_id(name, instance): (name, instance)
            for name, model in self.config().models.items()
            for instance in model.instances
            if has_id(instance)
        }
        if id not in every:
            near = get_close_matches(id, every, 1)
            hint = f"did you mean {near[0]}?" if near else "`slmgate instances list` shows all."
            raise UnknownInstance(f"There is no instance {quote(id, 200)}; {hint}")
        return every[id]

    def _line(self, actor: str, action: str, record: InstanceRecord) -> AuditRecord:
        """The audit line; options hold no secret, but where one is fetched from."""
        detail = {"model": record.model, **({"options": record.options} if action == "instance.add" else {})}
        return audit.line(self._clock(), actor, action, record.id, detail)


def _sentence(error: BadValueError) -> str:
    return error.problem + (f" ({error.hint})" if error.hint else "")
