"""What the `tls` options of instances must be: files that can be used, in pairs, and looked at; and where nobody is verified.

Called with the other checks between options. The files are looked into now, and followed from now on: a fault in one would show
only when an instance is connected to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slmgate.control.config.compile import instance_id
from slmgate.control.config.options import Config, Instance
from slmgate.control.config.reading import Place, Reader
from slmgate.control.config.stamps import stamp
from slmgate.control.config.table import Section
from slmgate.control.config.tlsfiles import FileFault, authorities_fault, read_identity
from slmgate.control.config.trust import tls_of
from slmgate.control.config.trust_options import InstanceTls

UNVERIFIED = "its certificate is not verified (verify: false): whoever is on the way there can read and change all that is sent"


def check_trust(config: Config, reader: Reader, files: bool = True) -> None:
    """Give `reader` the faults of `tls` of models and instances; `files`: those of the files that they name too."""
    for model in config.models.values():
        for one in model.instances:
            if one.tls is not None:
                _looked_at(one, reader)
                _options(one.tls, reader, files)
        if model.tls is not None:
            _options(model.tls, reader, files)


def _looked_at(instance: Instance, reader: Reader) -> None:
    place = _place(reader, instance, "tls")
    if place is None or reader.broken(instance):
        return
    if instance.command:
        _blame(reader, place, "tls is never looked at", "a command is reached over plain HTTP, on this machine itself")
    elif instance.url is not None and not instance.url.tls:
        _blame(reader, place, "tls is never looked at", f"write url: https://{instance.url.location} if TLS is meant")


def _options(tls: InstanceTls, reader: Reader, files: bool) -> None:
    cert, key, ca = (_place(reader, tls, option) for option in ("cert", "key", "ca"))
    for given, missing in ((cert, "key"), (key, "cert")):
        if given is not None and getattr(tls, missing) is None and not reader.broken(tls):
            _blame(reader, given, f"{missing} is missing", f"give {missing} too; it may be the same file, with both in it")
    if ca is not None and tls.ca is not None and tls.verify is False:
        _blame(reader, ca, "ca is never looked at", "verify: false believes whoever answers: leave one of them out")
    for path in (tls.cert, tls.key, tls.ca):
        if isinstance(path, Path):
            reader.files.setdefault(path, stamp(path))
    for fault in _faults(tls) if files else ():
        place = _place(reader, tls, fault.option)
        if place is not None:
            _blame(reader, place, f"{reader.subject(place.node)} {fault.problem}", fault.hint)


def _faults(tls: InstanceTls) -> Iterator[FileFault]:
    if tls.cert is not None and tls.key is not None:
        own = read_identity(tls.cert, tls.key)
        if isinstance(own, FileFault):
            yield own
    if isinstance(tls.ca, Path) and (fault := authorities_fault(tls.ca)) is not None:
        yield fault._replace(option="ca")


def _place(reader: Reader, section: Section, option: str) -> Place | None:
    return reader.places.get((id(section), option))


def _blame(reader: Reader, place: Place, problem: str, hint: str) -> None:
    reader.blame(place, place.node.span, problem, hint)


def unverified(config: Config) -> list[str]:
    """The instances at which whoever answers is believed: their ids, or where they come from."""
    return [
        instance_id(name, one) if one.url is not None else f"{name}, {one.dns or one.file}"
        for name, model in config.models.items()
        for one in model.instances
        if _speaks_tls(one) and tls_of(model, one).verify is False
    ]


def _speaks_tls(instance: Instance) -> bool:
    """Whether it does, or instances that it stands for may."""
    if instance.url is not None:
        return instance.url.tls
    return instance.file is not None or (instance.dns is not None and instance.tls is not None)
