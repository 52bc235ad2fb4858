"""A new gate takes over from a running one under load: no client notices, no receipt is missing or there twice, no limit passed.

Nor when it goes wrong: a new one that cannot start, or either of them killed in the middle. The clients' journal is the truth.
Processes are ended by pid only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.system.conftest import Launch
from tests.system.limited import CLIENTS, Proof, check_headers, rows, settings
from tests.system.scenes import PLAIN, compare_with_ledger
from tests.tools.authority import Authority, TlsWire
from tests.tools.crowd import Crowd
from tests.tools.gate import CONTROL, OTHER, SECRET, WORKER, Gate, digest, eventually, free_port, get, model
from tests.tools.load import RATE, STREAMS, Background, Link, Loader, rounds
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, ask, chat, request


class Fresh(Loader):
    """Clients that make a connection for each request."""

    async def link(self) -> Link:
        while self.idle:
            self.idle.pop().transport.abort()
        return await super().link()


def ended(process: subprocess.Popen[bytes], within: float = 15.0) -> int:
    return process.wait(within)


def nothing_left(gate: Gate) -> bool:
    """Of all the processes that any gate here ever had, only those of the one that runs now are alive."""
    mine = {each.pid for each in gate.processes()}
    return all(pid in mine or not alive(each) for pid, each in gate.seen.items())


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def said(gate: Gate, words: str, mark: int = 0) -> bool:
    return words in gate.log.read_text(errors="replace")[mark:]


# --- it works ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_takeovers_in_a_row_under_load(launch: Launch, upstream: MockUpstream, workers: int) -> None:
    """Kept connections, new ones and live streams: not one error, each receipt once, and no process left."""
    gate = launch({"tiny": model(upstream.url)}, workers=workers, drain_timeout="120s")
    kept, fresh = Loader(gate.port, SECRET, seed=91), Fresh(gate.port, SECRET, seed=92)
    times = rounds(3, 10)
    seconds = 6.0 * times
    old: list[subprocess.Popen[bytes]] = []
    with (
        Background(kept.run(RATE, seconds, streams=STREAMS // 2, events=20, event_rate=8), seconds + 90),
        Background(fresh.run(RATE / 2, seconds, streams=STREAMS // 2), seconds + 90),
    ):
        time.sleep(0.5)
        for _ in range(times):
            old.append(gate.take_over())
            assert get(gate.port, "/readyz") == 200
            assert get(gate.admin, "/readyz") == 200
    assert not kept.bad(), kept.told()
    assert not fresh.bad(), fresh.told()
    for each in old:
        assert ended(each, 25) == 0
    eventually(lambda: nothing_left(gate), 5, "nothing of the old gates is left")
    assert len(gate.pids(CONTROL)) == 1
    assert len(gate.workers()) == workers
    compare_with_ledger(gate, kept, upstream)
    compare_with_ledger(gate, fresh, upstream)


def test_an_idle_client_is_served_once_more_and_told_to_go(launch: Launch, upstream: MockUpstream) -> None:
    """Its next request may be under way when the gate changes; and what it has sent on behind it is answered too."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, drain_timeout="20s")
    with Wire(gate.port) as idle, Wire(gate.port) as pipelining, Wire(gate.port) as fast:
        for wire in (idle, pipelining, fast):
            assert wire.ask(PLAIN).status == 200
        fast.send(request(chat(stream=True, events=40, rate=5), secret=SECRET) + PLAIN + PLAIN)
        time.sleep(0.5)
        old = gate.take_over()
        time.sleep(0.5)
        answer = idle.ask(PLAIN)
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert idle.closed()
        pipelining.send(PLAIN * 3)
        answers = [pipelining.answer() for _ in range(3)]
        assert [each.status for each in answers] == [200] * 3
        assert [each.header("connection") for each in answers] == [None, None, "close"]
        stream, *rest = [fast.answer() for _ in range(3)]
        assert b"[DONE]" in stream.body
        assert [each.status for each in rest] == [200, 200]
    assert ended(old) == 0


