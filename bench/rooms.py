"""The rooms of the road, one by one: nanoseconds of each step that a request takes, without a socket.

`python -m bench.rooms [NAME ...]` times each step in loops of about 20 ms, takes the best of several, and subtracts what
an empty call costs (the calibration, printed too). The ingest is timed whole, over 50,000 receipts in a real store, in
processor time. It is the only part of the benchmark that imports the product; its requests and answers are `wire`'s.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import getrandbits

import httptools
import msgspec

from bench import wire
from slmgate.control.access.targets import Target
from slmgate.control.access_log import AccessLog
from slmgate.control.ledger import Ingest
from slmgate.dataplane.journal import Journal
from slmgate.dialects import TABLE
from slmgate.dialects.parameters import values
from slmgate.http1 import answers, heads
from slmgate.http1.repeats import seen_head
from slmgate.policy.access import Admit
from slmgate.policy.balance import SCANNED, Chooser, InTurn, LeastBusy, PeakEwma
from slmgate.policy.decide import decide
from slmgate.policy.identify import identify
from slmgate.policy.keytable import KeyTable
from slmgate.policy.networks import number_of
from slmgate.policy.prefix import Prefix, affinity_of
from slmgate.policy.queue import FairQueue
from slmgate.policy.ring import Ring
from slmgate.policy.roles import Hours, ParameterRule, RoleSpec, Scalar
from slmgate.policy.snapshot import Snapshot
from slmgate.policy.specs import AuthSpec, InstanceSpec, ModelSpec, SnapshotSpec
from slmgate.stores.sql import open_store
from slmgate.terms import Ask, Bearer, Intent, Key, Receipt, Refuse

RECEIPTS = 50_000
"""How many the ingest takes."""
WAITING = 500
"""How many stand in line, of fifty principals."""
KEYS = 100_000
"""How many are in the table beside the one that asks."""
PROMPT = "Answer as the handbook of the house says. " * 190
encode = msgspec.json.Encoder().encode
_NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
Step = Callable[[], object]


def loop(step: Step, count: int) -> int:
    """Nanoseconds of `count` calls."""
    numbers = range(count)
    begun = time.perf_counter_ns()
    for _ in numbers:
        step()
    return time.perf_counter_ns() - begun


def nanoseconds(step: Step, repeats: int = 7) -> float:
    """Nanoseconds of one call, the best of `repeats` loops of about 20 ms: what disturbs only ever adds."""
    count = 1
    while loop(step, count) < 2_000_000:
        count *= 4
    count = max(1, int(count * 20_000_000 / max(1, loop(step, count))))
    return min(loop(step, count) for _ in range(repeats)) / count


def a_receipt(number: int) -> Receipt:
    id = f"{'b' * 12}{number:08x}"
    return Receipt(
        id=id,
        request_id=id,
        time=_NOW + timedelta(microseconds=70 * number),
        method="POST",
        path=wire.PATH,
        status=200,
        verdict="admit",
        reason="ok",
        ended="complete",
        principal="bench",
        key="k1",
        dialect="openai",
        endpoint="chat",
        model=wire.MODEL,
        instance="127.0.0.1:9000",
        prompt_tokens=34,
        completion_tokens=13,
        bytes_in=320,
        bytes_out=500,
        first_byte_us=900,
        total_us=1000,
        attempts=1,
        address="127.0.0.1",
        worker=1,
    )


def an_intent(number: int) -> Intent:
    receipt = a_receipt(number)
    return Intent(
        id=receipt.id,
        request_id=receipt.request_id,
        time=receipt.time,
        key="k1",
        principal="bench",
        team=None,
        model=wire.MODEL,
        instance="127.0.0.1:9000",
        dialect="openai",
        endpoint="chat",
        prompt_tokens=34,
        address="127.0.0.1",
        worker=1,
    )


def a_key(number: int) -> Key:
    """One of the many that are not asked for."""
    digest = sha256(b"%d" % number).digest()
    return Key(id=f"key{number:08}", name=f"client-{number}", team=f"team-{number % 100}", digests=((digest, None),))


def head_fields() -> tuple[bytes, dict[bytes, bytes]]:
    """The request's head without its empty line, and its fields as llhttp gives them."""
    head = wire.request(9000, wire.body()).partition(b"\r\n\r\n")[0]
    lines = head.split(b"\r\n")[1:]
    return head, {name.strip(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}


class _Parsed:
    """What httptools calls back; the least that a parse must do."""

    def on_header(self, name: bytes, value: bytes) -> None:
        pass


def steps(directory: Path) -> dict[str, Step]:
    """Every step of the road by name, ready to be called again and again."""
    key = Key(id="k1", name="bench", digests=((sha256(wire.SECRET.encode()).digest(), None),))
    instance = InstanceSpec(id="127.0.0.1:9000", host="127.0.0.1", port=9000)
    model = ModelSpec(name=wire.MODEL, instances=(instance,))
    many = (a_key(number) for number in range(KEYS))
    snapshot = Snapshot(SnapshotSpec(generation=1, models=(model,)), KeyTable((key, *many)))
    dialect = TABLE["POST", wire.PATH].dialect
    body, streamed = wire.body(), wire.body(stream=True)
    ask, stream_ask = (_ask(dialect.read("chat", content, "application/json")) for content in (body, streamed))
    head, raw = head_fields()
    fields = {name.lower(): value for name, value in raw.items()}
    token = b".".join((b"h" * 80, b"c" * 400, b"s" * 342))  # as long as one with a few claims and an RSA signature
    holder = Bearer(id="https://login.example.com#bench", name="bench", kind="token", grounds="g")
    known = {sha256(token).digest(): (holder, 2.0)}
    whole = Ruled(dialect.name, ask)
    ruled = Snapshot(
        SnapshotSpec(generation=1, models=(model,), roles=(PARTNER,)),
        KeyTable((msgspec.structs.replace(key, roles=("partner",)), *(a_key(number) for number in range(KEYS)))),
    )
    taking = Snapshot(SnapshotSpec(generation=1, models=(model,), auth=AuthSpec(signed=True)), KeyTable((key, *many)), known)
    bearing = {**fields, b"authorization": b"Bearer " + token}
    prefix = heads.instance_fields("127.0.0.1", 9000, False, None)
    answer = wire.answer()
    event = b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
    scanner = dialect.scanner("chat", stream_ask)
    passed = b"content-type: application/json\r\n"
    reader, line = heads.HeadReader(), heads.request_line("POST", wire.PATH)
    read = reader.read(head, raw)
    assert not isinstance(read, Refuse)
    framing, date = b"content-length: 321\r\n", b"date: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
    journal = Journal(directory / "journal", "a" * 12, 64 * 1024 * 1024)
    intent, receipt = encode(an_intent(1)), encode(a_receipt(1))
    client = heads.client_fields(read, answers.JSON)
    request = wire.request(9000, body)

    def write_both() -> None:
        journal.receipt(receipt, journal.intent(intent))

    seen = seen_head(request[: -len(body)])
    assert seen is not None

    def authorize() -> None:
        found = identify(snapshot, fields, 1.0)
        assert isinstance(found, tuple)
        decide(snapshot.access(found[0]), ask, "chat", _FACTS)

    def authorize_ruled() -> None:
        found = identify(ruled, fields, 1.0)
        assert isinstance(found, tuple)
        assert isinstance(decide(ruled.access(found[0]), ask, "chat", whole), Admit)

    def authorize_token() -> None:
        found = identify(taking, bearing, 1.0)
        assert isinstance(found, tuple)
        decide(taking.access(found[0]), ask, "chat", _FACTS)

    queue: FairQueue[int] = FairQueue()
    for number in range(WAITING):
        queue.join(number, f"key{number % 50}", 0, 1, 300, 0.0)

    def take_a_turn() -> None:
        number = queue.next(1.0)
        queue.join(number, f"key{number % 50}", 0, 1, 300, 1.0)

    def find_no_place() -> None:
        queue.join(-1, "key7", 0, 1, 300, 1.0)
        queue.leave(queue.surplus())

    def parse() -> None:
        httptools.HttpRequestParser(_Parsed()).feed_data(request)

    return {
        "llhttp parse of the request": parse,
        "http1.HeadReader.read": lambda: reader.read(head, raw),
        "policy.identify": lambda: identify(snapshot, fields, 1.0),
        "dialect.read": lambda: dialect.read("chat", body, "application/json"),
        "policy.decide": lambda: decide(snapshot.access(key), ask, "chat", _FACTS),
        "policy.identify and decide, 100,000 keys": authorize,
        "policy.identify and decide, a known token": authorize_token,
        "policy.identify and decide, eight rules": authorize_ruled,
        "dialect.patch (nothing to change)": lambda: dialect.patch("chat", ask, body, None),
        "dialect.patch (model renamed)": lambda: dialect.patch("chat", ask, body, "other"),
        "http1.SeenHead.body": lambda: seen.body(request),
        "http1.upstream_request": lambda: heads.upstream_request(line, prefix, client, b"req-1", body),
        "http1.answer_head": lambda: heads.answer_head(200, passed, date, b"req-1", (0, 900, 40), framing),
        "dialect.usage": lambda: dialect.usage("chat", answer),
        "dialect.scanner (made)": lambda: dialect.scanner("chat", stream_ask),
        "scanner.feed (one event)": lambda: scanner.feed(event),
        "policy.queue: one goes, one comes": take_a_turn,
        "policy.queue: one comes, no place": find_no_place,
        "journal: intent and receipt": write_both,
        "policy.prefix.affinity_of (8 kB)": lambda: affinity_of([PROMPT]),
        **{f"policy.balance: {name}": step for name, step in choices().items()},
    }


class Chosen:
    """An instance as strategies see it."""

    __slots__ = ("busy", "down_until", "learned_at", "max_in_flight", "name", "others", "served", "share", "slowness", "weight")

    def __init__(self, number: int) -> None:
        self.name = f"m/10.0.{number // 256}.{number % 256}:8000"
        self.busy, self.others, self.weight = number % 3, number % 2, 1
        self.max_in_flight: int | None = 16
        self.down_until = self.served = self.learned_at = 0.0
        self.slowness = 0.1 + number % 5
        self.share = 1.0


def choices() -> dict[str, Step]:
    """Every strategy over few, many and very many instances."""
    makes: dict[str, Callable[[list[Chosen]], Chooser[Chosen]]] = {
        "in turn": lambda instances: InTurn(instances, weighted=True),
        "least_busy": LeastBusy,
        "peak_ewma": PeakEwma,
        "consistent_hash": Ring,
        "prefix": Prefix,
    }
    return {
        f"{name} of {count}": _choice(make([Chosen(number) for number in range(count)]))
        for name, make in makes.items()
        for count in (4, 100, 1000)
    }


def _choice(chooser: Chooser[Chosen]) -> Step:
    """What the pool does to choose, and the count of what was served."""
    many, affinity = len(chooser.candidates) > SCANNED, affinity_of([PROMPT])
    in_flight = sum(one.busy + one.others for one in chooser.candidates)
    chooser.took(affinity, chooser.candidates[0])

    def choose() -> None:
        one = chooser.choose(1.0, (), getrandbits(64) if many else 0, in_flight, affinity)
        assert one is not None
        one.served += 1

    return choose


class _Facts:
    """What rules may ask of a request."""

    address = -1
    body_size = 0

    def second(self) -> float:
        return 0.0

    def parameter(self, name: str) -> tuple[()]:
        return ()


_FACTS = _Facts()
PARTNER = RoleSpec(
    name="partner",
    models=(wire.MODEL,),
    endpoints=("chat", "embeddings", "models"),
    parameters=(
        ParameterRule(name="max_tokens", max=512),
        ParameterRule(name="n", max=1),
        ParameterRule(name="logprobs", deny=True),
    ),
    max_body=64 * 1024,
    max_context=4096,
    stream=False,
    networks=("203.0.113.0/24",),
    hours=(Hours((0, 1, 2, 3, 4), 480, 1080, "Europe/Berlin"),),
)
"""A role with a rule of every kind: eight that look at the request itself."""


class Ruled:
    """What rules ask, as an exchange finds it."""

    body_size = 320

    def __init__(self, dialect: str, ask: Ask) -> None:
        self.address = number_of("203.0.113.9")
        self._dialect = dialect
        self._ask = ask
        self._second = _NOW.timestamp()

    def second(self) -> float:
        return self._second

    def parameter(self, name: str) -> list[Scalar]:
        return values(self._dialect, self._ask.fields, name)


def _ask(found: object) -> Ask:
    if not isinstance(found, Ask):
        raise SystemExit(f"the benchmark's own request is refused: {found}")
    return found


def ingest(directory: Path) -> float:
    """Nanoseconds of processor time per receipt, from journal segments into a SQLite ledger and an access log.

    As on the road: ids that are the requests' names, segments full or still being written. A worker's
    unused space is read to its end only when the worker is gone, which is no receipt's cost.
    """
    where = directory / "segments"
    journal = Journal(where, "c" * 12, 16 * 1024 * 1024)
    for number in range(RECEIPTS):
        journal.receipt(encode(a_receipt(number)))
    store = open_store(directory / "ledger.sqlite")
    log = AccessLog([Target(directory / "access.log")])
    reader = Ingest(store, where, log.write)
    taken, begun = 0, time.process_time_ns()
    while some := reader.run_once():
        taken += some
    log.close()
    took = time.process_time_ns() - begun
    journal.close()
    store.close()
    if taken != RECEIPTS:
        raise SystemExit(f"the ingest took {taken} receipts of {RECEIPTS}")
    return took / RECEIPTS


def main(wanted: list[str]) -> int:
    empty = nanoseconds(lambda: None)
    print(f"calibration: an empty call takes {empty:.0f} ns and is subtracted")
    with tempfile.TemporaryDirectory(prefix="slmgate-rooms-") as name:
        directory = Path(name)
        for called, step in steps(directory).items():
            if not wanted or any(word in called for word in wanted):
                print(f"{called:40} {max(0.0, nanoseconds(step) - empty):9,.0f} ns")
        if not wanted or any(word in "control.ledger ingest" for word in wanted):
            print(f"{'control.ledger ingest, per receipt':40} {ingest(directory):9,.0f} ns")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
