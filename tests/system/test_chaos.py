"""Chaos: instances are killed, frozen, slowed and started again at random under load, while the configuration is read anew.

One healthy instance is always left, so no client may see an error, and no request may be without its receipt. The load are
requests that may be asked of another instance as long as nothing of an answer has come. What instances do is drawn with a seed
that is printed; every process is ended by its id.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest

from tests.system.conftest import Launch
from tests.tools.gate import SECRET, Gate, model
from tests.tools.load import LONG, Background, Loader, percentile
from tests.tools.upstream import MockUpstream

INSTANCES, SPARED = 6, 2
SECONDS = 60 if LONG else 12
RATE = 150 if LONG else 80
FIRST_BYTE = 1
"""Seconds that an instance has for its answer: after that another one is asked."""


class Victim:
    """One instance, and what was done to it."""

    def __init__(self) -> None:
        self.mock = MockUpstream()
        self.state = "well"

    def suffers(self, chance: random.Random) -> str:
        """Something else happens to it, or it is well again."""
        if self.state == "well":
            self.state = chance.choice(("killed", "frozen", "slow"))
            if self.state == "killed":
                self.mock.kill()
            elif self.state == "frozen":
                self.mock.signal(signal.SIGSTOP)
            else:
                self.mock.default(delay=0.2)
        else:
            self.recovers()
        return self.state

    def recovers(self) -> None:
        if self.state == "killed":
            self.mock.start()
        elif self.state == "frozen":
            self.mock.signal(signal.SIGCONT)
        elif self.state == "slow":
            self.mock.default()
        self.state = "well"


@pytest.fixture
def victims() -> Iterator[list[Victim]]:
    made = [Victim() for _ in range(INSTANCES)]
    yield made
    for victim in made:
        victim.recovers()
        victim.mock.close()


def configured(victims: list[Victim]) -> dict[str, object]:
    return {
        "tiny": model(
            *(victim.mock.url for victim in victims),
            balance="least_busy",
            retry={"attempts": INSTANCES, "on": ["connect", "timeout", "502", "503"], "budget": "100%"},
            timeouts={"connect": "500ms", "first_byte": f"{FIRST_BYTE}s"},
            health={"interval": "500ms", "timeout": "500ms"},
        )
    }


def pressed(gate: Gate, seconds: float, seed: int) -> Loader:
    loader = Loader(gate.port, SECRET, seed)
    with Background(loader.run(RATE, seconds)):
        pass
    return loader


def test_nobody_notices_what_happens_to_instances(launch: Launch, victims: list[Victim]) -> None:
    gate = launch(configured(victims), workers=2)
    calm = pressed(gate, 3, 501)
    assert not calm.bad(), calm.told()
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"chaos seed {seed}")
    chance = random.Random(seed)
    loader = Loader(gate.port, SECRET, 502)
    deeds: list[tuple[float, int, str]] = []
    with Background(loader.run(RATE, SECONDS), SECONDS + 60):
        started = time.monotonic()
        reload_at = started + 1
        while time.monotonic() < started + SECONDS - FIRST_BYTE:
            time.sleep(chance.uniform(0.1, 0.6))  # deeds come at random moments of the load
            number = chance.randrange(SPARED, INSTANCES)
            deeds.append((round(time.monotonic() - started, 2), number, victims[number].suffers(chance)))
            if time.monotonic() >= reload_at:
                reload_at += 1
                gate.write(drain_timeout=f"{chance.randint(10, 30)}s")
    print("\n".join(map(str, deeds)))
    assert {deed for _, _, deed in deeds} >= {"killed", "frozen", "slow", "well"}, "void: not everything happened"
    assert not loader.bad(), loader.told()
    rows = gate.receipts((each.id for each in loader.journal), 10)
    spared = {f"tiny/127.0.0.1:{victim.mock.port}" for victim in victims[:SPARED]}
    well = [each.took for each in loader.journal if rows[each.id]["instance"] in spared and rows[each.id]["attempts"] == 1]
    usual, then = (percentile(each, 0.99) * 1000 for each in ([one.took for one in calm.journal], well))
    print(f"{len(loader.journal)} requests; p99 in calm {usual:.1f} ms, at instances that stayed well {then:.1f} ms")
    assert len(well) > len(loader.journal) / 10, "void: instances that stayed well had hardly anything to do"
    assert not LONG or then < 2 * usual, "those that stayed well suffered from the others"
    assert {row["ended"] for row in rows.values()} == {"complete"}
    assert {row["completion_tokens"] for row in rows.values()} == {5}
