"""What a model's versions must be to the other models: there, and others than itself; and whom callers may not ask for.

A part of `checks.py` in a file of its own. It knows no YAML.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from slmgate.control.config.faults import quote
from slmgate.control.config.options import Config, Model
from slmgate.control.config.reading import Reader
from slmgate.control.config.table import Section


def check_versions(name: str, model: Model, config: Config, reader: Reader) -> None:
    """Give `reader` every fault between this model's versions and the rest of `config`."""
    canary = model.canary
    if canary is not None:
        _other(name, canary, canary.model, config, reader)
        for option, names, known in (("teams", canary.teams, config.teams), ("roles", canary.roles, config.roles)):
            for one in names:
                if one not in known and (known or option == "roles"):  # without any, teams are what keys say
                    _missing(canary, option, f"there is no {option[:-1]} {quote(one)}", one, known, reader)
    if model.shadow is not None:
        _other(name, model.shadow, model.shadow.model, config, reader)
    for one in model.fallback:
        if one in config.models and config.models[one].hidden:
            hint = "a fallback serves those who may use it themselves: leave hidden out there, and give it to no role"
            _blame(reader, model, "fallback", f"{quote(one)} is hidden, so that nobody may use it", hint)


def _other(name: str, section: Section, other: str, config: Config, reader: Reader) -> None:
    """The model that a section names is there, and not the one that the section belongs to."""
    if other == name:
        _blame(reader, section, "model", f"{quote(name)} is the model itself", "name another one")
    elif other not in config.models:
        others = [each for each in config.models if each != name]
        _missing(section, "model", f"there is no model {quote(other)}", other, others, reader)


def _missing(section: Section, option: str, problem: str, name: str, known: Iterable[str], reader: Reader) -> None:
    there = list(known)
    near = get_close_matches(name, there, 1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(there[:8])}" if there else "the file has none at all"
    _blame(reader, section, option, problem, hint)


def _blame(reader: Reader, section: Section, option: str, problem: str, hint: str) -> None:
    place = reader.places.get((id(section), option))
    if place is not None:
        reader.blame(place, place.node.span, problem, hint)
