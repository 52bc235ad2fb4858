"""The gate as real processes: writes its configuration, starts it, knows its process ids, reads its ledger, ends it.

Black box: it uses the documented command, the documented configuration and HTTP; only the ledger file is read directly,
and that read-only. It knows nothing of what a test is about. `SLMGATE_STAND_IN=relay` puts the deliberately broken
stand-in of `stand_in.py` in the gate's place, which shows that a test can fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml

from tests.tools.parent import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
SECRET = "sk-test-main-0123456789abcdef"
OTHER = "sk-test-other-0123456789abcdef"
WORKER, CONTROL = "slmgate.dataplane.worker", "slmgate.control.process"

T = TypeVar("T")


def digest(secret: str) -> str:
    """A declared key's `hash`."""
    return "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def eventually(probe: Callable[[], T], within: float, what: str, pause: float = 0.02) -> T:
    """The first true result of `probe`, or a failure that says what did not happen."""
    end = time.monotonic() + within
    while True:
        if found := probe():
            return found
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(pause)


def get(port: int, path: str, timeout: float = 2.0) -> int:
    """The status of a GET on a connection of its own, 0 when there is no answer."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        link.request("GET", path)
        return link.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        link.close()


def model(*urls: str, engine: str = "openai", **options: Any) -> dict[str, Any]:
    """A model's configuration over instances at these addresses."""
    return {"instances": [{"url": url, "engine": engine} for url in urls], **options}


