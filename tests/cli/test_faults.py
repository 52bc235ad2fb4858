"""A fault on a terminal: place, problem, line with caret, hint, sentence.

The words of faults are tested where they are made.
"""

from __future__ import annotations

from slmgate.cli.faults import text
from slmgate.control.config import ConfigFault, load_text


def test_a_whole_fault() -> None:
    loaded = load_text('models: {m: {instances: [{url: "http://h:1"}]}}\nworkers: 0\n', "slmgate.yaml")
    assert (
        text(loaded.faults)
        == """\
slmgate.yaml:2:10: workers: '0' is less than this option takes
  2 | workers: 0
    |          ^
  hint: from 1 to 256; or auto
  doc:  Worker processes; `auto` is one for each CPU that slmgate may use. (docs/configuration.md#workers)

1 fault"""
    )


def test_faults_of_the_file_as_a_whole() -> None:
    fault = ConfigFault(file="f", line=0, column=0, option="", problem="the file cannot be read")
    assert text([fault, fault]) == "f: the file cannot be read\n\nf: the file cannot be read\n\n2 faults"
