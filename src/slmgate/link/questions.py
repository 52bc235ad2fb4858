"""What key holders may ask about themselves, by path: the one list of it, which both sides of the link go by.

It knows neither who asks nor what is answered.
"""

from __future__ import annotations

from typing import Literal, get_args

from slmgate.terms import Refuse

What = Literal["key", "usage", "limits", "statement", "rotate"]

PAGE = "/me"
QUESTIONS: dict[str, tuple[str, What]] = {
    f"{PAGE}/api/{what}": ("POST" if what == "rotate" else "GET", what) for what in get_args(What)
}
"""Path -> method, and what is asked."""

AWAY = Refuse(
    "overloaded", "The gate cannot look that up at the moment. Models are served as before. Try again soon.", retry_after=2
)
"""Where control is away, or has too much to do."""
