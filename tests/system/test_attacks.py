"""Attacks on the access decisions of a real gate: each gets its status and code, and the instance sees nothing of it.

Every case runs between two plain requests that do reach the instance, in the same test. The table is `attacks.py`; here is the
gate that it is for, and what no table can say: answers that must not differ, secrets that must not be written, the time taken.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.system import conftest
from tests.system.attacks import ATTACKS, DIALECTS, KEYS, ROLES, TEAMS, Attack, declared, form, named, picture, post, ruled, shown
from tests.system.conftest import Launch
from tests.system.scenes import controlled
from tests.tools.gate import SECRET, Gate, digest, eventually, model
from tests.tools.upstream import MockUpstream
from tests.tools.wire import CHAT, Answer, Wire, ask, chat, request

BEARER = "sk-instance-0123456789abcdef-canary"
FAST = 0.05
"""Seconds, of the list of attacks; of three tries the best counts, since the machine has other work."""


@pytest.fixture(scope="module")
def guarded(shared_upstream: MockUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate with roles, three models of which the plain key may use two, and an instance that asks for a secret."""
    models = {name: model(shared_upstream.url) for name in ("tiny", "other", "hidden")}
    models["other"]["instances"][0]["bearer"] = "${env:INSTANCE_KEY}"
    options: dict[str, Any] = {"roles": ROLES, "teams": TEAMS, "keys": declared(), "guard": {"max_body": "64MiB"}, "workers": 1}
    made = Gate(tmp_path_factory.mktemp("guarded"), models, env={"INSTANCE_KEY": BEARER}, **options)
    conftest.running.append(made)
    yield made
    conftest.running.remove(made)
    made.stop()


def code_of(answer: Answer) -> str:
    """The code of an error, wherever its API keeps it."""
    body = answer.json()
    error = body.get("error")
    if isinstance(error, dict):
        return str(error["type"] if isinstance(error.get("code"), int) else error["code"])
    return str(body.get("code") or body.get("error_type"))


def sent(gate: Gate, attack: Attack) -> Answer:
    method = attack.data.partition(b" ")[0].decode("latin-1")
    return ask(gate.port, attack.data, method)


@pytest.mark.parametrize("kind", ATTACKS)
def test_names_are_unique(kind: str) -> None:
    names = [attack.name for attack in ATTACKS[kind]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "attack", [pytest.param(attack, id=f"{kind}-{attack.name}") for kind, attacks in ATTACKS.items() for attack in attacks]
)
def test_attack(guarded: Gate, upstream: MockUpstream, attack: Attack) -> None:
    answer = controlled(guarded, upstream, lambda: sent(guarded, attack))
    assert (answer.status, code_of(answer)) == (attack.status, attack.code), answer
    for secret in (SECRET, BEARER, *KEYS.values()):
        assert secret.encode() not in answer.body
    if answer.status == 401:
        assert (answer.header("www-authenticate") or "").startswith("Bearer")
    assert b"roles." not in answer.body, "the rule is the operator's alone"
    if attack.fast:
        assert min(seconds(guarded, attack) for _ in range(3)) < FAST


def seconds(gate: Gate, attack: Attack) -> float:
    started = time.monotonic()
    sent(gate, attack)
    return time.monotonic() - started


# --- what roles do admit: the positive side of the same rules ------------------------------------------------------------------

ADMITTED = {
    "from-its-network": post(CHAT, chat(), "lan", ("X-Forwarded-For: 203.0.113.9",)),
    "scheme-in-lower-case": shown(f"authorization: bearer {SECRET}"),
    "scheme-in-capitals": shown(f"Authorization: BEARER   {SECRET}"),
    "trailing-space": shown(f"Authorization: Bearer {SECRET} "),  # no part of a field's value (RFC 9110 section 5.5)
    "absolute-form": request(chat(), path=f"http://gate.test{CHAT}", secret=SECRET),
    "query": request(chat(), path=f"{CHAT}?model=hidden&_method=DELETE", secret=SECRET),
    "member": post(CHAT, chat(), "member"),
    "second-role-s-model": post(CHAT, chat(model="other"), "denier"),
    "unstreamed": post(CHAT, chat(), "still"),
    "form": form(
        b'Content-Disposition: form-data; name="model"\r\n\r\ntiny', b'Content-Disposition: form-data; name="x"\r\n\r\nx'
    ),
    **{f"ruled-{dialect}": ruled(dialect, {}) for dialect in DIALECTS},
    "picture-inline": ruled("chat", {"messages": picture("data:image/png;base64,AA")}),
    "at-the-bounds": ruled("chat", {"max_tokens": 16, "n": 1, "temperature": 1, "tools": [], "logprobs": False}),
}


