"""One instance from its options alone, as strictly as the configuration file reads it.

For instances that come at run time from an operator. Text in, options or the first fault out;
what it must be to the other options of a configuration is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from slmgate.control.config.document import parse
from slmgate.control.config.faults import BadValueError
from slmgate.control.config.options import Instance
from slmgate.control.config.reading import Reader


def read_instance(text: str, env: Mapping[str, str] | None = None) -> Instance:
    """The instance that `text` describes: a mapping of the options under `models.NAME.instances[]`, in JSON or YAML.

    `env` stands for the process's environment. Raises BadValueError with the first fault; it shows no secret.
    """
    reader = Reader("instance", text, Path().absolute(), os.environ if env is None else env)
    root, troubles = parse(text)
    for trouble in troubles:
        raise BadValueError(trouble.problem, trouble.hint)
    made = None if root is None else reader.document(Instance, root)
    for fault in reader.faults():
        raise BadValueError(f"{fault.option}: {fault.problem}" if fault.option else fault.problem, fault.hint)
    if not isinstance(made, Instance):
        raise BadValueError("there are no options")
    if made.url is None:
        option, what = ("command", "command") if made.command else ("file", "file") if made.dns is None else ("dns", "name")
        raise BadValueError(f"{option}: only the configuration may name a {what}", "write url: http://127.0.0.1:8000")
    if made.tls is not None and not made.url.tls:
        raise BadValueError("tls is never looked at", f"write url: https://{made.url.location} if TLS is meant")
    return made
