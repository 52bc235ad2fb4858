"""What an option's value can be: how it is read from text, written back, described to a reader and to an editor.

One class for each kind, with the bounds of one option in its fields. A kind raises `BadValueError`, which never repeats the
value itself. This module knows no option and no position in a file; relative paths stay relative here.
Length: one short class for each kind, with nothing between them to cut along.
"""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar, Literal
from zoneinfo import available_timezones

import msgspec

from slmgate.control.config.document import yaml_type
from slmgate.control.config.faults import BadValueError
from slmgate.policy.networks import parse_network
from slmgate.policy.roles import DAY, Hours, zone_of

LONGEST = 4096
"""Characters of any value."""

Style = Literal["plain", "quoted", "fetched"]
"""How a text came: without quotes, so that YAML gives it a type; with; or by a reference, which gives it none."""

NOT_YET = "is not in this version of slmgate"
NOT_YET_HINT = "remove it: nothing is accepted and then ignored"

_UNITS = {
    "k": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_AMOUNT = re.compile(rf"({_DIGITS})(k|M|G|KiB|MiB|GiB)?")
_NEAR_AMOUNT = re.compile(rf"({_DIGITS}) ?([kKmMgG])[iI]?[bB]?")
_TIME = re.compile(rf"(?:({_DIGITS})d)?(?:({_DIGITS})h)?(?:({_DIGITS})m)?(?:({_DIGITS})s)?(?:({_DIGITS})ms)?")
_MILLISECONDS = (86_400_000, 3_600_000, 60_000, 1000, 1)
_DECIMAL = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = "(?:[Mm]on|[Tt]ue|[Ww]ed|[Tt]hu|[Ff]ri|[Ss]at|[Ss]un)"
_DAYS = f"{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*"
_CLOCK = "[0-9]{1,2}:[0-9]{2}"
_WEEK = re.compile(f"(?:({_DAYS}) )?({_CLOCK})-({_CLOCK})(?: ([A-Za-z0-9_+/-]{{1,64}}))?")
_MOMENT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?) ?([Zz]|[-+][0-9]{2}:[0-9]{2})?)?")


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


class Secret(str):
    """Text that must not be seen: its `repr` hides it; `str(secret)` is the text itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all kinds. `words` are accepted beside the kind's own values and stand for themselves."""

    words: tuple[str, ...] = ()
    label: ClassVar[str]
    unit: ClassVar[str] = ""
    private: ClassVar[bool] = False
    textual: ClassVar[bool] = False
    """Whether the value is text, so that what YAML takes for a number or a boolean needs quotes."""

    def take(self, text: str, style: Style) -> Any:
        """The value that `text` stands for, or `BadValueError`."""
        if len(text) > LONGEST:
            raise BadValueError(f"is longer than {LONGEST} characters", private=True)
        if text in self.words:
            return text
        try:
            if self.textual and style == "plain" and (seen := yaml_type(text)) != "text":
                raise self._untyped(seen, text)
            return self.read(text)
        except BadValueError as wrong:
            near = get_close_matches(text[:40].lower(), self.words, 1)
            if near:
                wrong.hint = f"did you mean {near[0]}?"
            elif self.words and wrong.hint:
                wrong.hint += f"; or {' or '.join(self.words)}"
            raise

    def _untyped(self, seen: str, text: str) -> BadValueError:
        if seen == "null":
            return BadValueError("is null in YAML" if text else "is empty", "leave the option out for its default")
        return BadValueError(f"is a {seen} in YAML, not {article(self.label)}", f'put it in quotes: "{text[:40]}"')

    def read(self, text: str) -> Any:
        raise NotImplementedError

    def write(self, value: Any) -> Any:
        """The value as it would stand in the file."""
        if self.private:
            return "***"
        form = value if value in self.words else self.form(value)
        return form.replace("${", "$${") if isinstance(form, str) else form

    def form(self, value: Any) -> Any:
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the values, without references to secrets."""
        return {"anyOf": [{"enum": list(self.words)}, self.own_schema()]} if self.words else self.own_schema()

    def own_schema(self) -> dict[str, Any]:
        raise NotImplementedError

    def accepts(self) -> str:
        """The accepted values, in words."""
        return " or ".join([*(f"`{word}`" for word in self.words), self.own_values()])

    def own_values(self) -> str:
        return self.label

    def alone(self, value: Any) -> tuple[Any, ...]:
        """The list that `value` stands for where it stands in a list's place. Raises BadValueError."""
        return (value,)


