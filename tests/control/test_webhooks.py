"""Webhooks: signed, sent until they arrive, the same each time, and to nowhere that only this machine should reach."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from datetime import timedelta

import httpx
import pytest

from slmgate.control.config import load_text
from slmgate.control.webhooks import AT_ONCE, GIVEN_UP, Webhooks, signature
from slmgate.stores.billing import NoticeRecord
from slmgate.stores.records import LedgerUnavailable
from slmgate.stores.sql import SqlStore
from tests.control.test_notices import CONFIG, NOW, Gate, Receiver, store

__all__ = ["store"]  # a fixture


def test_a_signature_is_of_its_time_and_body() -> None:
    assert signature("s", b"{}", 1) == "t=1,v1=" + hmac.new(b"s", b"1.{}", hashlib.sha256).hexdigest()
    assert len({signature("s", b"{}", 1)[-64:], signature("s", b"{}", 2)[-64:], signature("t", b"{}", 1)[-64:]}) == 3


@pytest.mark.parametrize("status", [0, 301, 400, 404, 410, 500, 503])
def test_what_fails_is_sent_again_and_the_same(store: SqlStore, status: int) -> None:
    gate = Gate(store, Receiver(status, status))
    gate.use(800)
    assert len(gate.turn()) == 1
    assert len(gate.turn(4)) == 1
    gate.start()
    assert len(gate.turn(1)) == 2
    assert len(gate.turn(9)) == 2
    assert len(gate.turn(1)) == 3
    assert len(gate.turn(100_000)) == 3
    assert len({request.content for request in gate.receiver.got}) == 1
    assert len({request.headers["slmgate-signature"] for request in gate.receiver.got}) == 3
    (record,) = store.billing.notices(9)
    assert (record.attempts, record.retry) == (3, None)
    assert record.delivered == NOW + timedelta(seconds=15)


def test_it_is_given_up_after_a_day(store: SqlStore) -> None:
    gate = Gate(store, Receiver(*[500] * 1000))
    gate.use(800)
    for _ in range(30 * 12):
        gate.turn(300)
    assert 24 < len(gate.receiver.got) < 60
    (record,) = store.billing.notices(9)
    assert (record.retry, record.delivered) == (None, None)
    assert gate.now > NOW + GIVEN_UP
    assert len(gate.receiver.got) == record.attempts


def test_a_plan_that_lost_its_webhook(store: SqlStore) -> None:
    gate = Gate(store, Receiver(500))
    gate.use(800)
    gate.turn()
    gate.config = load_text(CONFIG.partition("plans:")[0]).unwrap()
    assert len(gate.turn(10)) == 1
    gate.config = load_text(CONFIG % "1000 tokens/month").unwrap()
    assert len(gate.turn(20)) == 2


def test_no_address_that_only_this_machine_should_reach(store: SqlStore, caplog: pytest.LogCaptureFixture) -> None:
    """The address is checked after its name is resolved, as for identity providers; nothing is sent to a cloud's metadata."""
    gate = Gate(store, Receiver())
    gate.config = load_text((CONFIG % "1000 tokens/month").replace("billing.example.com", "169.254.169.254")).unwrap()
    gate.webhooks = Webhooks(store.billing, lambda: gate.config, lambda: gate.now)
    gate.use(800)
    gate.turn()
    (record,) = store.billing.notices(9)
    assert (record.attempts, record.delivered) == (1, None)
    assert "which slmgate does not ask" in caplog.text


def test_each_goes_to_the_webhook_that_it_names(store: SqlStore) -> None:
    receiver = Receiver()
    hooks = "".join(f"  {name}: {{url: 'https://{name}.example.com/', secret: secret-of-{name}-long}}\n" for name in ("a", "b"))
    config = load_text(CONFIG.partition("plans:")[0] + "notifications:\n" + hooks).unwrap()
    webhooks = Webhooks(store.billing, lambda: config, lambda: NOW, httpx.MockTransport(receiver))
    for name in ("a", "b", "gone"):
        record = NoticeRecord(
            id=name, team="", plan="", payload=b"{}", created=NOW, retry=NOW, webhook=name, subject="x", type="y"
        )
        assert store.billing.add_notice(record)
    asyncio.run(webhooks.deliver())
    sent = {str(request.url): request.headers["slmgate-signature"] for request in receiver.got}
    expected = {f"https://{name}.example.com/": signature(f"secret-of-{name}-long", b"{}", int(NOW.timestamp())) for name in "ab"}
    assert sent == expected
    by_name = {record.webhook: record for record in store.billing.notices(9)}
    assert by_name["gone"].delivered is None and by_name["gone"].attempts == 1
    assert by_name["a"].delivered == by_name["b"].delivered == NOW