def test_a_stop_sends_idle_clients_away_but_no_other(launch: Launch, upstream: MockUpstream) -> None:
    """As of a gate that is alone; a second one ends it at once."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, drain_timeout="60s")
    with Wire(gate.port) as idle, Wire(gate.port) as live, Wire(gate.port) as long:
        assert idle.ask(PLAIN).status == 200
        live.send(request(chat(stream=True, events=60, rate=10), secret=SECRET))
        long.send(request(chat(stream=True, events=1000, rate=10), secret=SECRET))
        assert live.event() and long.event()
        old = gate.take_over()
        old.terminate()
        assert idle.closed()
        while (event := live.event()) is not None and b"[DONE]" not in event:
            pass
        assert event is not None, "the stream was cut"
        assert old.poll() is None
        old.terminate()
        assert ended(old, 5) == 0
        assert ask(gate.port, PLAIN).status == 200


def test_a_pipelining_client_loses_no_answer(launch: Launch, upstream: MockUpstream) -> None:
    """Clients that send five requests at once, on kept connections, all through a takeover."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, drain_timeout="20s")
    counted, stop = 0, time.monotonic() + 60
    heir = gate.heir()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(gate.port)) for _ in range(8)]
        done = 0
        while done < 40 and time.monotonic() < stop:
            done += said(gate, "taken over from")
            for at, wire in enumerate(wires):
                wire.send(PLAIN * 5)
                answers = [wire.answer() for _ in range(5)]
                assert [each.status for each in answers] == [200] * 5
                counted += 5
                if answers[-1].header("connection") == "close":
                    assert wire.closed()
                    wires[at] = stack.enter_context(Wire(gate.port))
    old, gate.process = gate.process, heir
    assert ended(old) == 0
    eventually(lambda: len(gate.rows()) == counted, 10, "each has its receipt")


def test_with_more_and_with_fewer_workers(launch: Launch, upstream: MockUpstream) -> None:
    """No socket is given up, as those who stand in its line would be reset."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, drain_timeout="20s")
    loader = Loader(gate.port, SECRET, seed=93)
    with Background(loader.run(RATE, 18, streams=STREAMS, events=10)):
        time.sleep(0.5)
        for workers in (3, 1, 2):
            gate.write(workers=workers)
            old = gate.take_over()
            assert len(gate.workers()) == workers
            assert ended(old, 25) == 0
    assert not loader.bad(), loader.told()
    compare_with_ledger(gate, loader, upstream)


@pytest.mark.parametrize("workers", [1, 2])
def test_limits_stay_exact(launch: Launch, upstream: MockUpstream, workers: int) -> None:
    """The workers of both gates count in one table: nothing above a limit in any window. A lone one counts without a lock."""
    limited = rows(sizes=(1, 7, 100))
    gate = launch({"tiny": model(upstream.url)}, workers=workers, drain_timeout="20s", **settings(limited))
    crowd = Crowd(gate.port, [row.caller for row in limited], seed=408)
    with Background(crowd.press(CLIENTS // 2, 16), 120):
        time.sleep(1)
        for _ in range(2):
            gate.take_over()
    wrong = [each for each in crowd.journal if each.status not in (200, 413, 429)]
    assert not wrong, f"{len(wrong)} of {len(crowd.journal)}: {wrong[0]}"
    check_headers(crowd.journal)
    Proof(gate, crowd, upstream).check(limited)


def test_old_workers_hear_of_keys_that_go(launch: Launch, upstream: MockUpstream) -> None:
    """They come to the new gate's control, by the old one's socket."""
    gate = launch({"tiny": model(upstream.url)}, workers=1, drain_timeout="20s")
    with Wire(gate.port) as first, Wire(gate.port) as second:
        for wire in (first, second):
            assert wire.ask(PLAIN).status == 200
        old = gate.take_over()
        time.sleep(0.5)
        assert first.ask(PLAIN).status == 200
        gate.write(keys=[{"name": "other", "hash": digest(OTHER)}])
        eventually(lambda: ask(gate.port, PLAIN).status == 401, 5, "the new workers know")
        assert second.ask(PLAIN).status == 401
    assert ended(old) == 0


def test_with_a_ledger_that_is_behind(launch: Launch, upstream: MockUpstream) -> None:
    """Control ends at once however much there is to take into the ledger: the new one goes on with it."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, drain_timeout="20s", journal={"segment_size": "1MiB"})
    loader = Loader(gate.port, SECRET, seed=96)
    with Background(loader.run(500, 8, delay=0.0)):
        time.sleep(2)
        started = time.monotonic()
        gate.take_over()
        print(f"taken over after {time.monotonic() - started:.1f} s")
    assert not loader.bad(), loader.told()
    compare_with_ledger(gate, loader, upstream)


