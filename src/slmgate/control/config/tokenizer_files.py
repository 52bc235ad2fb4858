"""The tokenizers that a configuration names: whether they can be used, and what a chat's template adds to the texts in it.

The template is the one that models are published with, beside the tokenizer's file: `chat_template.jinja`, or in
`tokenizer_config.json`. It is tried on chats of one and of two messages, and the marks that it puts around them are counted once,
here; a worker only adds. This module knows no YAML and no request.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from slmgate.control.config.stamps import stamp_text
from slmgate.control.config.tlsfiles import FileFault
from slmgate.policy.specs import SnapshotSpec, TokenizerSpec

MAX_BYTES = 256 * 1024 * 1024
MAX_TEMPLATE = 1024 * 1024
EACH_MESSAGE, EACH_REQUEST = 5, 5
"""What a template is taken to add where there is none to be tried: no less than those of the usual small models."""
_OPTION = "tokenizer"
_SAID = "water"
"""What is said in the chats that a template is tried on."""


def tokenizer_fault(path: Path) -> FileFault | None:
    """What is wrong with a tokenizer's file; None: nothing."""
    read = _stamped(path)
    return read if isinstance(read, FileFault) else None


def measured(spec: SnapshotSpec) -> SnapshotSpec:
    """The snapshot with all that workers need of its models' tokenizers. One whose file is bad by now is left out."""
    if all(model.tokenizer is None for model in spec.models):
        return spec
    models = []
    for model in spec.models:
        if model.tokenizer is not None:
            read = _stamped(Path(model.tokenizer.path))
            model = msgspec.structs.replace(model, tokenizer=None if isinstance(read, FileFault) else read)
        models.append(model)
    return msgspec.structs.replace(spec, models=tuple(models))


def _stamped(path: Path) -> TokenizerSpec | FileFault:
    """What was read of the file, as it is now."""
    beside = [path, path.with_name("tokenizer_config.json"), path.with_name("chat_template.jinja")]
    return _read(path, tuple(map(stamp_text, beside)))


@lru_cache(maxsize=64)
def _read(path: Path, stamps: tuple[str, ...]) -> TokenizerSpec | FileFault:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
    except OSError as error:
        return FileFault(_OPTION, f"cannot be read: {error.strerror}", f"slmgate looks for it at {path}")
    if size > MAX_BYTES:
        return FileFault(_OPTION, f"is larger than {MAX_BYTES // 1024 // 1024} MiB", "is it the right file?")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return FileFault(_OPTION, "needs the library tokenizers", "install it: pip install 'slmgate[tokenizer]'")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001  # the library raises nothing more special
        hint = "it must be a tokenizer.json as models are published with: a GGUF or SentencePiece file is none"
        return FileFault(_OPTION, "is no tokenizer that the library tokenizers can read", hint)

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    each_message, each_request = EACH_MESSAGE, EACH_REQUEST
    template, marks = _template(path.parent)
    if template is not None:
        try:
            one, two, three = (count(_render(template, marks, number)) for number in (1, 3, 5))
            said = count(_SAID)
            # Of the two turns that more messages make; what a template does once (a greeting, the mark of the beginning) is left.
            each_message = max(0, -(-(three - two) // 2) - said)
            each_request = max(0, one - said - each_message)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
            pass  # a template that wants more than a chat has: the usual figures do
    return TokenizerSpec(path=str(path), stamp=" ".join(stamps), each_message=each_message, each_request=each_request)


def _template(folder: Path) -> tuple[str | None, dict[str, str]]:
    """The template of a chat, and the texts of the marks that it may name."""
    text = _text(folder / "tokenizer_config.json")
    try:
        said: Any = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        said = {}
    config: dict[str, Any] = said if isinstance(said, dict) else {}
    marks = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        marks[name] = value if isinstance(value, str) else ""
    found = _text(folder / "chat_template.jinja") or config.get("chat_template")
    if isinstance(found, list):  # several under names
        found = next((each.get("template") for each in found if isinstance(each, dict) and each.get("name") == "default"), None)
    return (found, marks) if isinstance(found, str) and found else (None, marks)


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEMPLATE + 1)
        return data.decode() if len(data) <= MAX_TEMPLATE else None
    except (OSError, UnicodeDecodeError):
        return None


def _render(template: str, marks: dict[str, str], messages: int) -> str:
    """A chat of so many messages in the template, up to where the answer begins."""

    def complain(message: str) -> None:
        raise TemplateError(message)

    house = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    house.globals["raise_exception"] = complain
    house.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    house.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    chat = [{"role": ("user", "assistant")[number % 2], "content": _SAID} for number in range(messages)]
    return house.from_string(template).render(messages=chat, add_generation_prompt=True, tools=None, **marks)
