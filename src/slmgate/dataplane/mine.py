"""What holders of keys ask about themselves (`/me`): the page, and questions that go to control and come back answered.

A worker looks at no store: it asks question 1 as of every request, and sends on what is asked under the key that it found. One
question of a key is under way at a time, so many a second, all of them bounded in number and in time; nobody else waits for
them. None is a request for a model: they leave no receipt and take of no limit, but an address's requests are counted, and
wrong credentials, as everywhere (`guard.py`). It knows no figure and no dialect but through the exchange's own refusal.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slmgate.link.messages import Mine, MineTold
from slmgate.link.questions import AWAY, PAGE, QUESTIONS
from slmgate.policy.identify import MISSING, Unverified, credential, identify
from slmgate.terms import Refuse

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.link.channel import LinkClient

MAX_BODY = 1024
MAX_ASKED = 256
"""Questions of a worker that wait for control at once."""
A_SECOND = 10
"""Questions of one key that are sent on in a second."""
SECONDS = {"rotate": 10.0}
"""How long an answer is waited for, where it may take longer than `USUAL_SECONDS`: a new secret is on all workers first."""
USUAL_SECONDS = 3.0

_FILES = Path(__file__).parent / "pages"
_KINDS = {".html": b"text/html; charset=utf-8", ".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8"}
_PAGES = {PAGE: "me.html", f"{PAGE}/me.css": "me.css", f"{PAGE}/me.js": "me.js"}
_SAFE = (
    # its own two files and its own questions, and nothing else (W3C CSP 3)
    b"content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    b"x-content-type-options: nosniff\r\nx-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n"
    b"cross-origin-opener-policy: same-origin\r\n"
)
_NO_CACHE = b"cache-control: no-cache\r\n"
_NO_STORE = b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"

ONLY_KEYS = Refuse("invalid_api_key", "Only the holder of an API key is answered here. Send it as 'Authorization: Bearer <key>'.")
_TOO_LONG = Refuse("request_too_large", f"The body of this request may have {MAX_BODY} bytes at the most.")
_BUSY = Refuse(
    "rate_limit_exceeded", "This key asks about itself too often, or twice at once. Try again in a second.", retry_after=1
)


def is_mine(path: str) -> bool:
    """Whether a path is of those that are answered here."""
    return path == PAGE or path.startswith(PAGE + "/")


def answer_holder(exchange: Exchange, method: str) -> None:
    """Answer a request for such a path, or let it go on to its body. `method`: as asked, GET for HEAD."""
    worker, path = exchange.worker, exchange.head.path
    exchange.recorded = False
    worker.tally.mine += 1
    question = QUESTIONS.get(path)
    wanted = "GET" if question is None else question[0]
    allow = b"allow: %b, OPTIONS\r\n" % (b"GET, HEAD" if wanted == "GET" else b"POST")
    if question is None and path not in _PAGES:
        exchange.refuse(Refuse("not_found", "There is nothing at this path."), _NO_STORE)
    elif method == "OPTIONS":
        exchange.answer_self(204, b"", allow)
    elif method != wanted:
        exchange.refuse(Refuse("method_not_allowed", f"{path} takes {wanted}, not {method}."), allow)
    elif question is None:
        body, kind = page(path)
        exchange.answer_self(200, body, _SAFE + _NO_CACHE, content_type=kind)
    else:
        _ask_who(exchange)


def _ask_who(exchange: Exchange) -> None:
    """Question 1, of which only a key is an answer here: a token or a certificate is nobody's that could be looked up."""
    worker = exchange.worker
    row = identify(worker.snapshot, exchange.head.fields, exchange.started + worker.wall_offset)
    if isinstance(row, tuple) and row[0].kind == "key":
        exchange.told_who(row)
    elif isinstance(row, Refuse):
        exchange.refuse(row, _NO_STORE)
    else:
        showed_nothing = not isinstance(row, Unverified) and row[0].kind == "anonymous"
        exchange.refuse(MISSING if showed_nothing else ONLY_KEYS, _NO_STORE)


@cache
def page(path: str) -> tuple[bytes, bytes]:
    """The body and content type of the page, or of a file of it."""
    file = _FILES / _PAGES[path]
    return file.read_bytes(), _KINDS[file.suffix]


class Asked(NamedTuple):
    """A question that control has."""

    exchange: Exchange
    key: str
    until: float


class Holders:
    """What the questions of one worker share. `report` tells the operator of a fault that is being handled."""

    def __init__(self, link: LinkClient, report: Callable[[], None]) -> None:
        self._link = link
        self._report = report
        self._number = 0
        self._asked: dict[int, Asked] = {}
        self._keys: set[str] = set()  # those with a question under way
        self._lately: dict[str, int] = {}  # key -> questions sent on in this second
        self._second = 0

    def __repr__(self) -> str:
        return f"<Holders: {len(self._asked)} asked>"

    def ask(self, exchange: Exchange, body: bytes) -> None:
        """Send on what is asked; its head and body are here, and whose it is is known."""
        principal = exchange.principal
        assert principal is not None
        key, lately = principal.id, self._lately.get(principal.id, 0)
        secret = credential(exchange.head.fields)
        if isinstance(secret, Refuse):
            exchange.refuse(secret, _NO_STORE)
        elif principal.kind != "key":  # it was a key's when the head came, and is looked for anew when the body took its time
            exchange.refuse(ONLY_KEYS, _NO_STORE)
        elif len(body) > MAX_BODY:
            exchange.refuse(_TOO_LONG, _NO_STORE)
        elif key in self._keys or lately >= A_SECOND:
            exchange.refuse(_BUSY, _NO_STORE)
        elif len(self._asked) >= MAX_ASKED or not self._link.connected:
            exchange.refuse(AWAY, _NO_STORE)
        else:
            what = QUESTIONS[exchange.head.path][1]
            self._number += 1
            self._keys.add(key)
            self._lately[key] = lately + 1
            self._asked[self._number] = Asked(exchange, key, time.monotonic() + SECONDS.get(what, USUAL_SECONDS))
            self._link.send(Mine(self._number, key, sha256(secret).digest(), what, body, exchange.client.address))

    def told(self, told: MineTold) -> None:
        """Control's answer."""
        asked = self._asked.pop(told.number, None)
        if asked is None:
            return  # it came too late
        self._keys.discard(asked.key)
        self._answer(asked.exchange, told.body, told.refuse)

    def sweep(self, now: float) -> None:
        """Called each tick; `now` is monotonic."""
        if int(now) != self._second:
            self._second = int(now)
            self._lately.clear()
        for number, asked in list(self._asked.items()):
            if now >= asked.until:
                del self._asked[number]
                self._keys.discard(asked.key)
                self._answer(asked.exchange, b"", AWAY)

    def _answer(self, exchange: Exchange, body: bytes, refuse: Refuse | None) -> None:
        if exchange.done:
            return  # its client has left
        try:
            if refuse is None:
                exchange.answer_self(200, body, _NO_STORE)
            else:
                exchange.refuse(refuse, _NO_STORE)
        except Exception:  # noqa: BLE001  # a fault of our own costs this question; the link and the tick go on
            self._report()
            exchange.gate_failed()
