"""The pages of sign-in as HTML, and the headers that keep a browser from doing more with them than it must.

Templates are escaped as a whole and hold no script; what they show is given, and this module knows neither request nor
session.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent / "pages"

HEADERS = {
    # nothing but our own stylesheet and forms; no frame around us (W3C CSP 3)
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    # with `no-referrer` a browser would send `Origin: null` with our own forms (Fetch, "append a request Origin header")
    "referrer-policy": "same-origin",
}


def render(page: str, /, theme: str = "system", **values: object) -> bytes:
    """The page of this name with these values, in these colours."""
    return _environment().get_template(f"{page}.html").render(values, theme=theme).encode()


@cache
def stylesheet() -> bytes:
    return (_HERE / "signin.css").read_bytes()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