class Text(Kind, frozen=True, kw_only=True):
    """Text that matches `pattern` as a whole; `described` says what that is to the reader of a fault."""

    label: ClassVar[str] = "name"
    textual: ClassVar[bool] = True
    pattern: str
    described: str

    def read(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise BadValueError("is not accepted here", f"write {self.described}")
        return text

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{self.pattern})$"}

    def own_values(self) -> str:
        return self.described


class Password(Kind, frozen=True, kw_only=True):
    """A secret that is sent in a header, hence visible ASCII. Never shown."""

    label: ClassVar[str] = "secret"
    private: ClassVar[bool] = True

    def read(self, text: str) -> Secret:
        if not text:
            raise BadValueError("is empty", "leave the option out, or see what its reference fetches", private=True)
        if not re.fullmatch(r"[!-~]+", text):
            raise BadValueError(
                "holds a character that no header can carry", "visible ASCII only: no spaces, no line ends", private=True
            )
        return Secret(text)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    def own_values(self) -> str:
        return "a secret of visible ASCII characters, best fetched with `${env:NAME}` or `${file:PATH}`"


class Word(Kind, frozen=True, kw_only=True):
    """A word of a command line, whatever YAML takes it for. A single text in the place of all words is split like a shell's."""

    label: ClassVar[str] = "word"

    def read(self, text: str) -> str:
        if "\0" in text:
            raise BadValueError("holds a zero byte", "no program can be given that")
        return text

    def alone(self, value: str) -> tuple[str, ...]:
        try:
            words = tuple(shlex.split(value))
        except ValueError:
            raise BadValueError("ends within quotes", "close them, or write the words as a list") from None
        if not words:
            raise BadValueError("has no words", "write the program and its arguments")
        return words

    def own_schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}

    def own_values(self) -> str:
        return "a program's name or path, and then its arguments"


class Variable(Kind, frozen=True, kw_only=True):
    """The value of a variable of the environment, which may be a secret. Never shown."""

    label: ClassVar[str] = "value"
    private: ClassVar[bool] = True

    def read(self, text: str) -> Secret:
        if "\0" in text:
            raise BadValueError("holds a zero byte", "no variable can hold that", private=True)
        return Secret(text)

    def own_schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}

    def own_values(self) -> str:
        return "a text; a secret is best fetched with `${env:NAME}` or `${file:PATH}`"


class Choice(Kind, frozen=True, kw_only=True):
    """One of `values`. `later` are values of the product that this version does not have."""

    label: ClassVar[str] = "choice"
    values: tuple[str, ...]
    later: tuple[str, ...] = ()

    def read(self, text: str) -> str:
        if text in self.values:
            return text
        if text in self.later:
            raise BadValueError(NOT_YET, f"write {_either(self.values)}")
        near = get_close_matches(text[:40].lower(), self.values, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise BadValueError("is not one of the accepted values", f"{meant}write {_either(self.values)}")

    def form(self, value: str) -> str | int:
        return int(value) if value.isdigit() else value

    def own_schema(self) -> dict[str, Any]:
        numbers: list[float] = [int(value) for value in self.values if value.isdigit()]
        numbers += [float(value) for value in self.values if re.fullmatch(r"[0-9]+\.[0-9]+", value)]
        return {"enum": [*self.values, *numbers]}

    def own_values(self) -> str:
        return _either(tuple(f"`{value}`" for value in self.values))


class Switch(Kind, frozen=True, kw_only=True):
    """`true` or `false`."""

    label: ClassVar[str] = "boolean"

    def take(self, text: str, style: Style) -> bool:
        if style != "quoted" and yaml_type(text) == "boolean":
            return text[0] in "tT"
        if text.lower() in ("on", "off", "yes", "no", "y", "n"):
            raise BadValueError("is text, not a boolean: files are read as YAML 1.2", "write true or false")
        raise BadValueError("is not a boolean", "write true or false, without quotes")

    def own_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}

    def own_values(self) -> str:
        return "`true` or `false`"


