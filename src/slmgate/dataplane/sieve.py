"""The sieve: a filter on the listening sockets, by which the kernel drops packets of banned addresses before they cost anything.

It is a program of the classic Berkeley packet filter (Linux, socket(7) `SO_ATTACH_FILTER`, which needs no privilege): a search
tree over the addresses, so that everybody else passes after a few comparisons; connections that are accepted meanwhile keep the
program they came under, which concerns their own address only. Where the kernel does not take it, the gate closes connections of
the banned itself. It knows addresses as numbers of 128 bits (`policy/networks.py`), and not why they are banned.
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from struct import pack

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

_LEAF = 32
"""So many addresses are compared one after the other."""
_FEW = 4
"""IPv6 networks that begin with the same word are compared like that as well, if they are no more."""
_IPV4 = 0xFFFF

Instruction = tuple[int, int, int, int]


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
    four = [(_LOAD, 0, 0, _IPV4_SOURCE), *_tree(sorted(ipv4))]
    six = [(_LOAD, 0, 0, _IPV6_SOURCE), *_tree(list(seconds), seconds)]
    return [(_LOAD, 0, 0, _PROTOCOL), (_EQUAL, 0, 1, _ETHER_IPV6), (_JUMP, 0, 0, len(four)), *four, *six]


def _tree(words: Sequence[int], seconds: Mapping[int, Sequence[int]] | None = None) -> list[Instruction]:
    """Drops a packet whose loaded word is one of these (sorted), and its second word one of those that belong to it."""
    if len(words) <= _LEAF:
        return _leaf(words) if seconds is None else _leaf_of_pairs(words, seconds)
    middle = len(words) // 2
    low, high = _tree(words[:middle], seconds), _tree(words[middle:], seconds)
    return [(_AT_LEAST, 0, 1, words[middle]), (_JUMP, 0, 0, len(low)), *low, *high]


def _leaf(words: Sequence[int]) -> list[Instruction]:
    """An instruction for each word: what fits jumps to the last one of all, which drops."""
    count = len(words)
    return [*((_EQUAL, count - at, 0, word) for at, word in enumerate(words)), (_RETURN, 0, 0, _PASSES), (_RETURN, 0, 0, _DROPS)]


def _leaf_of_pairs(words: Sequence[int], seconds: Mapping[int, Sequence[int]]) -> list[Instruction]:
    """For each word whether the second one is its; where it has many, that is asked in a tree behind the leaf."""
    sizes = [2 if len(seconds[word]) > _FEW else 2 + len(seconds[word]) for word in words]
    end = sum(sizes)  # where a packet passes; behind that it is dropped
    found: list[Instruction] = []
    trees: list[Instruction] = []
    for word, size in zip(words, sizes, strict=True):
        its = seconds[word]
        found.append((_EQUAL, 0, size - 1, word))
        if len(its) > _FEW:
            found.append((_JUMP, 0, 0, end + 2 + len(trees) - len(found) - 1))
            trees += [(_LOAD, 0, 0, _IPV6_SECOND), *_tree(its)]
            continue
        found.append((_LOAD, 0, 0, _IPV6_SECOND))
        for second in its[:-1]:
            found.append((_EQUAL, end - len(found), 0, second))
        found.append((_EQUAL, end - len(found), end - len(found) - 1, its[-1]))
    return [*found, (_RETURN, 0, 0, _PASSES), (_RETURN, 0, 0, _DROPS), *trees]


def packed(instructions: Sequence[Instruction]) -> bytes:
    """The program as the kernel reads it."""
    return pack("=" + "HBBI" * len(instructions), *chain.from_iterable(instructions))


class Sieve:
    """The filter of some listening sockets."""

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets
        self._kept_out: list[int] = []
        self._most = MOST_INSTRUCTIONS
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
            instructions = program(addresses)
            if len(instructions) > self._most:
                excess = 1 - self._most / len(instructions)
                addresses = addresses[1 + int(len(addresses) * excess) :]
            elif self._attach(instructions):
                return
            else:
                self._most = len(instructions) * 3 // 4
        self._detach()

    def _attach(self, instructions: Sequence[Instruction]) -> bool:
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
