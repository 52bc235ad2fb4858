"""The text of docs/metrics.md, made from the table of families, so that every name, kind, label and bound stands in one place.

It writes no file and counts nothing.
"""

from __future__ import annotations

from slmgate.control.metrics.families import (
    BOUNDS,
    FROM_RECEIPTS,
    FROM_WORKERS,
    MAX_VALUE,
    NOW,
    OTHER,
    SERIES,
    UNKNOWN,
    Family,
)

HEAD = """\
# Metrics

<!-- Made from the table of families in control/metrics/families.py by `make docs`; change that, not this page. -->

The admin listener serves them at `/metrics` (option `metrics.path`), in OpenMetrics with an example trace for each bucket, or in
Prometheus' older text format, as the scraper asks; compressed (gzip) where it takes that.
[Observability](observability.md#metrics) says how to scrape them.

"""

ABOUT = """\
## What can be relied on

- What is counted **from receipts** is exact: each receipt counts once, in the moment in which it is new in the ledger, whatever
  was killed before. So `sum(slmgate_requests_total)` is what `slmgate usage` says, about half a second after a request has ended.
  All workers are in it, those that have died too.
- Counters go on when the control process dies or slmgate is restarted: they are kept in `metrics.json` in the state directory,
  every 5 seconds, with the place in the ledger up to which they go; what came later is counted from the ledger at the start.
  Without that file, and with more than half a million receipts to make up for, they begin at zero, which Prometheus takes for
  a restart.
- What is counted **from workers** is as of their last word, a second ago at the most: of a worker that is killed, the last second
  is lost. None of it is in the ledger.
- Durations are measured by the gate ([what each of them is](observability.md#where-the-time-of-a-request-went)).
  Bounds of buckets are fixed.

"""


def metrics_page() -> str:
    """The whole page."""
    parts = [HEAD, "## How things stand\n\n", _table(NOW), "\n## Counted from receipts\n\n", _table(FROM_RECEIPTS)]
    parts += ["\n## Counted from workers\n\n", _table(FROM_WORKERS), "\n", ABOUT, _bounds(), "\n", _buckets()]
    return "".join(parts)


def _table(families: tuple[Family, ...]) -> str:
    lines = ["| name | kind | labels | what it is |", "| --- | --- | --- | --- |"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "-"
        kind = "gauge" if family.kind == "info" else family.kind
        lines.append(f"| `{family.name}` | {kind} | {labels} | {' '.join(filter(None, (family.help, family.note)))} |")
    return "\n".join(lines) + "\n"


def _bounds() -> str:
    lines = [
        "## How many series there can be",
        "",
        f"A family has at most {SERIES:,} label sets; what is beyond is one, with `{OTHER}` in every label. Each label has",
        f"so many values at the most, those that came first; the others count under `{OTHER}`. Models that somebody asked for",
        f"and that nobody has are `{UNKNOWN}`. A value has at most {MAX_VALUE} characters.",
        "",
        "| label | values |",
        "| --- | --- |",
    ]
    for label, most in BOUNDS.items():
        lines.append(f"| `{label}` | {most}{' (option `metrics.clients`)' if label == 'client' else ''} |")
    return "\n".join(lines) + "\n"


def _buckets() -> str:
    lines = ["## Buckets of histograms", "", "In seconds.", "", "| name | bounds |", "| --- | --- |"]
    bounded = [family for family in FROM_RECEIPTS if family.bounds]
    lines += [f"| `{family.name}` | {', '.join(f'{bound / 1e6:g}' for bound in family.bounds)} |" for family in bounded]
    return "\n".join(lines) + "\n"