def test_one_worker_each_and_one_at_once(launch: Launch, upstream: MockUpstream) -> None:
    """A lone worker counts without a lock until there is another; what its gate still does is held until it is done."""
    roles = {"one": {"models": ["*"], "endpoints": ["*"], "limits": ["1 concurrent"]}}
    gate = launch({"tiny": model(upstream.url)}, workers=1, roles=roles, keys=[], drain_timeout="20s")
    gate.write(keys=[{"name": "main", "hash": digest(SECRET), "roles": ["one"]}])
    eventually(lambda: ask(gate.port, PLAIN).status == 200, 5, "the key is known")
    with Wire(gate.port) as live:
        live.send(request(chat(stream=True, events=100, rate=10), secret=SECRET))
        assert live.event()
        old = gate.take_over()
        assert old.poll() is None
        assert [ask(gate.port, PLAIN).status for _ in range(5)] == [429] * 5
        while (event := live.event()) is not None and b"[DONE]" not in event:
            pass
        assert event is not None
    assert ended(old) == 0
    eventually(lambda: ask(gate.port, PLAIN).status == 200, 2, "what was held is given back")


def test_what_a_killed_old_worker_held_is_given_back(launch: Launch, upstream: MockUpstream) -> None:
    """Nobody takes the place of a worker of a gate that has given over."""
    roles = {"one": {"models": ["*"], "endpoints": ["*"], "limits": ["1 concurrent"]}}
    keys = [{"name": "main", "hash": digest(SECRET), "roles": ["one"]}]
    gate = launch({"tiny": model(upstream.url)}, workers=1, roles=roles, keys=keys, drain_timeout="20s")
    (victim,) = gate.workers()
    with Wire(gate.port) as live:
        live.send(request(chat(stream=True, events=300, rate=10, tag="cut"), secret=SECRET, headers=("X-Request-Id: cut",)))
        assert live.event()
        old = gate.take_over()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: ask(gate.port, PLAIN).status == 200, 2, "what was held is given back")
    assert ended(old) == 0
    assert gate.receipt("cut")["ended"] == "unknown"


