"""The pages of keys: the list with its filters, one key with what it used, and every change of it by a form.

They do what the admin API does, by its own functions and under its permissions. A secret is in the answer that makes it and in no
other page: that answer is kept by no browser, and a form that is sent once more is refused, since it names the secret that was
the newest when it was made. What is wrong in a form stands at its field, with all that was typed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from slmgate.control.admin import handlers, standing, views
from slmgate.control.admin.dashboard import charts, tables, words
from slmgate.control.admin.dashboard.asking import Ask, Go, View, Wrong
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.admin.dashboard.tables import Cell, Column
from slmgate.control.admin.dashboard.walked import Walked, trail_of
from slmgate.control.keyfields import BadKeyInput, check_name, parse_duration, parse_expiry
from slmgate.control.keyring import KeyDeclared, NameTaken
from slmgate.control.looking import NobodyLooks
from slmgate.control.operators import Permission
from slmgate.control.standing import Stand

SIZE = 50
AT_ONCE = 1000
"""Keys of one question for a CSV of all."""
DAYS = 30
OFFERED = 200
"""Names of teams and roles that fields offer."""
STATES = {"active": "good", "disabled": "warn", "expired": "warn", "revoked": ""}
OVERLAPS = {"0s": "not at all", "1h": "an hour", "24h": "a day", "7d": "a week", "30d": "30 days"}
LISTS = ("roles", "tags", "networks", "limits")

_COLUMNS = (
    Column("name", "Name", sort=False),
    Column("state", "State", sort=False),
    Column("team", "Team", sort=False),
    Column("roles", "Roles", sort=False, wide=True),
    Column("owner", "Owner", sort=False, wide=True),
    Column("used", "Last used", "time", sort=False, wide=True),
    Column("expires", "Ends", "time", sort=False, wide=True),
    Column("id", "Id", "code", sort=False, wide=True),
)
_MORE = (
    Column("tags", "Tags"),
    Column("networks", "Networks"),
    Column("limits", "Limits"),
    Column("created", "Created", "time"),
    Column("revoked", "Revoked", "time"),
    Column("address", "Last address"),
)


# -- the list


def key_list(ask: Ask) -> View:
    """Keys, oldest first, those that are meant."""
    chosen = {name: ask.text(name) or None for name in ("search", "team", "role", "tag")}
    state = ask.text("state") or None
    whole = tables.asked(ask, "")
    trail = trail_of(ask)
    number = tables.place(ask) if trail else 1
    found: list[views.KeyView] = []
    after = None if whole or not trail else trail[-1]
    while True:
        size = AT_ONCE if whole else SIZE + 1  # the one beyond says that there is more
        page = handlers.keys(ask.context, **chosen, in_state=state, limit=size, after=after)
        found += page.keys
        after = page.next
        if after is None or not whole or len(found) >= tables.MOST_CSV:
            break
    more = not whole and len(found) > SIZE
    found = found if whole else found[:SIZE]
    table = Walked(
        ask=ask,
        name="",
        columns=(*_COLUMNS, *_MORE) if whole else _COLUMNS,
        rows=[_row(ask, key) for key in found],
        sort="",
        page=number,
        size=SIZE,
        more=more,
        trail=trail,
        next=found[-1].id if more else None,
    )
    values = {
        "table": table,
        "chosen": {**{name: value or "" for name, value in chosen.items()}, "state": state or ""},
        "filtered": any((*chosen.values(), state)),
        "states": list(STATES),
        "teams": _teams(ask),
        "roles": _roles(ask),
    }
    return View(template="keys.html", values=values, tables=[table], ranged=False)


def _row(ask: Ask, key: views.KeyView) -> dict[str, Any]:
    return {
        **msgspec.structs.asdict(key),
        "name": Cell(key.name, href=ask.at("keys", key.id)),
        "state": Cell(key.state, tone=STATES[key.state]),
        "team": Cell(key.team, href=ask.at("keys", team=key.team)) if key.team else None,
        "used": key.used.time if key.used else None,
        "address": key.used.address if key.used else None,
    }


def _teams(ask: Ask) -> list[str]:
    return sorted(ask.context.config.teams)[:OFFERED] if ask.context.config else []


def _roles(ask: Ask) -> list[str]:
    return sorted(ask.context.config.roles)[:OFFERED] if ask.context.config else []


# -- one key


async def key_page(ask: Ask) -> View:
    """What is known of a key, what it used, where it stands with its limits, and what can be done with it."""
    key, days = await asyncio.to_thread(_read, ask)
    limits, trouble = await _limits(ask, key)
    return _shown(ask, key, days, limits, trouble)


def _read(ask: Ask) -> tuple[views.KeyView, list[views.UsageView]]:
    key = handlers.key(ask.context, ask.names["id"])
    first = (ask.now - timedelta(days=DAYS - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return key, list(handlers.usage(ask.context, by="day", since=first.isoformat(), key=key.id).rows)


async def _limits(ask: Ask, key: views.KeyView) -> tuple[Sequence[Stand], str]:
    if key.state == "revoked" or ask.context.config is None:
        return [], ""
    try:
        return (await standing.limits(ask.context, key=key.id)).limits, ""
    except NobodyLooks as why:
        return [], str(why)


def _shown(ask: Ask, key: views.KeyView, days: Sequence[views.UsageView], limits: Sequence[Stand], trouble: str) -> View:
    used = {row.group["day"]: row for row in days}
    dates = [f"{ask.now - timedelta(days=back):%Y-%m-%d}" for back in range(DAYS - 1, -1, -1)]
    requests = [used[day].requests if day in used else 0 for day in dates]
    tokens = [used[day].total_tokens if day in used else 0 for day in dates]
    costs: dict[str, Any] = {}
    for row in days:
        for currency, amount in row.cost.items():
            costs[currency] = costs.get(currency, 0) + float(amount)
    table = tables.whole(
        ask,
        (
            Column("limit", "Limit"),
            Column("whose", "Counted for"),
            Column("share", "Used", "share"),
            Column("bar", "", "html", sort=False, wide=True),
            Column("left", "Left"),
            Column("whole", "Whole again", "time", wide=True),
        ),
        [_limit(one) for one in limits],
        "-share",
        "limits",
        size=200,
    )
    values = {
        "key": key,
        "tone": STATES[key.state],
        "ends": f"{key.expires:%Y-%m-%d %H:%M} UTC" if key.expires else "never",
        "limits": table,
        "trouble": trouble,
        "requests": sum(requests),
        "tokens": sum(tokens),
        "refused": sum(row.refused for row in days),
        "errors": sum(row.errors for row in days),
        "cost": ", ".join(words.money(amount, currency) for currency, amount in sorted(costs.items())),
        "spark_requests": charts.sparkline(requests, f"Requests of each of the last {DAYS} days, the most {max(requests)}"),
        "spark_tokens": charts.sparkline(tokens, f"Tokens of each of the last {DAYS} days, the most {max(tokens)}"),
        "days": [(day, used[day]) for day in reversed(dates) if day in used],
        "span_days": DAYS,
        "overlaps": OVERLAPS,
        "newest": _newest(key),
    }
    return View(template="key.html", values=values, tables=[table], title=key.name, ranged=False)


def _limit(one: Stand) -> dict[str, Any]:
    tone = "bad" if one.share >= 1 else "warn" if one.share >= 0.8 else ""
    return {
        "limit": one.limit,
        "whose": one.whose,
        "share": Cell(one.share, tone=tone),
        "bar": Cell(None, html=charts.gauge(one.share, f"{words.share(one.share)} of {one.limit} used")),
        "left": Cell(one.left, text=f"{one.left} {one.currency}".rstrip()),
        "whole": one.whole,
    }


def _newest(key: views.KeyView) -> str:
    """What a form says of the secret that was the newest when it was made."""
    return max((one.created for one in key.secrets), default=datetime(1970, 1, 1, tzinfo=UTC)).isoformat()


# -- forms


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What stands in a form: the texts, and what is wrong with which of them; `""` is the whole of it."""

    texts: Mapping[str, str]
    wrong: Mapping[str, str]


