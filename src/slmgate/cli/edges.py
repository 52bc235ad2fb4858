"""What `slmgate test --find-edges` prints: a file of policy tests for every edge of the configuration, and what stands out in it.

The text is ready to be pasted: run as it is, every case passes today. How edges are found is `control/trials`' affair.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import typer

from slmgate.cli import show, telling
from slmgate.cli.ends import USAGE, CommandFailed
from slmgate.control.config import Config
from slmgate.control.config.show import flow
from slmgate.control.trials.edges import Edge, Edges, find_edges
from slmgate.control.trials.findings import Finding, findings
from slmgate.control.trials.wish import BadTrial, parse_when


def show_edges(config: Config, at: str | None, as_json: bool) -> None:
    """Print the edges and findings of a configuration, from the moment `at` on. Raises CommandFailed."""
    try:
        now = float(int(time.time())) if at is None else parse_when(at)
    except BadTrial as wrong:
        raise CommandFailed(USAGE, str(wrong)) from None
    found, edges = findings(config, now), find_edges(config, now)
    if as_json:
        cases = [{"name": edge.about, "as": edge.user, **edge.given, **expected(edge)} for edge in edges.cases]
        typer.echo(show.json_text({"findings": found, "users": edges.users, "cases": cases}))
        return
    typer.echo("\n".join([*_findings(found), *_file(edges)]))


def _findings(found: list[Finding]) -> Iterator[str]:
    yield f"# {len(found)} finding{'' if len(found) == 1 else 's'}"
    for finding in found:
        yield from telling.wrapped(f"# {finding.kind:<9} ", f"{finding.where}: {finding.text}", telling.WIDEST, "#           ")


def _file(edges: Edges) -> Iterator[str]:
    yield "users:"
    for name, said in edges.users.items():
        yield f"  {flow(name)}: {flow(said)}"
    yield "cases:"
    for edge in edges.cases:
        yield f"  # {edge.about}"
        yield f"  - {flow({'as': edge.user, **edge.given, **expected(edge)})}"


def expected(edge: Edge) -> dict[str, object]:
    """Today's verdict, as a case expects it."""
    verdict = edge.verdict
    found: dict[str, object] = {"expect": "admit" if verdict.admitted else verdict.code}
    if verdict.models is not None:
        found["models"] = list(verdict.models)
    elif verdict.admitted:
        found["role"] = verdict.role
    elif verdict.rule:
        found["rule"] = verdict.rule
    if verdict.settings:
        found["settings"] = verdict.settings
    return found
