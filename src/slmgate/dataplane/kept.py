"""Answers that are kept for a day, so that a request that comes again under its `Idempotency-Key` is answered from here.

One file for each key that was used, in a directory that all workers of the node share. Who has the file's lock works on the
request; the kernel gives the lock back when that worker dies. It knows names, fingerprints and bytes, no exchange and no policy,
and is asked only by requests that bear such a key: what it does are a few calls to files that are in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import msgspec

KEPT_SECONDS = 24 * 3600
MOST_BYTES = 1024 * 1024 * 1024
"""On the disk, for all of them; beyond, `sweep` lets old ones go before their time."""
MAX_META = 64 * 1024
TRIES = 8
"""How often a file is opened anew that was swept away in between."""
BLOCK = 4096  # what the smallest file takes of a disk
OTHER: Final = "other"
BUSY: Final = "busy"
PARTS = 256
"""Directories below the directory: what names begin with."""
HURRY = 64
"""Parts that are swept in a second at the most, while much is kept; else it is one."""
_NAME = 64
_PRINT = 32  # bytes of a fingerprint, which the file begins with; then the length of the rest's head, the head, the body
_LENGTH = 4


class Answer(msgspec.Struct, frozen=True):
    """An answer as it is told again. `fields` are further header lines, `at` is when it was kept (wall clock)."""

    status: int
    content_type: str
    fields: str
    at: float
    size: int
    body: bytes = b""


_write = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(Answer).decode


def name_of(*whose: str) -> str:
    """What a key is kept under: of one principal, whatever others call theirs."""
    return sha256("\0".join(whose).encode("utf-8", "surrogatepass")).hexdigest()


class Claim:
    """The right to work on the request of one key. Ends with `keep` or `release`, or with the process."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def __repr__(self) -> str:
        return f"<Claim {'held' if self._fd >= 0 else 'over'}>"

    def keep(self, answer: Answer) -> None:
        """Keep the answer for the next time. Raises OSError where it cannot be kept; then nothing is."""
        head = _write(msgspec.structs.replace(answer, body=b"", size=len(answer.body)))
        data = b"%b%b%b" % (len(head).to_bytes(_LENGTH, "big"), head, answer.body)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd, data[written:] if written else data, _PRINT + written)
        except OSError:
            self.release()
            raise
        self._end()

    def release(self) -> None:
        """Nothing came of it: the next request with this key is worked on."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._end()

    def _end(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class Kept:
    """The directory. It is made when a request first bears a key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._bytes = [0] * PARTS  # in each part, when it was last swept
        self.hurry = 1
        """How many parts are to be swept in the next second: so many that little comes to each between two sweeps of it."""
        self.sweeping = False

    def __repr__(self) -> str:
        return f"<Kept {self._directory.name}>"

    def claim(self, name: str, fingerprint: bytes, now: float) -> Claim | Answer | Literal["other", "busy"]:
        """The right to work on this request, or the answer that it got before.

        `OTHER`: the key was used for another request. `BUSY`: this one is being worked on. Raises OSError: nothing can be kept.
        """
        path = self._directory / name[:2] / name
        for _ in range(TRIES):
            fd = self._open(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_nlink == 0:  # swept or given up while we opened it
                    os.close(fd)
                    continue
                found = _answer(fd, now)
                if found is None:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, fingerprint, 0)
                    return Claim(path, fd)
                same = os.pread(fd, _PRINT, 0) == fingerprint
            except BlockingIOError:
                begun = os.pread(fd, _PRINT, 0)
                os.close(fd)
                return OTHER if len(begun) == _PRINT and begun != fingerprint else BUSY
            except BaseException:  # whatever it is, the lock must not stay with us
                os.close(fd)
                raise
            os.close(fd)
            return found if same else OTHER
        return BUSY

    def sweep_all(self, parts: Iterable[int]) -> None:
        """Sweep these parts, for a thread of its own, beside requests, and for one worker of the node."""
        self.sweeping = True
        try:
            for part in parts:
                self.sweep(part)
        finally:
            self.sweeping = False

    def sweep(self, part: int, most: int = MOST_BYTES) -> None:
        """Let go what is older than a day, and the oldest while there are more than `most` bytes: of one part of `PARTS`.

        A part at a time, so that it is soon done. Names are digests, so that what has come to one part has come to each.
        """
        there: list[tuple[float, int, Path]] = []
        with contextlib.suppress(OSError), os.scandir(self._directory / f"{part:02x}") as entries:
            for entry in entries:
                if len(entry.name) == _NAME:
                    status = entry.stat(follow_symlinks=False)
                    there.append((status.st_mtime, max(BLOCK, status.st_size), Path(entry.path)))
        size = sum(size for _, size, _ in there)
        come = (size - self._bytes[part]) * PARTS
        if come > most // 16:
            self.hurry = min(self.hurry * 2, HURRY)
        elif come < most // 64:
            self.hurry = max(self.hurry // 2, 1)
        self._bytes[part] = size
        left = sum(self._bytes)
        oldest = time.time() - KEPT_SECONDS
        for at, size, path in sorted(there):
            if at >= oldest and left <= most:
                break
            with contextlib.suppress(OSError):
                _remove(path)
                left -= size
                self._bytes[part] -= size

    def _open(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)


def _answer(fd: int, now: float) -> Answer | None:
    """What the file keeps; None where that is nothing, too old, or not whole, as a worker leaves it that was killed."""
    length = int.from_bytes(os.pread(fd, _LENGTH, _PRINT), "big")
    if not 0 < length <= MAX_META:
        return None
    try:
        found = _read(os.pread(fd, length, _PRINT + _LENGTH))
    except ValueError:  # not JSON of that form, or not UTF-8 (which msgspec tells apart)
        return None
    if not now - KEPT_SECONDS < found.at:
        return None
    body = os.pread(fd, found.size, _PRINT + _LENGTH + length)
    return msgspec.structs.replace(found, body=body) if len(body) == found.size else None


def _remove(path: Path) -> None:
    """Unlink a file that nobody works on."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(fd)
