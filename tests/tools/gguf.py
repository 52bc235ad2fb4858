"""The tokenizer of a GGUF file as a `tokenizer.json` with its chat template beside it: what models are published with.

Only what SmolLM2's file needs: byte-level BPE whose digits stand alone. The format is of ggml's docs/gguf.md.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, BinaryIO

_SIMPLE = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _LIST = 8, 9
_CONTROL = 3
"""The kind of a token that is a mark and no text."""


def metadata(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
        _, _, count = _number(file, "<I"), _number(file, "<Q"), _number(file, "<Q")
        return {str(_value(file, _TEXT)): _value(file, _number(file, "<I")) for _ in range(count)}


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return file.read(_number(file, "<Q")).decode()
    if kind == _LIST:
        of, count = _number(file, "<I"), _number(file, "<Q")
        return [_value(file, of) for _ in range(count)]
    return _number(file, _SIMPLE[kind])


def write_tokenizer(weights: Path, folder: Path) -> Path:
    """`tokenizer.json` in `folder`, with `tokenizer_config.json` beside it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    known = metadata(weights)
    assert known["tokenizer.ggml.pre"] == "smollm"
    tokens, kinds = known["tokenizer.ggml.tokens"], known["tokenizer.ggml.token_type"]
    merges = [tuple(pair.split(" ")) for pair in known["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    marks = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    config = {"chat_template": known["tokenizer.chat_template"], "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return path
