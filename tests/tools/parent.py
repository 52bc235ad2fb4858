"""Children that do not outlive the test run, however that ends; a killed run must leave nothing on the machine.

It knows Linux's parent-death signal and nothing of what the children are.
"""

from __future__ import annotations

import ctypes
import signal


def die_with_parent() -> None:
    """For a child between fork and exec: the kernel kills it with the thread that started it (`prctl(2)`, PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
