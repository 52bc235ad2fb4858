"""OpenSSL behind Python's contexts: reached where it is where this module looks, and let alone where it is not.

What tickets and groups come to in handshakes is in test_tls.py.
"""

from __future__ import annotations

import builtins
import ctypes
import ssl
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from slmgate.dataplane import openssl as module
from slmgate.dataplane.openssl import can_reach, keep_no_sessions, set_groups, set_ticket_key, take_certificates_of


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    can_reach.cache_clear()
    module._library.cache_clear()
    yield
    can_reach.cache_clear()
    module._library.cache_clear()


def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def touched() -> list[bool]:
    return [
        set_groups(context()),
        set_ticket_key(context(), bytes(80)),
        keep_no_sessions(context()),
        take_certificates_of(context(), 1),
    ]


def test_it_is_reached() -> None:
    assert can_reach()
    assert touched() == [True] * 4
    assert not set_ticket_key(context(), bytes(48)), "a key of another length is none"


def test_another_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sys", SimpleNamespace(implementation=SimpleNamespace(name="pypy")))
    assert touched() == [False] * 4


def test_a_library_without_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert touched() == [False] * 4


def test_openssl_inside_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "_ssl", SimpleNamespace())
    assert touched() == [False] * 4


@pytest.mark.parametrize("address", [0, 4, 8, 1 << 46])
def test_something_else_stands_there(monkeypatch: pytest.MonkeyPatch, address: int) -> None:
    """No memory, or none that is a context: nothing there is called."""
    monkeypatch.setattr(module, "_address", lambda _: address)
    assert touched() == [False] * 4


def test_memory_that_is_not_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        start = next(int(line.split("-")[0], 16) for line in maps if " r--p " in line)
    assert not module._is_mapped(start)
    monkeypatch.setattr(module, "_address", lambda _: start)
    assert not can_reach()


@pytest.mark.parametrize("text", [None, "no line of maps\n"])
def test_no_map_of_memory(monkeypatch: pytest.MonkeyPatch, text: str | None, tmp_path: Any) -> None:
    real = builtins.open
    strange = tmp_path / "maps"
    if text is not None:
        strange.write_text(text)
    monkeypatch.setattr(builtins, "open", lambda path, *a, **b: real(strange if path == "/proc/self/maps" else path, *a, **b))
    assert not can_reach()
