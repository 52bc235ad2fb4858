"""The ways to a configuration: from a file, from text, from one upstream's URL; and what a new one cannot change live.

The only module of the room that reads the configuration file. It applies nothing: it returns a configuration or its
faults, and `reload.py` decides what becomes of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from slmgate.control.config.addresses import Url
from slmgate.control.config.checks import check
from slmgate.control.config.document import MAX_BYTES, Span, parse
from slmgate.control.config.faults import BadValueError, ConfigError, ConfigFault
from slmgate.control.config.loaded import Loaded
from slmgate.control.config.options import MODEL_NAME, UPSTREAM_NAME, Config, Engine, Instance, Model
from slmgate.control.config.reading import Reader
from slmgate.control.config.stamps import Stamp, stamp
from slmgate.control.config.table import Section, rows


def load(path: Path, env: Mapping[str, str] | None = None) -> Loaded:
    """Read the configuration file at `path`; `env` stands for the process's environment. Never raises for its content."""
    seen = {path.absolute(): stamp(path)}
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return _unreadable(path, seen, f"cannot be read: {error.strerror}", "`slmgate init` writes one")
    if len(data) > MAX_BYTES:
        return _unreadable(path, seen, f"is larger than {MAX_BYTES // 1024 // 1024} MiB", "is it the right file?")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _unreadable(path, seen, f"is not UTF-8 text: byte {data[error.start]:#04x} in line {line}", "save it as UTF-8")
    loaded = load_text(text, str(path), path.absolute().parent, env)
    return Loaded(config=loaded.config, faults=loaded.faults, files={**loaded.files, **seen}, content=data)


def _unreadable(path: Path, seen: Mapping[Path, Stamp], problem: str, hint: str) -> Loaded:
    fault = ConfigFault(file=str(path), line=0, column=0, option="", problem=f"the file {problem}", hint=hint)
    return Loaded(config=None, faults=(fault,), files=seen)


def load_text(
    text: str,
    name: str = "slmgate.yaml",
    base_dir: Path | None = None,
    env: Mapping[str, str] | None = None,
    *,
    tls_files: bool = True,
) -> Loaded:
    """Read a configuration from `text`, called `name` in faults; relative paths count from `base_dir`. Never raises.

    `tls_files`: whether what TLS is spoken with is looked into.
    """
    text = text.removeprefix("\ufeff")
    reader = Reader(name, text, (base_dir or Path()).absolute(), os.environ if env is None else env)
    root, troubles = parse(text)
    for trouble in troubles:
        span = Span(trouble.line, trouble.column, trouble.line, trouble.column)
        reader.blame(None, span, trouble.problem, trouble.hint)
    if root is None and not troubles:
        reader.blame(None, Span(0, 0, 0, 0), "the file is empty", "begin with models:, or let `slmgate init` write one")
    config = reader.config(root) if root is not None else None
    if config is not None:
        check(config, reader, tls_files=tls_files)
    faults = reader.faults()
    return Loaded(config=None if faults else config, faults=faults, files=reader.files)


def from_upstream(url: str, models: Sequence[str], engine: Engine = "openai", base_dir: Path | None = None) -> Config:
    """The configuration of `slmgate serve --upstream URL`: all defaults, one instance, the upstream's `models`.

    Raises `ConfigError` where a file with the same values would have a fault.
    """
    try:
        origin = Url().take(url, "quoted")
        named = client_names([UPSTREAM_NAME.take(model, "quoted") for model in models])
        if not named:
            raise BadValueError("serves no model", "name one with --model")
        if engine not in get_args(Engine):
            raise BadValueError(f"cannot have the engine {engine}", f"write {', '.join(get_args(Engine))}")
    except BadValueError as wrong:
        problem = f"the upstream's URL or a model's name {wrong.problem}"
        raise ConfigError(
            [ConfigFault(file="--upstream", line=0, column=0, option="", problem=problem, hint=wrong.hint)]
        ) from None
    made = {
        name: Model(instances=(Instance(url=origin, engine=engine, upstream_model=None if name == own else own),))
        for name, own in named.items()
    }
    base = (base_dir or Path()).absolute()
    return Config(models=made, state_dir=base / rows(Config)["state_dir"].default)


def client_name(upstream_model: str) -> str:
    """The name for clients of a model that its instance calls `upstream_model`: the same wherever that can be.

    An instance that serves model files may call a model by its path; then it is the file's name without the extension.
    """
    if re.fullmatch(MODEL_NAME.pattern, upstream_model):
        return upstream_model
    file = re.split(r"[/\\]", upstream_model.rstrip("/\\"))[-1].removesuffix(".gguf")
    name = re.sub(r"[^A-Za-z0-9._:@+-]+", "-", file).lstrip("._:@+-")[:128]
    return name or "model"


def client_names(upstream_models: Sequence[str]) -> dict[str, str]:
    """Names for clients, all different, each with the instance's own."""
    named: dict[str, str] = {}
    for own in dict.fromkeys(upstream_models):
        name = base = client_name(own)
        number = 1
        while name in named:
            number += 1
            name = f"{base[:120]}-{number}"
        named[name] = own
    return named


def restart_needed(old: Config, new: Config) -> list[str]:
    """The options that differ and that a reload does not apply, by path, in the order of the table."""
    return _differing(Config, old, new, "")


def _differing(section: type[Section], old: Section, new: Section, prefix: str) -> list[str]:
    found: list[str] = []
    for row in rows(section).values():
        before, after = getattr(old, row.name), getattr(new, row.name)
        if before == after:
            continue
        if row.shape == "list" and row.section is not None and not row.option.reloadable and len(before) == len(after):
            for number, (one, other) in enumerate(zip(before, after, strict=True)):
                found.extend(_differing(row.section, one, other, f"{prefix}{row.name}[{number}]."))
        elif not row.option.reloadable and (row.section is None or before is None or after is None or row.shape != "one"):
            found.append(prefix + row.name)
        elif row.section is not None and row.shape == "one" and before is not None and after is not None:
            found.extend(_differing(row.section, before, after, f"{prefix}{row.name}."))
    return found
