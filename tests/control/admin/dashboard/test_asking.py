"""What a page is given: links that keep the time, form fields that mean one thing, texts within bounds."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from slmgate.control.admin.dashboard.asking import Wrong, named
from slmgate.control.operators import Operator, Permission
from tests.tools.page_ask import ask

QUERY = {"range": "7d", "compare": "1", "sort": "-tokens", "page": "3", "csv": "x", "said": "drained"}


def test_links_elsewhere_keep_the_time_alone() -> None:
    asked = ask("/clients", QUERY)
    assert asked.at("models") == "/models?range=7d&compare=1"
    assert asked.at("clients", "a/b c?") == "/clients/a~1b%20c%3F?range=7d&compare=1"
    assert asked.at("requests", client="a&b", range_="1h") == "/requests?range=1h&compare=1&client=a%26b"
    assert ask().at("") == "/"


@pytest.mark.parametrize("name", ["a", "a/b", "%2F", "~1", "~01/", "~", ".", "..", "~2", "a.b", "a%", "é ?#&", "//"])
def test_a_name_comes_back_as_it_was(name: str) -> None:
    path = ask().at("clients", name)
    assert path.count("/") == 2
    assert named(unquote(path.removeprefix("/clients/"))) == name


def test_links_here_keep_all_but_what_was_done() -> None:
    asked = ask("/clients", QUERY)
    assert asked.here() == "/clients?range=7d&compare=1&sort=-tokens&page=3"
    assert asked.here(page=None, sort="name") == "/clients?range=7d&compare=1&sort=name"
    assert asked.here(from_="x", clients_page=2).endswith("&from=x&clients-page=2")


def test_fields() -> None:
    asked = ask(fields={"once": ["a"], "twice": ["a", "b"]})
    assert (asked.value("once"), asked.value("twice"), asked.value("never", "x")) == ("a", "", "x")
    assert (asked.values("twice"), asked.values("never")) == (["a", "b"], ())


def test_texts_are_bounded() -> None:
    asked = ask(query={"q": f"  {'a' * 500} "})
    assert len(asked.text("q")) == 200
    assert asked.text("nothing") == ""


def test_what_it_says_of_itself() -> None:
    assert ask(query=QUERY).compare and not ask().compare
    assert ask(query=QUERY).csv == "x" and ask().csv is None
    viewer = ask(caller=Operator("user:vera", Permission.VIEWER))
    assert viewer.may(Permission.VIEWER) and not viewer.may(Permission.OPERATOR)
    assert Wrong("no", 404).status == 404
