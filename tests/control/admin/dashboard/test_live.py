"""The page of requests under way with none, one and a thousand of them; and one cancelled, by who may."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from slmgate.control import live as live_module
from slmgate.control.admin import handlers
from slmgate.control.admin.context import GateStatus, ModelStatus
from slmgate.control.admin.dashboard import live as module
from slmgate.control.admin.dashboard.asking import Ask, Go, View, Wrong
from slmgate.control.admin.dashboard.routes import PAGES
from slmgate.control.admin.dashboard.shell import render
from slmgate.control.operators import Operator, Permission
from slmgate.link.messages import LiveRequest
from slmgate.stores.records import Batch
from slmgate.terms import Receipt
from tests.control.test_live import FakePeer
from tests.tools.admin_gate import AdminGate
from tests.tools.page_ask import ask, complaints

T = TypeVar("T")
EVIL = "<script>alert(1)</script>\u202e"


@pytest.fixture(autouse=True)
def _unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "pack", lambda message: message)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[AdminGate]:
    made = AdminGate(tmp_path)
    yield made
    made.store.close()


def ran(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def row(number: int = 1, **fields: Any) -> LiveRequest:
    told: dict[str, Any] = {
        "id": f"{7:012x}{number:08x}",
        "request_id": f"r{number}",
        "since": time.time() - 5,
        "state": "waiting",
    }
    return LiveRequest(**told | fields)


def peer(gate: AdminGate, *rows: LiveRequest) -> FakePeer:
    assert gate.live is not None
    return FakePeer(gate.live, 7, rows)


def page(gate: AdminGate, path: str = "/live", **more: Any) -> tuple[str, View]:
    """The list as HTML, and what it was made from."""
    asked = ask(path, context=gate, **more)
    view = ran(module.live(asked))
    html = render(view, asked, next(each for each in PAGES if each.path == "/live"), PAGES).decode()
    assert complaints(html) == []
    return html, view


def test_nothing_is_under_way(gate: AdminGate) -> None:
    html, view = page(gate)
    assert "No request is under way" in html
    assert view.values["found"].total == 0
    assert view.refresh == module.REFRESH
    html, _ = page(gate, query={"client": "nobody"})
    assert "No request under way is like that" in html


def test_one(gate: AdminGate) -> None:
    peer(gate, row(client="bot", model="a/b", instance="a/b/c", state="streaming", tokens=1234, stream=True))
    html, view = page(gate)
    assert "1,234" in html
    assert 'href="/clients/bot"' in html and 'href="/models/a~1b"' in html
    assert f'href="/live/{7:012x}00000001/cancel"' in html
    assert view.tables[0].total == 1


def test_what_was_lately(gate: AdminGate) -> None:
    """Beside the list: clients and models with what they did in the last minute or two, the busiest of them."""
    told: dict[str, Any] = {"method": "POST", "path": "/v1/chat/completions", "status": 200, "verdict": "admit", "reason": ""}
    told |= {"ended": "complete", "model": "smollm2", "attempts": 1, "first_byte_us": 2_000_000, "total_us": 3_000_000}
    many = [
        Receipt(id=f"r{number}", request_id=f"r{number}", time=datetime.now(UTC), principal=f"bot-{number:02}", **told)
        for number in range(25)
    ]
    gate.store.write(Batch(receipts=many))
    peer(gate, row(client="bot", model="smollm2"))
    html, view = page(gate)
    assert view.values["clients"] == 1
    assert "And 6 more." in html and "bot-18" in html and "bot-19" not in html
    assert " / " in html
    gate.now = GateStatus(models=[ModelStatus(name=f"m{number:02}", ready=False) for number in range(22)])
    html, _ = page(gate)
    assert "And 2 more." in html and "m20" not in html
    gate.now = GateStatus()
    html, _ = page(gate)
    assert "No models yet" in html


def test_who_may_only_look(gate: AdminGate) -> None:
    peer(gate, row(client="bot"))
    html, _ = page(gate, caller=Operator("user:vera", Permission.VIEWER))
    assert "/cancel" not in html and "bot" in html


def test_what_is_not_known_yet_and_where_it_stands(gate: AdminGate) -> None:
    peer(gate, row(state="reading"), row(2, state="queued", position=3, client="bot", model="m"))
    html, _ = page(gate)
    assert "queued, no.\u00a03" in html
    assert "Cancel the request of somebody at no model yet" in html


def test_names_are_text(gate: AdminGate) -> None:
    peer(gate, row(client=EVIL, model=EVIL, instance=EVIL, address=EVIL, request_id=EVIL))
    html, _ = page(gate, query={"client": EVIL, "state": EVIL})
    assert "<script>alert" not in html
    html, _ = page(gate)
    assert "<script>alert" not in html and "&lt;script&gt;" in html


def test_a_thousand_and_more(gate: AdminGate) -> None:
    """The page shows the oldest, and says so; CSV has as many as there may be."""
    peer(gate, *[row(number, client="bot", model="m") for number in range(1, 1201)])
    html, view = page(gate)
    assert len(view.tables[0].rows) == module.SHOWN
    assert "These are the oldest 200 of 1,200." in html
    asked = ask("/live", {"csv": "table"}, context=gate)
    table = ran(module.live(asked)).tables[0]
    lines = table.csv().decode().splitlines()
    assert len(lines) == 1001
    assert lines[0].startswith("seconds,client,model,state,tokens,instance,endpoint,worker,id,request_id,since,address")


def test_it_asks_for_what_is_meant(gate: AdminGate) -> None:
    asked = peer(gate).asked
    page(gate, query={"client": " bot ", "model": "m", "instance": "i", "state": "queued"})
    assert (asked[0].which.client, asked[0].which.model, asked[0].which.instance) == ("bot", "m", "i")
    assert (asked[0].which.state, asked[0].most) == ("queued", module.SHOWN)
    page(gate, query={"state": "asleep"})
    assert asked[1].which.state == ""


def test_a_worker_that_does_not_answer(gate: AdminGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "SECONDS", 0.001)
    peer(gate, row()).parts = 0
    html, _ = page(gate)
    assert "1 worker did not answer: its requests are missing here." in html


# --- one is cancelled


def about(gate: AdminGate, id: str, **more: Any) -> Ask:
    return ask(f"/live/{id}/cancel", names={"id": id}, context=gate, **more)


def test_the_question_and_the_answer(gate: AdminGate) -> None:
    one = row(client="bot", model="m", instance="m/a", state="queued", position=2, stream=True)
    has_it = peer(gate, one)
    asked = about(gate, one.id)
    view = ran(module.confirm(asked))
    assert isinstance(view, View)
    html = render(view, asked, next(each for each in PAGES if each.handler == module.confirm), PAGES).decode()
    assert complaints(html) == []
    assert f'action="/live/{one.id}/cancel"' in html and asked.token in html
    assert "no. 2 in line" in html and "0 tokens so far" in html and "its client's" in html
    assert [message.look for message in has_it.asked] == [True]  # nothing was done yet
    assert ran(module.cancel(asked)) == Go("/live", "cancelled")
    (noted,) = gate.store.audit(10)
    assert (noted.actor, noted.action, noted.target) == ("user:olga", "cancel", one.id)
    assert set(module.SAID) >= {"cancelled", "over"}


def test_who_came_with_a_key_has_no_form(gate: AdminGate) -> None:
    one = row()
    peer(gate, one)
    asked = about(gate, one.id, token="")
    view = ran(module.confirm(asked))
    assert isinstance(view, View)
    html = render(view, asked, next(each for each in PAGES if each.handler == module.confirm), PAGES).decode()
    assert f"/api/v1/live/{one.id}/cancel" in html and "Cancel this request" not in html


def test_one_that_is_over(gate: AdminGate) -> None:
    peer(gate)
    asked = about(gate, f"{7:012x}00000099")
    assert ran(module.confirm(asked)) == ran(module.cancel(asked)) == Go("/live", "over")
    unknown = about(gate, "nobody's")
    with pytest.raises(handlers.Unknown, match="no such request"):
        ran(module.confirm(unknown))
    with pytest.raises(Wrong, match="There is no request") as wrong:
        ran(module.cancel(unknown))
    assert wrong.value.status == 404
    assert gate.store.audit(10) == []
