"""Pipes behind many descriptors, as a process with a thousand connections has them. What they are for is the test's affair."""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def far_pipe(least: int = 1100) -> Iterator[tuple[int, int]]:
    """A pipe's two ends, to read and to write, with descriptors of at least this number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, least + 8), hard))
    near = os.pipe()
    far: list[int] = []
    try:
        far += [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, least) for end in near]
        yield far[0], far[1]
    finally:
        for end in (*near, *far):
            os.close(end)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
