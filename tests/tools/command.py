"""Runs a command of slmgate in this process, in a directory without configuration, over a store that no gate serves.

What a command prints and how it exits is what tests look at; it starts no process.
"""

from __future__ import annotations

from typer.testing import CliRunner, Result

from slmgate.cli.app import build


def run(*words: str) -> Result:
    return CliRunner().invoke(build(words), list(words), prog_name="slmgate")