def test_what_needs_a_restart_comes_without_one(launch: Launch, upstream: MockUpstream) -> None:
    """Another listener, another admin address: options that a reload cannot change."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    more, admin = free_port(), free_port()
    listen = [{"address": f"127.0.0.1:{gate.port}"}, {"address": f"127.0.0.1:{more}"}]
    gate.write(listen=listen, admin={"address": f"127.0.0.1:{admin}"})
    old = gate.take_over()
    assert ended(old) == 0
    assert {ask(port, PLAIN).status for port in (gate.port, more)} == {200}
    assert get(admin, "/readyz") == 200
    assert get(gate.admin, "/healthz", 0.5) == 0
    gate.admin = admin
    gate.write(listen=listen[:1])
    assert ended(gate.take_over()) == 0
    assert get(more, "/healthz", 0.5) == 0, "nobody is to wait there for ever"


def test_a_new_certificate_without_a_dropped_connection(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """Files of TLS are read at the start: the new workers have the new ones, on the same sockets."""
    before, after = Authority(tmp_path / "before"), Authority(tmp_path / "after")
    gate = launch({"tiny": model(upstream.url)}, workers=2, drain_timeout="20s", tls={"certificates": [before.server()]})
    with TlsWire(gate.tls_port, before.context()) as idle, TlsWire(gate.tls_port, before.context()) as live:
        assert idle.ask(PLAIN).status == 200
        live.send(request(chat(stream=True, events=40, rate=8), secret=SECRET))
        gate.config["listen"][1]["tls"] = {"certificates": [after.server()]}
        gate.write()
        old = gate.take_over()
        answer = idle.ask(PLAIN)
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert b"[DONE]" in live.answer().body
    assert ended(old) == 0
    for _ in range(8):
        with TlsWire(gate.tls_port, after.context()) as fresh:
            assert fresh.ask(PLAIN).status == 200


def test_signal_starts_the_new_one_and_systemd_is_told(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(15)
        gate = launch({"tiny": model(upstream.url)}, workers=1, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        first = gate.process
        assert manager.recv(100) == b"READY=1\nMAINPID=%d" % first.pid
        first.send_signal(signal.SIGUSR2)
        ready, _, pid = manager.recv(100).decode().partition("\nMAINPID=")
        assert ready == "READY=1"
        second = psutil.Process(int(pid))
        gate.seen |= {each.pid: each for each in (second, *second.children())}
        assert ended(first) == 0
        assert ask(gate.port, PLAIN).status == 200
        second.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        psutil.wait_procs([second], timeout=10)
        assert not alive(second)


def test_without_a_gate_to_take_over_from_it_just_starts(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    gate.terminate()
    gate.process = gate.heir()
    gate.wait_ready()
    assert ask(gate.port, PLAIN).status == 200


# --- it does not -------------------------------------------------------------------------------------------------------


def as_before(gate: Gate, workers: list[int]) -> None:
    """The gate that ran goes on, whole."""
    assert gate.process.poll() is None
    assert gate.pids(WORKER) == workers
    eventually(lambda: get(gate.admin, "/readyz") == 200, 10, "control is back")
    assert ask(gate.port, PLAIN).status == 200


def test_a_bad_configuration_changes_nothing(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    workers, control = gate.workers(), gate.control()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for changes, words in (
            ({"nonsense": 1}, "nonsense"),
            ({"nonsense": None, "listen": [{"address": f"127.0.0.1:{taken.getsockname()[1]}"}]}, "cannot listen"),
        ):
            gate.config = {name: value for name, value in (gate.config | changes).items() if value is not None}
            gate.write()
            mark = len(gate.log.read_text(errors="replace"))
            heir = gate.heir()
            assert ended(heir) == 1
            assert said(gate, words, mark)
            assert said(gate, "not started", mark)
    as_before(gate, workers)
    assert gate.control() == control


def test_without_the_flag_it_is_refused(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    workers = gate.workers()
    with contextlib.suppress(AssertionError):
        second = gate._launched()
        assert ended(second) == 1
    assert said(gate, "--takeover")
    as_before(gate, workers)


def test_a_new_gate_that_crashes_at_its_start(launch: Launch, upstream: MockUpstream) -> None:
    """Its control cannot read the ledger: the old one takes its control back and goes on."""
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    workers = gate.workers()
    loader = Loader(gate.port, SECRET, seed=94)
    with Background(loader.run(RATE, 8, streams=STREAMS)):
        time.sleep(0.5)
        gate.env["PYTHONSAFEPATH"] = "1"
        broken = gate.home / "broken"
        (broken / "uvicorn").mkdir(parents=True)
        (broken / "uvicorn" / "__init__.py").write_text("raise RuntimeError('a broken build')\n")
        gate.env["PYTHONPATH"] = os.pathsep.join([str(broken), str(Path(__file__).parents[2] / "src")])
        heir = gate.heir()
        assert ended(heir, 20) == 1
    assert said(gate, "a broken build")
    assert said(gate, "control ended with code 1 while starting")
    assert said(gate, "the takeover has not come about")
    as_before(gate, workers)
    assert not loader.bad(), loader.told()
    compare_with_ledger(gate, loader, upstream)


@pytest.mark.parametrize("moment", ["ending control", "listening on"])
def test_the_new_one_is_killed_in_the_middle(launch: Launch, upstream: MockUpstream, moment: str) -> None:
    """kill -9 of it while the old one's control ends, and when its own workers take clients already."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, drain_timeout="20s")
    workers = gate.workers()
    loader = Loader(gate.port, SECRET, seed=95)
    eventually(lambda: said(gate, "admin listening on"), 10, "all of it is ready, and has said so")
    with Background(loader.run(RATE, 10, streams=STREAMS)):
        time.sleep(1)
        mark = len(gate.log.read_text(errors="replace"))
        heir = gate.heir()
        eventually(lambda: said(gate, moment, mark), 15, moment)
        gate.seen |= {each.pid: each for each in psutil.Process(heir.pid).children(recursive=True)}
        heir.kill()
        heir.wait(5)
        eventually(lambda: said(gate, "the takeover has not come about", mark), 5, "the old one knows")
        as_before(gate, workers)
    assert not loader.bad(), loader.told()
    eventually(lambda: nothing_left(gate), 25, "nothing of the new gate is left")
    assert len(gate.pids(CONTROL)) == 1
    compare_with_ledger(gate, loader, upstream)
    assert ended(gate.take_over()) == 0, "the next one comes about"


