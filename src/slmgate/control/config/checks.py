"""What the options of one configuration must be to each other: the faults that no single option shows.

Each check looks only at values that were read well, so that it adds no echo of a fault told already. This module knows
no YAML; `Reader.places` tells where a value stands, and no message holds a value that the file itself does not show.
"""

from __future__ import annotations

from typing import NamedTuple

from slmgate.control.config.addresses import Address
from slmgate.control.config.options import Admin, Config, Instance, Model
from slmgate.control.config.reading import Place, Reader
from slmgate.control.config.table import Section

_ANY = ("", "0.0.0.0", "::")  # noqa: S104 -- compared with, not bound
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check(config: Config, reader: Reader) -> None:
    """Give `reader` every fault between options of `config`."""
    _listeners(config, reader)
    gate = [listen.address for listen in config.listen]
    for name, model in config.models.items():
        _instances(name, model, gate, reader)
    _keys(config, reader)
    _auth(config, reader)


def overlap(one: Address, other: Address) -> bool:
    """Whether both cannot be bound at once: the same port, and the same host or one of them every host."""
    return one.port == other.port and (one.host == other.host or one.host in _ANY or other.host in _ANY)


class _Listener(NamedTuple):
    address: Address
    place: Place | None
    """None: a default, which stands nowhere."""


def _place(reader: Reader, section: Section, option: str) -> Place | None:
    return reader.places.get((id(section), option))


def _listeners(config: Config, reader: Reader) -> None:
    every = [_Listener(listen.address, _place(reader, listen, "address")) for listen in config.listen]
    if not _replaced(config.admin, config, reader):
        every.append(_Listener(config.admin.address, _place(reader, config.admin, "address")))
    for i, one in enumerate(every):
        earlier = next((other for other in every[:i] if overlap(one.address, other.address)), None)
        if earlier is None:
            continue
        blamed, other = (one, earlier) if one.place is not None else (earlier, one)
        if blamed.place is not None:
            owner = (
                f"{other.place.option} in line {other.place.node.span.line + 1}"
                if other.place
                else "the default of admin.address"
            )
            _blame(reader, blamed.place, "cannot be listened on twice", f"{owner} has the same port: take another")


def _replaced(admin: Admin, config: Config, reader: Reader) -> bool:
    """Whether the file has an `admin` whose address could not be read, so that the default stands in for it."""
    return _place(reader, config, "admin") is not None and _place(reader, admin, "address") is None and reader.broken(admin)


def _instances(name: str, model: Model, gate: list[Address], reader: Reader) -> None:
    first: dict[str, Place] = {}
    for instance in model.instances:
        place = _place(reader, instance, "url")
        if place is None:
            continue
        earlier = first.setdefault(instance.url.location, place)
        if earlier is not place:
            _blame(reader, place, f"is an instance of {name} already", f"see {earlier.option}; weight says how much it takes")
        if any(_reaches(instance, listener) for listener in gate):
            _blame(reader, place, "is the gate itself", "give the address of the model's instance")


def _reaches(instance: Instance, listener: Address) -> bool:
    host, port, _ = instance.url
    if port != listener.port:
        return False
    return host == listener.host or (host in _LOOPBACK and listener.host in (*_ANY, *_LOOPBACK))


def _keys(config: Config, reader: Reader) -> None:
    first: dict[str | bytes, Place] = {}
    for key in config.keys:
        for option, value in (("name", key.name), ("hash", key.hash)):
            place = _place(reader, key, option)
            if place is not None and (earlier := first.setdefault(value, place)) is not place:
                _blame(reader, place, f"is the {option} of another key already", f"see {earlier.option}; each key needs its own")


def _auth(config: Config, reader: Reader) -> None:
    first: dict[str, Place] = {}
    for option, entries in (("issuer", config.auth.oidc), ("url", config.auth.introspection)):
        for entry in entries:
            place = _place(reader, entry, option)
            if place is not None and (earlier := first.setdefault(getattr(entry, option), place)) is not place:
                _blame(reader, place, "is configured already", f"see {earlier.option}; give all its options in one place")
            claim = _place(reader, entry.roles, "map")
            if claim is not None and entry.roles.claim is None and not reader.broken(entry.roles):
                _blame(reader, claim, "is never looked at", "say in roles.claim which claim it is for")


def _blame(reader: Reader, place: Place, problem: str, hint: str) -> None:
    reader.blame(place, place.node.span, f"{reader.subject(place.node)} {problem}", hint)
