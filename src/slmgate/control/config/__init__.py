"""The configuration: one table of options, strict loading, and all that follows from both.

Other rooms import from here. What a configuration is stands in `options.py`; nothing in this package applies one.
"""

from slmgate.control.config.compile import compile_snapshot, declared_keys, instance_id, owned_twice
from slmgate.control.config.faults import ConfigError, ConfigFault
from slmgate.control.config.loaded import Loaded
from slmgate.control.config.loading import client_name, client_names, from_upstream, load, load_text, restart_needed
from slmgate.control.config.options import Config
from slmgate.control.config.tokenizer_files import measured

__all__ = [
    "Config",
    "ConfigError",
    "ConfigFault",
    "Loaded",
    "client_name",
    "client_names",
    "compile_snapshot",
    "declared_keys",
    "from_upstream",
    "instance_id",
    "load",
    "load_text",
    "measured",
    "owned_twice",
    "restart_needed",
]