@pytest.mark.parametrize("moment", ["ending control", "listening on"])
def test_the_old_one_is_killed_in_the_middle(launch: Launch, upstream: MockUpstream, moment: str) -> None:
    """kill -9 of the old supervisor: the new one has all it needs; who connects waits a moment at the most."""
    gate = launch({"tiny": model(upstream.url)}, workers=2, drain_timeout="20s")
    eventually(lambda: said(gate, "admin listening on"), 10, "all of it is ready, and has said so")
    mark = len(gate.log.read_text(errors="replace"))
    with Wire(gate.port) as live:
        live.send(request(chat(stream=True, events=60, rate=10), secret=SECRET))
        assert live.event()
        heir = gate.heir()
        eventually(lambda: said(gate, moment, mark), 15, moment)
        gate.process.kill()
        gate.process.wait(5)
        gate.process = heir
        for _ in range(20):
            assert ask(gate.port, PLAIN, timeout=15).status == 200
            time.sleep(0.05)
        while (event := live.event()) is not None and b"[DONE]" not in event:
            pass
        assert event is not None, "a live stream was cut"
    eventually(lambda: said(gate, "taken over from", mark), 15, "it has taken over")
    eventually(lambda: nothing_left(gate), 25, "nothing of the old gate is left")
    assert len(gate.pids(CONTROL)) == 1
    eventually(lambda: len(gate.rows()) == 21, 10, "each has its receipt, once")
    assert ended(gate.take_over()) == 0


def test_a_stuck_operator_holds_up_neither_a_takeover_nor_the_end(launch: Launch, upstream: MockUpstream) -> None:
    """Whoever reaches the admin listener may begin a request and never end it."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    head = f"POST /login HTTP/1.1\r\nhost: 127.0.0.1:{gate.admin}\r\norigin: http://127.0.0.1:{gate.admin}\r\n"
    head += "content-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\na"

    def sticks() -> socket.socket:
        one = socket.create_connection(("127.0.0.1", gate.admin))
        one.sendall(head.encode())
        assert get(gate.admin, "/readyz") == 200
        return one

    with sticks():
        old = gate.take_over()
        assert ended(old) == 0
    assert ask(gate.port, PLAIN).status == 200
    with sticks():
        gate.process.send_signal(signal.SIGTERM)
        assert ended(gate.process, 12) == 0
    assert "Traceback" not in gate.log.read_text(errors="replace")


def test_two_at_once(launch: Launch, upstream: MockUpstream) -> None:
    """The second is told so."""
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    first, second = gate.heir(), gate.heir()
    eventually(lambda: first.poll() is not None or second.poll() is not None, 15, "one of them gives up")
    loser, winner = (first, second) if first.poll() is not None else (second, first)
    assert loser.returncode == 1
    assert said(gate, "another takeover is under way")
    old, gate.process = gate.process, winner
    assert ended(old) == 0
    assert ask(gate.port, PLAIN).status == 200
