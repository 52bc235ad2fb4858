"""What loading a configuration comes to, for whoever asked for it. How it is loaded is unknown here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from slmgate.control.config.faults import ConfigError, ConfigFault
from slmgate.control.config.options import Config


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What loading came to: a configuration, or faults and no configuration, never both.

    `files` are the configuration file itself and all that `${file:}` asked for: what a watcher has to watch.
    """

    config: Config | None
    faults: tuple[ConfigFault, ...] = ()
    files: tuple[Path, ...] = ()

    def unwrap(self) -> Config:
        """The configuration; raises `ConfigError` where there is none."""
        if self.config is None:
            raise ConfigError(self.faults)
        return self.config
