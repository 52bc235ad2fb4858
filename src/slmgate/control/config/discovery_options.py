"""The options of `discovery:`, by which the names and files of instances are followed.

Only the table stands here; `control/discovery.py` and `control/lists.py` act on it, and it knows no single name.
"""

from __future__ import annotations

from typing import Annotated

from slmgate.control.config.addresses import Address, Listener
from slmgate.control.config.auth_options import MINUTE
from slmgate.control.config.kinds import Duration, Network, Switch, Whole
from slmgate.control.config.table import Option, Section


class Discovery(Section, frozen=True, kw_only=True):
    """How the names and files of instances are followed."""

    nameservers: Annotated[
        tuple[Address, ...],
        Option(
            "The DNS servers that are asked, each by its IP address and port. Empty: those of /etc/resolv.conf, and for names "
            "that they do not have, the system's own ways (/etc/hosts).",
            Listener(),
            example="[10.0.0.2:53]",
        ),
    ] = ()
    refresh: Annotated[
        float,
        Option(
            "How soon a name is asked for again where no time to live says it: nothing useful was answered, or it is not of DNS.",
            Duration(low=500, high=10 * MINUTE),
        ),
    ] = 5.0
    max_addresses: Annotated[
        int,
        Option(
            "The most addresses of one name or file that are used; of more, those that were there first.",
            Whole(low=1, high=10_000),
        ),
    ] = 256
    networks: Annotated[
        tuple[str, ...],
        Option(
            "Where the addresses have to be that names and files lead to: networks or single addresses; this machine itself goes "
            "by `loopback`. Empty: anywhere but at link-local and other addresses at which no instance can be.",
            Network(),
            example="[10.1.0.0/16, fd00:1::/32]",
        ),
    ] = ()
    loopback: Annotated[bool, Option("Whether names and files may lead to this machine itself (127.0.0.0/8, ::1).", Switch())] = (
        False
    )
