"""What the control process is told at its start: one JSON argument, file descriptors inherited from the supervisor.

Only forms stand here, and how a configuration's source is read; the control process acts on them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from slmgate.control.config import ConfigError, ConfigFault, Loaded, from_upstream
from slmgate.control.config.addresses import Address, Listener, is_public
from slmgate.control.config.checks import ADMIN_PROBLEM, PLAIN_PROBLEM
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.options import Listen
from slmgate.control.trials.running import load_tested


class ConfigSource(msgspec.Struct, frozen=True, kw_only=True):
    """Where the configuration comes from: a file, or (`serve --upstream`) an instance and what it said of itself.

    `listen`, `plain_http`, `admin` and `state_dir` stand for the options of these names where there is no file; None: their
    defaults.
    """

    path: str | None = None
    upstream: str | None = None
    models: tuple[str, ...] = ()
    engine: str = "openai"
    listen: str | None = None
    plain_http: bool = False
    admin: str | None = None
    state_dir: str | None = None

    def load(self) -> Loaded:
        """Read it afresh. Raises ConfigError only for an upstream that the same values in a file would be faults for."""
        if self.path is not None:
            return load_tested(Path(self.path))
        assert self.upstream is not None
        config = from_upstream(self.upstream, self.models, self.engine)  # type: ignore[arg-type]  # checked inside
        if self.listen is not None:
            config = replace(config, listen=(self._listen(self.listen),))
        if self.admin is not None:
            config = replace(config, admin=replace(config.admin, address=self._address_of("--admin", self.admin, ADMIN_PROBLEM)))
        if self.state_dir is not None:
            config = replace(config, state_dir=Path(self.state_dir).absolute())
        return Loaded(config=config)

    def _listen(self, text: str) -> Listen:
        return Listen(address=self._address_of("--listen", text, PLAIN_PROBLEM), plain_http=self.plain_http)

    def _address_of(self, flag: str, text: str, plain: str) -> Address:
        address = _address(flag, text)
        if is_public(address.host) and not self.plain_http:
            hint = "give a private address, or --plain-http where a proxy with TLS stands before it or the network is closed"
            fault = ConfigFault(file=flag, line=0, column=0, option="", problem=f"{str(address)!r} {plain}", hint=hint)
            raise ConfigError([fault])
        return address


class ControlOrders(msgspec.Struct, frozen=True, kw_only=True):
    """`admin`, `link`, `beats` and `lifeline` are file descriptors, `row` is control's own on the board of heartbeats.

    `again`: this is not the first control process of this gate, so that workers may be serving already. `gate` is the run of the
    supervisor that they belong to.
    """

    source: ConfigSource
    state_dir: str
    admin: int
    link: int
    beats: int
    row: int
    lifeline: int
    again: bool = False
    gate: str = ""


def _address(flag: str, text: str) -> Address:
    try:
        address: Address = Listener().take(text, "quoted")
    except BadValueError as wrong:
        fault = ConfigFault(file=flag, line=0, column=0, option="", problem=f"{text!r} {wrong.problem}", hint=wrong.hint)
        raise ConfigError([fault]) from None
    return address
