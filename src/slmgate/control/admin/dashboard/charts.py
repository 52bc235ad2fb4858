"""Charts as SVG, made on the server: lines, stacked bars, bars of a ranking, and a spark beside a row.

Everything is an attribute or a class, as the pages' policy allows no inline style; places across are percent, so that a chart is
as wide as its place while its text keeps its size. The figures go beside it as a table (`macros.html`). It knows no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from math import ceil, floor, log10
from typing import NamedTuple
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from slmgate.control.admin.dashboard import words

HEIGHT = 200
TOP, BOTTOM = 8, 24
"""Pixels above the highest line of the grid, and below the lowest, for the times. Labels stand in the margin (app.css)."""
MOST_SERIES = 8
"""Colours there are; whoever makes a chart puts the rest together before."""
_STEPS = (1, 2, 2.5, 5, 10)
_SPARK = 24


class Series(NamedTuple):
    """`values` are in the order of the chart's times; None: nobody knows. `tone` is `good`, `bad` or `warn` where it means that.

    `before`: the period before, drawn faint behind.
    """

    name: str
    values: Sequence[float | None]
    tone: str = ""
    before: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Series over time. `id` is unique on its page. `kind` is `lines` or `stacked`. Times are the beginnings of steps of `step`.

    `unit` is as `words.amount` takes it. `note` is a sentence for below the title.
    """

    id: str
    title: str
    times: Sequence[datetime]
    step: timedelta
    series: Sequence[Series]
    unit: str
    zone: ZoneInfo
    kind: str = "lines"
    note: str = ""

    @property
    def empty(self) -> bool:
        """Nothing is known, or all of it is nothing."""
        return not any(value for series in self.series if not series.before for value in series.values)

    @cached_property
    def ticks(self) -> list[float]:
        """Where the axis has lines."""
        return ticks(self._most())

    @cached_property
    def top(self) -> float:
        """The value at the upper end of the axis."""
        return self.ticks[-1]

    def _most(self) -> float:
        if self.kind != "stacked":
            return max((value for series in self.series for value in series.values if value is not None), default=0.0)
        drawn = [series for series in self.series if not series.before]
        stacks = [sum(series.values[at] or 0 for series in drawn) for at in range(len(self.times))]
        behind = [value for series in self.series if series.before for value in series.values if value is not None]
        return max((*stacks, *behind), default=0.0)

    def colour(self, number: int) -> str:
        """The class of a series' colour."""
        return tone(self.series[number], number)

    def when(self, time: datetime) -> str:
        """A step in words: its beginning, and the day where steps are days."""
        return f"{time.astimezone(self.zone):%Y-%m-%d}" if self.step >= timedelta(days=1) else words.minute(time, self.zone)

    @cached_property
    def figures(self) -> list[tuple[str, list[str]]]:
        """The same as a table: each step with the value of each series, in words."""
        return [
            (self.when(time), [words.amount(series.values[at], self.unit) for series in self.series])
            for at, time in enumerate(self.times)
        ]

    @property
    def description(self) -> str:
        """In a sentence, for who does not see it: from when to when, and the most and the newest of each series."""
        if not self.times:
            return "There is nothing to show."
        said = [f"{self.when(self.times[0])} to {self.when(self.times[-1])}."]
        for series in self.series:
            there = [value for value in series.values if value is not None]
            if there:
                most, last = words.amount(max(there), self.unit), words.amount(there[-1], self.unit)
                said.append(f"{series.name}: at most {most}, at the end {last}.")
        return " ".join(said)

    def svg(self) -> Markup:
        """The picture. Its table of figures is made apart, from `figures`."""
        floor_y = HEIGHT - BOTTOM
        inside = Markup("").join(
            (
                self._grid(floor_y),
                Markup(
                    '<svg class="plot" x="0" y="{}" width="100%" height="{}" '
                    'viewBox="0 0 1000 1000" preserveAspectRatio="none">{}</svg>'
                ).format(TOP, floor_y - TOP, self._bars() if self.kind == "stacked" else self._lines()),
                self._labels(floor_y),
                self._times(),
                self._hovers(floor_y),
            )
        )
        return Markup(
            '<svg class="chart" role="img" width="100%" height="{}" aria-labelledby="{}-t {}-d">'
            '<title id="{}-t">{}</title><desc id="{}-d">{}</desc>{}</svg>'
        ).format(HEIGHT, self.id, self.id, self.id, self.title, self.id, self.description, inside)

    def _grid(self, floor_y: int) -> Markup:
        parts = []
        for value in self.ticks:
            y = _number(floor_y - (floor_y - TOP) * value / self.top)
            kind = "zero" if value == 0 else "grid"
            parts.append(Markup('<line class="{}" x1="0" x2="100%" y1="{}" y2="{}"/>').format(kind, y, y))
        return Markup("").join(parts)

    def _labels(self, floor_y: int) -> Markup:
        """What the lines of the grid mean, over whatever is drawn."""
        return Markup("").join(
            Markup('<text class="tick" x="-8" y="{}" text-anchor="end">{}</text>').format(
                _number(floor_y - (floor_y - TOP) * value / self.top + 4),
                "0" if value == 0 else words.amount(value, self.unit, brief=True),
            )
            for value in self.ticks
        )

    def _times(self) -> Markup:
        parts = []
        for number, (at, label) in enumerate(time_labels(self.times, self.step, self.zone)):
            anchor = "start" if at < 0.04 else "end" if at > 0.96 else "middle"
            parts.append(
                Markup('<text class="tick{}" x="{}%" y="{}" text-anchor="{}">{}</text>').format(
                    " odd" if number % 2 else "", _number(at * 100), HEIGHT - 6, anchor, label
                )
            )
        return Markup("").join(parts)

    def _lines(self) -> Markup:
        parts = []
        for number, series in sorted(enumerate(self.series), key=lambda each: not each[1].before):
            for run in runs(series.values):
                points = " ".join(f"{_number(self._x(at))},{_number(1000 - 1000 * value / self.top)}" for at, value in run)
                if len(run) == 1:  # a point alone is a short line, else nobody would see it
                    x, y = points.split(",")
                    points = f"{_number(max(0.0, float(x) - 4))},{y} {_number(min(1000.0, float(x) + 4))},{y}"
                parts.append(Markup('<polyline class="line {}" points="{}"/>').format(tone(series, number), points))
        return Markup("").join(parts)

    def _x(self, at: int) -> float:
        """The middle of a step."""
        return 1000 * (at + 0.5) / max(1, len(self.times))

    def _bars(self) -> Markup:
        parts, width = [], 1000 / max(1, len(self.times))
        gap = min(width * 0.15, 3)
        heights = [0.0] * len(self.times)
        for number, series in enumerate(self.series):
            if series.before:
                continue
            for at, value in enumerate(series.values):
                if value:
                    height = 1000 * value / self.top
                    parts.append(
                        Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>').format(
                            tone(series, number),
                            _number(at * width + gap / 2),
                            _number(1000 - heights[at] - height),
                            _number(width - gap),
                            _number(height),
                        )
                    )
                    heights[at] += height
        for number, series in enumerate(self.series):
            if series.before:
                for run in runs(series.values):
                    points = " ".join(f"{_number(self._x(at))},{_number(1000 - 1000 * value / self.top)}" for at, value in run)
                    parts.append(Markup('<polyline class="line {}" points="{}"/>').format(tone(series, number), points))
        return Markup("").join(parts)

    def _hovers(self, floor_y: int) -> Markup:
        """Over each step what it holds, in the browser's own way to show a title."""
        parts, width = [], 100 / max(1, len(self.times))
        for at, (when, figures) in enumerate(self.figures):
            said = "\n".join((when, *(f"{series.name}: {figure}" for series, figure in zip(self.series, figures, strict=True))))
            parts.append(
                Markup('<rect class="hover" x="{}%" y="{}" width="{}%" height="{}"><title>{}</title></rect>').format(
                    _number(at * width), TOP, _number(width), floor_y - TOP, said
                )
            )
        return Markup("").join(parts)


