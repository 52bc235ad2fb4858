"""The page on which a request is tried without being sent: who, which model, with what; and the verdict, rule by rule.

It is `slmgate explain` as a form, by the same function. It changes nothing, so that what was tried stands in the page's address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slmgate.control.admin import explaining, handlers
from slmgate.control.admin.dashboard.asking import Ask, View
from slmgate.control.admin.dashboard.page import Page
from slmgate.control.operators import Permission
from slmgate.control.trials.told import Told
from slmgate.control.trials.wish import BadTrial, Wish, parse_parameters, parse_used, parse_when
from slmgate.dialects import ENDPOINTS
from slmgate.policy.networks import NOWHERE, number_of
from slmgate.policy.room import Counted

OFFERED = 200
FIELDS = (
    "as",
    "roles",
    "team",
    "model",
    "endpoint",
    "stream",
    "address",
    "at",
    "prompt_tokens",
    "body_size",
    "parameters",
    "used",
)
MOST = 4000
"""Characters of a field."""


def try_out(ask: Ask) -> View:
    """The form, and what came of it where something was asked."""
    texts = {name: ask.text(name, MOST).replace("\r\n", "\n") for name in FIELDS}
    wrong: dict[str, str] = {}
    told: Told | None = None
    if any(texts[name] for name in ("as", "roles", "team", "model")):
        told = _told(ask, texts, wrong)
    config = ask.context.config
    values = {
        "typed": {**texts, "endpoint": texts["endpoint"] or "chat"},
        "wrong": wrong,
        "told": told,
        "counted": [] if told is None else [_counted(one) for one in told.verdict.limits],
        "endpoints": ENDPOINTS,
        "models": sorted(config.models)[:OFFERED] if config else [],
        "roles": sorted(config.roles)[:OFFERED] if config else [],
        "teams": sorted(config.teams)[:OFFERED] if config else [],
    }
    return View(template="try.html", values=values, status=400 if wrong else 200, ranged=False)


def _told(ask: Ask, texts: dict[str, str], wrong: dict[str, str]) -> Told | None:
    """What is told of it; None: something is wrong, and stands at its field."""

    def read(name: str, how: Callable[[str], Any], otherwise: Any) -> Any:
        if not texts[name]:
            return otherwise
        try:
            return how(texts[name])
        except BadTrial as bad:
            wrong[name] = str(bad)
            return otherwise

    wish = Wish(
        name=texts["as"] or None,
        roles=tuple(one.strip() for one in texts["roles"].split(",") if one.strip()),
        team=texts["team"] or None,
        model=texts["model"],
        endpoint=texts["endpoint"] or "chat",
        stream=texts["stream"] == "1",
        parameters=read("parameters", lambda text: parse_parameters(_lines(text)), {}),
        address=read("address", _address, None),
        at=read("at", _time, None),
        body_size=read("body_size", _number, None),
        prompt_tokens=read("prompt_tokens", _number, None),
        used=read("used", lambda text: parse_used(_lines(text)), {}),
    )
    try:
        wish.who  # noqa: B018  # raises where nobody is meant, or two are
    except BadTrial as bad:
        wrong["as"] = str(bad)
    if not wish.model and wish.endpoint != "models":
        wrong["model"] = "Name the model that is asked for."
    if wrong:
        return None
    try:
        return explaining.explain(ask.context, wish)
    except handlers.Unknown as unknown:
        wrong["as"] = str(unknown)
    except BadTrial as bad:
        wrong[""] = str(bad)
    return None


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _time(text: str) -> str:
    parse_when(text)
    return text


def _address(text: str) -> str:
    if number_of(text) == NOWHERE:
        raise BadTrial(f"{text!r} is no address; write it like 203.0.113.9 or 2001:db8::1.")
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise BadTrial(f"{text!r} is no number; write one like 1200.")
    return int(text)


def _counted(one: Counted) -> dict[str, Any]:
    """A limit in the measure that people know."""
    size = 1e9 if one.unit == "cost" else 1e6 if one.unit == "engine_time" else 1
    unit = one.currency if one.unit == "cost" else "s" if one.unit == "engine_time" else ""
    figures = {name: f"{getattr(one, name) / size:,.10g} {unit}".rstrip() for name in ("amount", "used", "takes")}
    return {"limit": one.limit, "rule": one.rule, "passed": one.passed, **figures}


PAGES: tuple[Page, ...] = (
    Page(path="/try", permission=Permission.VIEWER, handler=try_out, title="Try a request", place=("Access", 30)),
)
