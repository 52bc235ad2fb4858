"""What the pages fetch beside themselves: one stylesheet, one script, one icon, each under a name that changes with its content.

So a browser may keep it for ever, and never shows a new page with an old style. It knows no page.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = "/assets/"
_HERE = Path(__file__).parent / "assets"
_KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Asset(NamedTuple):
    """A file as it is served."""

    body: bytes
    kind: str


@cache
def addresses() -> dict[str, str]:
    """`app.css` -> `/assets/app-0123456789ab.css`."""
    return {path.name: FOLDER + name for name, path in _files().items()}


def asset(name: str) -> Asset | None:
    """The file of this name with its hash, as an address has it; None: there is none, or not any more."""
    return _loaded().get(name)


@cache
def _files() -> dict[str, Path]:
    return {
        f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}{path.suffix}": path
        for path in sorted(_HERE.iterdir())
        if path.suffix in _KINDS
    }


@cache
def _loaded() -> dict[str, Asset]:
    return {name: Asset(path.read_bytes(), _KINDS[path.suffix]) for name, path in _files().items()}
