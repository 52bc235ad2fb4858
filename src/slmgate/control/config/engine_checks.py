"""What an instance that the gate starts must be: a program that is there, one way to its port, options that are looked at.

Called with the other checks between options. It looks into the file system for the program, as it is now; it starts nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from slmgate.control.config.document import Sequence
from slmgate.control.config.faults import quote, quote_path
from slmgate.control.config.options import Instance
from slmgate.control.config.reading import Place, Reader

PORT = "{port}"
OPTIONS = ("environment", "directory", "start", "start_within", "stop_within", "idle", "output")
"""What is said of a command, and of nothing else."""


def check_engine(instance: Instance, reader: Reader) -> None:
    """Give `reader` the faults of one instance's command, or of what is said of one that is not there."""
    if not instance.command:
        for option in OPTIONS:
            place = reader.places.get((id(instance), option))
            if place is not None and getattr(instance, option):
                reader.blame(place, place.node.span, f"{option} is never looked at", "it is for an instance with a command")
        return
    place = reader.places.get((id(instance), "command"))
    if place is None or lacks_words(instance, place):
        return
    _program(instance, place, reader)
    takes_port = any(PORT in word for word in (*instance.command, *instance.environment.values()))
    if instance.port is None and not takes_port:
        reader.blame(place, place.node.span, "the command is told no port", "write {port} where it takes one, or give its port")
    there = reader.places.get((id(instance), "directory"))
    if instance.directory is not None and there is not None and not instance.directory.is_dir():
        reader.blame(
            there, there.node.span, f"there is no directory {quote_path(instance.directory)}", "make it, or leave it out"
        )


def check_ports(instances: Iterable[Instance], reader: Reader) -> None:
    """Give `reader` the ports that two commands are to have, of all models."""
    first: dict[int, Place] = {}
    for instance in instances:
        place = reader.places.get((id(instance), "port"))
        if not instance.command or instance.port is None or place is None:
            continue
        earlier = first.setdefault(instance.port, place)
        if earlier is not place:
            hint = f"see {earlier.option}; take another, or leave it out and write {PORT}"
            reader.blame(place, place.node.span, f"{instance.port} is another command's port already", hint)


def lacks_words(instance: Instance, place: Place) -> bool:
    """Whether some of the command's words had faults of their own, so that the rest of it says nothing."""
    return isinstance(place.node, Sequence) and len(place.node.items) != len(instance.command)


def _program(instance: Instance, place: Place, reader: Reader) -> None:
    """The program must be there and may be run; what is found otherwise is said where the command stands."""
    name = instance.command[0]
    if not name:
        reader.blame(place, place.node.span, "the command's first word is empty", "write the program there")
        return
    folder = instance.directory or reader.base
    if program(name, folder, reader.env) is not None:
        return
    if os.sep not in name:
        problem, hint = (
            f"there is no program {quote(name)} in the PATH",
            "write its whole path, or see what PATH slmgate is given",
        )
    else:
        path = folder / name
        there = path.exists()
        problem = f"{quote_path(path)} {'is not a program that may be run' if there else 'is not there'}"
        hint = "see its permissions (chmod +x)" if there and not path.is_dir() else "relative paths count from directory"
    reader.blame(place, place.node.span, problem, hint)


def program(name: str, folder: Path, env: Mapping[str, str]) -> str | None:
    """The file that `name` stands for: a path, relative ones from `folder`, or a name in the PATH. None: there is none to run."""
    if os.sep not in name:
        return shutil.which(name, path=env.get("PATH", os.defpath))
    path = folder / name
    return str(path) if path.is_file() and os.access(path, os.X_OK) else None
