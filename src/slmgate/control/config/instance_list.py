"""A file of instances: a list of URLs, each alone or with a few options, read as strictly as the configuration.

Whoever may write such a file says where prompts go, and no more: it holds no secret, fetches none (`${...}`), and names no
address that an instance may not have. Text in, entries or all its faults out; following files is `control/lists.py`'s affair.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, cast

import msgspec

from slmgate.control.config.addresses import Address, Origin, Url
from slmgate.control.config.checks import is_the_gate
from slmgate.control.config.document import MAX_BYTES, Mapping, Node, Scalar, Span, parse
from slmgate.control.config.faults import ConfigFault
from slmgate.control.config.kinds import Whole
from slmgate.control.config.options import ENGINES, UPSTREAM_NAME, Config, Engine, Instance
from slmgate.control.config.reading import Place, Reader
from slmgate.control.config.stamps import stamp_of
from slmgate.control.config.table import Option, Section
from slmgate.policy.places import allowed, is_address

DOC = "models.NAME.instances[]"
"""Where the options are documented: they are those of the configuration."""
_EXAMPLE = "- http://10.0.0.5:8000"
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)")
"""What resolvers may read as an address in an old form, although it is none."""


class Listed(Section, frozen=True, kw_only=True):
    """One entry. What is None is as the configuration says beside `file`."""

    text: ClassVar[str] = "url"

    url: Annotated[Origin, Option("Where the instance is.", Url(), example="http://10.0.0.5:8000")]
    engine: Annotated[Engine | None, Option("The instance's software.", ENGINES)] = None
    weight: Annotated[int | None, Option("Share of the work.", Whole(low=1, high=1000))] = None
    max_in_flight: Annotated[int | None, Option("Requests that it works on at once.", Whole(low=1, high=100_000))] = None
    upstream_model: Annotated[str | None, Option("The model's name there.", UPSTREAM_NAME)] = None

    @property
    def name(self) -> str | None:
        """The host, where it is a name whose addresses are the instances. With TLS it is one instance: it must show the name's
        certificate, whatever the address."""
        return None if self.url.tls or is_address(self.url.host) else self.url.host


class Rules(NamedTuple):
    """What entries are held to: whether they may lead to this machine, where the gate listens, which is no instance, and the
    networks in which they have to be, if any are named."""

    loopback: bool = False
    gate: tuple[Address, ...] = ()
    networks: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config) -> Rules:
        return cls(config.discovery.loopback, tuple(listen.address for listen in config.listen), config.discovery.networks)

    def fault(self, url: Origin) -> tuple[str, str] | None:
        """What is wrong with an instance there, and a hint; None: nothing."""
        if is_the_gate(Instance(url=url), list(self.gate)):
            return "is the gate itself", "give the address of the model's instance"
        if not is_address(url.host):
            return ("has no address", "write an IP address or a name") if _NUMERIC.fullmatch(url.host) else None
        if allowed(url.host, self.loopback, self.networks):
            return None
        if allowed(url.host, self.loopback):
            return "is in none of discovery.networks", "add its network there if that is meant"
        if allowed(url.host, True):
            return "is this machine itself", "say discovery.loopback: true in the configuration if that is meant"
        return "is where no instance may be", "it is link-local, multicast, reserved, or a cloud's own address"


class CannotRead(Exception):
    """There is no such file, or it is none that could be a list; the message says why."""


class Read(NamedTuple):
    """The text of a file, and what tells that it has changed: identity, size and time of change."""

    text: str
    stamp: tuple[int, int, int]


def read_file(path: Path) -> Read | None:
    """The text of the file at `path`; None: it changed while it was read. Raises CannotRead."""
    try:
        # Not blocking: a pipe that nobody writes to would hold this up for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CannotRead("there is no such file") from None
    except OSError as error:
        raise CannotRead(f"it cannot be read: {error.strerror}") from None
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise CannotRead("it is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
        if stamp_of(before) != stamp_of(os.fstat(fd)):
            return None
    except OSError as error:
        raise CannotRead(f"it cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise CannotRead(f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        return Read(data.decode(), stamp_of(before))
    except UnicodeDecodeError as error:
        raise CannotRead(f"it is not UTF-8 text: byte {data[error.start]:#04x}") from None


def read_list(text: str, name: str, rules: Rules) -> tuple[tuple[Listed, ...], tuple[ConfigFault, ...]]:
    """The entries of a file called `name` and its faults; with any, none of the entries counts."""
    reader = Reader(name, text, Path(), {})
    root, troubles = parse(text)
    for trouble in troubles:
        reader.blame(None, Span(trouble.line, trouble.column, trouble.line, trouble.column), trouble.problem, trouble.hint)
    if root is None:
        if not troubles:
            reader.blame(None, Span(0, 0, 0, 0), "the file is empty", f"write {_EXAMPLE}, or [] for none")
        return (), reader.faults()
    last = text.count("\n")
    if text.rstrip(" \t\r")[-1:] not in ("\n", "]"):
        span = Span(last, 0, last, 0)
        reader.blame(None, span, "the last line has no end", "is it being written? End it with a line feed")
    fetched = [scalar for scalar in _scalars(root) if "${" in scalar.text]
    for scalar in fetched:
        reader.blame(None, scalar.span, "a file of instances fetches nothing", "write the value, or put it beside file: there")
    if fetched:
        return (), reader.faults()
    made = cast("tuple[Listed, ...]", reader.entries(Listed, root, DOC, _EXAMPLE))
    _check(made, rules, reader)
    return made, reader.faults()


def _scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Mapping):
        for entry in node.entries:
            yield entry.key
            yield from _scalars(entry.value)
    else:
        for item in node.items:
            yield from _scalars(item)


def _check(made: Sequence[Listed], rules: Rules, reader: Reader) -> None:
    first: dict[str, Place] = {}
    for one in made:
        place = reader.places.get((id(one), "url"))
        if place is None:
            continue
        earlier = first.setdefault(one.url.location, place)
        if earlier is not place:
            problem = f"{reader.subject(place.node)} is in the list already"
            reader.blame(place, place.node.span, problem, f"see {earlier.option}; weight says how much it takes")
        elif (wrong := rules.fault(one.url)) is not None:
            reader.blame(place, place.node.span, f"{reader.subject(place.node)} {wrong[0]}", wrong[1])


def instance_of(entry: Instance, listed: Listed) -> Instance:
    """The instance, or the name that leads to instances, that an entry stands for; `entry` is what names its file."""
    given = {
        option: value
        for option in ("engine", "weight", "max_in_flight", "upstream_model")
        if (value := getattr(listed, option)) is not None
    }
    tls = entry.tls if listed.url.tls else None  # the list says which are reached over TLS, the configuration whom to believe
    if listed.name is not None:
        return msgspec.structs.replace(entry, file=None, dns=listed.name, port=listed.url.port, tls=tls, **given)
    return msgspec.structs.replace(entry, file=None, url=listed.url, tls=tls, **given)
