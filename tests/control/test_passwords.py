"""Passwords: which will do, and a check that is the same work for nobody as for somebody."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.low_level import Type

from slmgate.control.passwords import MAX_LENGTH, MAX_WAITING, MIN_LENGTH, BadPassword, Busy, Passwords, check_new
from tests.tools.admin_gate import CHEAP

WORDS = "correct horse battery"


def test_a_hash_is_of_its_password_alone() -> None:
    passwords = Passwords(CHEAP)
    encoded = passwords.hash(WORDS)
    assert encoded != passwords.hash(WORDS)
    assert WORDS not in encoded
    assert passwords.is_right(WORDS, encoded)
    for wrong in ("", WORDS + " ", WORDS.upper(), WORDS[:-1], "x" * (MAX_LENGTH + 1)):
        assert not passwords.is_right(wrong, encoded)
    assert not passwords.is_right(WORDS, "no hash")


def test_forms_that_look_alike_are_one() -> None:
    passwords = Passwords(CHEAP)
    assert passwords.is_right("u\u0308ber alle Berge", passwords.hash("\u00fcber alle Berge"))


def test_nobody_is_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords(CHEAP)
    seen: list[str] = []
    verify = PasswordHasher.verify

    def watched(self: PasswordHasher, encoded: str, word: str) -> bool:
        seen.append(encoded)
        return verify(self, encoded, word)

    monkeypatch.setattr(PasswordHasher, "verify", watched)
    encoded = passwords.hash(WORDS)
    assert not passwords.is_right(WORDS, None)
    assert passwords.is_right(WORDS, encoded)
    assert not passwords.is_right("x" * (MAX_LENGTH + 1), None)
    assert len(seen) == 3
    assert len({each.rpartition("$")[0].rpartition("$")[0] for each in seen}) == 1  # the same parameters


def test_the_parameters_are_those_of_rfc_9106() -> None:
    hasher = Passwords()._hasher
    assert (hasher.type, hasher.memory_cost, hasher.time_cost, hasher.parallelism) == (Type.ID, 65536, 3, 4)


def test_old_parameters_are_told() -> None:
    passwords = Passwords(CHEAP)
    assert not passwords.is_dated(passwords.hash(WORDS))
    assert passwords.is_dated(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash(WORDS))


def test_only_so_many_wait() -> None:
    passwords = Passwords(CHEAP)
    encoded, gate = passwords.hash(WORDS), threading.Event()
    running: list[int] = []

    def slow(*_: Any) -> bool:
        running.append(1)
        gate.wait(10)
        return True

    async def crowd() -> None:
        passwords.is_right = slow  # type: ignore[method-assign,assignment]  # stands for the work
        tasks = [asyncio.create_task(passwords.check(WORDS, encoded)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await passwords.check(WORDS, encoded)
        gate.set()
        assert await asyncio.gather(*tasks) == [True] * MAX_WAITING
        assert await passwords.check(WORDS, encoded)

    asyncio.run(crowd())
    assert len(running) == MAX_WAITING + 1


@pytest.mark.parametrize("password", ["a1b2" * 3, WORDS, "ü" * 4 + "abcdefgh", "x" * (MAX_LENGTH - 4) + "abcd", "    a b c d  "])
def test_passwords_that_will_do(password: str) -> None:
    check_new(password, "ann")


@pytest.mark.parametrize(
    "password",
    [
        "", "short", "abcdefghijk"[: MIN_LENGTH - 1], "x" * (MAX_LENGTH + 1), "aaaaaaaaaaaaaaa", "abcabcabcabcabc",
        "line\nline\nline",
        "nul\x00nul\x00nul!", "annabelle.jones", "ANNABELLE.JONESPassword", "half a \ud800 pair",
    ],
)  # fmt: skip
def test_passwords_that_will_not(password: str) -> None:
    with pytest.raises(BadPassword) as raised:
        check_new(password, "annabelle.jones")
    assert not password or password not in str(raised.value)
