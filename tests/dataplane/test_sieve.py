"""The filter for the kernel, run by an interpreter of the few instructions it has; and how it is put on sockets.

What a real kernel does with it is shown in tests/system.
"""

from __future__ import annotations

import random
import struct
from ctypes import string_at
from typing import cast

import pytest

from slmgate.dataplane.guard import SIEVED
from slmgate.dataplane.sieve import MOST_INSTRUCTIONS, SO_ATTACH_FILTER, SO_DETACH_FILTER, Instruction, Sieve, packed, program
from slmgate.policy.networks import number_of

PASSES, DROPS = 0xFFFFFFFF, 0


def run(instructions: list[Instruction], address: int) -> tuple[int, int]:
    """What the program says of a packet from `address`, and after how many steps. Reads only what a packet has."""
    ipv4 = address >> 32 == 0xFFFF
    accumulator = at = steps = 0
    while True:
        code, so, not_so, value = instructions[at]
        steps += 1
        at += 1
        if code == 0x20:
            if value == 0xFFFFF000:
                accumulator = 0x0800 if ipv4 else 0x86DD
            elif ipv4:
                assert value == 0xFFF0000C
                accumulator = address & 0xFFFFFFFF
            else:
                accumulator = address >> {0xFFF00008: 96, 0xFFF0000C: 64}[value] & 0xFFFFFFFF
        elif code == 0x15:
            at += so if accumulator == value else not_so
        elif code == 0x35:
            at += so if accumulator >= value else not_so
        elif code == 0x05:
            at += value
        else:
            assert code == 0x06
            return value, steps


def some(count: int, chance: random.Random, families: str = "46") -> list[int]:
    found: list[int] = []
    for _ in range(count):
        if chance.choice(families) == "4":
            found.append(0xFFFF << 32 | chance.getrandbits(32))
        else:  # several of a provider's
            found.append((0x20010DB8 + chance.randrange(4)) << 96 | chance.getrandbits(16) << 64)
    return found


@pytest.mark.parametrize("count", [0, 1, 8, 9, 64, 500])
def test_it_drops_these_and_no_others(count: int) -> None:
    chance = random.Random(count)
    banned = some(count, chance)
    instructions = program(banned)
    assert len(instructions) <= MOST_INSTRUCTIONS
    for address in banned:
        assert run(instructions, address)[0] == DROPS, hex(address)
        near = address + (1 if address >> 32 == 0xFFFF else 1 << 64)
        if near not in banned and near >> 33 != 0xFFFF >> 1:
            continue
        assert run(instructions, near)[0] == (DROPS if near in banned else PASSES), hex(near)
    for address in some(500, chance):
        assert run(instructions, address)[0] == (DROPS if address in banned else PASSES)


def test_the_whole_network_of_an_ipv6_address() -> None:
    instructions = program([number_of("2001:db8:0:7::")])
    assert run(instructions, number_of("2001:db8:0:7:dead::beef"))[0] == DROPS
    assert run(instructions, number_of("2001:db8:0:8::1"))[0] == PASSES
    assert run(instructions, number_of("2001:db9:0:7::1"))[0] == PASSES
    assert run(instructions, number_of("192.0.2.1"))[0] == PASSES


def test_everybody_else_passes_in_few_steps() -> None:
    chance = random.Random(1)
    instructions = program(some(SIEVED, chance, "4"))
    assert len(instructions) < MOST_INSTRUCTIONS
    assert max(run(instructions, address)[1] for address in some(1000, chance)) < 60


def test_networks_that_have_nothing_in_common() -> None:
    chance = random.Random(2)
    banned = [chance.getrandbits(64) << 64 for _ in range(SIEVED // 3)]
    instructions = program(banned)
    assert len(instructions) < MOST_INSTRUCTIONS
    assert all(run(instructions, address + chance.getrandbits(64))[0] == DROPS for address in banned)
    assert all(run(instructions, address ^ 1 << 64 + chance.randrange(64))[0] == PASSES for address in banned)


def test_as_the_kernel_reads_it() -> None:
    assert packed([(0x15, 0, 1, 0xFFFFFFFF)]) == struct.pack("=HBBI", 0x15, 0, 1, 0xFFFFFFFF)


class FakeSocket:
    """Takes programs of up to `room` instructions, as a kernel whose memory for them is bounded."""

    def __init__(self, room: int = 4096) -> None:
        self.room = room
        self.filter: bytes | None = None
        self.told = 0

    def setsockopt(self, level: int, option: int, value: bytes | int) -> None:
        self.told += 1
        if option == SO_DETACH_FILTER:
            if self.filter is None:
                raise OSError(2, "No such file or directory")
            self.filter = None
            return
        assert option == SO_ATTACH_FILTER
        length, address = struct.unpack("HxxxxxxP", cast(bytes, value))
        if length > self.room:
            raise OSError(12, "Cannot allocate memory")
        self.filter = string_at(address, 8 * length)


def sieve(*sockets: FakeSocket) -> Sieve:
    return Sieve(cast(list, sockets))  # type: ignore[type-arg]  # all that is asked of a socket


def test_it_is_put_on_every_socket_when_something_changed() -> None:
    sockets = FakeSocket(), FakeSocket()
    one = sieve(*sockets)
    banned = some(3, random.Random(3))
    one.keep_out(banned)
    assert [each.filter for each in sockets] == [packed(program(banned))] * 2
    told = sockets[0].told
    one.keep_out(list(banned))
    assert sockets[0].told == told
    assert repr(one) == "<Sieve: 3 kept out>"
    one.keep_out([])
    assert [each.filter for each in sockets] == [None, None]
    assert one.works


def test_what_a_worker_before_has_left_is_taken_off() -> None:
    left = FakeSocket()
    left.filter = b"of a dead worker"
    sieve(left).keep_out([])
    assert left.filter is None


def test_as_many_as_there_is_room_for() -> None:
    narrow = FakeSocket(room=100)
    banned = some(300, random.Random(4), "4")
    one = sieve(narrow)
    one.keep_out(banned)
    assert narrow.filter is not None
    assert one.works
    instructions = [struct.unpack("=HBBI", narrow.filter[at : at + 8]) for at in range(0, len(narrow.filter), 8)]
    dropped = [address for address in banned if run(cast(list[Instruction], instructions), address)[0] == DROPS]
    assert dropped == banned[-len(dropped) :], "the last ones"
    assert len(dropped) > 10


def test_a_kernel_that_takes_none() -> None:
    never = FakeSocket(room=0)
    one = sieve(never)
    one.keep_out(some(2, random.Random(5)))
    assert not one.works
    told = never.told
    one.keep_out(some(5, random.Random(6)))
    assert never.told == told
    assert repr(one) == "<Sieve: 2 kept out, not taken>"