def new_key(ask: Ask) -> View:
    """The form for a new key."""
    texts = {name: ask.text(name) for name in ("name", "team", "owner", *LISTS)}
    return _form(ask, Typed(texts={**texts, "expires": "never"}, wrong={}), None)


def create_key(ask: Ask) -> View:
    """Issue it, or say what is wrong at each field."""
    texts = _texts(ask, ("name", "owner", "team", *LISTS, "expires"))
    wrong = _wrong(ask, texts, texts)
    if not wrong:
        asked = views.NewKey(
            name=texts["name"],
            owner=texts["owner"] or None,
            team=texts["team"] or None,
            roles=_list(texts["roles"]),
            tags=_list(texts["tags"]),
            networks=_list(texts["networks"]),
            limits=_lines(texts["limits"]),
            expires=texts["expires"] or "never",
        )
        try:
            return _secret(ask, handlers.create_key(ask.context, ask.caller, asked), "new")
        except (NameTaken, KeyDeclared) as taken:
            wrong = {"name": str(taken)}
        except BadKeyInput as bad:
            wrong = {"": str(bad)}
    return _form(ask, Typed(texts=texts, wrong=wrong), None)


def edit_key(ask: Ask) -> View:
    """The form with what a key has."""
    key = _changeable(ask)
    return _form(ask, Typed(texts=_as_typed(key), wrong={}), key)


