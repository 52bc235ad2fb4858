"""Pages that teach by commands: what stands under each command is what it prints, and its data files are right.

The pages say what they do in their own order; `tests/tools/page.py` runs them.
"""

from __future__ import annotations

import re

from tests.tools.page import PAGE, home, rewritten
from tests.tools.page_ledger import fill


def test_every_command_of_the_page_prints_what_stands_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"^\$ slmgate ", text, re.MULTILINE)) > 8
    with home() as directory:
        fill(directory / "slmgate-data")
        fresh = rewritten(text)
    assert fresh == text, "docs/policies.md is out of date: python -m tests.tools.page"