class Whole(Kind, frozen=True, kw_only=True):
    """A whole number from `low` to `high`, both included."""

    label: ClassVar[str] = "number"
    low: int
    high: int

    def read(self, text: str) -> int:
        found = _AMOUNT.fullmatch(text) if len(text) <= 32 else None
        if found is None:
            raise BadValueError(
                f"is not a {self.label}", self._near(text) or f"write a whole {self.label} like {self.form(self.high)}"
            )
        value = int(found[1]) * _UNITS.get(found[2] or "", 1)
        if not self.low <= value <= self.high:
            raise BadValueError(f"is {'less' if value < self.low else 'more'} than this option takes", f"from {self._span()}")
        return value

    def _near(self, text: str) -> str:
        near = _NEAR_AMOUNT.fullmatch(text)
        if near is None:
            return ""
        number, letter = near[1], near[2].upper()
        decimal = f"{number}{'k' if letter == 'K' else letter}"
        return f"write {decimal} (of 1000) or {number}{letter}iB (of 1024)"

    def _span(self) -> str:
        return f"{self.form(self.low)} to {self.form(self.high)}"

    def own_schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [number, {"type": "string", "pattern": f"^(?:{_DIGITS})(?:k|M|G|KiB|MiB|GiB)?$"}]}

    def own_values(self) -> str:
        return f"{self.label}, {self._span()}"


class Size(Whole, frozen=True, kw_only=True):
    """A number of bytes."""

    label: ClassVar[str] = "size"
    unit: ClassVar[str] = "bytes"

    def form(self, value: int) -> str | int:
        exact = [f"{value // size}{unit}" for unit, size in _UNITS.items() if value and value % size == 0]
        return min(exact, key=len) if exact else value


class Percent(Kind, frozen=True, kw_only=True):
    """A share in whole per cent from 0 to `high`; as a number once read, 0.2 for 20%."""

    label: ClassVar[str] = "share"
    high: int

    def read(self, text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,6})%", text)
        if found is None:
            raise BadValueError("is not a share", "write it in whole per cent, like 20%")
        if int(found[1]) > self.high:
            raise BadValueError("is more than this option takes", f"from 0% to {self.high}%")
        return int(found[1]) / 100

    def form(self, value: float) -> str:
        return f"{round(value * 100)}%"

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[0-9]{1,6}%$"}

    def own_values(self) -> str:
        return f"a share, 0% to {self.high}%"


class Duration(Kind, frozen=True, kw_only=True):
    """A length of time, in seconds once read; `low` and `high` are milliseconds."""

    label: ClassVar[str] = "time"
    unit: ClassVar[str] = "seconds"
    low: int
    high: int

    def read(self, text: str) -> float:
        found = _TIME.fullmatch(text) if 0 < len(text) <= 32 else None
        if found is None:
            if re.fullmatch(_DIGITS, text[:33]):
                raise BadValueError("has no unit", f"write {text[:32]}s or {text[:32]}ms")
            raise BadValueError("is not a time", "write it like 500ms, 30s, 5m or 1h30m")
        value = sum(int(part) * unit for part, unit in zip(found.groups(), _MILLISECONDS, strict=True) if part)
        if not self.low <= value <= self.high:
            raise BadValueError(f"is {'less' if value < self.low else 'more'} than this option takes", f"from {self._span()}")
        return value / 1000

    def form(self, value: float) -> str:
        return _time(round(value * 1000))

    def _span(self) -> str:
        return f"{_time(self.low)} to {_time(self.high)}"

    def own_schema(self) -> dict[str, Any]:
        # The look-ahead asks for a digit: every part of a time may be left out, but not all of them.
        return {"type": "string", "pattern": f"^(?=[0-9]){_TIME.pattern}$"}

    def own_values(self) -> str:
        return f"time, {self._span()}"


