"""The scanner of server-sent events: line ends, cuts, stripping, and events that are too long to keep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.masking import Mask
from slmgate.dialects.sse import MAX_HELD, SseScanner, event_data
from slmgate.terms import Usage
from tests.tools.feeds import cut, every_way, feed


class Letters(SseScanner):
    """A stand-in: `#` is generated text, an event with `!` is special, one that says `drop!` is stripped."""

    __slots__ = ()

    def special(self, data: bytes) -> bool:
        return b"!" in data

    def count(self, data: bytes) -> int:
        return data.count(b"#")

    def look(self, event: bytes) -> bytes:
        data = event_data(event)
        self.finished = self.finished or data == b"end!"
        self.usage = Usage(len(data), 0)
        return b"" if self._strip and b"drop!" in data else event

    def skim(self, head: bytes) -> None:
        self.finished = self.finished or head.startswith(b"data: end!")


ENDS = [b"\n", b"\r\n", b"\r"]


@pytest.mark.parametrize("eol", ENDS)
@pytest.mark.parametrize("strip", [False, True])
def test_every_cut_gives_the_same(eol: bytes, strip: bool) -> None:
    lines = [b"data: #", b"", b"event: x", b"data: drop!", b"", b": note", b"", b"data:##", b"data: #", b"", b"data: end!", b""]
    data = eol.join([*lines, b""])
    whole = every_way(lambda: Letters(strip), data)
    expected = data.replace(eol.join([b"event: x", b"data: drop!", b"", b""]), b"") if strip else data
    assert whole == (expected, Usage(4, 0), 4, True)


def test_what_stands_for_an_event_has_its_line_end_whole() -> None:
    """Cut between the CR and the LF of its last line end, an event that another stands for leaves no LF. Found by fuzzing."""

    class Instead(Letters):
        def look(self, event: bytes) -> bytes:
            return b"data: instead\n\n"

    whole = every_way(lambda: Instead(True), b"data: a!\r\n\r\ndata: #\r\n\r\n")
    assert whole.sent == b"data: instead\n\ndata: #\r\n\r\n"


@pytest.mark.parametrize("strip", [False, True])
def test_trailing_bytes_are_sent_on(strip: bool) -> None:
    whole = every_way(lambda: Letters(strip), b"data: end!\n\ndata: half of #")
    assert whole.sent == b"data: end!\n\ndata: half of #"
    assert whole.finished


def test_a_plain_chunk_is_returned_itself() -> None:
    for strip in (False, True):
        scanner = Letters(strip)
        for chunk in (b"data: #\n\n", b"data: #\r\n\r\n", b"data: #\n\ndata: #\n\n"):
            assert scanner.feed(chunk) is chunk
        assert scanner.tokens_seen == 4


def test_usual_chunks_need_not_be_fed() -> None:
    scanner = Letters()
    usual = [scanner.usual(chunk) for chunk in (b"data: #\n\n", b"data: #\r\n\r\ndata: #\r\n\r\n", b": note\n\n")]
    assert usual == [1, 2, 0]
    assert [scanner.usual(chunk) for chunk in (b"", b"data: #", b"data: #\n", b"data: !\n\n")] == [-1] * 4
    assert (scanner.tokens_seen, scanner.at_rest) == (0, True), "it was asked, and told nothing"


@pytest.mark.parametrize("open_", [b"d", b"data: #\n", b"data: #\n\ndata", b"data: #\r\r", b"x" * (MAX_HELD + 1)])
def test_at_rest_between_events_only(open_: bytes) -> None:
    scanner = Letters()
    scanner.feed(open_)
    assert not scanner.at_rest
    scanner.feed(b"#\n\n")
    assert scanner.at_rest


def test_a_passing_scanner_never_holds_back() -> None:
    scanner = Letters()
    for chunk in (b"", b"data: ", b"drop!\n", b"\n", b"data: x\n\ndat"):
        assert scanner.feed(chunk) is chunk


def test_mid_event() -> None:
    passing, stripping = Letters(), Letters(strip=True)
    assert not passing.mid_event
    for scanner in (passing, stripping):
        scanner.feed(b"data: t\n\ndata:")
    assert passing.mid_event
    assert not stripping.mid_event  # it has sent whole events only
    for scanner in (passing, stripping):
        scanner.feed(b" t\n\n")
        assert not scanner.mid_event


def test_a_stripping_scanner_holds_back_only_the_unfinished_event() -> None:
    scanner = Letters(strip=True)
    assert scanner.feed(b"data: a\n\ndata: dr") == b"data: a\n\n"
    assert scanner.feed(b"op!\n") == b""
    assert scanner.feed(b"\ndata: b\n\n") == b"data: b\n\n"
    assert scanner.feed(b"data: c") == b""
    assert scanner.close() == b"data: c"
    assert scanner.close() == b""


def test_a_last_event_without_its_blank_line_counts() -> None:
    for strip in (False, True):
        assert every_way(lambda strip=strip: Letters(strip), b"data: #\n\ndata: end!\n").finished  # type: ignore[misc]  # a default argument
    scanner = Letters(strip=True)
    scanner.feed(b"data: drop!")
    assert scanner.close() == b""


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("size", [MAX_HELD - 1, MAX_HELD, MAX_HELD + 1, 3 * MAX_HELD])
@pytest.mark.parametrize("step", [4096, 70_001])
def test_held_back_bytes_are_bounded(strip: bool, size: int, step: int) -> None:
    data = b"data: t\n\n" + b"data: end!" + b"x" * (size - 10) + b"\n\ndata: t\n\n"
    scanner = Letters(strip)
    sent = b""
    for start in range(0, len(data), step):
        sent += scanner.feed(data[start : start + step])
        assert start + step - len(sent) <= MAX_HELD + step
        assert len(scanner._buffer) <= MAX_HELD + step
    assert sent + scanner.close() == data
    assert scanner.finished == (size > MAX_HELD + step)  # else it was kept, and `end!x…` is not `end!`
    assert not scanner.mid_event


def test_after_an_event_too_long_stripping_and_reading_go_on() -> None:
    scanner = Letters(strip=True)
    long = b"data: " + b"x" * MAX_HELD
    assert scanner.feed(long) == long
    assert scanner.mid_event
    assert scanner.feed(b"\n") == b"\n"
    assert scanner.feed(b"\ndata: drop!\n\ndata: end!") == b"\n"
    assert scanner.close() == b"data: end!"
    assert scanner.finished


def test_a_body_that_ends_within_an_event_too_long() -> None:
    scanner = Letters()
    scanner.feed(b"data: " + b"x" * MAX_HELD)
    assert scanner.close() == b""
    assert scanner.mid_event


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\r\n\r\n", b" x"),
        (b"event: e\rdata: x\rdata: y\r\r", b"x\ny"),
        (b": only a note\n\n", b""),
        (b"data\n\n", b""),
    ],
)
def test_event_data(event: bytes, data: bytes) -> None:
    assert event_data(event) == data


def test_the_questions_are_for_a_dialect_to_answer() -> None:
    bare = SseScanner()
    for question in (bare.special, bare.count, bare.look):
        with pytest.raises(NotImplementedError):
            question(b"")
    bare.skim(b"")


PIECES = st.lists(
    st.sampled_from([b"data: #", b"data: drop!", b"data: end!", b"x", b"", *ENDS, b"\n\n", b"\r\n\r\n"]), max_size=20
)


@given(PIECES, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_any_stream_cut_anywhere(pieces: list[bytes], places: list[int], strip: bool) -> None:
    data = b"".join(pieces)
    whole = every_way(lambda: Letters(strip), data, stride=7)
    assert feed(lambda: Letters(strip), cut(data, places)) == whole
    if not strip:
        assert whole.sent == data


# --- masked


class Masked(Letters):
    """The same, of events that say what the model is called."""

    __slots__ = ()
    swaps = True


INSIDE = b'"model":"/srv/a"'


def masked_by(kind: type[Letters] = Masked, strip: bool = False) -> Letters:
    return kind(strip, Mask("pub"))


@pytest.mark.parametrize("eol", ENDS)
@pytest.mark.parametrize("kind", [Letters, Masked])
def test_whole_events_are_sent_on_masked(kind: type[Letters], eol: bytes) -> None:
    lines = [b"event: x", b'data: {"t":"!",%b}' % INSIDE, b"", b'data: {"t":"#",%b}' % INSIDE, b"", b": " + INSIDE, b""]
    more = [b'data: {"t":"#","model":"pub"}', b"", b'data: {"broken', b"data: " + INSIDE, b"", b"data: end!", b""]
    data = eol.join([*lines, *more, b""])
    whole = every_way(lambda: masked_by(kind), data)
    assert (whole.tokens_seen, whole.finished) == (2, True)
    assert whole.sent.count(b"/srv") == 1, "in a comment, which says nothing to anybody"
    assert whole.sent.replace(b"/srv/a", b"pub") == data.replace(b"/srv/a", b"pub")


def test_the_first_event_behind_a_byte_order_mark_is_masked() -> None:
    scanner = Masked(mask=Mask("pub"))
    assert scanner.feed(b'\xef\xbb\xbfdata: {"t":"#","model":"/srv"}\n\n') == b'\xef\xbb\xbfdata: {"t":"#","model":"pub"}\n\n'


def test_a_data_line_that_is_no_json_is_masked_all_the_same() -> None:
    for end in (b"", b"\ndata: x"):
        assert masked_by().feed(b"data: {%b%b\n\n" % (INSIDE, end)) == b'data: {"model":"pub"%b\n\n' % end


def test_what_is_to_be_masked_is_learnt_from_the_first_event_with_text() -> None:
    subject = masked_by()
    assert not subject.at_rest
    subject.feed(b'data: {"t":"","model":"/srv/a"}\n\n')
    assert not subject.at_rest
    subject.feed(b'data: {"t":"#","model":"/srv/a"}\n\n')
    assert subject.at_rest
    assert subject.swap is not None
    assert subject.swap.usual(b'data: {"t":"##","model":"/srv/a"}\n\n') == -4
    assert subject.feed(b'data: {"t":"#","model":"/srv/a"}\n\n') == b'data: {"t":"#","model":"pub"}\n\n'
    plain = masked_by()
    plain.feed(b'data: {"t":"#"}\n\n')
    assert plain.at_rest
    assert plain.swap is None
    every_time = masked_by(Letters)
    every_time.feed(b'data: {"t":"#","model":"/srv/a"}\n\n')
    assert not every_time.at_rest
    deep = masked_by()
    deep.feed(b'data: {"t":"#","model":"pub","deep":{"model":"other"}}\n\n')
    assert deep.at_rest
    assert deep.swap is None


@pytest.mark.parametrize("said", [b'data: {"error":{"message":"/srv"}}\n\n', b"event: error\ndata: {}\n\n", b"error: {}\n\n"])
def test_a_failure_is_left_out_and_all_that_follows(said: bytes) -> None:
    assert every_way(masked_by, b"data: #\n\n" + said + b"data: #\n\ndata: end!\n\n").sent == b"data: #\n\n"
    subject = masked_by()
    subject.feed(said)
    assert subject.failed
    assert not subject.mid_event


def test_the_beginning_of_an_event_too_long_is_masked() -> None:
    long = b'data: {"model":"/srv/a","x":"' + b"x" * MAX_HELD + b'"}\n\n'
    subject = masked_by()
    assert subject.feed(long) + subject.feed(b"data: #\n\n") == long.replace(b"/srv/a", b"pub") + b"data: #\n\n"


def test_so_is_its_end_when_that_comes_later() -> None:
    subject = masked_by()
    sent = subject.feed(b'data: {"model":"/srv/a","x":"' + b"x" * 2 * MAX_HELD)
    assert subject.mid_event
    sent += subject.feed(b'","model":"/srv/a"}\n\ndata: #\n\n')
    assert not subject.mid_event
    assert sent == b'data: {"model":"pub","x":"' + b"x" * 2 * MAX_HELD + b'","model":"pub"}\n\ndata: #\n\n'
