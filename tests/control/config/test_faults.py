"""How faults read, and that text from a file cannot steer a terminal.

Which faults there are is told by the golden files.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from slmgate.control.config.faults import ConfigFault, anchor, printable, quote, quote_path


def fault(line: int = 3, hint: str = "") -> ConfigFault:
    return ConfigFault(file="f.yaml", line=line, column=5, option="workers", problem="'0' is too few", hint=hint)


def test_one_line() -> None:
    assert str(fault(hint="from 1 to 256")) == "f.yaml:3:5: workers: '0' is too few (from 1 to 256)"
    assert str(fault(line=0)) == "f.yaml: workers: '0' is too few"


def test_anchor() -> None:
    assert anchor("models.NAME.instances[].max_in_flight") == "modelsnameinstancesmax_in_flight"


def test_harmless_text() -> None:
    assert printable("a\x1b[31m\n\u202eb") == "a·[31m··b"
    assert quote("x" * 61) == "'" + "x" * 60 + "…'"
    assert quote("x" * 60) == "'" + "x" * 60 + "'"
    assert quote("") == "''"


def test_paths_are_whole() -> None:
    """The last part of a path says which file it is, wherever the configuration lies."""
    deep = PurePosixPath("/", *["a-long-directory"] * 20, "of\x1bthe.key")
    assert quote_path(deep) == f"'{str(deep).replace(chr(27), '·')}'"
    assert len(quote_path(PurePosixPath("x" * 5000))) == 4096 + len("'…'")