class Gate:
    """One running gate. `options` are top-level configuration beside listen, admin, state_dir, keys and models.

    `tls`: the options of a second listener, on `tls_port`; the first one always speaks plain HTTP. `more_listeners`: whole ones.
    """

    def __init__(
        self,
        home: Path,
        models: dict[str, Any],
        *,
        prefix: tuple[str, ...] = (),
        env: dict[str, str] | None = None,
        wait: bool = True,
        tls: Any = None,
        **options: Any,
    ) -> None:
        self.home, self.prefix, self.env = home, prefix, env or {}
        self.port, self.admin, self.tls_port = free_port(), free_port(), free_port()
        listen: list[dict[str, Any]] = [{"address": f"127.0.0.1:{self.port}"}]
        if tls is not None:
            listen.append({"address": f"127.0.0.1:{self.tls_port}", "tls": tls})
        listen += options.pop("more_listeners", [])
        self.file, self.log = home / "slmgate.yaml", home / "gate.log"
        self.state = Path(options.pop("state_dir", home / "state"))
        self.config: dict[str, Any] = {
            "listen": listen,
            "admin": {"address": f"127.0.0.1:{self.admin}"},
            "state_dir": str(self.state),
            "workers": 2,
            "models": models,
            "keys": [{"name": "main", "hash": digest(SECRET)}, {"name": "other", "hash": digest(OTHER)}],
            **options,
        }
        self.seen: dict[int, psutil.Process] = {}
        self.started: list[subprocess.Popen[bytes]] = []  # every gate that ran here
        self.write()
        self.start(wait)

    def write(self, **changes: Any) -> None:
        """Replace the configuration file at once, as an editor does."""
        self.config |= changes
        fresh = self.file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(self.config, sort_keys=False))
        fresh.replace(self.file)

    def start(self, wait: bool = True) -> None:
        self.process = self._launched()
        if wait:
            self.wait_ready()

    def heir(self) -> subprocess.Popen[bytes]:
        """Another gate with the same configuration file, which is to take over from this one. This one is still `process`."""
        self.processes()
        made = self._launched("--takeover")
        self.seen[made.pid] = psutil.Process(made.pid)
        return made

    def take_over(self, within: float = 20.0) -> subprocess.Popen[bytes]:
        """Have an heir take over, and go on as that one. Returns the old gate's process, which may still have work."""
        old, mark = self.process, len(self.log.read_text(errors="replace"))
        made = self.heir()

        def taken() -> bool:
            assert made.poll() is None, f"the new gate ended with {made.returncode}:\n{self.text()}"
            return "taken over from" in self.log.read_text(errors="replace")[mark:]

        eventually(taken, within, "the new gate has taken over")
        self.process = made
        self.processes()
        return old

    def _launched(self, *flags: str) -> subprocess.Popen[bytes]:
        inner = (
            ["-m", "tests.tools.stand_in", os.environ["SLMGATE_STAND_IN"]]
            if os.environ.get("SLMGATE_STAND_IN")
            else ["-m", "slmgate", "serve"]
        )
        command = [*self.prefix, sys.executable, *inner, "-c", str(self.file), *flags]
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
        with self.log.open("ab") as log:
            env = {**os.environ, "PYTHONPATH": path, **self.env}
            made = subprocess.Popen(
                command, cwd=self.home, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, preexec_fn=die_with_parent
            )
        self.started.append(made)
        return made

    def wait_ready(self, within: float = 10.0) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"the gate ended with {self.process.returncode}:\n{self.text()}"
            return get(self.port, "/readyz") == 200

        try:
            eventually(ready, within, "the gate is ready")
        except AssertionError:
            self.stop()
            raise AssertionError(f"the gate is not ready:\n{self.text()}") from None
        self.processes()

    def text(self) -> str:
        """The end of what it said, without the access log's lines."""
        lines = self.log.read_text(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith('{"id":'))[-8000:]

    def processes(self) -> list[psutil.Process]:
        """The supervisor and everything below it; remembered, so that `stop` finds what outlived its parent."""
        found: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            found = [top, *top.children(recursive=True)]
        self.seen |= {each.pid: each for each in found}
        return found

    def pids(self, what: str) -> list[int]:
        """The live processes whose command line holds `what` (`WORKER` or `CONTROL`)."""
        found: list[int] = []
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.status() != psutil.STATUS_ZOMBIE and any(what in word for word in each.cmdline()):
                    found.append(each.pid)
        return sorted(found)

    def workers(self) -> list[int]:
        return self.pids(WORKER)

    def control(self) -> int:
        (pid,) = eventually(lambda: self.pids(CONTROL), 5, "a control process runs")
        return pid

    def ports_of(self, pid: int) -> set[int]:
        """Client ports of the connections that this process holds on the gate's port."""
        links = psutil.Process(pid).net_connections(kind="tcp")
        return {each.raddr.port for each in links if each.raddr and each.laddr.port == self.port}

    def rss(self) -> int:
        """Bytes of the largest worker."""
        return max(psutil.Process(pid).memory_info().rss for pid in self.workers())

    def descriptors(self) -> int:
        return sum(psutil.Process(pid).num_fds() for pid in self.workers())

    def rows(self) -> list[dict[str, Any]]:
        """All receipts in the ledger; none while there is no ledger yet."""
        path = self.state / "ledger.sqlite3"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as store:
            store.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in store.execute("select * from receipts")]
            except sqlite3.OperationalError as missing:
                if "no such table" in str(missing):
                    return []
                raise

    def receipts(self, ids: Iterable[str], within: float = 5.0) -> dict[str, dict[str, Any]]:
        """The receipt of each request id, once all have one; each exactly one."""
        wanted = set(ids)
        eventually(
            lambda: wanted <= {row["request_id"] for row in self.rows()}, within, f"{len(wanted)} receipts are in the ledger", 0.1
        )
        rows = [row for row in self.rows() if row["request_id"] in wanted]
        assert len(rows) == len(wanted), f"{len(rows)} receipts for {len(wanted)} requests"
        return {row["request_id"]: row for row in rows}

    def receipt(self, request_id: str | None) -> dict[str, Any]:
        assert request_id, "the answer has no x-request-id"
        return self.receipts([request_id])[request_id]

    def terminate(self, within: float = 40.0) -> int:
        self.processes()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def kill_everything(self) -> None:
        """kill -9 of the supervisor first, then of all that it started, each by its pid."""
        everything = self.processes()
        for each in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(everything[1:], timeout=5)
        self.process.wait(5)

    def stop(self) -> None:
        """End it however it is; leaves none of its processes behind."""
        self.processes()
        if self.process.poll() is None:
            for each in self.seen.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.resume()
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.processes()
        for each in self.seen.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                if each.is_running():
                    each.kill()
        for one in self.started:
            one.wait(5)
