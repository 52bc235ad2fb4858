"""What fields of keys accept and refuse, and how times are written; each with a table of both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from slmgate.control.keyfields import (
    MAX_LIST,
    BadKeyInput,
    check_name,
    check_networks,
    check_roles,
    check_tags,
    parse_digest,
    parse_duration,
    parse_expiry,
    parse_moment,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("name", ["a", "a" * 64, "Ann's bot", "büro", "日本", "a/b", "👍", "=1+1"])
def test_good_names(name: str) -> None:
    check_name(name, "name")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 65,
        " a",
        "a ",
        "a\n",
        "a\tb",
        "\x00",
        "a\x1b[31m",
        "a\u202eb",
        "a\u200bb",
        "\ud800",
        "a\u2028b",
        "\u00a0a",
        "\x85",
    ],
)
def test_bad_names(name: str) -> None:
    with pytest.raises(BadKeyInput):
        check_name(name, "name")


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("500ms", 0.5), ("90s", 90), ("5m", 300), ("24h", 86400), ("30d", 2592000), (" 1h ", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


BAD_DURATIONS = ["", "1", "h", "-1h", "1.5h", "1 h", "1w", "1h\n1", "٣h", "9" * 10 + "s", "1h30m"]


@pytest.mark.parametrize("text", [*BAD_DURATIONS, "999999999d1", "999999999999d"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(BadKeyInput, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        ("never", None),
        ("30d", NOON + timedelta(days=30)),
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T12:00:00", datetime(2027, 1, 1, 12, tzinfo=UTC)),
        ("2027-01-01T12:00:00Z", datetime(2027, 1, 1, 12, tzinfo=UTC)),
        ("2027-01-01T12:00:00+02:00", datetime(2027, 1, 1, 10, tzinfo=UTC)),
    ],
)
def test_expiries(text: str, expiry: datetime | None) -> None:
    assert parse_expiry(text, NOON) == expiry


@pytest.mark.parametrize(
    "text", [*BAD_DURATIONS, "2027-13-01", "tomorrow", "999999999d", "9999999d", "0001-01-01T00:00:00+23:00"]
)
def test_bad_expiries(text: str) -> None:
    with pytest.raises(BadKeyInput):
        parse_expiry(text, NOON)


def test_moments() -> None:
    assert parse_moment("2h", NOON) == NOON - 2 * HOUR
    assert parse_moment("2026-11-01", NOON) == datetime(2026, 11, 1, tzinfo=UTC)
    assert parse_moment("9999999d", NOON).year == 1970


@pytest.mark.parametrize("role", ["a", "A" * 64, "team.admin", "x@y-z_1"])
def test_good_roles(role: str) -> None:
    assert check_roles([role, role], None) == (role,)
    assert check_roles([role], {role, "other"}) == (role,)


@pytest.mark.parametrize("role", ["", "a" * 65, "a b", "-a", "a\n", "ä", "a:b"])
def test_bad_roles(role: str) -> None:
    with pytest.raises(BadKeyInput, match="role"):
        check_roles([role], None)


@pytest.mark.parametrize(("known", "message"), [((), "it has none"), (("b", "a"), "there are a, b")])
def test_a_role_that_is_not_there(known: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadKeyInput, match=message):
        check_roles(["c"], known)


@pytest.mark.parametrize("tag", ["a", "env:prod", "a/b=c", "1" * 64, "x+y@z"])
def test_good_tags(tag: str) -> None:
    assert check_tags([tag, tag]) == (tag,)


@pytest.mark.parametrize("tag", ["", "a" * 65, "a b", '"', "a\n", "=1", "ä", "a,b"])
def test_bad_tags(tag: str) -> None:
    with pytest.raises(BadKeyInput, match="tag"):
        check_tags([tag])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        (" 192.0.2.7 ", "192.0.2.7/32"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_good_networks(text: str, form: str) -> None:
    assert check_networks([text, text]) == (form,)


@pytest.mark.parametrize(
    "text", ["", "10", "10.0.0.1/8", "10.0.0.0/33", "host", "10.0.0.0/8\n10.0.0.0/8", "1.2.3.4:80", "fe80::1%eth0/64"]
)
def test_bad_networks(text: str) -> None:
    with pytest.raises(BadKeyInput, match=r"network|prefix"):
        check_networks([text])


@pytest.mark.parametrize(("count", "good"), [(0, True), (1, True), (MAX_LIST, True), (MAX_LIST + 1, False)])
def test_the_bound_of_a_list(count: int, good: bool) -> None:
    tags = [f"t{number}" for number in range(count)]
    if good:
        assert check_tags(tags) == tuple(tags)
    else:
        with pytest.raises(BadKeyInput, match="at the most"):
            check_tags(tags)


def test_digests() -> None:
    assert parse_digest("sha256:" + "0a" * 32) == parse_digest("SHA256:" + "0A" * 32) == b"\n" * 32
    for text in ("", "0a" * 32, "sha256:" + "0a" * 31, "sha256:" + "0g" * 32, "sha256:" + "0a" * 32 + "\n", "sk-secret"):
        with pytest.raises(BadKeyInput, match="sha256") as caught:
            parse_digest(text)
        assert "sk-secret" not in str(caught.value)