class Bar(NamedTuple):
    """One row of a ranking. `href` leads to it."""

    name: str
    value: float
    href: str = ""
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Horizontal bars, the longest first as they are given, each with its figure. `rest` says what is not shown."""

    id: str
    title: str
    bars: Sequence[Bar]
    unit: str
    rest: str = ""
    note: str = ""

    @property
    def empty(self) -> bool:
        return not any(bar.value for bar in self.bars)

    @property
    def rows(self) -> list[tuple[Bar, str, Markup]]:
        """Each bar with its figure in words and its picture, which says nothing that the figure does not."""
        most = max((bar.value for bar in self.bars), default=0) or 1
        return [
            (
                bar,
                words.amount(bar.value, self.unit),
                Markup(
                    '<svg class="rank" aria-hidden="true" width="100%" height="6">'
                    '<rect class="track" width="100%" height="6" rx="3"/>'
                    '<rect class="bar {}" width="{}%" height="6" rx="3"/></svg>'
                ).format(bar.tone or "c0", _number(100 * bar.value / most)),
            )
            for bar in self.bars
        ]


def sparkline(values: Sequence[float | None], label: str) -> Markup:
    """A small line from zero on, for a row or a tile; `label` says in words what it shows."""
    there = [value or 0.0 for value in values]
    most = max(there, default=0.0)
    if not most:
        return Markup('<span class="spark none">{}</span>').format(words.NONE)
    step = 100 / max(1, len(there) - 1)
    points = " ".join(
        f"{_number(at * step)},{_number(_SPARK - 1 - (_SPARK - 3) * value / most)}" for at, value in enumerate(there)
    )
    return Markup(
        '<svg class="spark" role="img" viewBox="0 0 100 {}" width="100" height="{}" preserveAspectRatio="none" aria-label="{}">'
        '<polygon class="under" points="0,{} {} 100,{}"/><polyline class="line c0" points="{}"/></svg>'
    ).format(_SPARK, _SPARK, label, _SPARK, points, _SPARK, points)


def gauge(share: float, label: str, tone_: str = "") -> Markup:
    """How full something is, 0 to 1 and more."""
    return Markup(
        '<svg class="rank gauge" role="img" aria-label="{}" width="100%" height="8">'
        '<rect class="track" width="100%" height="8" rx="4"/>'
        '<rect class="bar {}" width="{}%" height="8" rx="4"/></svg>'
    ).format(
        label, tone_ or ("bad" if share >= 1 else "warn" if share >= 0.8 else "c0"), _number(100 * min(1.0, max(0.0, share)))
    )


def tone(series: Series, number: int) -> str:
    """The class of a series' colour."""
    if series.before:
        return "before"
    return series.tone or f"c{number % MOST_SERIES}"


