"""Prompts counted with the tokenizers of their models, where the configuration names a tokenizer's file.

What is counted is remembered by the text's digest, since a chat sends all that was said before with each of its turns; texts
themselves are not kept. Counting is bounded: so many characters of a request are counted that were not before, and what is left
is reckoned at the rate of the others; the next time, more of it is known. The `tokenizers` library is imported only where a model
has such a file. It knows no limit and no request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING

from slmgate.dialects.prompts import Prompt
from slmgate.policy.specs import ModelSpec, TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COUNTED = 8192
"""New characters of one request that are counted at most: a few milliseconds, in which a worker does nothing else."""
PIECE = 2048
"""Characters that are counted, and remembered, at once; a longer text is cut, before a space where there is one."""
REMEMBERED = 50_000
"""Pieces of which the count is remembered, in two halves, of which the older is dropped."""


class Counter:
    """One tokenizer, with what it has counted before."""

    __slots__ = ("_alone", "_known", "_older", "_tokenizer", "spec")

    def __init__(self, spec: TokenizerSpec, tokenizer: Tokenizer) -> None:
        self.spec = spec
        self._tokenizer = tokenizer
        self._alone = len(tokenizer.encode(""))  # the marks that it puts at the ends of a text by itself
        self._known: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}

    def __repr__(self) -> str:
        return f"<Counter {self.spec.path}: {len(self._known) + len(self._older)} known>"

    def count(self, prompt: Prompt) -> int:
        """The tokens of a prompt, with those that the template of a chat puts around its messages."""
        tokens = characters = beyond = 0
        budget = COUNTED
        for text in prompt.texts:
            for piece in _pieces(text):
                digest = blake2b(piece.encode(), digest_size=12).digest()
                known = self._recall(digest)
                if known is None:
                    if len(piece) > budget:
                        budget = 0  # what follows is beyond too, but for what is known
                        beyond += len(piece)
                        continue
                    budget -= len(piece)
                    known = self._encoded(piece)
                    self._remember(digest, known)
                tokens += known
                characters += len(piece)
        if beyond:
            tokens += -(-beyond * max(tokens * 4, characters) // (characters * 4)) if characters else -(-beyond // 4)
        spec = self.spec
        wrapped = spec.each_request + spec.each_message * prompt.messages if prompt.messages else self._alone * len(prompt.texts)
        return tokens + wrapped + prompt.tokens

    def _encoded(self, piece: str) -> int:
        try:
            return len(self._tokenizer.encode(piece, add_special_tokens=False))
        except (MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001  # a panic in the library's Rust is no Exception, and a text must end no worker
            return len(piece.encode())  # no tokenizer makes more of it

    def _recall(self, digest: bytes) -> int | None:
        known = self._known.get(digest)
        if known is None and (known := self._older.get(digest)) is not None:
            self._remember(digest, known)
        return known

    def _remember(self, digest: bytes, count: int) -> None:
        if len(self._known) >= REMEMBERED // 2:
            self._older, self._known = self._known, {}
        self._known[digest] = count


def _pieces(text: str) -> Iterator[str]:
    begin = 0
    while len(text) - begin > PIECE:
        end = begin + PIECE
        space = text.rfind(" ", begin + PIECE // 2, end)
        end = space if space > 0 else end
        yield text[begin:end]
        begin = end
    if begin < len(text):
        yield text[begin:] if begin else text


class Counters:
    """The tokenizers of all models that have one."""

    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: dict[str, Counter] = {}

    def __repr__(self) -> str:
        return f"<Counters: {self._counters}>"

    def update(self, models: Mapping[str, ModelSpec]) -> list[str]:
        """Take a new snapshot's models; a file that has not changed is not read again.

        Returns, for the operator, which files could not be read now, though control could: those models' prompts are estimated.
        """
        problems: list[str] = []
        loaded = {counter.spec: counter for counter in self._counters.values()}
        self._counters = {}
        for name, model in models.items():
            spec = model.tokenizer
            if spec is None:
                continue
            if spec not in loaded:
                try:
                    from tokenizers import Tokenizer

                    loaded[spec] = Counter(spec, Tokenizer.from_file(spec.path))
                except Exception as fault:  # noqa: BLE001  # the library raises plain exceptions; work goes on, by estimates
                    problems.append(f"the prompts of {name} are estimated, not counted: {fault}")
                    continue
            self._counters[name] = loaded[spec]
        return problems

    def count(self, model: str, prompt: Prompt | None) -> int | None:
        """The tokens of a prompt for this model; None: it has no tokenizer, or the prompt is not all text."""
        counter = self._counters.get(model)
        return None if counter is None or prompt is None else counter.count(prompt)
