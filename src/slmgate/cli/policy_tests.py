"""`slmgate test`: policy tests run against a configuration, without a server; a failing case with what led to it.

It ends as test runners do: a line with the counts, and exit code 1 where a case failed. Which cases there are and what they come
to is worked out in `control/trials`; this file shows it, as text, JSON or JUnit's XML.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import typer

from slmgate.cli import faults, show, telling
from slmgate.cli.check import DEFAULT_FILE, FileOption, JsonOption
from slmgate.cli.ends import USAGE, CommandFailed, exits
from slmgate.cli.explain import loaded_file
from slmgate.control.config import Config
from slmgate.control.trials.cases import Tests, read_tests
from slmgate.control.trials.running import Result, run
from slmgate.control.trials.told import told

MAX_TOLD = 10
"""Failing cases whose rules are told; more of them say the same again."""


def run_tests(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Files of policy tests; the configuration's policy_tests if absent."),
    ] = None,
    find_edges: Annotated[
        bool, typer.Option("--find-edges", help="Propose cases at the edges of every rule, and tell of rules that do nothing.")
    ] = False,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="With --find-edges: the time from which on edges are sought.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write the results as JUnit's XML, too.")] = None,
    config: FileOption = DEFAULT_FILE,
    as_json: JsonOption = False,
) -> None:
    """Run policy tests against a configuration file, without a server. Exits 1 when a case fails."""
    with exits():
        loaded = loaded_file(config)
        if find_edges:
            from slmgate.cli import edges

            edges.show_edges(loaded, at, as_json)
            return
        paths = files or list(loaded.policy_tests)
        if not paths:
            raise CommandFailed(USAGE, f"Name a file of policy tests; {config} has no policy_tests either.")
        began = time.perf_counter()
        tests = [_read(path) for path in paths]
        results = [result for one in tests for result in run(loaded, one)]
        seconds = time.perf_counter() - began
        failed = [result for result in results if not result.passed]
        if junit is not None:
            _write(junit, junit_text(results, seconds))
    if as_json:
        typer.echo(show.json_text(_report(loaded, results)))
    else:
        for number, result in enumerate(failed):
            typer.echo("\n".join(_failure(loaded, result, number < MAX_TOLD)) + "\n")
        typer.echo(_ending(len(results), len(failed), seconds))
    raise typer.Exit(1 if failed else 0)


def _read(path: Path) -> Tests:
    tests = read_tests(path)
    if tests.content is None:
        raise CommandFailed(USAGE, f"{path} cannot be used:\n{faults.text(tests.faults)}")
    return tests


def _failure(config: Config, result: Result, whole: bool) -> list[str]:
    """Where it stands, what was expected and what came, and the rules that led there."""
    columns = telling.width()
    lines = [f"{typer.style('FAILED', fg='red', bold=True)} {result.file}:{result.line}: {show.visible(result.name)}"]
    for option, expected, got in result.wrong:
        lines += telling.wrapped(f"  - {option}: ", show.visible(expected), columns)
        lines += telling.wrapped(f"  + {option}: ", show.visible(got), columns)
    if whole and result.verdict.code != "invalid_api_key":
        lines += [f"  {line}".rstrip() for line in telling.lines(told(config, result.principal, result.trial), columns - 2)]
    return lines


def _ending(count: int, failed: int, seconds: float) -> str:
    passed = count - failed
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{passed} passed"] if passed or not failed else []
    return typer.style(f"{', '.join(parts)} in {seconds:.2f}s", fg="red" if failed else "green", bold=True)


def _report(config: Config, results: Sequence[Result]) -> dict[str, Any]:
    failed = sum(not result.passed for result in results)
    return {
        "passed": len(results) - failed,
        "failed": failed,
        "cases": [
            {
                "file": result.file,
                "line": result.line,
                "name": result.name,
                "passed": result.passed,
                "verdict": result.verdict,
                "wrong": [{"option": option, "expected": expected, "got": got} for option, expected, got in result.wrong],
                "explanation": None if result.passed else told(config, result.principal, result.trial),
            }
            for result in results
        ],
    }


def junit_text(results: Sequence[Result], seconds: float) -> str:
    """The results as most CI systems read them: one test case for each."""
    failed = sum(not result.passed for result in results)
    attributes = {"name": "slmgate", "tests": str(len(results)), "failures": str(failed), "time": f"{seconds:.3f}"}
    suite = ElementTree.Element("testsuite", attributes)
    for result in results:
        place = {"classname": result.file, "name": show.visible(result.name), "file": result.file, "line": str(result.line)}
        case = ElementTree.SubElement(suite, "testcase", place)
        if not result.passed:
            told_in = "; ".join(f"{option}: {expected} expected, {got} found" for option, expected, got in result.wrong)
            ElementTree.SubElement(case, "failure", {"message": show.visible(told_in)}).text = str(result.verdict)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(USAGE, f"{path} cannot be written: {error.strerror}.") from error


def register(app: typer.Typer) -> None:
    app.command("test")(run_tests)
