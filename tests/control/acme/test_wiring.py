"""An order in its thread, with what it presents brought to the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from slmgate.control.acme import issuing
from slmgate.control.acme.issuing import Answer, NotIssued
from slmgate.control.acme.service import Failed, Order
from slmgate.control.acme.wiring import Orders
from slmgate.control.config.acme_options import Acme

ORDER = Order(Acme(domains=("a.example.com",)), "a.example.com", "http-01", None, lambda _: None)


class FakePresenter:
    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], dict[str, bytes]]] = []

    async def present(self, tokens: dict[str, str], certificates: dict[str, bytes]) -> bool:
        self.told.append((tokens, certificates))
        return True


class FakeIssuing:
    """Presents one answer of each kind, then does what the test says."""

    error: NotIssued | None = None

    def __init__(self, options: Acme, present: Any, wait: Any) -> None:
        self._present, self._wait = present, wait

    def issue(self, domain: str, challenge: str, account: object, keep: object) -> issuing.Issued:
        for answer in (Answer(domain, token="t", text="t.x"), Answer(domain, pem=b"pem"), None):
            self._present(answer)
        assert not self._wait(0)
        if self.error is not None:
            raise self.error
        return issuing.Issued(b"certificate", None)  # type: ignore[arg-type]  # nobody looks at the account


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuing, "Issuing", FakeIssuing)


def carried_out(presenter: FakePresenter, *, closed: bool = False) -> bytes | Failed:
    async def story() -> bytes | Failed:
        orders = Orders(presenter, asyncio.get_running_loop())  # type: ignore[arg-type]  # stands for a presenter
        if closed:
            orders.close()
        return await asyncio.to_thread(orders.issue, ORDER)

    return asyncio.run(story())


def test_a_certificate() -> None:
    presenter = FakePresenter()
    assert carried_out(presenter) == b"certificate"
    assert presenter.told == [({"t": "t.x"}, {}), ({}, {"a.example.com": b"pem"}), ({}, {})]


def test_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeIssuing, "error", NotIssued("no", "away", 5.0))
    assert carried_out(FakePresenter()) == Failed("away", "no", 5.0)


def test_a_gate_that_ends_presents_nothing_more() -> None:
    presenter = FakePresenter()
    with pytest.raises(AssertionError):  # what waits is told that it is time to give up
        carried_out(presenter, closed=True)
    assert presenter.told == []
