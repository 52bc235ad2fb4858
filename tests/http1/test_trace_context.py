"""`traceparent` and `tracestate` byte by byte: what is read, what is none, and which traces are chosen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.http1.trace_context import MAX_MEMBERS, MAX_STATE, Parent, is_chosen, parent_of, sane_state, threshold

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
GOOD = b"00-%b-%b-01" % (TRACE, SPAN)


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (b"00-%b-%b-00", 0),
        (b"00-%b-%b-01", 1),
        (b"00-%b-%b-02", 2),
        (b"00-%b-%b-03", 3),
        # flags that nobody knows yet are not passed on
        (b"00-%b-%b-04", 0),
        (b"00-%b-%b-08", 0),
        (b"00-%b-%b-fd", 1),
        (b"00-%b-%b-ff", 3),
        # later versions: what stands where it always stood
        (b"01-%b-%b-01", 1),
        (b"cc-%b-%b-01", 1),
        (b"fe-%b-%b-00", 0),
        (b"cc-%b-%b-01-", 1),
        (b"cc-%b-%b-01-what-the-future-brings", 1),
        (b"cc-%b-%b-01-01-02", 1),
    ],
)
def test_a_parent(value: bytes, flags: int) -> None:
    assert parent_of(value % (TRACE, SPAN)) == Parent(TRACE, SPAN, flags)


NO_PARENTS = [
    b"",
    b" ",
    b"-",
    b"00",
    b"00-",
    b"garbage",
    TRACE,
    # cut off, at each place
    GOOD[:-1],
    GOOD[:-2],
    GOOD[:-3],
    GOOD[:-4],
    GOOD[1:],
    GOOD[3:],
    # too long, in each part
    GOOD + b"0",
    GOOD + b".",
    GOOD + b"-",
    GOOD + b"-01",
    GOOD + b"-what-the-future-brings",
    b"0" + GOOD,
    b"000-%b-%b-01" % (TRACE, SPAN),
    b"0-%b-%b-01" % (TRACE, SPAN),
    b"00-%b0-%b-01" % (TRACE, SPAN),
    b"00-%b-%b0-01" % (TRACE, SPAN),
    b"00-%b-%b-001" % (TRACE, SPAN),
    b"00-%b-%b-1" % (TRACE, SPAN),
    b"00-%b-%b-" % (TRACE, SPAN),
    b"00-%b-%b-01" % (TRACE[1:], SPAN),
    b"00-%b-%b-01" % (TRACE, SPAN[1:]),
    b"00--%b-01" % SPAN,
    b"00-%b--01" % TRACE,
    # versions that cannot be
    b"ff-%b-%b-01" % (TRACE, SPAN),
    b"ff-%b-%b-01-more" % (TRACE, SPAN),
    b".0-%b-%b-01" % (TRACE, SPAN),
    b"0.-%b-%b-01" % (TRACE, SPAN),
    b"xx-%b-%b-01" % (TRACE, SPAN),
    b"CC-%b-%b-01" % (TRACE, SPAN),
    b"cc-%b-%b-01.more" % (TRACE, SPAN),
    b"cc-%b-%b-01more" % (TRACE, SPAN),
    b"cc-%b-%b-01-\x00" % (TRACE, SPAN),
    b"cc-%b-%b-01-a b" % (TRACE, SPAN),
    b"cc-%b-%b-01-%b" % (TRACE, SPAN, b"x" * 512),
    # ids of nothing
    b"00-%b-%b-01" % (b"0" * 32, SPAN),
    b"00-%b-%b-01" % (TRACE, b"0" * 16),
    b"cc-%b-%b-01" % (b"0" * 32, SPAN),
    b"00-%b-%b-01" % (b"0" * 32, b"0" * 16),
    # capitals, and what is no digit
    GOOD.upper(),
    b"00-%b-%b-01" % (TRACE.upper(), SPAN),
    b"00-%b-%b-01" % (TRACE, b"00F067AA0BA902B7"),
    b"00-%b-%b-0A" % (TRACE, SPAN),
    b"00-%b-%b-0g" % (TRACE, SPAN),
    b"00-%b-%b-+1" % (TRACE, SPAN),
    b"00-%b-%b-.1" % (TRACE, SPAN),
    b"00-%b-%b-01" % (b"g" + TRACE[1:], SPAN),
    b"00-%b-%b-01" % (b"." + TRACE[1:], SPAN),
    b"00-%b-%b-01" % (TRACE[:-1] + b"_", SPAN),
    b"00-%b-%b-01" % (TRACE, b"-" + SPAN[1:]),
    b"00-%b-%b-01" % (b"0x" + TRACE[2:], SPAN),
    "00-4bf92f3577b34da6a3ce929d0e0e473\u0666-00f067aa0ba902b7-01".encode(),
    b"00-%b-%b-01" % (b"\xff" + TRACE[1:], SPAN),
    # other separators
    b"00_%b_%b_01" % (TRACE, SPAN),
    b"00:%b:%b:01" % (TRACE, SPAN),
    b"00 %b %b 01" % (TRACE, SPAN),
    b"00%b%b01" % (TRACE, SPAN),
    b"00-%b-%b-01" % (SPAN, TRACE),
    # blanks and line ends, which the head's reader has taken off where they may stand
    b" " + GOOD,
    GOOD + b" ",
    GOOD + b"\t",
    GOOD + b"\n",
    GOOD + b"\r\n",
    GOOD + b"\x00",
    b"\x00" + GOOD,
    b'"%b"' % GOOD,
    # twice, as the head's reader joins them; also the same
    GOOD + b", " + GOOD,
    GOOD + b"," + GOOD,
    b"cc-%b-%b-01, %b" % (TRACE, SPAN, GOOD),
    b", " + GOOD,
    GOOD + b", ",
]


@pytest.mark.parametrize("value", NO_PARENTS)
def test_no_parent(value: bytes) -> None:
    assert parent_of(value) is None


def test_there_are_enough_of_them() -> None:
    assert len(set(NO_PARENTS)) >= 40


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_none(value: bytes) -> None:
    assert parent_of(value) is None or len(value) >= 55
    assert sane_state(value) in (None, value)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=1))
def test_whatever_is_read_is_what_stands_there(at: int, byte: bytes) -> None:
    value = GOOD[:at] + byte + GOOD[at + 1 :]
    found = parent_of(value)
    if found is not None:
        assert value[3:35] == found.trace_id != b"0" * 32
        assert value[36:52] == found.span_id != b"0" * 16


@pytest.mark.parametrize(
    "value",
    [
        b"foo=1",
        b"foo=1,bar=2",
        b"foo=1 \t , \t bar=2, \t baz=3",
        b"foo=1,,bar=2,",
        b",foo=1",
        b"a/b*c_d-e@f=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~",
        b"0foo=1",
        b"foo= 1",
        b"foo=1,foo=2",
        b"tenant@vendor=x",
        b"foo@@bar=1",
        b"z" * 256 + b"=1",
        b"foo=" + b"v" * 256,
        b",".join(b"k%d=1" % at for at in range(MAX_MEMBERS)),
        b"foo=" + b"1" * 249 + b",bar=" + b"2" * 253,
    ],
)
def test_a_state_that_passes(value: bytes) -> None:
    assert sane_state(value) == value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b",",
        b", ,",
        b"foo",
        b"=1",
        b"foo=",
        b"foo=,bar=3",
        b"foo= ",
        b"foo =1",
        b"FOO=1",
        b"foo.bar=1",
        b"@foo=1",
        b"foo=bar=baz",
        b"foo=1;bar=2",
        b"foo=\x00",
        b"foo=a\tb",
        b"foo=a\r\nb",
        b"foo=\x7f",
        b"foo=\xe4",
        "foo=\u00e4".encode(),
        b"z" * 257 + b"=1",
        b"foo=" + b"v" * 257,
        b",".join(b"k%d=1" % at for at in range(MAX_MEMBERS + 1)),
        b"foo=" + b"1" * 250 + b",bar=" + b"2" * 254,
        b"," * 513,
    ],
)
def test_a_state_that_does_not(value: bytes) -> None:
    assert sane_state(value) is None


def test_the_longest_state() -> None:
    assert len(b"foo=" + b"1" * 250 + b",bar=" + b"2" * 254) == MAX_STATE + 1


@pytest.mark.parametrize("share", [0.0, 1e-6, 0.1, 0.25, 0.5, 0.999999, 1.0])
def test_a_share_of_all_traces(share: float) -> None:
    line = threshold(share)
    assert not is_chosen(b"f" * 18 + b"%014x" % (line - 1), line) if line else share == 1.0
    if share:
        assert is_chosen(b"0" * 18 + b"%014x" % line, line)
        assert is_chosen(b"f" * 32, line)
    else:
        assert not is_chosen(b"f" * 32, line)


def test_who_keeps_less_keeps_some_of_the_same() -> None:
    ids = [b"%032x" % (at * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128) for at in range(1, 5000)]
    few, many = threshold(0.1), threshold(0.3)
    kept = [one for one in ids if is_chosen(one, few)]
    assert 400 < len(kept) < 600
    assert all(is_chosen(one, many) for one in kept)
