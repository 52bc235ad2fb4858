"""The options of what slmgate writes about its work: where each line of the access log goes and how it looks.

A part of `options.py`'s table in a file of its own. It knows the words for places (`access/places.py`) and opens nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.access.formats import NAMES, Name
from slmgate.control.access.places import FACILITIES, OtlpAt, Where, syslog_at
from slmgate.control.access.targets import Target
from slmgate.control.config.addresses import WebUrl
from slmgate.control.config.auth_options import NOTHING
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Choice, Location, Secret, Text
from slmgate.control.config.table import Option, Section
from slmgate.control.config.tracing_options import FIELD_NAME, HeaderValue

LEVELS = ("debug", "info", "warning", "error")


class Place(Location, frozen=True, kw_only=True):
    """A standard stream, a syslog server, a collector or a file; `Where` once read."""

    label: ClassVar[str] = "place"

    def read(self, text: str) -> Any:
        if text.startswith("otlp:"):
            return OtlpAt(WebUrl(path=True, plain=True).read(text.removeprefix("otlp:")))
        if text != "syslog" and not text.startswith("syslog:"):
            return super().read(text)
        found = syslog_at(text)
        if found is None:
            raise BadValueError("is not a syslog server", "write syslog, syslog:/run/log.sock, or syslog:udp://HOST:514 or tcp")
        return found

    def own_values(self) -> str:
        return "`syslog`, `syslog:/SOCKET`, `syslog:udp://HOST:PORT`, `syslog:tcp://HOST:PORT`, `otlp:URL` or a file's path"


class AccessTarget(Section, frozen=True, kw_only=True):
    """One place to which the access log goes. Its words alone may stand for it."""

    text: ClassVar[str] = "to"

    to: Annotated[
        Where,
        Option(
            "Where the lines go: a standard stream, a file, a syslog server, `syslog` alone being that of this machine "
            "(/dev/log), or an OpenTelemetry collector (`otlp:` and its URL). `off`: nowhere.",
            Place(words=("stdout", "stderr", "off")),
            example="stdout",
        ),
    ]
    format: Annotated[
        Name | None,
        Option("How a line looks here; with otlp, JSON. Unset: as `log.format` says.", Choice(values=NAMES), example="json"),
    ] = None
    facility: Annotated[str, Option("With syslog: the facility of the messages.", Choice(values=tuple(FACILITIES)))] = "local7"
    tag: Annotated[
        str,
        Option(
            "With syslog and otlp: what the program is called.",
            Text(pattern=r"[!-9;-Z\\^-~]{1,48}", described="at most 48 visible ASCII characters, without : [ and ]"),
        ),
    ] = "slmgate"
    headers: Annotated[
        dict[str, Secret],
        Option("With otlp: header fields of each request, such as a credential.", HeaderValue(), key=FIELD_NAME),
    ] = NOTHING
    ca: Annotated[
        Path | None,
        Option(
            "With otlp and https: a file (PEM) of the authorities that vouch for the collector. Unset: the system's.",
            Location(),
            example="collector-ca.pem",
        ),
    ] = None


class Log(Section, frozen=True, kw_only=True):
    """What slmgate writes about its work."""

    access: Annotated[
        tuple[AccessTarget, ...],
        Option("Where the access log goes, one line for each request; to several places at once, if you like.", lone=True),
    ] = (AccessTarget(to="stdout"),)
    format: Annotated[Name, Option("How a line of the access log looks; docs/access-log.md.", Choice(values=NAMES))] = "json"
    content: Annotated[
        Literal["never", "roles"],
        Option(
            "Whether prompts and answers are kept at all: `never`, or `roles`: for those roles that ask for it by `content`. "
            "They are in no log even then, but apart; docs/content.md.",
            Choice(values=("never", "roles")),
        ),
    ] = "never"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Option("The least important message that slmgate writes about itself.", Choice(values=LEVELS), False),
    ] = "info"


def targets(log: Log) -> list[Target]:
    """The access log's targets, in full."""
    return [
        Target(
            one.to,
            "json" if isinstance(one.to, OtlpAt) else one.format or log.format,
            one.facility,
            one.tag,
            tuple(one.headers.items()),
            one.ca,
        )
        for one in log.access
    ]