@pytest.mark.parametrize("name", ADMITTED)
def test_admitted(guarded: Gate, upstream: MockUpstream, name: str) -> None:
    answer = ask(guarded.port, ADMITTED[name])
    assert answer.status == 200, answer
    (asked,) = upstream.journal()
    assert "?" not in asked["path"], "the path that was decided on is the path that is sent"
    assert "hidden" not in asked["body"]


LENGTHS = {"chat": "max_tokens", "completions": "max_tokens", "responses": "max_output_tokens", "anthropic": "max_tokens"}
LENGTHS |= {"ollama": "num_predict", "llamacpp": "n_predict", "tgi": "max_new_tokens"}
FOREIGN = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "num_predict", "max_new_tokens")


@pytest.mark.parametrize("foreign", ["", *FOREIGN])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_bound_reaches_the_instance_whatever_the_request_calls_it(
    guarded: Gate, upstream: MockUpstream, dialect: str, foreign: str
) -> None:
    """A name that the API's engines pass over must not keep the bound away: without one they write until the context is full."""
    path, fields, place = DIALECTS[dialect]
    plain = {name: value for name, value in fields.items() if name != "max_tokens"}
    answer = ask(guarded.port, post(path, {**plain, foreign: 7} if foreign else plain))
    assert answer.status == 200, answer
    (asked,) = upstream.journal()
    body = json.loads(asked["body"])
    assert 0 < (body[place] if place else body)[LENGTHS[dialect]] <= 16


@pytest.mark.parametrize("length", [{}, {"max_tokens": 2}, {"max_completion_tokens": 2}, {"num_predict": 2}])
def test_a_context_s_bound_reaches_the_instance(guarded: Gate, upstream: MockUpstream, length: dict[str, int]) -> None:
    """A role with `max_context` alone: what the prompt leaves is the answer's bound, under the name that every engine knows."""
    answer = ask(guarded.port, post(CHAT, {"model": "tiny", "messages": [], **length}, "short"))
    assert answer.status == 200, answer
    (asked,) = upstream.journal()
    most = json.loads(asked["body"])["max_tokens"]
    assert most == 2 if "num_predict" not in length and length else 0 < most < 30


# --- what must not differ ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        named,
        lambda name: request(
            json.dumps({"model": name, "messages": [], "max_tokens": 1}).encode(), path="/v1/messages", secret=SECRET
        ),
        lambda name: request(json.dumps({"model": name, "prompt": ""}).encode(), path="/api/generate", secret=SECRET),
        lambda name: request(json.dumps({"model": name, "prompt": ""}).encode(), path="/completion", secret=SECRET),
        lambda name: request(json.dumps({"model": name, "inputs": ""}).encode(), path="/generate", secret=SECRET),
        lambda name: request(json.dumps({"model": name, "input": ""}).encode(), path="/v1/embeddings", secret=SECRET),
        lambda name: form(f'Content-Disposition: form-data; name="model"\r\n\r\n{name}'.encode()),
    ],
)
def test_a_hidden_model_is_told_in_the_bytes_of_an_absent_one(
    guarded: Gate, upstream: MockUpstream, make: Callable[[str], bytes]
) -> None:
    seen = []
    for name in ("hidden", "absent"):  # of one length
        data = make(name)
        answer = controlled(guarded, upstream, partial(ask, guarded.port, data))
        assert answer.status == 404
        headers = [(field, value) for field, value in answer.headers if field not in ("x-request-id", "date")]
        own = (answer.header("x-request-id") or "").encode()
        seen.append((headers, answer.body.replace(name.encode(), b"NAME").replace(own, b"ID")))
    assert seen[0] == seen[1]


