"""A bar is for terminals, and is not in the way elsewhere."""

from __future__ import annotations

import pytest

from slmgate.cli.progress import progress


@pytest.mark.parametrize(("terminal", "quiet", "shown"), [(True, False, True), (True, True, False), (False, False, False)])
def test_a_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch, terminal: bool, quiet: bool, shown: bool) -> None:
    monkeypatch.setattr("slmgate.cli.progress.sys.stderr.isatty", lambda: terminal, raising=False)
    with progress("rows", 10, quiet) as bar:
        bar.advance(5)
        bar.reach(7, 20)
    assert type(bar).__name__ == ("_RichBar" if shown else "_NoBar")
