"""The options of what slmgate writes about its work: where each line of the access log goes and how it looks.

A part of `options.py`'s table in a file of its own. It knows the words for places (`access/places.py`) and opens nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.access.formats import NAMES, Name
from slmgate.control.access.places import FACILITIES, Where, syslog_at
from slmgate.control.access.targets import Target
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Choice, Location, Text
from slmgate.control.config.table import Option, Section

LEVELS = ("debug", "info", "warning", "error")


class Place(Location, frozen=True, kw_only=True):
    """A standard stream, a syslog server or a file; `Where` once read."""

    label: ClassVar[str] = "place"

    def read(self, text: str) -> Any:
        if text != "syslog" and not text.startswith("syslog:"):
            return super().read(text)
        found = syslog_at(text)
        if found is None:
            raise BadValueError("is not a syslog server", "write syslog, syslog:/run/log.sock, or syslog:udp://HOST:514 or tcp")
        return found

    def own_values(self) -> str:
        return "`syslog`, `syslog:/SOCKET`, `syslog:udp://HOST:PORT`, `syslog:tcp://HOST:PORT` or a file's path"


class AccessTarget(Section, frozen=True, kw_only=True):
    """One place to which the access log goes. Its words alone may stand for it."""

    text: ClassVar[str] = "to"

    to: Annotated[
        Where,
        Option(
            "Where the lines go: a standard stream, a file, or a syslog server, `syslog` alone being that of this machine "
            "(/dev/log). `off`: nowhere.",
            Place(words=("stdout", "stderr", "off")),
            example="stdout",
        ),
    ]
    format: Annotated[
        Name | None, Option("How a line looks here. Unset: as `log.format` says.", Choice(values=NAMES), example="json")
    ] = None
    facility: Annotated[str, Option("With syslog: the facility of the messages.", Choice(values=tuple(FACILITIES)))] = "local7"
    tag: Annotated[
        str,
        Option(
            "With syslog: what the program is called.",
            Text(pattern=r"[!-9;-Z\\^-~]{1,48}", described="at most 48 visible ASCII characters, without : [ and ]"),
        ),
    ] = "slmgate"


class Log(Section, frozen=True, kw_only=True):
    """What slmgate writes about its work. Prompts and answers are never in it."""

    access: Annotated[
        tuple[AccessTarget, ...],
        Option("Where the access log goes, one line for each request; to several places at once, if you like.", lone=True),
    ] = (AccessTarget(to="stdout"),)
    format: Annotated[Name, Option("How a line of the access log looks; docs/access-log.md.", Choice(values=NAMES))] = "json"
    content: Annotated[
        Literal["never"],
        Option("Whether prompts and answers are logged: never, in this version.", Choice(values=("never",)), False),
    ] = "never"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option("The least important message that slmgate writes about itself.", Choice(values=LEVELS), False),
    ] = "info"


def targets(log: Log) -> list[Target]:
    """The access log's targets, in full."""
    return [Target(one.to, one.format or log.format, one.facility, one.tag) for one in log.access]
