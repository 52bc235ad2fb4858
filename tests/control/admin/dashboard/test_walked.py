"""Tables that are walked: the way there stands in the address, bounded, and leads back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from slmgate.control.admin.dashboard.asking import Ask
from slmgate.control.admin.dashboard.walked import TRAIL, Walked, trail_of
from tests.tools.page_ask import ask


def table(asked: Ask, page: int, next: str | None) -> Walked:
    return Walked(
        ask=asked, name="", columns=(), rows=[{}], sort="", page=page, more=next is not None, trail=trail_of(asked), next=next
    )


def test_there_and_back() -> None:
    first = table(ask("/keys", {"search": "a b"}), 1, "k50")
    address = first.turned(2)
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert query == {"search": "a b", "page": "2", "trail": "k50"}
    second = table(ask("/keys", query), 2, "k100")
    assert parse_qs(urlsplit(second.turned(3)).query)["trail"] == ["k50 k100"]
    assert second.turned(1) == "/keys?search=a+b"
    assert second.follows and not table(ask("/keys", query), 2, None).follows


def test_the_way_is_bounded() -> None:
    asked = ask("/keys", {"trail": " ".join(f"k{number}" for number in range(100))})
    assert trail_of(asked) == tuple(f"k{number}" for number in range(80, 100))
    assert len(parse_qs(urlsplit(table(asked, 21, "next").turned(22)).query)["trail"][0].split()) == TRAIL
    assert trail_of(ask("/keys")) == () and len(" ".join(trail_of(ask("/keys", {"trail": "x" * 9000})))) <= 2000
