"""The sieve: a filter on the listening sockets, by which the kernel drops packets of banned addresses before they cost anything.

It is a program of the classic Berkeley packet filter (Linux, socket(7) `SO_ATTACH_FILTER`, which needs no privilege): a search
tree over the addresses, so that everybody else passes after a few comparisons; connections that are accepted meanwhile keep the
program they came under, which concerns their own address only. Where the kernel does not take it, the gate closes connections of
the banned itself. It knows addresses as numbers of 128 bits (`policy/networks.py`), and not why they are banned.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterable, Sequence
from struct import Struct, pack

SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
MOST_INSTRUCTIONS = 4096
"""The kernel takes no longer program (`BPF_MAXINSNS`)."""

_LOAD = 0x20  # a word of the packet, or one of the fields that have an address of their own
_EQUAL, _AT_LEAST = 0x15, 0x35  # jump by so many instructions if so, and by so many if not
_JUMP, _RETURN = 0x05, 0x06
_NETWORK = 0xFFF00000  # where the IP header begins, wherever that is (`SKF_NET_OFF`)
_PROTOCOL = 0xFFFFF000  # which one it is (`SKF_AD_OFF + SKF_AD_PROTOCOL`)
_ETHER_IPV6 = 0x86DD
_IPV4_SOURCE, _IPV6_SOURCE, _IPV6_SECOND = _NETWORK + 12, _NETWORK + 8, _NETWORK + 12
_PASSES, _DROPS = 0xFFFFFFFF, 0  # bytes of the packet that are kept

_LEAF = 8
"""So many addresses are compared one after the other."""
_IPV4 = 0xFFFF

Instruction = tuple[int, int, int, int]
_instruction = Struct("=HBBI").pack


def program(addresses: Iterable[int]) -> list[Instruction]:
    """The filter that drops what comes from these IPv4 addresses, or from the /64 of these IPv6 ones. Empty: it passes all."""
    ipv4, ipv6 = set(), set()
    for address in addresses:
        if address >> 32 == _IPV4:
            ipv4.add(address & 0xFFFFFFFF)
        else:
            ipv6.add(address >> 64)
    seconds: dict[int, list[int]] = {}
    for half in sorted(ipv6):
        seconds.setdefault(half >> 32, []).append(half & 0xFFFFFFFF)
    four = [(_LOAD, 0, 0, _IPV4_SOURCE), *_tree([(one, None) for one in sorted(ipv4)])]
    six = [(_LOAD, 0, 0, _IPV6_SOURCE), *_tree(list(seconds.items()))]
    return [(_LOAD, 0, 0, _PROTOCOL), (_EQUAL, 0, 1, _ETHER_IPV6), (_JUMP, 0, 0, len(four)), *four, *six]


def _tree(rows: Sequence[tuple[int, list[int] | None]]) -> list[Instruction]:
    """Drops a packet whose loaded word is in the (sorted) rows, and its second word in the row's list, where it has one."""
    if len(rows) <= _LEAF:
        found: list[Instruction] = []
        for word, seconds in rows:
            if seconds is None:
                found += [(_EQUAL, 0, 1, word), (_RETURN, 0, 0, _DROPS)]
            else:
                inner = [(_LOAD, 0, 0, _IPV6_SECOND), *_tree([(second, None) for second in seconds])]
                found += [(_EQUAL, 1, 0, word), (_JUMP, 0, 0, len(inner)), *inner]
        return [*found, (_RETURN, 0, 0, _PASSES)]
    middle = len(rows) // 2
    low, high = _tree(rows[:middle]), _tree(rows[middle:])
    return [(_AT_LEAST, 0, 1, rows[middle][0]), (_JUMP, 0, 0, len(low)), *low, *high]


def packed(instructions: Sequence[Instruction]) -> bytes:
    """The program as the kernel reads it."""
    return b"".join(_instruction(*one) for one in instructions)


class Sieve:
    """The filter of some listening sockets."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._kept_out: list[int] = []
        self._fresh = True  # nothing was attached yet: there may be what a worker before this one has left
        self.works = True
        """The kernel takes filters."""

    def __repr__(self) -> str:
        return f"<Sieve: {len(self._kept_out)} kept out{'' if self.works else ', not taken'}>"

    def keep_out(self, addresses: Sequence[int]) -> None:
        """Drop what comes from these and from nobody else; as many of the last of them as the kernel has room for."""
        if not self.works or (addresses == self._kept_out and not self._fresh):
            return
        self._fresh = False
        self._kept_out = list(addresses)
        while addresses:
            if self._attach(program(addresses)):
                return
            addresses = addresses[(len(addresses) + 1) // 2 :]
        self._detach()

    def _attach(self, instructions: Sequence[Instruction]) -> bool:
        if len(instructions) > MOST_INSTRUCTIONS:
            return False
        code = ctypes.create_string_buffer(packed(instructions))
        filter = pack("HxxxxxxP", len(instructions), ctypes.addressof(code))
        try:
            for one in self._sockets:
                one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, filter)
        except OSError:
            return False
        return True

    def _detach(self) -> None:
        """Let everybody pass. What cannot be attached in any size was never taken."""
        self.works = not self._kept_out
        for one in self._sockets:
            try:
                one.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            except OSError:  # there was none
                continue
