"""Light, dark, or as the system is: the word that a browser keeps in a cookie, for every page of the admin listener.

It knows no page, and sets no cookie.
"""

from __future__ import annotations

from collections.abc import Mapping

COOKIE = "slmgate-theme"
THEMES = ("system", "light", "dark")
"""What may be chosen; the first is what holds where nothing was."""


def theme_of(cookies: Mapping[str, str]) -> str:
    """What this browser has chosen; a word that is none of them counts as nothing."""
    chosen = cookies.get(COOKIE, THEMES[0])
    return chosen if chosen in THEMES else THEMES[0]
