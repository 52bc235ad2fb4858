"""The overview: with traffic, with none, and what it says needs attention."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from slmgate.control.acme.status import CertificateStatus
from slmgate.control.admin.context import InstanceStatus, WorkerStatus
from slmgate.control.admin.dashboard.overview import MOST, concerns, tone_of
from slmgate.control.catalogue import Catalogue
from slmgate.control.standing import Stand
from tests.tools import page_traffic
from tests.tools.admin_gate import READY, AdminGate, asking
from tests.tools.page_ask import NOW, ask, complaints

HTML = {"accept": "text/html"}


def test_no_traffic_says_what_to_do(tmp_path: Path) -> None:
    gate = AdminGate(tmp_path)
    with asking(gate) as client:
        for query in ("", "?compare=1", "?range=30d"):
            page = client.get("/" + query, headers=HTML)
            assert page.status_code == 200
            assert complaints(page.text) == []
            assert "No request in this time" in page.text and "slmgate keys create" in page.text
    gate.store.close()


def test_traffic(tmp_path: Path) -> None:
    gate = AdminGate(tmp_path)
    page_traffic.fill(gate.store, days=2, an_hour=6)
    gate.now = page_traffic.status()
    with asking(gate) as client:
        page = client.get("/?from=2026-11-27T12:00&to=2026-11-28T12:00&compare=1", headers=HTML)
        assert page.status_code == 200
        assert complaints(page.text) == []
        assert page.text.count('<svg class="chart"') == 4
        assert "ejected for 12 s" in page.text
        csv = client.get("/?csv=instances")
        assert len(csv.text.splitlines()) == 7
    gate.store.close()


def stand(share: float) -> Stand:
    given: dict[str, Any] = dict.fromkeys(
        ("principal", "client", "team", "role", "model", "address", "whole", "raised", "raised_until")
    )
    return Stand(
        name="x",
        limit="60 requests/minute",
        whose="bot",
        unit="requests",
        currency="",
        amount=60,
        used=50,
        left=10,
        share=share,
        **given,
    )


def test_all_is_well() -> None:
    soon = CertificateStatus(
        names=["a.example"], source="acme", not_after=NOW + timedelta(days=3), next_try=NOW + timedelta(hours=1)
    )
    assert concerns(ask(status=replace(READY, certificates=[soon])), []) == []


def test_what_needs_attention() -> None:
    out = InstanceStatus(id="i1", model="tiny", healthy=False, state="ejected", why="it answered 502", again=3)
    bare = InstanceStatus(
        id="i2", model="tiny", catalogue=Catalogue(state="missing", text="it serves other", serves=("other",), count=1)
    )
    ended = CertificateStatus(names=["a.example"], source="file", state="expired")
    failing = CertificateStatus(names=["b.example"], source="acme", error="no answer")
    ending = CertificateStatus(names=["c.example"], source="file", not_after=NOW + timedelta(days=3))
    status = replace(
        READY,
        faults=["line 3: no such option"],
        notes=["a name is gone"],
        models=[replace(READY.models[0], ready=False), replace(READY.models[0], name="h", ready=False, hidden=True)],
        instances=[out, bare, replace(out, id="i3", draining=True)],
        workers=[WorkerStatus(slot=0, pid=1, ready=False, unjournaled=2)],
        certificates=[ended, failing, ending],
        ledger_lag=90.0,
    )
    found = [(each.tone, each.what, each.text) for each in concerns(ask(status=status), [stand(0.9), stand(1.2)])]
    assert found == [
        ("bad", "Configuration", "The newest was refused: line 3: no such option"),
        ("bad", "Workers", "No worker serves."),
        ("bad", "smollm2", "No instance of it takes requests."),
        ("bad", "tiny", "i1 is ejected for 3 s: it answered 502"),
        ("bad", "Certificate", "a.example has run out."),
        ("bad", "Journal", "2 requests were served without a record."),
        ("bad", "Limit", "bot: 60 requests/minute, 120 % used"),
        ("warn", "tiny", "i2 does not list its model: it serves other"),
        ("warn", "Certificate", "b.example could not be renewed: no answer"),
        ("warn", "Certificate", "c.example ends in 3 d."),
        ("warn", "Ledger", "It is 1.5 min behind what was served."),
        ("warn", "Files and names", "a name is gone"),
        ("warn", "More", "1 others; see the pages of models and of limits."),
    ]


def test_a_list_of_concerns_ends() -> None:
    found = concerns(ask(status=replace(READY, faults=["x"] * 100)), [])
    assert len(found) == MOST + 1
    assert found[-1].text.startswith("88 others")


@pytest.mark.parametrize(
    ("fields", "tone"),
    [
        ({}, "good"),
        ({"state": "recovering"}, "warn"),
        ({"healthy": False, "state": "ejected"}, "bad"),
        ({"draining": True}, "warn"),
        ({"source": "removed"}, "warn"),
    ],
)
def test_colours_of_states(fields: dict[str, Any], tone: str) -> None:
    assert tone_of({"healthy": True, "draining": False, "source": "file", "state": "healthy"} | fields) == tone