def test_who_does_not_answer_keeps_nobody_waiting(store: SqlStore) -> None:
    """However much there is for it, and however old that is: it is asked once in a round, and the others are told."""
    asked: list[str] = []

    def receive(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "gone.example.com":
            raise httpx.ConnectTimeout("silent")
        return httpx.Response(500 if request.url.host == "ill.example.com" else 204)

    hooks = "".join(
        f"  {name}: {{url: 'https://{name}.example.com/', secret: long-enough-a-secret}}\n" for name in ("gone", "ill", "well")
    )
    config = load_text(CONFIG.partition("plans:")[0] + "notifications:\n" + hooks).unwrap()
    webhooks = Webhooks(store.billing, lambda: config, lambda: NOW, httpx.MockTransport(receive))
    for number in range(3 * AT_ONCE):
        for age, name in enumerate(("well", "ill", "gone")):
            at = NOW - timedelta(seconds=age)
            id = f"{name}-{number}"
            store.billing.add_notice(
                NoticeRecord(id=id, team="", plan="", payload=b"{}", created=at, retry=at, webhook=name, subject=id, type="y")
            )
    asyncio.run(webhooks.deliver())
    assert {name: asked.count(f"{name}.example.com") for name in ("gone", "ill", "well")} == {
        "gone": AT_ONCE, "ill": 3 * AT_ONCE, "well": 3 * AT_ONCE,
    }  # fmt: skip
    asyncio.run(webhooks.deliver())
    assert asked.count("gone.example.com") == 2 * AT_ONCE


def test_a_store_that_cannot_be_written_has_nobody_told_again(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: what is to be sent can be read, and what became of it cannot be kept."""
    gate = Gate(store, Receiver(500))
    gate.use(800)
    gate.turn()
    assert len(gate.receiver.got) == 1

    def full(*_: object) -> None:
        raise LedgerUnavailable("database or disk is full")

    billing = store.billing
    with monkeypatch.context() as disk:
        disk.setattr(type(billing), "save_notice", full)
        for _ in range(20):
            with pytest.raises(LedgerUnavailable, match="full"):
                gate.turn(5)
    assert [request.content for request in gate.receiver.got] == [gate.receiver.got[0].content] * 2
    assert len(gate.turn(5)) == 2
    (record,) = billing.notices(9)
    assert (record.attempts, record.retry, record.delivered) == (2, None, NOW + timedelta(seconds=5))


def test_who_makes_us_fail_stops_nobody_elses_notice(store: SqlStore, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    async def receive(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "odd.example.com":
            raise RuntimeError("what nobody thought of")
        await asyncio.sleep(0)
        return httpx.Response(204)

    hooks = "".join(
        f"  {name}: {{url: 'https://{name}.example.com/', secret: long-enough-a-secret}}\n" for name in ("odd", "well")
    )
    config = load_text(CONFIG.partition("plans:")[0] + "notifications:\n" + hooks).unwrap()
    webhooks = Webhooks(store.billing, lambda: config, lambda: NOW, httpx.MockTransport(receive))
    for name in ("odd", "well"):
        store.billing.add_notice(
            NoticeRecord(id=name, team="", plan="", payload=b"{}", created=NOW, retry=NOW, webhook=name, subject="x", type="y")
        )
    asyncio.run(webhooks.deliver())
    asyncio.run(webhooks.deliver())
    assert sorted(asked) == ["odd.example.com", "well.example.com"]
    by_name = {record.webhook: record for record in store.billing.notices(9)}
    assert by_name["well"].delivered == NOW
    assert (by_name["odd"].attempts, by_name["odd"].delivered) == (1, None)
    assert "what nobody thought of" in caplog.text
