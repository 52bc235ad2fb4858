"""Single values: what each kind accepts, refuses and writes back, with bounds tried at 0, 1, at and one past.

Positions and whole files are the golden files' affair.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import (
    Choice,
    Digest,
    Duration,
    Kind,
    Location,
    Moment,
    Network,
    Number,
    Password,
    Percent,
    Plain,
    Secret,
    Size,
    Style,
    Switch,
    Text,
    Week,
    Whole,
    number,
)
from slmgate.policy.roles import Hours

COUNT = Whole(low=1, high=256, words=("auto",))
SIZE = Size(low=0, high=1024**3)
TIME = Duration(low=0, high=86_400_000, words=("never",))
NAME = Text(pattern="[a-z]+", described="small letters")
COLOUR = Choice(values=("red", "blue", "502"), later=("green",))
EVERY: list[Kind] = [COUNT, SIZE, TIME, NAME, COLOUR, Password(), Location(), Switch(), Digest(), Moment()]
EVERY += [Network(), Week(), Plain(), Number(), Percent(high=900)]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (COUNT, "1", 1),
        (COUNT, "256", 256),
        (COUNT, "0_2_5", 25),
        (COUNT, "auto", "auto"),
        (SIZE, "0", 0),
        (SIZE, "1k", 1000),
        (SIZE, "2M", 2_000_000),
        (SIZE, "1G", 1_000_000_000),
        (SIZE, "1KiB", 1024),
        (SIZE, "8MiB", 8 * 1024**2),
        (SIZE, "1GiB", 1024**3),
        (SIZE, "1_000", 1000),
        (Percent(high=900), "0%", 0.0),
        (Percent(high=900), "20%", 0.2),
        (Percent(high=900), "900%", 9.0),
        (TIME, "0s", 0.0),
        (TIME, "1ms", 0.001),
        (TIME, "30s", 30.0),
        (TIME, "1h30m", 5400.0),
        (TIME, "1d", 86400.0),
        (TIME, "24h", 86400.0),
        (TIME, "never", "never"),
        (NAME, "abc", "abc"),
        (COLOUR, "red", "red"),
        (COLOUR, "502", "502"),
        (Password(), "!secret~", "!secret~"),
        (Location(words=("off",)), "off", "off"),
        (Location(), "a/./b", Path("a/b")),
        (Switch(), "true", True),
        (Switch(), "False", False),
        (Digest(), "sha256:" + "0f" * 32, b"\x0f" * 32),
        (Moment(), "2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        (Moment(), "2027-01-01T01:00+01:00", datetime(2027, 1, 1, tzinfo=UTC)),
        (Moment(), "2027-01-01t00:00:01z", datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (Network(), "203.0.113.0/24", "203.0.113.0/24"),
        (Network(), "203.0.113.7", "203.0.113.7/32"),
        (Network(), "0.0.0.0/0", "0.0.0.0/0"),
        (Network(), "2001:DB8::/32", "2001:db8::/32"),
        (Network(), "::ffff:10.0.0.0/104", "::ffff:a00:0/104"),
        (Week(), "Mon-Fri 08:00-18:00 Europe/Berlin", Hours((0, 1, 2, 3, 4), 480, 1080, "Europe/Berlin")),
        (Week(), "mon,Wed 8:00-18:00", Hours((0, 2), 480, 1080)),
        (Week(), "Sat-Mon 22:00-06:00 UTC", Hours((0, 5, 6), 1320, 360)),
        (Week(), "Sun-Sun 00:00-24:00", Hours((6,), 0, 1440)),
        (Week(), "Mon-Sun,Tue 00:00-00:01", Hours((0, 1, 2, 3, 4, 5, 6), 0, 1)),
        (Week(), "23:59-24:00 America/New_York", Hours((0, 1, 2, 3, 4, 5, 6), 1439, 1440, "America/New_York")),
        (Week(), "22:00-0:00 Australia/Lord_Howe", Hours((0, 1, 2, 3, 4, 5, 6), 1320, 0, "Australia/Lord_Howe")),
        (Plain(), "true", True),
        (Plain(), "FALSE", False),
        (Plain(), "512", 512),
        (Plain(), "-1", -1),
        (Plain(), "0.7", 0.7),
        (Plain(), "2.0", 2.0),
        (Plain(), "data:*", "data:*"),
        (Plain(), "yes", "yes"),
        (Number(), "0", 0),
        (Number(), "-1", -1),
        (Number(), "512", 512),
        (Number(), "4k", 4000),
        (Number(), "1MiB", 1024**2),
        (Number(), "1_000", 1000),
        (Number(), "0.5", 0.5),
        (Number(), "-0.25", -0.25),
    ],
)
def test_accepted(kind: Kind, text: str, value: Any) -> None:
    assert kind.take(text, "plain") == value


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (COUNT, "0", "is less than this option takes"),
        (COUNT, "257", "is more than this option takes"),
        (COUNT, "", "is not a number"),
        (COUNT, "1\n", "is not a number"),
        (COUNT, "\u0661", "is not a number"),
        (COUNT, "9" * 32, "is more than this option takes"),
        (COUNT, "9" * 33, "is not a number"),
        (SIZE, "1073741825", "is more than this option takes"),
        (SIZE, "1K", "is not a size"),
        (SIZE, "1 k", "is not a size"),
        (SIZE, "-1", "is not a size"),
        (TIME, "86400001ms", "is more than this option takes"),
        (TIME, "", "is not a time"),
        (TIME, "30", "has no unit"),
        (TIME, "1m1h", "is not a time"),
        (TIME, "1s\n", "is not a time"),
        (NAME, "abc\n", "is not accepted here"),
        (NAME, "true", "is a boolean in YAML, not a name"),
        (NAME, "12", "is a number in YAML, not a name"),
        (NAME, "", "is empty"),
        (NAME, "x" * 4097, "is longer than 4096 characters"),
        (COLOUR, "green", "is not in this version of slmgate"),
        (COLOUR, "Red", "is not one of the accepted values"),
        (Password(), "", "is empty"),
        (Password(), "a\nb", "holds a character that no header can carry"),
        (Password(), "a b", "holds a character that no header can carry"),
        (Password(), "clé", "holds a character that no header can carry"),
        (Location(), "~", "is null in YAML"),
        (Location(), "a\x00b", "is not a path"),
        (Switch(), "yes", "is text, not a boolean: files are read as YAML 1.2"),
        (Switch(), "1", "is not a boolean"),
        (Digest(), "sha256:" + "0" * 63, "is not a digest"),
        (Digest(), "sha256:" + "0" * 65, "is not a digest"),
        (Digest(), "0" * 64, "is not a digest"),
        (Moment(), "2027-02-30", "is no day or hour of the calendar"),
        (Moment(), "2027-01-01T25:00Z", "is no day or hour of the calendar"),
        (Moment(), "2027-01-01T12:00", "has no offset from UTC"),
        (Moment(), "20270101", "is not a date"),
        (Network(), "203.0.113.1/24", "has bits set behind its prefix"),
        (Network(), "2001:db8::1/32", "has bits set behind its prefix"),
        (Network(), "203.0.113.0/33", "is not a network"),
        (Network(), "203.0.113.0/255.255.255.0", "is not a network"),
        (Network(), "203.0.113.0/0.0.0.255", "is not a network"),
        (Network(), "fe80::%1/64", "is not a network"),
        (Network(), "203.0.113", "is not a network"),
        (Network(), "010.0.0.1", "is not a network"),
        (Network(), "localhost", "is not a network"),
        (Network(), "*", "is not a network"),
        (Network(), "10.0.0.0/8 ", "is not a network"),
        (Network(), "", "is empty"),
        (Week(), "", "is not a window of hours"),
        (Week(), "Mon-Fri", "is not a window of hours"),
        (Week(), "Mon-Fri 08:00", "is not a window of hours"),
        (Week(), "Mo-Fr 08:00-18:00", "is not a window of hours"),
        (Week(), "Mon-Fri 8-18", "is not a window of hours"),
        (Week(), "Mon-Fri 08:00-18:00\n", "is not a window of hours"),
        (Week(), "08:00-18:00  UTC", "is not a window of hours"),
        (Week(), "08:00-08:00", "begins when it ends"),
        (Week(), "24:00-24:00", "begins when it ends"),
        (Week(), "24:00-06:00", "begins when its day is over"),
        (Week(), "08:00-24:01", "has no such time of day as 24:01"),
        (Week(), "08:60-18:00", "has no such time of day as 08:60"),
        (Week(), "08:00-25:00", "has no such time of day as 25:00"),
        (Week(), "08:00-18:00 Europe/Berln", "names an unknown time zone, Europe/Berln"),
        (Week(), "08:00-18:00 Europe", "names an unknown time zone, Europe"),
        (Week(), "08:00-18:00 /etc/passwd", "names an unknown time zone, /etc/passwd"),
        (Plain(), "null", "is null in YAML"),
        (Plain(), "", "is null in YAML"),
        (Plain(), "x" * 4097, "is longer than 4096 characters"),
        (Plain(), "1e3", "is not a number"),
        (Number(), "", "is not a number"),
        (Number(), "1e3", "is not a number"),
        (Number(), ".5", "is not a number"),
        (Number(), "nan", "is not a number"),
        (Number(), ".inf", "is not a number"),
        (Number(), "-1k", "is not a number"),
        (Number(), "9" * 33, "is not a number"),
        (Number(), "many", "is not a number"),
    ],
)
def test_refused(kind: Kind, text: str, problem: str) -> None:
    with pytest.raises(BadValueError) as caught:
        kind.take(text, "plain")
    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("style", "accepted"),
    [("plain", True), ("quoted", False), ("fetched", True)],
)
def test_a_boolean_is_never_quoted_but_may_be_fetched(style: Style, accepted: bool) -> None:
    if accepted:
        assert Switch().take("true", style) is True
    else:
        with pytest.raises(BadValueError):
            Switch().take("true", style)


@pytest.mark.parametrize("style", ["quoted", "fetched"])
def test_text_that_yaml_gives_no_type_is_text(style: Style) -> None:
    assert Text(pattern=".*", described="").take("12", style) == "12"


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        (COUNT, "atuo", "did you mean auto?"),
        (COUNT, "x", "write a whole number like 256; or auto"),
        (SIZE, "8MB", "write 8M (of 1000) or 8MiB (of 1024)"),
        (SIZE, "8kb", "write 8k (of 1000) or 8KiB (of 1024)"),
        (TIME, "30", "write 30s or 30ms; or never"),
        (NAME, "12", 'put it in quotes: "12"'),
        (NAME, "null", "leave the option out for its default"),
        (COLOUR, "rad", "did you mean red? write red, blue or 502"),
        (COLOUR, "green", "write red, blue or 502"),
        (Network(), "203.0.113.1/24", "write 203.0.113.0/24, or 203.0.113.1 alone"),
        (Network(), "x", "write 203.0.113.0/24, 2001:db8::/32 or one address"),
        (Week(), "08:00-18:00 Europe/Berln", "did you mean Europe/Berlin?"),
        (Week(), "08:00-18:00 Qqqqq/Zzzzzzz", "write Europe/Berlin or UTC"),
        (Week(), "Mon 08:00-08:00", "write 00:00-24:00 for a whole day"),
        (Number(), "x", "write a number like 512 or 0.7"),
    ],
)
def test_hints(kind: Kind, text: str, hint: str) -> None:
    with pytest.raises(BadValueError) as caught:
        kind.take(text, "plain")
    assert caught.value.hint == hint


def test_what_may_be_a_secret_is_marked() -> None:
    for kind, text in ((Password(), "a b"), (Digest(), "sk-slm-the-secret-itself"), (NAME, "x" * 5000)):
        with pytest.raises(BadValueError) as caught:
            kind.take(text, "quoted")
        assert caught.value.private


def test_a_secret_hides_in_repr_and_not_in_str() -> None:
    secret = Password().take("hidden", "quoted")
    assert "hidden" not in repr(secret)
    assert "hidden" not in repr([secret])
    assert str(secret) == "hidden"
    assert type(str(secret)) is str
    assert Password().write(secret) == "***"
    assert isinstance(secret, Secret)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (SIZE, 0, 0),
        (SIZE, 1, 1),
        (SIZE, 1000, "1k"),
        (SIZE, 1024, "1KiB"),
        (SIZE, 16_000_000, "16M"),
        (TIME, 0.0, "0s"),
        (TIME, 0.0005, "0s"),
        (TIME, 0.5, "500ms"),
        (TIME, 75.0, "75s"),
        (TIME, 120.0, "2m"),
        (TIME, "never", "never"),
        (COLOUR, "502", 502),
        (Text(pattern=".*", described=""), "${env:A}", "$${env:A}"),
        (Week(), Hours((0, 1, 2), 480, 1440, "Europe/Berlin"), "Mon-Wed 08:00-24:00 Europe/Berlin"),
        (Network(), "203.0.113.7/32", "203.0.113.7/32"),
        (Plain(), 0.5, 0.5),
        (Plain(), "${env:A}", "$${env:A}"),
    ],
)
def test_written_back(kind: Kind, value: Any, text: Any) -> None:
    assert kind.write(value) == text


@given(st.integers(0, 1024**3))
def test_a_size_comes_back_from_its_text(value: int) -> None:
    assert SIZE.take(str(SIZE.write(value)), "plain") == value


@given(st.integers(0, 86_400_000))
def test_a_time_comes_back_from_its_text(milliseconds: int) -> None:
    assert TIME.take(TIME.write(milliseconds / 1000), "plain") == milliseconds / 1000


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_comes_back_from_its_text(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert Moment().take(Moment().write(moment), "plain") == moment


@pytest.mark.parametrize("style", ["quoted", "fetched"])
@pytest.mark.parametrize("text", ["true", "12", "", "null"])
def test_plain_in_quotes_is_text(text: str, style: Style) -> None:
    assert Plain().take(text, style) == text


@given(st.sets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(0, 1440))
def test_a_window_comes_back_from_its_text(days: set[int], start: int, end: int) -> None:
    window = Hours(tuple(sorted(days)), start, end if end != start else start + 1, "Europe/Berlin")
    assert Week().take(Week().write(window), "plain") == window


@given(st.integers(-(10**17), 10**17) | st.decimals(-1000, 1000, places=3).map(float))
def test_a_number_comes_back_from_its_text(value: float) -> None:
    assert number(str(value)) == value


@given(
    st.sampled_from(EVERY),
    st.text(),
    st.sampled_from(["plain", "quoted", "fetched"]),
)
def test_a_value_or_a_fault_and_nothing_else(kind: Kind, text: str, style: Style) -> None:
    with contextlib.suppress(BadValueError):
        assert kind.write(kind.take(text, style)) is not None


def test_every_kind_says_what_it_accepts() -> None:
    for kind in EVERY:
        assert kind.accepts()
        assert kind.schema()
