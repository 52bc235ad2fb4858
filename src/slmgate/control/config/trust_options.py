"""The options of `tls` of instances: whom the gate believes, and as whom it shows itself, where it connects by TLS.

Only the table stands here; `trust.py` makes of it what workers and checks go by, and `link/trust.py` acts on that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from slmgate.control.config.addresses import HostName
from slmgate.control.config.kinds import Location, Switch
from slmgate.control.config.table import Option, Section


class InstanceTls(Section, frozen=True, kw_only=True):
    """TLS towards instances: by whom they are vouched for, and as whom the gate shows itself; docs/security.md."""

    short: ClassVar[dict[str, str]] = {"on": "verify"}

    ca: Annotated[
        Literal["system"] | Path | None,
        Option(
            "A file (PEM) with the certificates of the authorities that instances must be vouched for by, in place of those that "
            "the system trusts; an instance's own certificate may stand there too. Unset: as the model says, else `system`.",
            Location(words=("system",)),
            example="instances-ca.pem",
        ),
    ] = None
    cert: Annotated[
        Path | None,
        Option("The certificate (PEM) that the gate shows to instances that ask for one.", Location(), example="gate-client.pem"),
    ] = None
    key: Annotated[Path | None, Option("Its private key (PEM), without a password.", Location(), example="gate-client.key")] = (
        None
    )
    server_name: Annotated[
        str | None,
        Option(
            "The name that the instance's certificate must be for, which is asked for as well (SNI, `Host`). Unset: the host of "
            "`url`, or the name in `dns`.",
            HostName(),
            example="vllm.models.internal",
        ),
    ] = None
    verify: Annotated[
        bool | None,
        Option(
            "`false`: believe whoever answers. Anybody on the way to the instance can then read prompts, answers and its "
            "`bearer`. Unset: as the model says, else `true`; `on` in the place of all options says `true` and no more.",
            Switch(),
            example="true",
        ),
    ] = None
