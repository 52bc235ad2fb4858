"""The pages of keys over a real keyring: none, one, a hundred thousand; forms that keep what was typed; a secret once."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from slmgate.control.admin import handlers, standing, views
from slmgate.control.admin.dashboard import keys
from slmgate.control.admin.dashboard.asking import Ask, Go, View, Wrong
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from slmgate.control.config import load_text
from slmgate.control.keyring import KeyDeclared, UnknownKey
from slmgate.control.looking import NobodyLooks
from slmgate.control.operators import Operator, Permission
from slmgate.stores.records import Batch, KeyRecord
from tests.tools.admin_gate import AdminGate
from tests.tools.journal_writer import make_receipt
from tests.tools.page_ask import NOW, ask, complaints

CONFIG = f"""\
models: {{tiny: {{instances: [{{url: "http://h:1"}}]}}}}
roles: {{user: {{models: [tiny], limits: [60 requests/minute]}}, boss: {{models: ["*"]}}}}
teams: {{acme: {{roles: [user]}}}}
keys: [{{name: fixed, roles: [user], hash: "sha256:{"0" * 64}"}}]
"""
ROW = {(page.method, page.path): page for page in PAGES}


class Desk:
    def __init__(self, home: Path) -> None:
        self.gate = AdminGate(home)
        self.gate.config = load_text(CONFIG).unwrap()
        config = self.gate.config
        self.gate.keyring.declared = lambda: config.keys
        self.gate.keyring.roles = lambda: config.roles
        self.gate.keyring.config = lambda: config

    def ask(self, path: str = "/keys", query: dict[str, str] | None = None, **more: Any) -> Ask:
        given = {"names": {"id": "ann"}, "now": datetime.now(UTC), **more}
        return ask(path, query, context=self.gate, **given)

    def form(self, **fields: str) -> Ask:
        return self.ask(fields={name: [text] for name, text in fields.items()})

    def made(self, name: str = "ann", **more: Any) -> tuple[KeyRecord, str]:
        return self.gate.keyring.create(name, **more)

    def view(self) -> dict[str, Any]:
        return msgspec.structs.asdict(handlers.key(self.gate, "ann"))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.gate.store.close()


def shown(view: View | Go, asked: Ask, row: Page) -> str:
    """The page as it is sent; nothing in it is wrong."""
    assert isinstance(view, View)
    page = render(view, asked, row, PAGES)
    assert complaints(page) == []
    return page.decode()


def listed(desk: Desk, query: dict[str, str] | None = None, **more: Any) -> tuple[View, str]:
    asked = desk.ask(query=query, **more)
    view = keys.key_list(asked)
    return view, shown(view, asked, ROW["GET", "/keys"])


def names(view: View) -> list[str]:
    return [row["name"].value for row in view.values["table"].rows]


# -- the list


def test_no_key_at_all(desk: Desk) -> None:
    assert desk.gate.config is not None
    desk.gate.keyring.declared = tuple
    view, page = listed(desk)
    assert names(view) == []
    assert "No keys yet" in page and "slmgate keys create NAME" in page and "New key" in page


def test_one_key_and_a_declared_one(desk: Desk) -> None:
    desk.made(team="acme", roles=("user",), owner="<b>Ann</b>")
    view, page = listed(desk)
    assert names(view) == ["fixed", "ann"]
    assert "&lt;b&gt;Ann&lt;/b&gt;" in page and "<b>Ann" not in page
    assert 'href="/keys/declared%3Afixed"' in page


def test_filters(desk: Desk) -> None:
    desk.made("j-ann", team="acme", roles=("user",))
    desk.made("bob", team="other", roles=("boss",))
    desk.gate.keyring.disable("bob")
    for query, expected in (
        ({"search": "J-AN"}, ["j-ann"]),  # ids of keys, which are searched as well, have no dash
        ({"team": "other"}, ["bob"]),
        ({"role": "user"}, ["fixed", "j-ann"]),
        ({"state": "disabled"}, ["bob"]),
        ({"search": "nobody"}, []),
    ):
        view, page = listed(desk, query)
        assert names(view) == expected
        assert "All keys" in page
        assert ("No key is like that" in page) == (not expected)
    with pytest.raises(handlers.BadQuery):
        listed(desk, {"state": "asleep"})


@pytest.mark.parametrize("many", [keys.SIZE - 1, keys.SIZE, 3 * keys.SIZE])
def test_part_by_part_there_and_back(desk: Desk, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.gate.keyring.declared = tuple
    for number in range(many):
        desk.made(f"k{number:04}")
    address, seen, ways = "/keys", list[str](), list[str]()
    while address:
        query = dict(parse_qsl(urlsplit(address).query))
        view, page = listed(desk, query)
        seen += names(view)
        ways.append(address)
        after = re.search(r'rel="next" href="([^"]*)"', page)
        back = re.search(r'rel="prev" href="([^"]*)"', page)
        assert (back is None) == (len(ways) == 1) and names(view)
        if back is not None:
            assert dict(parse_qsl(urlsplit(back[1].replace("&amp;", "&")).query)) == dict(parse_qsl(urlsplit(ways[-2]).query))
        address = after[1].replace("&amp;", "&") if after else ""
    assert seen == [f"k{number:04}" for number in range(many)]


def test_a_hundred_thousand_keys(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question takes so many at the most, however many there are; a CSV has all that it may."""
    desk.made()
    one, asked = handlers.key(desk.gate, "ann"), list[int]()

    def many(context: Any, limit: int = 100, after: str | None = None, **_: Any) -> Any:
        asked.append(limit)
        first = 0 if after is None else int(after) + 1
        found = [msgspec.structs.replace(one, id=str(at), name=f"k{at}") for at in range(first, min(100_000, first + limit))]
        return views.KeyPage(found, found[-1].id if len(found) == limit else None)

    monkeypatch.setattr(handlers, "keys", many)
    view, page = listed(desk)
    assert asked == [keys.SIZE + 1] and len(page) < 60_000 and "1\N{EN DASH}50" in page
    view = keys.key_list(desk.ask(query={"csv": "table", "search": "k"}))
    rows = list(csv.DictReader(io.StringIO(view.tables[0].csv().decode())))
    assert len(rows) == 100_000 and set(asked[1:]) == {keys.AT_ONCE} and rows[-1]["name"] == "k99999"
    assert "limits" in rows[0] and "secret" not in str(rows[0]).lower()


