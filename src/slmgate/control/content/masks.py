"""What is private in a text: e-mail addresses, cards, bank accounts, telephone numbers, and what an operator's patterns find.

Pure, and with the text's length as a bound of its time, but for an operator's own patterns: whoever runs those must be able to
stop it.
Where a check digit tells, it decides; where none does, rather more is masked than less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

Span = tuple[int, int, str]
"""From where to where, and what stands there instead."""

# Each begins only where a word does and is bounded, so that no text makes it look again and again.
_EMAIL = re.compile(r"(?<![\w.%+'-])[\w.%+'-]{1,256}@(?:[\w-]{1,63}\.){1,10}\w{2,63}")
_BETWEEN = r"[ .\u00a0\u2009\u202f\u2010-\u2013-]"
_DIGITS = re.compile(rf"(?<!\d)\d(?:{_BETWEEN}?\d){{12,}}")
_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,36}")
_PHONE = re.compile(
    r"(?<![\w+])(?:\+|00)[1-9](?:[ ()./-]{0,2}[0-9]){6,14}(?![0-9])"
    r"|(?<![\w+])\(?[0-9]{2,5}\)?[ /.-]{1,2}[0-9]{3,4}[ /.-]?[0-9]{3,8}(?![0-9])"
)
_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF])
"""Characters that nobody sees and that would keep an address from being one."""
CARD = range(13, 20)
IBAN = range(15, 35)


class Masked(NamedTuple):
    """A text without what is private, and how much that was."""

    text: str
    found: int


class Masks:
    """What to look for: names of what is built in, and patterns."""

    def __init__(self, names: Sequence[str], patterns: Sequence[str] = ()) -> None:
        self._finders: list[Callable[[str], Iterator[Span]]] = [find for name, find in _BUILT_IN.items() if name in names]
        self._finders += [_of_pattern(re.compile(pattern)) for pattern in patterns]

    def mask(self, text: str) -> Masked:
        """The text with each find as a word in brackets."""
        (only,), count = self.mask_joined([text])
        return Masked(only, count)

    def mask_joined(self, texts: Sequence[str]) -> tuple[list[str], int]:
        """The same of texts that a reader would read as one: what begins in one and ends in another is found too."""
        seen = [text.translate(_INVISIBLE) for text in texts]
        found = [self._alone(text) for text in seen]
        made, count = [masked.text for masked in found], sum(masked.found for masked in found)
        if len(made) > 1 and (spans := self._spans("".join(made))):
            made, count = _replaced(made, spans), count + len(spans)
        return made, count

    def _alone(self, text: str) -> Masked:
        spans = self._spans(text)
        return Masked(_replaced([text], spans)[0], len(spans))

    def _spans(self, text: str) -> list[Span]:
        """All finds in their order; those that overlap are one, under the name of the finder that comes first."""
        ranked = enumerate(self._finders)
        found = [(start, end, rank, word) for rank, find in ranked for start, end, word in find(text) if end > start]
        merged: list[tuple[int, int, int, str]] = []
        for start, end, rank, word in sorted(found):
            if merged and start < merged[-1][1]:
                before = merged[-1]
                merged[-1] = (before[0], max(end, before[1]), *min(before[2:], (rank, word)))
            else:
                merged.append((start, end, rank, word))
        return [(start, end, word) for start, end, _, word in merged]


@lru_cache(maxsize=64)
def masks(names: tuple[str, ...], patterns: tuple[str, ...]) -> Masks:
    """`Masks`, made once."""
    return Masks(names, patterns)


def _replaced(texts: Sequence[str], spans: Sequence[Span]) -> list[str]:
    """The texts with each span of all of them together replaced where it begins."""
    made: list[str] = []
    begins, waiting = 0, list(reversed(spans))
    for text in texts:
        out: list[str] = []
        at, ends = begins, begins + len(text)
        while waiting and waiting[-1][0] < ends:
            start, end, word = waiting[-1]
            if start >= begins:
                out += (text[at - begins : start - begins], word)
            at = min(end, ends)
            if end > ends:
                break
            waiting.pop()
        out.append(text[at - begins :])
        made.append("".join(out))
        begins = ends
    return made


def _of_pattern(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Span]]:
    return lambda text: ((found.start(), found.end(), "[masked]") for found in pattern.finditer(text))


def _emails(text: str) -> Iterator[Span]:
    return ((found.start(), found.end(), "[email]") for found in _EMAIL.finditer(text)) if "@" in text else iter(())


def _cards(text: str) -> Iterator[Span]:
    """Groups of digits that together have a card's length and check digit (Luhn); a number without blanks is one group."""
    for found in _DIGITS.finditer(text):
        groups = [(group.start() + found.start(), group.end() + found.start()) for group in re.finditer(r"\d+", found[0])]
        first = 0
        while first < len(groups):
            last = _card_from(text, groups, first)
            if last is None:
                first += 1
            else:
                yield groups[first][0], groups[last][1], "[card]"
                first = last + 1


def _card_from(text: str, groups: Sequence[tuple[int, int]], first: int) -> int | None:
    """The last group of the longest card that begins with the group `first`."""
    digits, best = "", None
    for last in range(first, min(first + CARD.stop, len(groups))):
        digits += text[slice(*groups[last])]
        if len(digits) >= CARD.stop:
            break
        if len(digits) in CARD and is_luhn(digits):
            best = last
    return best


def is_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _ibans(text: str) -> Iterator[Span]:
    """Numbers of accounts by their two check digits (ISO 13616). What follows one may look like more of it."""
    at = 0
    while (found := _IBAN.search(text, at)) is not None:
        end = _iban_end(found[0])
        if end is None:
            at = found.start() + 2
        else:
            yield found.start(), found.start() + end, "[iban]"
            at = found.start() + end


def _iban_end(text: str) -> int | None:
    """Where the longest account's number ends that `text` begins with."""
    places = [place for place, char in enumerate(text) if char not in " -"]
    for length in reversed(IBAN):
        if length > len(places):
            continue
        end = places[length - 1] + 1
        if end < len(text) and text[end] not in " -":
            continue  # in the middle of a word
        if is_iban("".join(text[place] for place in places[:length])):
            return end
    return None


def is_iban(text: str) -> bool:
    """Whether the check digits are right."""
    moved = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in moved)) % 97 == 1


def _phones(text: str) -> Iterator[Span]:
    return ((found.start(), found.end(), "[phone]") for found in _PHONE.finditer(text))


_BUILT_IN: dict[str, Callable[[str], Iterator[Span]]] = {"email": _emails, "card": _cards, "iban": _ibans, "phone": _phones}