def save_key(ask: Ask) -> View | Go:
    """Change what is otherwise than it was, or say what is wrong with it."""
    key = _changeable(ask)
    before, texts = _as_typed(key), _texts(ask, ("owner", "team", *LISTS, "expires"))
    changed = {name: text for name, text in texts.items() if text != before[name]}
    wrong = _wrong(ask, changed, texts)
    if not wrong:
        made: dict[str, Any] = {}
        for name, text in changed.items():
            if name == "limits":
                made[name] = _lines(text)
            elif name in LISTS:
                made[name] = _list(text)
            else:
                made[name] = (text or "never") if name == "expires" else (text or None)
        try:
            handlers.edit_key(ask.context, ask.caller, key.id, views.KeyEdit(**made))
            return Go(ask.at("keys", key.id), "saved")
        except BadKeyInput as bad:
            wrong = {"": str(bad)}
    return _form(ask, Typed(texts=texts, wrong=wrong), key)


def _form(ask: Ask, typed: Typed, key: views.KeyView | None) -> View:
    values = {
        "typed": typed.texts,
        "wrong": typed.wrong,
        "key": key,
        "teams": _teams(ask),
        "roles": _roles(ask),
        "to": ask.at("keys", "new") if key is None else ask.at("keys", key.id, "edit"),
        "back": ask.at("keys") if key is None else ask.at("keys", key.id),
    }
    title = "New key" if key is None else f"Edit {key.name}"
    return View(template="key_form.html", values=values, title=title, status=400 if typed.wrong else 200, ranged=False)


def _texts(ask: Ask, names: Iterable[str]) -> dict[str, str]:
    return {name: ask.value(name).replace("\r\n", "\n").strip() for name in names}


def _as_typed(key: views.KeyView) -> dict[str, str]:
    return {
        "owner": key.owner or "",
        "team": key.team or "",
        "roles": ", ".join(key.roles),
        "tags": ", ".join(key.tags),
        "networks": ", ".join(key.networks),
        "limits": "\n".join(key.limits),
        "expires": key.expires.isoformat() if key.expires else "never",
    }


def _wrong(ask: Ask, texts: Mapping[str, str], all_of_them: Mapping[str, str]) -> dict[str, str]:
    """What cannot be, by field: each is looked at alone, so that all is said at once."""
    keyring, now = ask.context.keyring, ask.now
    team = all_of_them.get("team") or None
    checks: dict[str, Callable[[str], object]] = {
        "name": lambda text: check_name(text, "name"),
        "owner": lambda text: check_name(text or "-", "owner"),
        "team": lambda text: check_name(text or "-", "team"),
        "limits": lambda text: keyring.check_limits(_lines(text), team),
        "expires": lambda text: _to_come(parse_expiry(text or "never", now), now),
        **{name: lambda text, name=name: keyring.check_list(name, _list(text)) for name in LISTS if name != "limits"},  # type: ignore[misc]  # mypy does not infer a lambda with a default
    }
    found: dict[str, str] = {}
    for name, text in texts.items():
        try:
            checks[name](text)
        except BadKeyInput as bad:
            found[name] = str(bad)
    return found


def _to_come(expires: datetime | None, now: datetime) -> None:
    if expires is not None and expires <= now:
        raise BadKeyInput("The expiry is in the past; give a date to come, a duration such as 30d, or never.")


def _list(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.replace("\n", ",").split(",") if each.strip())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.splitlines() if each.strip())


# -- changes