class Digest(Kind, frozen=True, kw_only=True):
    """The SHA-256 digest of a secret: 32 bytes once read."""

    label: ClassVar[str] = "digest"

    def read(self, text: str) -> bytes:
        name, _, digits = text.partition(":")
        if name.lower() != "sha256" or not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
            # Whoever puts the secret itself here must not find it in a log.
            raise BadValueError("is not a digest", "write sha256: and the 64 hex digits of SHA-256 over the secret", private=True)
        return bytes.fromhex(digits)

    def form(self, value: bytes) -> str:
        return f"sha256:{value.hex()}"

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[sS][hH][aA]256:[0-9A-Fa-f]{64}$"}

    def own_values(self) -> str:
        return "`sha256:` and 64 hex digits"


class Moment(Kind, frozen=True, kw_only=True):
    """A date, which stands for its first moment in UTC, or a date and time with an offset."""

    label: ClassVar[str] = "moment"

    def read(self, text: str) -> datetime:
        found = _MOMENT.fullmatch(text)
        if found is None:
            raise BadValueError("is not a date", "write 2027-01-01 or 2027-01-01T12:00:00Z")
        day, time, offset = found.groups()
        if time and not offset:
            raise BadValueError("has no offset from UTC", "end it with Z or an offset like +01:00")
        try:
            return datetime.fromisoformat(f"{day}T{time or '00:00'}{(offset or 'Z').upper()}").astimezone(UTC)
        except (ValueError, OverflowError):
            raise BadValueError("is no day or hour of the calendar", "write 2027-01-01 or 2027-01-01T12:00:00Z") from None

    def form(self, value: datetime) -> str:
        return value.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ].+)?$"}

    def own_values(self) -> str:
        return "a date (its first moment in UTC), or a date and time with an offset"


class Location(Kind, frozen=True, kw_only=True):
    """A path of a file or directory; relative ones count from the configuration file's directory."""

    label: ClassVar[str] = "path"
    textual: ClassVar[bool] = True

    def read(self, text: str) -> Path:
        if not text or not text.isprintable():
            raise BadValueError("is not a path", "write a path without control characters")
        return Path(text)

    def form(self, value: Path) -> str:
        return str(value)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}

    def own_values(self) -> str:
        return "path"


class Network(Kind, frozen=True, kw_only=True):
    """A network in CIDR form, or one address."""

    label: ClassVar[str] = "network"
    textual: ClassVar[bool] = True

    def read(self, text: str) -> str:
        try:
            return str(parse_network(text))
        except ValueError as wrong:
            if "host bits" in str(wrong):
                near = ip_network(text, strict=False)
                raise BadValueError(
                    "has bits set behind its prefix", f"write {near}, or {text.partition('/')[0]} alone"
                ) from None
            raise BadValueError("is not a network", "write 203.0.113.0/24, 2001:db8::/32 or one address") from None

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?$"}

    def own_values(self) -> str:
        return "a network like `203.0.113.0/24` or `2001:db8::/32`, or one address"


