"""A network of one's own: runs a function in a thread that lives in a fresh network namespace (`unshare(2)`).

Sockets that the thread opens and processes that it starts belong to that namespace, so packet rules made there touch nothing
else on the machine. Needs root. It knows nothing of what the function does.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable

CLONE_NEWNET = 0x40000000


def run_apart(work: Callable[[], None]) -> None:
    """Run `work` there and raise here what it raises. Says what is missing when it cannot."""
    assert os.geteuid() == 0, "this test makes a network namespace: run it as root"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        assert shutil.which(tool) or os.path.exists(f"/usr/sbin/{tool}"), (
            f"{tool} is missing: install the Debian package {package}"
        )
    faults: list[BaseException] = []

    def inside() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.unshare(CLONE_NEWNET) == 0, f"no network namespace: {os.strerror(ctypes.get_errno())}"
            sh("ip", "link", "set", "lo", "up")
            work()
        except BaseException as fault:  # noqa: BLE001  # whatever it is, it belongs into the test's own thread
            faults.append(fault)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]


def sh(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def drop(port: int) -> None:
    """From now on every packet to or from this TCP port vanishes. Only to be called inside `run_apart`."""
    sh("nft", "add table inet lost")
    sh("nft", "add chain inet lost packets { type filter hook input priority 0 ; }")
    for direction in ("sport", "dport"):
        sh("nft", f"add rule inet lost packets tcp {direction} {port} drop")
