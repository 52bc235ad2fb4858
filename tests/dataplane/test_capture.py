"""What is gathered of requests that a role wants kept, and how it comes to control: in batches, each until it is confirmed.

On the road of fakes: each request still leaves its one receipt and holds nothing, which the stage checks.
"""

from __future__ import annotations

import msgspec
import pytest

from slmgate.dataplane import capture
from slmgate.dataplane.capture import CaptureBox, CapturedExchange, CapturedKeyedExchange, Gathered
from slmgate.link.messages import Captured, CaptureKept, Captures
from slmgate.policy.roles import RoleSpec
from tests.dataplane.conftest import OpenRoad
from tests.tools.fakes import FakeLoop
from tests.tools.road import Road
from tests.tools.shown import meant
from tests.tools.stage import KEY, model, request

KEYED = request({"model": "m"}, b"Idempotency-Key: first\r\n")
BODY = b'{"model": "m"}'
ANSWERED = """
    >> client  asked
    == intent  a
    << a       <chat>
    >> a       200 <used>
    == 200     complete a 5+7
    << client  200 | <used>
"""


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLoop, "run_in_executor", lambda *_: None)


def sent(road: Road, what: str = "both") -> list[Captured]:
    """What is gathered from now on, as it is put into the box."""
    records: list[Captured] = []
    vars(road.stage.worker.captures)["put"] = records.append
    keys = (msgspec.structs.replace(KEY, roles=("kept",)),)
    road.stage.publish(keys=keys, roles=(RoleSpec(name="kept", capture=what),))
    return records


def test_no_other_request_is_touched(road: Road) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing is to be gathered")

    vars(road.stage.worker)["begin_capture"] = never
    road.plays(ANSWERED, asked=request({"model": "m"}))
    assert road.stage.worker.captures.empty


@pytest.mark.parametrize(
    ("what", "prompt", "answer"), [("both", BODY, "<used>"), ("prompts", BODY, None), ("answers", None, "<used>")]
)
def test_a_whole_answer(road: Road, what: str, prompt: bytes | None, answer: str | None) -> None:
    records = sent(road, what)
    for _ in range(2):  # the second comes over the short way
        road.plays(ANSWERED, asked=request({"model": "m"}))
    ids = [receipt["id"] for receipt in road.stage.receipts]
    assert [record.id for record in records] == ids
    for record in records:
        assert (record.role, record.dialect, record.stream) == ("kept", "openai", False)
        assert record.prompt == prompt
        assert record.answer == (None if answer is None else meant(answer))
        assert not record.prompt_cut
        assert not record.answer_cut


def test_one_with_a_key_is_kept_and_its_second_answer_is_not(road: Road) -> None:
    records = sent(road)
    road.plays(ANSWERED, asked=KEYED)
    road.plays(
        """
        >> client  asked
        == 200     complete !replayed
        << client  200 idempotent-replayed: true | <used>
        """,
        asked=KEYED,
    )
    assert [record.answer for record in records] == [meant("<used>")]