@pytest.mark.parametrize(
    ("permission", "sees", "not_there"),
    [
        (Permission.VIEWER, [], ["Edit", "Disable", "Revoke", "Make a new secret", "New key"]),
        (Permission.OPERATOR, ["Disable"], ["Edit", "Revoke", "Make a new secret", "New key"]),
        (Permission.OWNER, ["Edit", "Disable", "Revoke", "Make a new secret", "New key"], []),
    ],
)
def test_who_sees_which_buttons(desk: Desk, permission: Permission, sees: list[str], not_there: list[str]) -> None:
    desk.made()
    who: dict[str, Any] = {"caller": Operator("user:x", permission)}
    page = listed(desk, **who)[1] + opened(desk, **who)[1]
    buttons = " ".join(re.findall(r'(?:<button[^>]*>|<a class="button[^>]*>)([^<]*)', page))
    assert [word for word in sees if word not in buttons] == []
    assert [word for word in not_there if word in buttons] == []
    without = listed(desk, token="", **who)[1] + opened(desk, token="", **who)[1]  # an admin key in place of a session
    assert "Revoke" not in without and "New key" not in without


def test_whose_a_change_is() -> None:
    """The same as in the admin API."""
    for page in keys.PAGES:
        last = page.path.rpartition("/")[2]
        if page.method == "POST" or last in ("new", "edit", "revoke"):
            expected = Permission.OPERATOR if last in ("disable", "enable") else Permission.OWNER
        else:
            expected = Permission.VIEWER
        assert page.permission is expected, page.path


# -- one key


def opened(desk: Desk, **more: Any) -> tuple[View, str]:
    asked = desk.ask("/keys/ann", **more)
    view = asyncio.run(keys.key_page(asked))
    return view, shown(view, asked, ROW["GET", "/keys/{id:str}"])


def test_a_key_that_was_never_used(desk: Desk) -> None:
    desk.made()
    view, page = opened(desk)
    assert (view.values["requests"], view.values["tokens"], view.values["days"]) == (0, 0, [])
    assert "never" in page and "not used in the last 30 days" in page and "No limit holds for it" in page


