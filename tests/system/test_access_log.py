"""The access log's targets against what really reads and rotates it: rsyslogd, logrotate, a full disk, a pipe that nobody reads.

Whatever becomes of a target, no request waits for it, and no line is lost that need not be. Each is compared with the ledger.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.system.conftest import Launch
from tests.tools.gate import SECRET, Gate, eventually, free_port, model
from tests.tools.parent import die_with_parent
from tests.tools.upstream import MockUpstream
from tests.tools.wire import Wire, chat, request

RSYSLOGD = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
LOGROTATE = shutil.which("logrotate") or "/usr/sbin/logrotate"
COMBINED = re.compile(r'(\S+) - (\S+) \[([^\]]+)\] "([^"]*)" (\d{3}) (\d+) "([^"]*)" "([^"]*)"')


def ask(gate: Gate, count: int = 1, **more: Any) -> None:
    """So many requests, each answered at once."""
    with Wire(gate.port) as wire:
        for _ in range(count):
            assert wire.ask(request(chat(), secret=SECRET, **more)).status in (200, 404)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@contextlib.contextmanager
def rsyslogd(home: Path, tcp: int, udp: int, local: Path) -> Iterator[Path]:
    """A real server on these three places, which writes what it understood: of the header each field, and the message."""
    out = home / "received"
    (home / "rsyslog.conf").write_text(
        f"""global(workDirectory="{home}" maxMessageSize="64k")
