"""What loading a configuration comes to, for whoever asked for it. How it is loaded is unknown here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from slmgate.control.config.faults import ConfigError, ConfigFault
from slmgate.control.config.options import Config
from slmgate.control.config.stamps import Stamp


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading came to: a configuration, or faults and no configuration, never both.

    `files` are the configuration file itself and all that it fetches from, each as it was before it was read: whoever watches
    them finds what was changed while it was loaded, or put into force. `content` is what the configuration file held; None: it
    could not be read, or there is none.
    """

    config: Config | None
    faults: tuple[ConfigFault, ...] = ()
    files: Mapping[Path, Stamp] = msgspec.field(default_factory=dict)
    content: bytes | None = None

    def __repr__(self) -> str:
        return f"<Loaded, {len(self.faults)} faults>"  # there may be secrets in the content

    def unwrap(self) -> Config:
        """The configuration; raises `ConfigError` where there is none."""
        if self.config is None:
            raise ConfigError(self.faults)
        return self.config
