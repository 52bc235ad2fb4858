"""A small tokenizer for tests: each character a token, but for what is said to be one, with a template of a chat beside it."""

from __future__ import annotations

import json
from pathlib import Path

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<u>{{ message['content'] }}</u>{% endfor %}"
    "{% if add_generation_prompt %}<u>{% endif %}"
)
"""One mark for the beginning, two for each message, one for the answer."""


def written(folder: Path, template: str | None = TEMPLATE, name: str = "tokenizer.json") -> Path:
    """The files of the tokenizer, as models are published with them."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "<u>", "</u>"])
    path = folder / name
    tokenizer.save(str(path))
    if template is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "bos_token": {"content": "<s>"}}))
    return path