def test_what_it_used_and_nobody_of_its_name(desk: Desk) -> None:
    past, _ = desk.made()
    desk.gate.keyring.revoke("ann")
    record, _ = desk.made(team="acme")
    now = datetime.now(UTC)
    made = [
        make_receipt(
            f"r{at}", time=now - timedelta(days=at), key=record.id, principal="ann", prompt_tokens=100, completion_tokens=20
        )
        for at in range(3)
    ]
    made.append(make_receipt("old", time=now, key=past.id, principal="ann", prompt_tokens=7777))
    made.append(make_receipt("long-ago", time=now - timedelta(days=40), key=record.id, principal="ann"))
    desk.gate.store.write(Batch(receipts=made))
    desk.gate.used = {("60 requests/minute", record.id): 54}
    view, page = opened(desk)
    assert (view.values["requests"], view.values["tokens"]) == (3, 360)
    assert len(view.values["days"]) == 3 and "7,7" not in page
    assert "90 %" in page and 'class="spark"' in page


def test_the_limits_cannot_be_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(*_: Any, **__: Any) -> Any:
        raise NobodyLooks("No worker can tell.")

    desk.made()
    monkeypatch.setattr(standing, "limits", nobody)
    assert "No worker can tell." in opened(desk)[1]


def test_declared_and_revoked_ones_cannot_be_changed(desk: Desk) -> None:
    desk.made()
    desk.gate.keyring.revoke("ann")
    for name, said in (("ann", "opens nothing"), ("declared:fixed", "changed there")):
        page = opened(desk, names={"id": name})[1]
        assert said in page and "Make a new secret" not in page and ">Disable<" not in page
        for change in (keys.edit_key, keys.save_key, keys.rotate_key, keys.ask_to_revoke, keys.revoke_key):
            with pytest.raises((KeyDeclared, Wrong)):
                change(desk.ask(names={"id": name}))
    with pytest.raises(UnknownKey):
        opened(desk, names={"id": "nobody"})


# -- forms

GOOD = {"name": "new", "owner": "Ann", "team": "acme", "roles": "user, boss", "tags": "a, b", "networks": "10.0.0.0/8"}
GOOD |= {"limits": "60 requests/minute\r\n4 concurrent", "expires": "30d"}


def test_the_form_of_a_new_key(desk: Desk) -> None:
    asked = desk.ask("/keys/new", {"team": "acme"})
    page = shown(keys.new_key(asked), asked, ROW["GET", "/keys/new"])
    assert 'value="acme"' in page and "There are boss, user." in page


def test_a_new_key_and_its_secret_once(desk: Desk) -> None:
    asked = desk.form(**GOOD)
    view = keys.create_key(asked)
    page = shown(view, asked, ROW["POST", "/keys/new"])
    secret = view.values["secret"]
    assert secret.startswith("sk-slm-") and page.count(secret) == 1 and view.status == 200
    record = desk.gate.keyring.show("new")
    assert (record.owner, record.team, record.roles, record.tags) == ("Ann", "acme", ("user", "boss"), ("a", "b"))
    assert [one.text for one in record.limits] == ["60 requests/minute", "4 concurrent"] and record.expires is not None
    newest = desk.gate.store.audit(1)[0]
    assert (newest.actor, newest.action) == ("user:olga", "key.create") and secret not in str(newest)
    again = keys.create_key(desk.form(**GOOD))  # the same form, sent once more
    assert again.status == 400 and "named" in again.values["wrong"]["name"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", ""), ("name", "x" * 65), ("name", "a\u202eb"), ("owner", "x" * 65), ("team", "\x07"), ("roles", "nobody"),
        ("tags", "no spaces"), ("networks", "10.0.0.1/8"), ("limits", "often"), ("limits", "5 EUR/month\n7 USD/month"),
        ("expires", "soon"), ("expires", "2020-01-01"),
    ],
)  # fmt: skip
def test_what_is_wrong_stands_at_its_field_with_all_that_was_typed(desk: Desk, field: str, text: str) -> None:
    before = len(handlers.keys(desk.gate).keys)
    asked = desk.form(**{**GOOD, field: text, "owner": text if field == "owner" else "<Ann>"})
    view = keys.create_key(asked)
    page = shown(view, asked, ROW["POST", "/keys/new"])
    assert view.status == 400 and list(view.values["wrong"]) == [field]
    assert f'id="f-{field}-wrong"' in page and f'aria-describedby="f-{field}-wrong' in page and 'aria-invalid="true"' in page
    assert field == "owner" or 'value="&lt;Ann&gt;"' in page
    assert len(handlers.keys(desk.gate).keys) == before


def test_all_that_is_wrong_is_said_at_once(desk: Desk) -> None:
    view = keys.create_key(desk.form(**{**GOOD, "roles": "nobody", "expires": "soon"}))
    assert set(view.values["wrong"]) == {"roles", "expires"}


