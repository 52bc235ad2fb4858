"""The options of a role whose prompts and answers are kept: which of them, what is masked in them before, and for how long.

A part of `options.py`'s table in a file of its own. It knows that a pattern is one, not what it costs to look for.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from slmgate.control.config.auth_options import DAY, HOUR
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Choice, Duration, Kind
from slmgate.control.config.table import Option, Section

CAPTURES = ("prompts", "answers", "both")
MASKS = ("email", "card", "iban", "phone")
LONGEST = 512
"""Characters of one pattern."""


class Pattern(Kind, frozen=True, kw_only=True):
    """A regular expression as Python's `re` has them."""

    label: ClassVar[str] = "pattern"
    textual: ClassVar[bool] = True

    def read(self, text: str) -> str:
        if len(text) > LONGEST:
            raise BadValueError(f"is longer than {LONGEST} characters", "write several shorter ones")
        try:
            found = re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise BadValueError(f"is not a regular expression: {error}", "write it as Python's re has them") from None
        if found.fullmatch(""):
            raise BadValueError("fits the empty text, which is everywhere", "let it ask for at least one character")
        return text

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": LONGEST}

    def own_values(self) -> str:
        return f"a regular expression of Python, at most {LONGEST} characters"


class Content(Section, frozen=True, kw_only=True):
    """What is kept of the requests that a role admits. docs/content.md says what follows from that."""

    capture: Annotated[
        Literal["prompts", "answers", "both"],
        Option(
            "What is kept, once `log.content` is `roles` too: prompts, answers or both.",
            Choice(values=CAPTURES),
            example="both",
        ),
    ]
    mask: Annotated[
        tuple[str, ...],
        Option(
            "What is masked before anything is written: e-mail addresses, numbers of cards (by their check digit) and of bank "
            "accounts (IBAN, by its check digits), and telephone numbers as they are usually written.",
            Choice(values=MASKS),
        ),
    ] = ("email", "card", "iban")
    patterns: Annotated[
        tuple[str, ...],
        Option("What else is masked, by regular expressions of your own.", Pattern(), example='["ACME-[0-9]{6}"]'),
    ] = ()
    keep: Annotated[float, Option("How long it is kept; then it is deleted.", Duration(low=HOUR, high=3650 * DAY))] = 7 * 86_400.0