def test_a_stream_is_gathered_as_it_came(road: Road) -> None:
    records = sent(road)
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> a       chunk <x>
        << client  2f\r\n<x>\r\n
        >> a       chunk <done>
        >> a       end
        == 200     complete a 8+2~
        << client  e\r\n<done>\r\n0\r\n\r\n
    """)
    assert records[0].stream
    assert records[0].answer == meant("<x><x><done>")


def test_what_the_client_had_is_kept_when_it_leaves(road: Road) -> None:
    records = sent(road)
    road.plays(r"""
        >> client  stream
        == intent  a
        << a       <stream>
        >> a       events
        >> a       chunk <x>
        << client  <sse> 2f\r\n<x>\r\n
        >> client  leaves
        << a       aborted
        == 200     client_left a !client_left 8+1~
    """)
    assert [record.answer for record in records] == [meant("<x>")]


def test_a_failed_answer_is_none_and_the_next_one_counts(open_road: OpenRoad) -> None:
    road = open_road(model("a", "b", attempts=2))
    records = sent(road)
    road.plays("""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       503 {"secret":"of a"}
        << b       <chat>
        >> b       200 <used>
        == 200     complete b 5+7
        << client  200 | <used>
    """)
    assert [record.answer for record in records] == [meant("<used>")]


def test_what_is_refused_after_it_was_admitted_has_no_answer(open_road: OpenRoad) -> None:
    road = open_road(model("a", attempts=1))
    records = sent(road)
    road.plays("""
        >> client  chat
        == intent  a
        << a       <chat>
        >> a       503 {"secret":"of a"}
        == 503     refused a !overloaded
        << client  503 !overloaded retry-after: 1
    """)
    assert [(record.prompt, record.answer) for record in records] == [(BODY, None)]


def test_what_is_too_long_is_cut(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "MOST", 5)
    records = sent(road)
    road.plays(ANSWERED, asked=request({"model": "m"}))
    assert (records[0].prompt, records[0].prompt_cut) == (BODY[:5], True)
    assert (records[0].answer, records[0].answer_cut) == (meant("<used>")[:5], True)


def test_of_a_form_only_its_fields_are_kept(road: Road) -> None:
    records = sent(road, "prompts")
    parts = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    parts += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nSOUND\r\n--x--\r\n'
    line, kind = b"POST /v1/audio/transcriptions HTTP/1.1", b"Content-Type: multipart/form-data; boundary=x\r\n"
    client = road.stage.connect()
    client.feed(request(parts, kind, line))
    client.lose()
    road.stage.loop.settle()
    (record,) = records
    assert record.prompt is not None
    assert b'"model":"m"' in record.prompt
    assert b"SOUND" not in record.prompt


def test_gathering() -> None:
    gathered = Gathered("answers")
    gathered.add(b"one")
    gathered.anew()
    gathered.add(b"two")
    assert gathered.pieces == [b"two"]
    none = Gathered("prompts")
    none.add(b"one")
    assert none.pieces == []
    assert issubclass(CapturedKeyedExchange, CapturedExchange)


# -- the box


def record(id: str, size: int = 0) -> Captured:
    return Captured(id, "kept", 0.0, "openai", prompt=bytes(size))


def boxed(monkeypatch: pytest.MonkeyPatch, batch: int = 1200, waiting: int = 5000) -> tuple[CaptureBox, list[Captures]]:
    monkeypatch.setattr(capture, "BATCH", batch)
    monkeypatch.setattr(capture, "WAITING", waiting)
    said: list[Captures] = []
    return CaptureBox(said.append), said


def test_one_batch_at_a_time_each_until_it_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    box, said = boxed(monkeypatch)
    box.tick()
    assert said == []
    for id in "abc":
        box.put(record(id))
    box.tick()
    box.tick()
    assert [[one.id for one in message.records] for message in said] == [["a", "b"]]
    box.kept(CaptureKept(99))  # of a batch that is none
    assert len(said) == 1
    box.kept(CaptureKept(1))
    assert [one.id for one in said[1].records] == ["c"]
    assert not box.empty
    assert repr(box) == "<CaptureBox 1 waiting, 0 dropped>"
    box.kept(CaptureKept(2))
    assert box.empty


def test_another_control_is_sent_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    box, said = boxed(monkeypatch)
    box.put(record("a"))
    box.tick()
    box.put(record("b"))
    box.again()
    box.tick()
    assert said[0] == said[1]
    box.kept(CaptureKept(1))
    box.kept(CaptureKept(1))  # the first one's word, late
    assert [one.id for one in said[2].records] == ["b"]


def test_what_there_is_no_room_for_is_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    box, said = boxed(monkeypatch)
    for id in "abcd":
        box.put(record(id, 1000))
    assert (box.dropped, repr(box)) == (1, "<CaptureBox 3 waiting, 1 dropped>")
    box.tick()
    assert (len(said[0].records), said[0].dropped) == (1, 1)  # a single one may be larger than a batch
    for number in (1, 2, 3):
        assert not box.empty
        box.kept(CaptureKept(number, 1))
    assert box.empty
    box.put(record("e", 6000))
    assert not box.empty
    box.tick()
    assert (said[-1].records, said[-1].dropped) == ((), 2)
    box.kept(CaptureKept(4, 2))
    assert box.empty


# -- the box and its worker


def test_a_worker_hands_over_what_it_has(road: Road) -> None:
    said: list[Captures] = []
    worker = road.stage.worker
    vars(worker.captures)["_send"] = said.append
    worker.captures.put(record("a"))
    road.plays(">> clock 1")
    worker._told(CaptureKept(1))
    worker.captures.put(record("b"))
    worker._hello()  # to another control process
    road.plays(">> clock 1")
    assert [[one.id for one in message.records] for message in said] == [["a"], ["b"]]
    worker._told(CaptureKept(2))
    assert worker.captures.empty


def test_a_worker_that_ends_waits_for_control_a_moment(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[Captures] = []
    worker = road.stage.worker
    vars(worker.captures)["_send"] = said.append
    worker.captures.put(record("a"))
    road.stage.loop.create_task(worker._hand_over_captures())
    road.plays(">> clock 1")
    assert len(said) == 1
    road.plays(">> clock 3")
    assert "contents that roles want kept are lost: <CaptureBox 1 waiting, 0 dropped>" in capsys.readouterr().err
    worker._told(CaptureKept(1))
