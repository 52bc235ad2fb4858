"""Workers of a gate that was taken over: their numbers, and what they told last."""

from __future__ import annotations

from slmgate.control.elders import NOT_HERE_YET, Elders
from slmgate.link.messages import Tally, Wanted


def test_they_have_numbers_that_no_slot_has() -> None:
    elders, one, other = Elders(), object(), object()
    assert (list(elders.numbers), list(elders.tallies), elders.silent, repr(elders)) == ([], [], False, "<Elders: 0>")
    elders.joined(one)
    elders.joined(other)
    assert (list(elders.numbers), elders.silent) == ([NOT_HERE_YET - 1, NOT_HERE_YET - 2], True)
    told = Tally(0, 1, 1, 1, 0, 0)
    assert elders.tally(other, told) == Tally(NOT_HERE_YET - 2, 1, 1, 1, 0, 0)
    assert elders.silent
    elders.tally(one, told)
    assert not elders.silent
    assert [each.slot for each in elders.tallies] == [-3, -2]
    assert elders.wanted(one, Wanted(0, "m")) == Wanted(-2, "m")


def test_who_is_gone_is_forgotten_with_what_it_told() -> None:
    elders, one = Elders(), object()
    elders.joined(one)
    elders.tally(one, Tally(0, 1, 1, 1, 0, 0))
    assert elders.left(one) == -2
    assert (elders.left(one), list(elders.numbers), list(elders.tallies)) == (None, [], [])
    elders.joined(one)
    assert list(elders.numbers) == [-3], "no number is given twice"
