"""What the options of proxies must be to each other.

A part of `checks.py` in a file of its own, under the same rules. It knows no YAML.
"""

from __future__ import annotations

from slmgate.control.config.document import Sequence
from slmgate.control.config.options import Config
from slmgate.control.config.reading import Reader


def check_proxies(config: Config, reader: Reader) -> None:
    """A listener on which only proxies may speak needs some."""
    told = reader.places.get((id(config.guard), "trusted_proxies"))
    if config.guard.trusted_proxies or (told is not None and not (isinstance(told.node, Sequence) and not told.node.items)):
        return  # or what stands there has a fault of its own
    for listener in config.listen:
        place = reader.places.get((id(listener), "proxy_protocol"))
        if listener.proxy_protocol and place is not None:
            hint = "name the proxies in guard.trusted_proxies"
            reader.blame(place, place.node.span, "nobody could connect to this address, as no proxy is trusted", hint)