def ticks(most: float) -> list[float]:
    """Where the axis has lines: from 0 up to `most` or a little above, in even steps of round figures."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 4
    size = 10.0 ** floor(log10(rough))
    step = next(size * each for each in _STEPS if size * each >= rough * 0.9999)
    return [round(step * number, 12) for number in range(ceil(most / step * 0.9999) + 1)]


def runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Values in a row, so that a line has a gap where nothing is known."""
    found: list[list[tuple[int, float]]] = [[]]
    for at, value in enumerate(values):
        if value is not None:
            found[-1].append((at, value))
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def time_labels(times: Sequence[datetime], step: timedelta, zone: ZoneInfo) -> list[tuple[float, str]]:
    """At most seven places (0 to 1) with their times: of days where each begins, where there are several."""
    if not times:
        return []
    days = times[-1] - times[0] >= timedelta(days=3)
    local = [time.astimezone(zone) for time in times]
    places = list(range(len(times)))
    if days and step < timedelta(days=1):
        places = [at for at in places if at and local[at].date() != local[at - 1].date()]
    places = places[:: max(1, ceil(len(places) / 7))]
    middle = 0.5 if step >= timedelta(days=1) else 0
    return [((at + middle) / len(times), f"{local[at]:%b} {local[at].day}" if days else f"{local[at]:%H:%M}") for at in places]


def _number(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"


__all__ = ["Bar", "Chart", "Ranking", "Series", "escape", "gauge", "sparkline"]