def test_strangers_are_answered_in_the_same_bytes_whatever_is_wrong(guarded: Gate) -> None:
    """Unknown, disabled, expired, malformed: nothing tells them apart but the request's id."""
    answers = {
        ask(guarded.port, data).body
        for data in (
            shown("Authorization: Bearer sk-attack-nobody-0123456789abcdef"),
            post(CHAT, chat(), "disabled"),
            post(CHAT, chat(), "expired"),
            shown("Authorization: Bearer x"),
            shown(f"Authorization: Bearer {'a' * 600}"),
            shown("Authorization: Basic eDp5"),
        )
    }
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("key", "models"),
    [(SECRET, ["tiny", "other"]), (KEYS["denier"], ["other"]), (KEYS["lan"], ["tiny"]), (KEYS["member"], ["tiny"])],
)
def test_lists_show_what_may_be_used(guarded: Gate, key: str, models: list[str]) -> None:
    listed = ask(guarded.port, request(None, method="GET", path="/v1/models", secret=key), "GET").json()
    assert [each["id"] for each in listed["data"]] == models
    tags = ask(guarded.port, request(None, method="GET", path="/api/tags", secret=key), "GET").json()
    assert [each["model"] for each in tags["models"]] == models
    head = ask(guarded.port, request(None, method="HEAD", path="/v1/models", secret=key), "HEAD")
    assert (head.status, head.body) == (200, b"")


# --- connections that were trusted once ----------------------------------------------------------------------------------------


def test_a_head_that_came_before_opens_nothing_more(guarded: Gate, upstream: MockUpstream) -> None:
    """The same head again and again, so that the gate knows it: each body is judged all the same."""
    good, two, hidden = ruled("chat", {}), ruled("chat", {"n": 2}), ruled("chat", {"model": "hidden"})
    with Wire(guarded.port) as wire:
        statuses = [wire.ask(data).status for data in (good, good, good, two, good, hidden, good)]
    assert statuses == [200, 200, 200, 400, 200, 404, 200]
    assert len(upstream.journal()) == 5


def test_requests_in_one_packet_are_each_their_own_key_s(guarded: Gate, upstream: MockUpstream) -> None:
    with Wire(guarded.port) as wire:
        wire.send(ruled("chat", {}) + post(CHAT, chat(), "disabled") + post(CHAT, chat(), "net") + post(CHAT, chat(), "lan"))
        assert [wire.answer().status for _ in range(4)] == [200, 401, 403, 200]
    assert len(upstream.journal()) == 2


def test_a_role_that_changes_holds_on_open_connections(
    shared_upstream: MockUpstream, upstream: MockUpstream, launch: Launch
) -> None:
    """Within a second of the change, also for a head that is known and for a request that stands in line."""
    roles: dict[str, Any] = {"all": {"models": ["tiny", "other"], "parameters": {"n": {"max": 2}}}}
    models = {name: model(shared_upstream.url) for name in ("tiny", "other")}
    models["tiny"]["instances"][0]["max_in_flight"] = 1
    gate = launch(models, roles=roles, keys=[{"name": "main", "hash": digest(SECRET), "roles": ["all"]}], workers=1)
    busy = request(chat(delay=2.0), secret=SECRET)
    waiting = request(json.dumps({**json.loads(chat()), "n": 2}).encode(), secret=SECRET)
    with Wire(gate.port) as first, Wire(gate.port) as second, Wire(gate.port) as third:
        known = request(chat(model="other"), secret=SECRET)
        assert [third.ask(known).status for _ in range(3)] == [200, 200, 200]
        first.send(busy)
        eventually(lambda: len(upstream.journal()) == 4, 2, "the instance is busy")
        second.send(waiting)
        gate.write(roles={"all": {"models": ["tiny"], "parameters": {"n": {"max": 1}}}})
        eventually(lambda: third.ask(known).status == 404, 1.5, "the known head is judged by the new role", 0.05)
        assert first.answer().status == 200
        refused = second.answer()
        assert (refused.status, refused.code) == (400, "parameter_not_allowed")
    assert len([asked for asked in upstream.journal() if '"n": 2' in asked["body"]]) == 0


