"""The last known keys of the issuers on disk, so that a restart while a provider is away still verifies its tokens.

One file for each issuer in the state directory, readable by the gate's user alone. What is in it was checked before it was kept,
and is read as strictly again; a file that cannot be read or written costs nothing but the keys. It knows no network.
"""

from __future__ import annotations

import contextlib
import json
import os
from hashlib import sha256
from pathlib import Path

from slmgate.control.identity.fetching import MAX_ANSWER
from slmgate.control.identity.strict import json_object, moment


class KeptKeys:
    """The file of one issuer. `source` is what the keys are for: a file for another one is not used."""

    def __init__(self, directory: Path, source: str) -> None:
        self._file = directory / f"{sha256(source.encode()).hexdigest()[:32]}.json"
        self._source = source

    def __repr__(self) -> str:
        return f"<KeptKeys of {self._source}>"

    def load(self) -> tuple[bytes, float] | None:
        """The key set as it was fetched, and when (seconds since the epoch); None where there is none."""
        try:
            with self._file.open("rb") as file:
                held = json_object(file.read(2 * MAX_ANSWER + 4096))
            if held.get("source") != self._source or not isinstance(held.get("keys"), str):
                return None
            return held["keys"].encode(), moment(held.get("fetched"), "fetched")
        except (OSError, ValueError):
            return None

    def save(self, keys: bytes, fetched: float) -> None:
        with contextlib.suppress(OSError):  # a full disk: the keys are in memory all the same
            self._file.parent.mkdir(mode=0o700, exist_ok=True)
            new = self._file.with_suffix(".new")
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(json.dumps({"source": self._source, "fetched": fetched, "keys": keys.decode()}).encode())
            new.replace(self._file)