module(load="imptcp")
module(load="imudp")
module(load="imuxsock" SysSock.Use="off")
input(type="imptcp" address="127.0.0.1" port="{tcp}" ruleset="all")
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="all")
input(type="imuxsock" Socket="{local}" UseSpecialParser="off" ruleset="all")
template(name="told" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf")
  property(outname="version" name="protocol-version" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="pid" name="procid" format="jsonf")
  property(outname="kind" name="msgid" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="by" name="inputname" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
}}
ruleset(name="all") {{ action(type="omfile" file="{out}" template="told") }}
"""
    )
    command = [RSYSLOGD, "-n", "-f", str(home / "rsyslog.conf"), "-i", str(home / "rsyslogd.pid")]
    with (home / "rsyslog.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)
    try:
        eventually(lambda: listens(tcp) and local.exists(), 20, "rsyslogd listens")
        yield out
    finally:
        server.terminate()
        server.wait(20)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_syslog_over_all_three_roads(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """What a real server reads of it is what the ledger has. It goes away for a while: TCP and the local socket lose nothing."""
    tcp, udp, local = free_port(), free_port(), tmp_path / "log.sock"
    with rsyslogd(tmp_path, tcp, udp, local) as out:
        gate = launch(
            {"tiny": model(upstream.url)},
            workers=1,
            log={
                "access": [
                    {"to": f"syslog:tcp://127.0.0.1:{tcp}", "facility": "local0", "tag": "over-tcp"},
                    {"to": f"syslog:udp://127.0.0.1:{udp}", "format": "logfmt", "tag": "over-udp"},
                    {"to": f"syslog:{local}", "format": "combined", "tag": "over-unix"},
                ]
            },
        )
        ask(
            gate, 3, headers=('X-Request-Id: a"b', 'User-Agent: it "says" [x]', "Referer: https://a.test/")
        )  # such an id is not kept
        ask(gate, 1, path="/v1/chat/%22x%22")
        eventually(lambda: len(lines(out)) == 12, 20, "all of it was received")
    told = [json.loads(line) for line in lines(out)]
    by = {app: [one for one in told if one["app"] == app] for app in ("over-tcp", "over-udp", "over-unix")}
    assert {app: len(found) for app, found in by.items()} == {"over-tcp": 4, "over-udp": 4, "over-unix": 4}
    assert {(one["version"], one["kind"], one["pid"]) for one in told} == {("1", "access", str(gate.control()))}
    assert {one["pri"] for one in by["over-tcp"]} == {str(16 * 8 + 6)}
    assert {one["pri"] for one in by["over-udp"]} == {str(23 * 8 + 6)}
    ids = [row["id"] for row in gate.rows()]
    assert sorted(json.loads(one["msg"])["id"] for one in by["over-tcp"]) == sorted(ids)
    assert sorted(one["msg"].split()[0].removeprefix("id=") for one in by["over-udp"]) == sorted(ids)
    found = [COMBINED.fullmatch(one["msg"].strip()) for one in by["over-unix"]]
    assert all(found)
    assert sorted(one[5] for one in found if one) == ["200", "200", "200", "404"]
    agents = sorted((one[7], one[8]) for one in found if one)
    assert agents == [("-", "-"), *[("https://a.test/", r"it \x22says\x22 [x]")] * 3]
    assert sum(json.loads(one["msg"]).get("user_agent") == 'it "says" [x]' for one in by["over-tcp"]) == 3
    # it is gone; nobody waits for it
    ask(gate, 5)
    out.unlink()
    with rsyslogd(tmp_path, tcp, udp, local) as out:
        ask(gate, 2)
        eventually(lambda: len(of("over-unix", out)) == 7 and len(of("over-tcp", out)) == 7, 20, "what waited was sent")
        last = {row["id"] for row in gate.rows()}.difference(ids)
        assert {json.loads(one["msg"])["id"] for one in of("over-tcp", out)} == last


def of(app: str, out: Path) -> list[dict[str, Any]]:
    return [one for one in map(json.loads, lines(out)) if one["app"] == app]


def test_real_logrotate(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """Once by each signal: every line is in exactly one of the files, and none is torn."""
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o755)
    access = folder / "access.log"
    gate = launch({"tiny": model(upstream.url)}, workers=1, log={"access": str(access), "format": "logfmt"})
    for number in (signal.SIGUSR1, signal.SIGHUP):
        script = tmp_path / f"rotate-{number.name}.conf"
        kill = f"kill -{number.value} {gate.process.pid}"
        script.write_text(f"{access} {{\n rotate 4\n missingok\n postrotate\n {kill}\n endscript\n}}\n")
        script.chmod(0o644)
        ask(gate, 20)
        eventually(lambda: len(lines(access)) == 20, 10, "lines are written")
        command = [LOGROTATE, "--force", "--state", str(tmp_path / "state"), str(script)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        eventually(access.exists, 10, f"after {number.name} a new file is there, before any line is")
    ask(gate, 20)
    files = [access, folder / "access.log.1", folder / "access.log.2"]
    ids = eventually(lambda: whole([line for file in files for line in lines(file)], 60), 10, "all lines are there")
    assert sorted(ids) == sorted(row["id"] for row in gate.rows())
    assert [len(lines(file)) for file in files] == [20, 20, 20]


def whole(found: list[str], count: int) -> list[str]:
    return [line.split()[0].removeprefix("id=") for line in found] if len(found) == count else []


def test_a_full_disk_and_a_pipe_that_nobody_reads(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    """Every request is answered, the operator is told, and each place gets every line, none torn, once there is room."""
    fifo, disk = tmp_path / "fifo", tmp_path / "disk"
    os.mkfifo(fifo)
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.fail(f"this needs root, to mount a disk that can be full: {mounted.stderr}")
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", str(disk)], check=False, timeout=20)
        ballast = disk / "ballast"
        gate = launch({"tiny": model(upstream.url)}, workers=1, log={"access": [str(fifo), str(disk / "access.log")]})
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # only now: the gate has begun without anybody
        stack.callback(os.close, reader)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        ballast.write_bytes(bytes(232 * 1024))
        ask(gate, 100)
        eventually(lambda: "No space left on device" in gate.text(), 20, "the operator is told")
        ballast.unlink()
        eventually(lambda: len(lines(disk / "access.log")) == 100, 20, "all lines are on the disk")
        rows = sorted(row["id"] for row in gate.rows())
        assert sorted(json.loads(line)["id"] for line in lines(disk / "access.log")) == rows
        got = bytearray()

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                got.extend(os.read(reader, 65536))
            return got.count(b"\n") >= 100

        eventually(read, 20, "all lines came through the pipe")
        assert sorted(json.loads(line)["id"] for line in got.splitlines()) == rows
        gate.stop()


def test_who_has_stopped_the_terminal_has_not_stopped_the_gate(
    launch: Launch, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """stdout and stderr are one pipe that nobody reads, as behind a pager: control goes on, and the end comes."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **more: start(*words, **{**more, "stdout": writer, "stderr": writer}))
    gate = launch({"tiny": model(upstream.url)}, workers=1)
    monkeypatch.undo()
    control, key = gate.control(), (gate.state / "admin.key").read_text().strip()
    ask(gate, 30)
    for name in ("one", "two", "three"):  # each is told to the operator
        url = f"http://127.0.0.1:{gate.admin}/api/v1/keys"
        made = httpx.post(url, json={"name": name}, headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=10)
        assert made.status_code == 201
    ask(gate)
    assert gate.control() == control
    os.close(writer)
    assert gate.terminate() == 0
    os.close(reader)


def test_a_reload_changes_where_it_goes(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    gate = launch({"tiny": model(upstream.url)}, workers=1, log={"access": str(one)})
    ask(gate, 2)
    eventually(lambda: len(lines(one)) == 2, 10, "lines are written")
    gate.write(log={"access": [str(two), str(tmp_path / "none" / "access.log")], "format": "combined"})
    eventually(two.exists, 10, "the new place is open")
    ask(gate, 2)
    eventually(lambda: len(lines(two)) == 2, 10, "lines go there")
    assert all(COMBINED.fullmatch(line) for line in lines(two))
    assert len(lines(one)) == 2
    assert "none/access.log cannot be opened, its lines are dropped" in gate.text()


def test_a_place_that_cannot_be_opened_at_the_start(launch: Launch, upstream: MockUpstream, tmp_path: Path) -> None:
    gate = launch({"tiny": model(upstream.url)}, wait=False, log={"access": str(tmp_path / "none" / "access.log")})
    assert gate.process.wait(30) == 1
    assert f"the access log {tmp_path}/none/access.log cannot be opened: No such file or directory" in gate.text()
    assert "Traceback" not in gate.text()
