"""Networks and addresses: which address lies in which list of networks, by whole numbers.

An IPv4 address counts as the IPv6 address that stands for it (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2), so that a client
is the same one by whichever socket it came. It knows texts and numbers, no connection; who may come from where is `roles.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

_IPV4 = 0xFFFF << 32
NOWHERE = -1
"""The number of what is no address: it lies in no network."""


def number_of(address: str) -> int:
    """The address as a number of 128 bits; `NOWHERE` for anything else, such as the peer of a Unix socket."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return NOWHERE
    return int(found) | _IPV4 if found.version == 4 else int(found)


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """A network in CIDR form, or a single address. Raises ValueError, also where bits behind the prefix are set.

    A mask in place of the prefix's length is refused, whether `0.0.0.255` is one or its opposite is a guess; so is a zone
    (`fe80::%1/64`), which no comparison of numbers could keep.
    """
    strange = "." in text.partition("/")[2] or "%" in text
    return ip_network(f"{text} is not in CIDR form" if strange else text)


class Networks:
    """A list of networks, made once and asked often. An empty list holds no address."""

    __slots__ = ("_blocks", "_texts")

    def __init__(self, texts: Iterable[str]) -> None:
        """`texts`: CIDR, each as `parse_network` takes it; raises ValueError for another."""
        self._texts = tuple(texts)
        self._blocks = tuple(_block(text) for text in self._texts)

    def __repr__(self) -> str:
        return f"<Networks {' '.join(self._texts)}>"

    def holds(self, address: int) -> bool:
        """Whether the address (as `number_of` makes it) lies in one of them."""
        for mask, base in self._blocks:
            if address & mask == base:
                return address >= 0
        return False

    def meets(self, first: int, bits: int) -> bool:
        """Whether any address of theirs is in the network that begins with `first` and leaves so many bits open."""
        return any((first ^ base) & mask >> bits << bits == 0 for mask, base in self._blocks)


def _block(text: str) -> tuple[int, int]:
    """Mask and base of a network, as numbers of 128 bits."""
    network = parse_network(text)
    base = int(network.network_address)
    host_bits = network.max_prefixlen - network.prefixlen
    mask = ((1 << 128) - 1) >> host_bits << host_bits
    return mask, base | _IPV4 if network.version == 4 else base


@lru_cache(maxsize=1024)
def networks_of(texts: tuple[str, ...]) -> Networks:
    """The list made of `texts`; lists that were made lately are not made anew, since many keys share theirs."""
    return Networks(texts)
