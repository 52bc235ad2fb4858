"""An engine as a program that behaves badly where it is told to: the mock instance behind a slow, failing or stubborn start.

Each start leaves a line in `--starts` (its process id and the time), so that a test can count them and see that no two ran at
once. It knows nothing of the gate.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.tools.upstream import serve


def main() -> None:
    parser = argparse.ArgumentParser(description="A mock instance that starts badly on command.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--starts", type=Path, required=True, help="a file to which each start adds a line")
    parser.add_argument("--ready-after", type=float, default=0.0, help="seconds before it listens")
    parser.add_argument("--fails-while", type=Path, help="end with code 7 while this file is there")
    parser.add_argument("--ignores-term", action="store_true")
    parser.add_argument("--says", type=int, default=1, help="lines that it prints at its start")
    parser.add_argument("--child", action="store_true", help="start a process that leaves its group")
    given = parser.parse_args()
    with given.starts.open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")
    for n in range(given.says):
        print(f"fickle line {n}, the environment has {' '.join(sorted(os.environ))}", flush=True)
    if given.ignores_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if given.child:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    if given.fails_while is not None and given.fails_while.exists():
        print("no model here", flush=True)
        sys.exit(7)
    time.sleep(given.ready_after)
    if given.ignores_term:
        asyncio.run(_stubborn(given.port))
    asyncio.run(serve("127.0.0.1", given.port))


async def _stubborn(port: int) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, signal.signal, signal.SIGTERM, signal.SIG_IGN)  # the mock sets its own
    await serve("127.0.0.1", port)


if __name__ == "__main__":
    main()
