"""The ledger of a running gate: sums that equal the receipts through kills of every process, and a backup taken meanwhile.

What sums come to is in tests/contracts; here it is real processes that write them and die.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from slmgate.stores.records import ReceiptFilter
from slmgate.stores.sql import open_store
from tests.system.conftest import Launch
from tests.system.scenes import compare_with_ledger
from tests.system.test_commands import slmgate
from tests.system.test_processes import send
from tests.tools.gate import SECRET, eventually, get, model
from tests.tools.load import RATE, STREAMS, Background, Loader
from tests.tools.upstream import MockUpstream


def right_sums(ledger: Path) -> int:
    """How many requests the sums of a ledger come to, all of which equal their receipts."""
    store = open_store(ledger)
    try:
        assert [difference.told() for found in store.verify() for difference in found.differences] == []
        return sum(row.requests for row in store.usage(["hour"], ReceiptFilter()))
    finally:
        store.close()


def test_sums_and_backup_while_everything_is_killed(launch: Launch, upstream: MockUpstream) -> None:
    gate = launch({"tiny": model(upstream.url)}, workers=2)
    loader = Loader(gate.port, SECRET, seed=71)
    with Background(loader.run(RATE, 6, streams=STREAMS), 90):
        time.sleep(1)
        copied = slmgate(gate.home, "db", "backup", "live.db", "-c", str(gate.file))
        assert (copied.returncode, copied.stderr) == (0, "")
        verified = slmgate(gate.home, "db", "verify", "-c", str(gate.file))
        assert verified.returncode == 0, verified.stdout
        for victim in (gate.control(), gate.workers()[0]):
            send(victim, signal.SIGKILL)
            time.sleep(0.7)
        gate.kill_everything()
    gate.start()
    eventually(lambda: get(gate.admin, "/healthz") == 200, 5, "the admin listener answers")
    compare_with_ledger(gate, loader, upstream)
    rows = len(gate.rows())
    answer = slmgate(gate.home, "usage", "--by", "", "--json", "-c", str(gate.file))
    assert json.loads(answer.stdout)["rows"][0]["requests"] == rows
    gate.stop()
    assert right_sums(gate.state / "ledger.sqlite3") == rows
    assert 0 < right_sums(gate.home / "live.db") < rows
