"""Prompts counted by a tokenizer in which every character is a token: right, once, and so many at most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from slmgate.dataplane import counting
from slmgate.dataplane.counting import COUNTED, PIECE, Counter, Counters
from slmgate.dialects.prompts import Prompt
from slmgate.policy.specs import ModelSpec, TokenizerSpec
from tests.tools.tokenizers import written


class Slow:
    """A tokenizer that tells what it was asked."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.asked: list[str] = []

    def encode(self, text: str, add_special_tokens: bool = True) -> object:
        self.asked.append(text)
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)


@pytest.fixture
def slow(tmp_path: Path) -> Slow:
    return Slow(Tokenizer.from_file(str(written(tmp_path))))


def counter(slow: Slow, **spec: Any) -> Counter:
    stands_in: Any = slow
    made = Counter(TokenizerSpec(path="x", **spec), stands_in)
    slow.asked.clear()
    return made


def test_texts_marks_and_numbers(slow: Slow) -> None:
    made = counter(slow, each_message=2, each_request=3)
    assert made.count(Prompt(["water", "ice"], 2)) == 8 + 2 * 2 + 3
    assert made.count(Prompt([], 1)) == 2 + 3
    assert made.count(Prompt(["water"], 0, 7)) == 12
    assert made.count(Prompt([""])) == 0
    assert repr(made) == "<Counter x: 2 known>"


def test_marks_of_a_text_alone(slow: Slow) -> None:
    slow.tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    made = counter(slow, each_message=2, each_request=3)
    assert made.count(Prompt(["water", "ice"])) == 8 + 2
    assert made.count(Prompt(["water", "ice"], 2)) == 8 + 4 + 3, "the template has its own marks"


def test_what_was_counted_is_not_counted_again(slow: Slow) -> None:
    made = counter(slow)
    assert made.count(Prompt(["before", "now"], 2)) == made.count(Prompt(["now", "before"], 2))
    made.count(Prompt(["before", "then"], 2))
    assert slow.asked == ["before", "now", "then"]


def test_a_long_text_is_counted_in_pieces_that_end_before_a_space(slow: Slow) -> None:
    made = counter(slow)
    long = "water " * (PIECE // 6) + "ice" * 10
    assert made.count(Prompt([long])) == len(long)
    assert "".join(slow.asked) == long and len(slow.asked) == 2 and slow.asked[1].startswith(" ")


@pytest.mark.parametrize("beyond", [0, 1, 100_000])
def test_so_much_is_counted_and_the_rest_at_its_rate(slow: Slow, beyond: int) -> None:
    made = counter(slow)
    long = "".join(chr(97 + n % 26) + f"{n:07}" for n in range((COUNTED + beyond) // 8 + 1))[: COUNTED + beyond]
    assert made.count(Prompt([long])) == len(long)
    assert sum(map(len, slow.asked)) <= COUNTED
    first = len(slow.asked)
    made.count(Prompt([long]))
    again = slow.asked[first:]
    assert not set(again) & set(slow.asked[:first]), "the next time, more of it is known"
    assert bool(again) is (beyond > 0)


def test_where_nothing_can_be_counted_a_token_is_four_characters(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "COUNTED", 3)
    assert counter(slow).count(Prompt(["x" * 41])) == 11
    assert slow.asked == []


def test_what_is_remembered_has_a_bound(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "REMEMBERED", 8)
    made = counter(slow)
    for number in range(100):
        made.count(Prompt(["often", f"n{number}"]))
    assert slow.asked.count("often") == 1, "what is asked for again and again stays"
    assert repr(made) in [f"<Counter x: {known} known>" for known in range(1, 9)]


class PanicError(BaseException):
    """As what the library's Rust raises in a panic."""


@pytest.mark.parametrize("fault", [PanicError, ValueError])
def test_text_that_the_library_fails_at(slow: Slow, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]) -> None:
    made = counter(slow)

    def fails(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(slow, "encode", fails)
    assert made.count(Prompt(["zażółć"])) == 10, "a token for each byte: no tokenizer makes more of it"


def test_no_memory_is_no_fault_of_a_text(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counter(slow)

    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(slow, "encode", fails)
    with pytest.raises(MemoryError):
        made.count(Prompt(["x"]))


def model(name: str, spec: TokenizerSpec | None) -> ModelSpec:
    return ModelSpec(name=name, instances=(), tokenizer=spec)


def test_a_file_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path)
    spec = TokenizerSpec(path=str(path), stamp="1")
    counters = Counters()
    assert counters.update({"a": model("a", spec), "b": model("b", spec), "plain": model("plain", None)}) == []
    assert counters.count("a", Prompt(["ice"])) == counters.count("b", Prompt(["ice"])) == 3
    assert counters.count("plain", Prompt(["ice"])) is None
    assert counters.count("a", None) is None
    path.unlink()
    counters.update({"a": model("a", spec)})
    assert counters.count("a", Prompt(["ice"])) == 3
    assert repr(counters) == f"<Counters: {{'a': <Counter {path}: 1 known>}}>"
    (problem,) = counters.update({"a": model("a", TokenizerSpec(path=str(path), stamp="2"))})
    assert problem.startswith("the prompts of a are estimated, not counted: ")
    assert counters.count("a", Prompt(["ice"])) is None