def test_a_name_that_is_declared(desk: Desk) -> None:
    assert "declared" in keys.create_key(desk.form(**{**GOOD, "name": "fixed"})).values["wrong"]["name"]


def test_editing(desk: Desk) -> None:
    desk.made(team="acme", roles=("user",), limits=["60 requests/minute"], expires=datetime.now(UTC) + timedelta(days=3))
    asked = desk.ask("/keys/ann/edit")
    view = keys.edit_key(asked)
    typed = dict(view.values["typed"])
    assert "60 requests/minute" in shown(view, asked, ROW["GET", "/keys/{id:str}/edit"])
    assert keys.save_key(desk.form(**typed)) == Go("/keys/" + desk.gate.keyring.show("ann").id, "saved")
    assert desk.gate.store.audit(1)[0].action == "key.create"  # nothing was otherwise
    before = desk.view()
    keys.save_key(desk.form(**{**typed, "team": "", "roles": "boss", "limits": ""}))
    after = desk.view()
    assert (after["team"], after["roles"], after["limits"]) == (None, ("boss",), []) and after["expires"] == before["expires"]
    wrong = keys.save_key(desk.form(**{**typed, "networks": "x"}))
    assert isinstance(wrong, View) and list(wrong.values["wrong"]) == ["networks"]


def test_an_expired_key_can_be_edited_otherwise(desk: Desk) -> None:
    """What is left as it was is not held against what may be set now: a role that is gone, an end that is past."""
    record, _ = desk.made(expires=datetime.now(UTC) + timedelta(days=1))
    ended = msgspec.structs.replace(record, expires=datetime(2026, 1, 1, tzinfo=UTC), roles=("gone",))
    desk.gate.store.save_keys([ended], desk.gate.accounts.line("test", "key.edit", record.id))
    typed = dict(keys.edit_key(desk.ask()).values["typed"])
    assert isinstance(keys.save_key(desk.form(**{**typed, "owner": "Bob"})), Go)
    assert desk.gate.keyring.show("ann").owner == "Bob"


# -- changes


def newest(desk: Desk) -> str:
    return str(asyncio.run(keys.key_page(desk.ask())).values["newest"])


def test_a_new_secret_once(desk: Desk) -> None:
    desk.made()
    mark = newest(desk)
    asked = desk.form(overlap="1h", newest=mark)
    view = keys.rotate_key(asked)
    page = shown(view, asked, ROW["POST", "/keys/{id:str}/rotate"])
    assert isinstance(view, View) and page.count(view.values["secret"]) == 1 and "an hour" in page
    assert len(desk.gate.keyring.show("ann").secrets) == 2
    again = keys.rotate_key(desk.form(overlap="1h", newest=mark))  # loaded again, or sent by another operator too
    assert again == Go("/keys/" + desk.gate.keyring.show("ann").id, "turned")
    assert len(desk.gate.keyring.show("ann").secrets) == 2
    assert view.values["secret"] not in opened(desk)[1]


@pytest.mark.parametrize("overlap", ["soon", "999999d", "-1h"])
def test_an_overlap_that_cannot_be(desk: Desk, overlap: str) -> None:
    desk.made()
    with pytest.raises(Wrong):
        keys.rotate_key(desk.form(overlap=overlap, newest=newest(desk)))
    assert len(desk.gate.keyring.show("ann").secrets) == 1


def test_disable_and_enable(desk: Desk) -> None:
    desk.made()
    assert keys.disable_key(desk.ask()).said == "disabled" and desk.view()["state"] == "disabled"
    assert "Enable" in opened(desk)[1]
    assert keys.enable_key(desk.ask()).said == "enabled" and desk.view()["state"] == "active"


def test_revoking_asks_for_the_name(desk: Desk) -> None:
    desk.made()
    asked = desk.ask()
    assert "can never be used again" in shown(keys.ask_to_revoke(asked), asked, ROW["GET", "/keys/{id:str}/revoke"])
    wrong = keys.revoke_key(desk.form(name="bob"))
    assert isinstance(wrong, View) and wrong.status == 400 and desk.view()["state"] == "active"
    assert isinstance(keys.revoke_key(desk.form(name="ann")), Go) and desk.view()["state"] == "revoked"


def test_every_code_that_is_said_has_its_sentence() -> None:
    page = ROW["GET", "/keys/{id:str}"]
    assert set(page.said) == {"saved", "disabled", "enabled", "revoked", "turned"}
    assert NOW.tzinfo is UTC
