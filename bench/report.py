"""From samples to the page: ratios round by round, medians and spreads, the tables, the JSON.

Pure: it starts nothing, reads no clock and no file, and knows of a target only its name. Figures are compared within
a round, where the machine was in one mood, and only the ratios are then put together: drift cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

GATE = "slmgate"
AIMS = (
    ("cpu_us", "envoy+policies", 0.6, "CPU per request"),
    ("cpu_us", "nginx+policies", 1.8, "CPU per request"),
    ("chunk_us", "nginx", 1.2, "CPU per chunk"),
)
"""(figure, of which peer, at most how many times, how it is called): what the gate sets itself."""


@dataclass
class Row:
    """One target. `samples` maps a figure's name to one value for each round, None where the round gave none."""

    name: str
    does: str
    version: str = ""
    reason: str = ""
    """Why it is not measured; "" when it is."""
    notes: list[str] = field(default_factory=list)
    samples: dict[str, list[float | None]] = field(default_factory=dict)
    processes: dict[str, float] = field(default_factory=dict)
    """CPU microseconds per request of each of its processes, in the last round."""

    def put(self, round_number: int, figures: dict[str, float | None]) -> None:
        """Keep the figures of a round; rounds before that were not measured become None."""
        for name, value in figures.items():
            values = self.samples.setdefault(name, [])
            values.extend([None] * (round_number - len(values)))
            values.append(value)

    def middle(self, figure: str) -> float | None:
        """The median over the rounds, None without any."""
        values = [value for value in self.samples.get(figure, ()) if value is not None]
        return median(values) if values else None


@dataclass(frozen=True)
class Ratio:
    """The median of the per-round ratios with the smallest and the largest, and how many rounds gave one."""

    middle: float
    low: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{digits(self.middle)} ({digits(self.low)}-{digits(self.high)})" if self.rounds > 1 else digits(self.middle)


def ratio(row: Row | None, base: Row | None, figure: str) -> Ratio | None:
    """`row` over `base` for a figure, pairing values of the same round; None when no round has both."""
    if row is None or base is None:
        return None
    pairs = zip(row.samples.get(figure, ()), base.samples.get(figure, ()), strict=False)
    values = [a / b for a, b in pairs if a is not None and b]
    return Ratio(median(values), min(values), max(values), len(values)) if values else None


def added(row: Row, direct: Row | None, figure: str) -> float | None:
    """The median over the rounds of what `row` has more of a latency than the direct way, in its unit."""
    if direct is None:
        return None
    pairs = zip(row.samples.get(figure, ()), direct.samples.get(figure, ()), strict=False)
    values = [a - b for a, b in pairs if a is not None and b is not None]
    return median(values) if values else None


def digits(value: float | None) -> str:
    """A figure for people: three significant digits, thousands set apart, "-" for none."""
    if value is None:
        return "-"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with its columns in line; the first column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def show(line: Sequence[str]) -> str:
        first, *rest = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        return "| " + " | ".join([first.strip().ljust(widths[0]), *rest]) + " |"

    rule = "|" + "-" * (widths[0] + 2) + "|" + "".join("-" * (width + 1) + ":|" for width in widths[1:])
    return "\n".join([show(head), rule, *(show(line) for line in lines)])


@dataclass(frozen=True)
class Page:
    """Everything that one run found. `rows` holds the targets, `direct` the instance without a proxy."""

    rows: list[Row]
    direct: Row
    machine: dict[str, str]
    settings: dict[str, object]

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def text(self) -> str:
        """The tables, ratios first, then what could not be measured, then the aims."""
        parts = [self._requests(), self._streams(), self._absent(), self._aims(), self._notes()]
        return "\n\n".join(part for part in parts if part)

    def _ratios(self, row: Row, figure: str) -> list[str]:
        bases = (GATE, "nginx+policies", "envoy+policies")
        return [str(found) if (found := ratio(row, self.row(base), figure)) else "-" for base in bases]

    def _part(self, figure: str, head: list[str], rest: Callable[[Row], list[str]], also: str = "") -> str:
        rows = [row for row in self.rows if row.middle(figure) is not None or row.middle(also) is not None]
        lines = [[row.name, *self._ratios(row, figure), *rest(row)] for row in rows]
        ratios = ["x slmgate", "x nginx+policies", "x envoy+policies"]
        return table(["", *ratios, *head], lines) if rows else ""

    def _requests(self) -> str:
        def rest(row: Row) -> list[str]:
            figures = [row.middle("cpu_us"), row.middle("rps")]
            figures += [added(row, self.direct, figure) for figure in ("p50_us", "p99_us")]
            return [*map(digits, figures), row.does]

        text = self._part("cpu_us", ["CPU us/request", "requests/s", "added p50 us", "added p99 us", "does"], rest, also="p50_us")
        return text and "Requests: ratios of CPU per request, median (smallest-largest) of the rounds\n\n" + text

    def _streams(self) -> str:
        def rest(row: Row) -> list[str]:
            figures = [row.middle("chunk_us")]
            figures += [added(row, self.direct, figure) for figure in ("chunk_p50_us", "chunk_p99_us")]
            figures += [row.middle(figure) for figure in ("rss_mib", "streams", "chunks_s")]
            return [*map(digits, figures)]

        head = ["CPU us/chunk", "added p50 us", "added p99 us", "RSS MiB", "streams", "chunks/s"]
        text = self._part("chunk_us", head, rest)
        return text and "Streams: ratios of CPU per chunk, median (smallest-largest) of the rounds\n\n" + text

    def _absent(self) -> str:
        lines = [f"- {row.name}: {row.reason}" for row in self.rows if row.reason]
        return "Not measured:\n" + "\n".join(lines) if lines else ""

    def _aims(self) -> str:
        lines = []
        for figure, peer, most, called in AIMS:
            found = ratio(self.row(GATE), self.row(peer), figure)
            if found:
                outcome = "met" if found.middle <= most else "NOT met"
                lines.append(f"- {called}, slmgate / {peer}: {found}, aim at most {most}: {outcome}")
        return "Aims:\n" + "\n".join(lines) if lines else ""

    def _notes(self) -> str:
        lines = [f"- {row.name}: {note}" for row in self.rows for note in row.notes]
        gate = self.row(GATE)
        if gate and gate.processes:
            parts = ", ".join(f"{name} {digits(value)}" for name, value in gate.processes.items())
            lines.append(f"- {GATE}: CPU us per request by process: {parts}")
        return "Notes:\n" + "\n".join(lines) if lines else ""

    def data(self) -> dict[str, object]:
        """Everything for the JSON file: samples as measured, and the ratios made of them."""
        ratios: dict[str, dict[str, object]] = {}
        for figure in ("cpu_us", "chunk_us"):
            for base in (GATE, "nginx", "nginx+policies", "envoy+policies"):
                found = {row.name: ratio(row, self.row(base), figure) for row in self.rows}
                kept = {name: asdict(value) for name, value in found.items() if value}
                if kept:
                    ratios[f"{figure} over {base}"] = dict(kept)
        return {
            "machine": self.machine,
            "settings": self.settings,
            "ratios": ratios,
            "direct": asdict(self.direct),
            "targets": [asdict(row) for row in self.rows],
        }
