"""The doctor's table from inside: a gate that is well has nothing said of it, and each weak spot is found alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from slmgate.control.config import Config, load_text
from slmgate.control.doctor.facts import Answer, Automatic, Mode
from slmgate.control.doctor.inside import CHECKS, Patient, examine

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
FILE = Path("/etc/slmgate.yaml")
LOCAL = "{url: 'http://127.0.0.1:8000'}"
FAR = "{url: 'http://10.0.0.5:8000'}"


def config(instance: str = LOCAL, more: str = "") -> Config:
    return load_text(f"models: {{m: {{instances: [{instance}]}}}}\nstate_dir: /state\n{more}").unwrap()


def patient(of: Config | None = None, **more: Any) -> Patient:
    well: dict[str, Any] = {
        "ask": lambda origin, engine: None,
        "listens": lambda port: False,
        "mode": lambda path: Mode(path, 0o600),
        "modes": lambda path: [Mode(path, 0o700), Mode(path / "ledger.sqlite3", 0o600)],
        "ends": lambda path: NOW + timedelta(days=60),
        "automatic": lambda config: [],
        "intents": lambda path: [],
        "file": FILE,
        "wrong_sums": 0,
        "free": 10 * 1024**3,
    }
    return Patient(of or config(), NOW, **{**well, **more})


def key(**more: Any) -> dict[str, Any]:
    made = NOW.isoformat()
    base = {"name": "k", "state": "active", "created": made, "expires": None, "used": None, "secrets": [{"created": made}]}
    return {**base, **more}


def ago(days: float) -> str:
    return (NOW - timedelta(days=days)).isoformat()


def answers(status: int = 200, skew: float | None = 0.0) -> Callable[..., Answer]:
    return lambda origin, engine: Answer(status, skew)


def test_a_gate_that_is_well() -> None:
    found = examine(patient(keys=[key()], text="models: {m: {instances: [{bearer: '${env:B}'}]}}"))
    assert [one.check for one in found] == list(CHECKS)
    assert {one.verdict for one in found} == {"ok"}
    assert not any(one.next for one in found)
    assert [one.seen for one in examine(patient(wrong_sums=None)) if one.check == "ledger"] == ["there is none yet"]


ROLES = "roles: {r: {models: ['*'], endpoints: ['*']%s}}\n"
PLAIN = ", plain_http: true"
LIMITED = ROLES % ", limits: [9 requests/minute]"
SECRET = "instances: [{bearer: x}]"
OLD = {"created": ago(400)}
TLS = "listen: [{address: '0.0.0.0:8443'%s}]\n"


def at(address: str, more: str = "") -> str:
    return f"listen: [{{address: '{address}'{more}}}]\n"


@pytest.mark.parametrize(
    ("check", "verdict", "seen", "made"),
    [
        ("plain HTTP", "warn", "every address", {"of": config(more=at("0.0.0.0:80", PLAIN) + LIMITED)}),
        ("plain HTTP", "warn", "port 80", {"of": config(more=at("203.0.113.1:80", PLAIN) + LIMITED)}),
        ("plain HTTP", "warn", "10.0.0.1:80", {"of": config(more=at("10.0.0.1:80") + LIMITED)}),
        ("admin side", "bad", "every address", {"of": config(more="admin: {address: ':8081', plain_http: true}\n")}),
        ("admin side", "warn", "10.0.0.1", {"of": config(more="admin: {address: '10.0.0.1:8081'}\n")}),
        ("around the gate", "bad", "every address of this machine", {"listens": lambda port: port == 8000}),
        ("around the gate", "warn", "http://10.0.0.5:8000 answers", {"of": config(FAR), "ask": answers()}),
        ("around the gate", "bad", "although it has", {"of": config("{url: 'https://10.0.0.5', bearer: b}"), "ask": answers()}),
        ("road to instances", "bad", "over plain HTTP", {"of": config("{url: 'http://8.8.8.8:80'}")}),
        ("road to instances", "warn", "the bearer of", {"of": config("{url: 'http://10.0.0.5:80', bearer: b}")}),
        ("state directory", "bad", "mode 755", {"modes": lambda path: [Mode(path, 0o755)]}),
        ("state directory", "warn", "mode 750", {"modes": lambda path: [Mode(path, 0o750)]}),
        ("secrets in files", "bad", "instances.bearer", {"text": SECRET, "mode": lambda path: Mode(path, 0o644)}),
        ("secrets in files", "warn", "mode 640", {"text": SECRET, "mode": lambda path: Mode(path, 0o640)}),
        ("keys", "warn", "never expire", {"keys": [key(created=ago(400), secrets=[OLD], used={"time": ago(1)})]}),
        ("keys", "warn", "not used for 90 days: k", {"keys": [key(created=ago(91))]}),
        ("keys", "warn", "not used", {"keys": [key(created=ago(200), used={"time": ago(91)})]}),
        ("clock", "warn", "5 s ahead of", {"of": config(FAR), "ask": answers(401, 5.0)}),
        ("clock", "bad", "60 s behind", {"of": config(FAR), "ask": answers(401, -60.0)}),
        ("disk", "warn", "1023 MiB", {"free": 1024**3 - 1}),
        ("disk", "bad", "1 MiB", {"free": 1024**2}),
        ("orphaned holds", "warn", "1 requests", {"intents": lambda path: [NOW]}),
        ("orphaned holds", "warn", "2026-11-27", {"served": True, "intents": lambda path: [NOW, NOW - timedelta(hours=25)]}),
        ("ledger", "bad", "3 sums", {"wrong_sums": 3}),
        ("audit log", "bad", "row 3", {"audit": "row 3 is missing"}),
        ("road to instances", "bad", "not verified", {"of": config("{url: 'https://10.0.0.5', tls: {verify: false}}")}),
    ],
)  # fmt: skip
def test_weak_spots(check: str, verdict: str, seen: str, made: dict[str, Any]) -> None:
    found = [one for one in examine(patient(made.pop("of", None), **made)) if one.verdict != "ok"]
    assert [(one.check, one.verdict) for one in found] == [(check, verdict)]
    assert seen in found[0].seen
    assert found[0].next


@pytest.mark.parametrize(
    "made",
    [
        {"listens": lambda port: False},
        {"of": config(FAR), "ask": answers(401)},
        {"of": config(FAR)},
        {"of": config(FAR), "ask": answers(404, None)},
        {"of": config(FAR), "ask": answers(401, 2.0)},
        {"keys": [key(state="revoked", created=ago(999)), key(created=ago(89)), key(created=None, secrets=[])]},
        {"keys": [key(created=ago(400), expires=NOW.isoformat(), used={"time": ago(1)}, secrets=[{"created": ago(400)}])]},
        {"keys": [key(created=ago(400), used={"time": ago(1)}, secrets=[{"created": ago(400)}, {"created": ago(3)}])]},
        {"free": 1024**3},
        {"free": None},
        {"served": True, "intents": lambda path: [NOW]},
        {"mode": lambda path: Mode(path, 0o644)},
        {"text": "instances: [{bearer: x}]"},
        {"modes": lambda path: []},
    ],
)
def test_what_is_no_weak_spot(made: dict[str, Any]) -> None:
    assert {one.verdict for one in examine(patient(made.pop("of", None), **made))} == {"ok"}


def test_who_calls_from_elsewhere() -> None:
    def of(more: str) -> dict[str, str]:
        public = config(more=at("10.0.0.1:80") + more)
        return {one.check: one.verdict for one in examine(patient(public))}

    assert of("")["limits"] == "warn"
    assert of(ROLES % "")["limits"] == "warn"
    assert of(LIMITED)["limits"] == "ok"
    assert of(ROLES % "" + "teams: {t: {roles: [r], limits: [9 requests/minute]}}\n")["limits"] == "ok"
    anonymous = "auth: {anonymous: {role: r}}\n"
    assert of(ROLES % "" + anonymous)["anonymous callers"] == "bad"
    assert of(LIMITED + anonymous)["anonymous callers"] == "warn"
    here = config(more=ROLES % "" + anonymous)
    assert {one.verdict for one in examine(patient(here))} == {"ok"}


def test_files_that_others_may_read_and_certificates_that_end(tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    made = authority.issue_cert("gate.example.com")
    cert, secret = tmp_path / "gate.pem", tmp_path / "gate.key"
    made.cert_chain_pems[0].write_to_path(cert)
    made.private_key_pem.write_to_path(secret)
    limits = LIMITED
    of = config(more=TLS % f", tls: {{certificates: [{{cert: {cert}, key: {secret}}}]}}" + limits)

    def found(**more: Any) -> list[tuple[str, str]]:
        return [(one.check, one.verdict) for one in examine(patient(of, **more)) if one.verdict != "ok"]

    assert found() == []
    assert found(ends=lambda path: NOW + timedelta(days=20)) == [("certificates", "warn")]
    assert found(ends=lambda path: NOW + timedelta(days=2)) == [("certificates", "bad")]
    assert found(ends=lambda path: NOW - timedelta(days=2)) == [("certificates", "bad")]
    assert found(ends=lambda path: None) == []
    assert found(mode=lambda path: Mode(path, 0o640)) == [("secrets in files", "warn")]
    assert found(mode=lambda path: Mode(path, 0o604)) == [("secrets in files", "bad")]


def test_automatic_certificates() -> None:
    """However short they are: what counts is whether the gate gets them."""

    def found(wanted: float, ends: float) -> list[tuple[str, str]]:
        one = Automatic("a.example", NOW + timedelta(days=wanted), NOW + timedelta(days=ends))
        seen = [each for each in examine(patient(automatic=lambda config: [one])) if each.check == "certificates"]
        return [(each.verdict, each.seen) for each in seen]

    well = [("ok", "none ends within three weeks, or is late to be renewed")]
    assert found(1, 2) == found(0.1, 0.2) == found(-7, 23) == well
    assert found(-8, 22) == [("warn", "the certificate for a.example was to be renewed on 2026-11-20, and ends on 2026-12-20")]
    assert found(-30, 0) == [("bad", "the certificate for a.example ended on 2026-11-28")]
    for served, verdict in ((True, "bad"), (False, "warn")):
        missing = examine(patient(served=served, automatic=lambda config: [Automatic("a.example", None, None)]))
        (one,) = (each for each in missing if each.check == "certificates")
        assert (one.verdict, one.seen.partition(":")[0]) == (verdict, "there is no certificate for a.example yet")


def test_many_names_are_counted() -> None:
    keys = [key(name=f"k{number}", created=ago(91)) for number in range(9)]
    (found,) = [one for one in examine(patient(keys=keys)) if one.verdict == "warn"]
    assert found.seen.endswith("k0, k1, k2, k3, k4 and 4 more")


def test_each_instance_is_asked_once() -> None:
    asked: list[Any] = []

    def ask(origin: Any, engine: str) -> None:
        asked.append(origin)

    examine(patient(config(FAR), ask=ask))
    assert len(asked) == 1
    both = [Mode(Path("/state"), 0o755), Mode(Path("/state/ledger.sqlite3"), 0o644)]
    found = [one for one in examine(patient(modes=lambda path: both)) if one.verdict == "bad"]
    assert "ledger.sqlite3" in found[1].seen
