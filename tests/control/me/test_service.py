"""Key holders' questions as the control process takes them: each answered once, bounded, and beside everything else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.looking import NobodyLooks, Place
from slmgate.control.me import service
from slmgate.control.me.service import KEPT_SECONDS, LINE_SECONDS, SelfService
from slmgate.link.messages import Mine, MineTold
from slmgate.stores.records import LedgerUnavailable
from tests.control.me.test_answers import Scene, digest


class Desk:
    """The service over a real store, and what it replied. It is its own `Sources`."""

    def __init__(self, home: Path) -> None:
        self.scene = Scene(home)
        self.store, self.keyring = self.scene.store, self.scene.keyring
        self.config = self.scene.config
        self.now = 0.0
        self.looks = 0
        self.told: dict[int, MineTold] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.service = SelfService(self, self._beside, lambda: self.now)
        self.number = 0

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def look(self, places: Sequence[Place]) -> Sequence[tuple[int, int]]:
        self.looks += 1
        return [(7, spec.amount) for spec, _ in places]

    def ask(self, what: Any, secret: str | None = None, key: str | None = None, body: bytes = b"") -> int:
        self.number += 1
        shown = digest(secret or self.scene.secret)
        question = Mine(self.number, key or self.scene.ann.id, shown, what, body, "192.0.2.7")
        self.service.ask(question, self._reply)
        return self.number

    def _reply(self, told: MineTold) -> None:
        assert told.number not in self.told, "answered twice"
        self.told[told.number] = told

    async def settled(self) -> None:
        await asyncio.gather(*self.tasks)

    async def answer(self, what: Any, **given: Any) -> dict[str, Any]:
        number = self.ask(what, **given)
        await self.settled()
        assert self.told[number].refuse is None
        found: dict[str, Any] = json.loads(self.told[number].body)
        return found

    async def no(self, what: Any, **given: Any) -> str:
        number = self.ask(what, **given)
        await self.settled()
        refuse = self.told[number].refuse
        assert refuse is not None and self.told[number].body == b""
        return refuse.code


def on(home: Path, scene: Callable[[Desk], Awaitable[None]]) -> None:
    async def run() -> None:
        desk = Desk(home)
        try:
            await scene(desk)
        finally:
            desk.store.close()
        assert repr(desk.service) == "<SelfService: 0 under way>"

    asyncio.run(run())


def test_each_question(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        assert (await desk.answer("key"))["name"] == "ann"
        assert (await desk.answer("usage"))["month"]["requests"] == 0
        assert {one["left"] for one in (await desk.answer("limits"))["limits"]} == {None, 53}
        assert (await desk.answer("statement"))["plan"]["name"] == "gold"
        made = await desk.answer("rotate", body=b'{"overlap":"1h"}')
        assert (await desk.answer("key", secret=made["secret"]))["rotates"] is False  # just made
        assert made["secret"] not in repr(desk.told)

    on(tmp_path, scene)


def test_forged_questions(tmp_path: Path) -> None:
    """A worker is believed about nothing but what was shown."""

    async def scene(desk: Desk) -> None:
        for key in (desk.scene.bob.id, desk.scene.eve.id, desk.scene.past.id, "declared:main", "ann", ""):
            for what in ("key", "usage", "limits", "statement", "rotate"):
                assert await desk.no(what, key=key or "nobody") == "invalid_api_key"
        assert desk.looks == 0

    on(tmp_path, scene)


def test_an_answer_is_told_again_for_a_moment(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        await desk.answer("limits")
        await desk.answer("limits")
        assert desk.looks == 1
        desk.now += KEPT_SECONDS
        await desk.answer("limits")
        assert desk.looks == 2
        desk.config = desk.scene.configured(team="true")  # another configuration is in force
        assert {one["left"] for one in (await desk.answer("limits"))["limits"]} == {None, 53, 193}

    on(tmp_path, scene)


def test_what_is_kept_is_its_holders_own(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        assert (await desk.answer("key"))["name"] == "ann"
        assert (await desk.answer("key", key=desk.scene.bob.id, secret=desk.scene.bobs))["name"] == "bob"
        desk.scene.keyring.disable("ann")
        assert await desk.no("key") == "invalid_api_key"  # though the answer is kept

    on(tmp_path, scene)


@pytest.mark.parametrize("most", [0, 1, 2])
def test_what_is_kept_is_bounded(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_KEPT", most)

    async def scene(desk: Desk) -> None:
        for what in ("key", "usage", "statement"):
            await desk.answer(what)
        assert len(desk.service._kept) == most
        desk.now += KEPT_SECONDS
        await desk.answer("limits")
        assert len(desk.service._kept) <= max(most, 0)

    on(tmp_path, scene)


def test_one_at_a_time(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        first, second = desk.ask("key"), desk.ask("usage")
        assert (refuse := desk.told[second].refuse) is not None and refuse.code == "rate_limit_exceeded"
        other = desk.ask("key", key=desk.scene.bob.id, secret=desk.scene.bobs)
        await desk.settled()
        assert b'"ann"' in desk.told[first].body and b'"bob"' in desk.told[other].body

    on(tmp_path, scene)


def test_all_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_UNDER_WAY", 1)

    async def scene(desk: Desk) -> None:
        desk.ask("key")
        second = desk.ask("key", key="another")
        assert (refuse := desk.told[second].refuse) is not None and refuse.code == "overloaded"
        await desk.settled()

    on(tmp_path, scene)


def test_who_has_waited_too_long_gets_no_new_secret(tmp_path: Path) -> None:
    """The store is slow: whoever asked has been told so already, and a secret made now would be nobody's."""

    async def scene(desk: Desk) -> None:
        goes_on, usual = threading.Event(), desk.store.key

        def slow(key: str) -> Any:
            goes_on.wait(10)
            return usual(key)

        desk.store.key = slow  # type: ignore[method-assign]  # a store that fails or is slow
        for number in range(service.AT_ONCE):
            desk.ask("key", key=f"k{number}")
        await asyncio.sleep(0)
        late = desk.ask("rotate")
        await asyncio.sleep(0)
        desk.now += LINE_SECONDS + 0.1
        goes_on.set()
        await desk.settled()
        assert (refuse := desk.told[late].refuse) is not None and refuse.code == "overloaded"
        record = usual(desk.scene.ann.id)
        assert record is not None and len(record.secrets) == 1

    on(tmp_path, scene)


@pytest.mark.parametrize("error", [LedgerUnavailable("away"), NobodyLooks("nobody"), RuntimeError("ours")])
def test_what_fails_costs_one_question(error: Exception, tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        usual = desk.store.key

        def fails(key: str) -> Any:
            raise error

        desk.store.key = fails  # type: ignore[method-assign]  # a store that fails or is slow
        assert await desk.no("key") == "overloaded"
        desk.store.key = usual  # type: ignore[method-assign]  # a store that fails or is slow
        assert (await desk.answer("key"))["name"] == "ann"

    on(tmp_path, scene)


def test_no_configuration_is_in_force(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.config = None  # type: ignore[assignment]  # before the first
        assert await desk.no("usage") == "overloaded"

    on(tmp_path, scene)


def test_a_declared_key_is_answered_too(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        secret = "sk-declared-0123456789abcdef"
        assert hashlib.sha256(secret.encode()).digest() == digest(secret)
        assert (await desk.answer("usage", key="declared:main", secret=secret))["models"] == []
        assert await desk.no("rotate", key="declared:main", secret=secret) == "permission_denied"

    on(tmp_path, scene)