def test_a_bound_that_is_set_meanwhile_holds_for_who_stands_in_line(
    shared_upstream: MockUpstream, upstream: MockUpstream, launch: Launch
) -> None:
    """What the old role set is not taken for the client's wish either: it is set anew, by the role in force."""
    models = {"tiny": model(shared_upstream.url)}
    models["tiny"]["instances"][0]["max_in_flight"] = 1
    keys = [{"name": "main", "hash": digest(SECRET), "roles": ["all", "more"]}]
    roles: dict[str, Any] = {
        "all": {"models": ["tiny"]},
        "more": {"models": ["tiny"], "parameters": {"max_tokens": {"max": 512}}},
    }
    for old, new in (({}, {"max_tokens": {"max": 16}}), ({"max_tokens": {"max": 512}}, {"max_tokens": {"max": 16}})):
        upstream.clear()
        gate = launch(models, roles={"all": {**roles["all"], "parameters": old}, "more": roles["more"]}, keys=keys, workers=1)
        with Wire(gate.port) as first, Wire(gate.port) as second:
            first.send(request(chat(delay=1.5), secret=SECRET))
            eventually(lambda: len(upstream.journal()) == 1, 2, "the instance is busy")
            second.send(request(chat(), secret=SECRET))
            gate.write(roles={"all": {**roles["all"], "parameters": new}, "more": {**roles["more"], "parameters": new}})
            assert first.answer().status == 200
            assert second.answer().status == 200
        assert json.loads(upstream.journal()[1]["body"])["max_tokens"] == 16


# --- two worlds of keys ------------------------------------------------------------------------------------------------------


def test_an_admin_key_opens_no_model_and_a_key_no_admin_route(guarded: Gate, upstream: MockUpstream) -> None:
    admin = (guarded.state / "admin.key").read_text().strip()
    answer = controlled(guarded, upstream, lambda: ask(guarded.port, request(chat(), secret=admin)))
    assert (answer.status, answer.code) == (401, "invalid_api_key")

    def admins(path: str, secret: str) -> int:
        asked = request(None, method="GET", path=path, secret=secret).replace(b"gate.test", b"127.0.0.1:%d" % guarded.admin)
        return ask(guarded.admin, asked, "GET").status

    for path in ("/api/v1/keys", "/api/v1/usage", "/api/v1/instances"):
        assert (admins(path, admin), admins(path, SECRET)) == (200, 401), path


# --- nothing secret is written -----------------------------------------------------------------------------------------------


def test_no_secret_is_written_anywhere(guarded: Gate, upstream: MockUpstream) -> None:
    """A canary through every endpoint, admitted and refused: the logs and every file of the state hold none of it."""
    canaries = {"main": SECRET, "instance": BEARER, "wrong": "sk-canary-wrong-0123456789abcdef", "prompt": "canary-prompt-5f1c"}
    for path, fields, _ in DIALECTS.values():
        for secret in (SECRET, canaries["wrong"]):
            body = json.dumps({**fields, "model": "other", "user": canaries["prompt"]}).encode()
            ask(guarded.port, request(body, path=path, secret=secret))
            ask(guarded.port, request(body[:-1], path=path, secret=secret))
            ask(guarded.port, request(body, path=f"{path}?key={secret}", headers=(f"Cookie: k={secret}", f"api-key: {secret}")))
            ask(guarded.port, request(body, path=f"/x{path}?key={secret}", secret=secret))
    ask(guarded.port, request(None, method="GET", path="/v1/models", secret=SECRET), "GET")
    last = ask(guarded.port, request(chat(model="other", do="raw", bytes="HTTP/1.1 500 X\r\n\r\n", then="close"), secret=SECRET))
    assert upstream.journal(), "void: nothing reached the instance"
    guarded.receipt(last.header("x-request-id"))
    sent_on = [dict(asked["headers"]) for asked in upstream.journal()]
    assert {headers.get("authorization") for headers in sent_on} == {f"Bearer {BEARER}"}, (
        "the gate's own credential, and no other"
    )
    files = [guarded.log, *(path for path in guarded.state.rglob("*") if path.is_file())]
    assert any(path.suffix == ".sqlite3" for path in files)
    assert not [path.name for path in files if path != guarded.log and path.stat().st_mode & 0o077], "files for others to read"

    def written() -> list[str]:
        found = []
        for path in files:
            data = path.read_bytes()
            for name, secret in canaries.items():
                plain = secret.encode()
                forms = plain, base64.b64encode(plain)[:-4], plain.hex().encode()
                found += [f"{name} in {path.name}" for each in forms if each in data]
        return found

    eventually(lambda: b"other" in guarded.log.read_bytes(), 5, "the access log has lines")
    assert written() == []