def rotate_key(ask: Ask) -> View | Go:
    """A new secret, unless there has been another one since the form was made."""
    key = _changeable(ask)
    if ask.value("newest") != _newest(key):
        return Go(ask.at("keys", key.id), "turned")
    overlap = ask.value("overlap", "0s").strip() or "0s"
    try:
        parse_duration(overlap)
        return _secret(ask, handlers.rotate_key(ask.context, ask.caller, key.id, views.Rotation(overlap=overlap)), overlap)
    except BadKeyInput as bad:
        raise Wrong(f"{bad} Go back and give another.") from None


def _secret(ask: Ask, issued: views.IssuedKey, how: str) -> View:
    values = {"key": issued.key, "secret": issued.secret, "how": how, "said_overlap": OVERLAPS.get(how, how)}
    return View(template="key_secret.html", values=values, title=f"The secret of {issued.key.name}", ranged=False)


def disable_key(ask: Ask) -> Go:
    handlers.disable_key(ask.context, ask.caller, ask.names["id"])
    return Go(ask.at("keys", ask.names["id"]), "disabled")


def enable_key(ask: Ask) -> Go:
    handlers.enable_key(ask.context, ask.caller, ask.names["id"])
    return Go(ask.at("keys", ask.names["id"]), "enabled")


def ask_to_revoke(ask: Ask) -> View:
    """Whether it is meant: there is no way back."""
    key = _changeable(ask)
    return View(template="key_revoke.html", values={"key": key, "wrong": ""}, title=f"Revoke {key.name}?", ranged=False)


def revoke_key(ask: Ask) -> View | Go:
    """End it for good, once its name was given."""
    key = _changeable(ask)
    if ask.value("name").strip() != key.name:
        wrong = f"Type the key's name, {key.name}, so that no other one is revoked."
        values = {"key": key, "wrong": wrong}
        return View(template="key_revoke.html", values=values, title=f"Revoke {key.name}?", status=400, ranged=False)
    handlers.revoke_key(ask.context, ask.caller, key.id)
    return Go(ask.at("keys", key.id), "revoked")


def _changeable(ask: Ask) -> views.KeyView:
    """The key, if it can be changed at all."""
    key = handlers.key(ask.context, ask.names["id"])
    if key.declared:
        raise KeyDeclared(f"The key {key.name!r} is declared in the configuration: change it there.")
    if key.state == "revoked":
        raise Wrong(f"The key {key.name!r} is revoked, which cannot be undone; create another.", 409)
    return key


_SAID = {
    "saved": "Saved. Every worker goes by it now.",
    "disabled": "Disabled: it is refused from now on, until it is enabled again.",
    "enabled": "Enabled: it works again.",
    "revoked": "Revoked, for good.",
    "turned": "Nothing was changed: the key has got another secret since that page was loaded. Send it anew for one more.",
}

PAGES: tuple[Page, ...] = (
    Page(path="/keys", permission=Permission.VIEWER, handler=key_list, title="Keys", place=("Access", 10)),
    Page(path="/keys/new", permission=Permission.OWNER, handler=new_key, title="New key", under="/keys"),
    Page(path="/keys/new", permission=Permission.OWNER, handler=create_key, title="New key", method="POST", under="/keys"),
    Page(path="/keys/{id:str}", permission=Permission.VIEWER, handler=key_page, title="Key", under="/keys", said=_SAID),
    Page(path="/keys/{id:str}/edit", permission=Permission.OWNER, handler=edit_key, title="Edit a key", under="/keys"),
    Page(
        path="/keys/{id:str}/edit",
        permission=Permission.OWNER,
        handler=save_key,
        title="Edit a key",
        method="POST",
        under="/keys",
    ),
    Page(
        path="/keys/{id:str}/rotate",
        permission=Permission.OWNER,
        handler=rotate_key,
        title="A new secret",
        method="POST",
        under="/keys",
    ),
    Page(
        path="/keys/{id:str}/disable",
        permission=Permission.OPERATOR,
        handler=disable_key,
        title="Disable a key",
        method="POST",
        under="/keys",
    ),
    Page(
        path="/keys/{id:str}/enable",
        permission=Permission.OPERATOR,
        handler=enable_key,
        title="Enable a key",
        method="POST",
        under="/keys",
    ),
    Page(path="/keys/{id:str}/revoke", permission=Permission.OWNER, handler=ask_to_revoke, title="Revoke a key", under="/keys"),
    Page(
        path="/keys/{id:str}/revoke",
        permission=Permission.OWNER,
        handler=revoke_key,
        title="Revoke a key",
        method="POST",
        under="/keys",
    ),
)