class Week(Kind, frozen=True, kw_only=True):
    """Hours of the week in a time zone; `policy.roles.Hours` once read."""

    label: ClassVar[str] = "window of hours"

    def read(self, text: str) -> Hours:
        found = _WEEK.fullmatch(text)
        if found is None:
            raise BadValueError("is not a window of hours", "write Mon-Fri 08:00-18:00 Europe/Berlin")
        days = _days(found[1] or "Mon-Sun")
        start, end = (_minute(text) for text in (found[2], found[3]))
        if start == end:
            raise BadValueError("begins when it ends", "write 00:00-24:00 for a whole day")
        if start == DAY:
            raise BadValueError("begins when its day is over", "write 00:00, and the day after")
        zone = found[4] or "UTC"
        if not _is_zone(zone):
            raise BadValueError(f"names an unknown time zone, {zone[:40]}", _zone_hint(zone))
        return Hours(days, start, end, zone)

    def form(self, value: Hours) -> str:
        return str(value)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^(?:{_WEEK.pattern})$"}

    def own_values(self) -> str:
        return "days, hours and a time zone, like `Mon-Fri 08:00-18:00 Europe/Berlin`; days and zone may be left out"


class Zone(Kind, frozen=True, kw_only=True):
    """A time zone by its name in the IANA database."""

    label: ClassVar[str] = "time zone"

    def read(self, text: str) -> str:
        if len(text) > 64 or not _is_zone(text):
            raise BadValueError("is not a time zone", _zone_hint(text))
        return text

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[A-Za-z0-9_+/-]{1,64}$"}

    def own_values(self) -> str:
        return "a time zone like `Europe/Berlin` or `UTC`"


class Plain(Kind, frozen=True, kw_only=True):
    """A number, a boolean or a text, as YAML sees it."""

    label: ClassVar[str] = "value"

    def take(self, text: str, style: Style) -> Any:
        if len(text) > LONGEST:
            raise BadValueError(f"is longer than {LONGEST} characters", private=True)
        seen = yaml_type(text) if style == "plain" else "text"
        if seen == "null":
            raise BadValueError("is null in YAML", "leave the option out")
        if seen == "boolean":
            return text[0] in "tT"
        if seen == "number":
            return number(text)
        return text

    def own_schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}

    def own_values(self) -> str:
        return "a number, `true`, `false` or a text"


class Number(Kind, frozen=True, kw_only=True):
    """Any number; `k`, `M` and `G` count in thousands."""

    label: ClassVar[str] = "number"

    def read(self, text: str) -> int | float:
        return number(text)

    def own_schema(self) -> dict[str, Any]:
        return {
            "anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^-?(?:{_DIGITS})(?:\\.[0-9]+|k|M|G|KiB|MiB|GiB)?$"}]
        }

    def own_values(self) -> str:
        return "a number"


def number(text: str) -> int | float:
    """The number that `text` is, whole where it can be. Raises BadValueError."""
    found = _AMOUNT.fullmatch(text) if len(text) <= 32 else None
    if found is not None:
        return int(found[1]) * _UNITS.get(found[2] or "", 1)
    if len(text) <= 32 and _DECIMAL.fullmatch(text):
        return float(text) if "." in text else int(text)
    raise BadValueError("is not a number", "write a number like 512 or 0.7")


def _is_zone(name: str) -> bool:
    try:
        zone_of(name)
    except (LookupError, ValueError, OSError):
        return False
    return True


def _zone_hint(name: str) -> str:
    near = get_close_matches(name[:40], available_timezones(), 1)
    return f"did you mean {near[0]}?" if near else "write Europe/Berlin or UTC"


def _days(text: str) -> tuple[int, ...]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = (_WEEKDAYS.index(day.capitalize()) for day in (first, last or first))
        days.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return tuple(sorted(days))


def _minute(text: str) -> int:
    hour, minute = int(text[:-3]), int(text[-2:])
    if hour * 60 + minute > 1440 or minute > 59:
        raise BadValueError(f"has no such time of day as {text}", "hours go from 00:00 to 24:00")
    return hour * 60 + minute


def _either(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def _time(milliseconds: int) -> str:
    """The shortest single-unit form: `2m` for 120,000, `90s` for 90,000."""
    for unit, size in zip("dhms", _MILLISECONDS[:4], strict=True):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}" if milliseconds else "0s"
    return f"{milliseconds}ms"
