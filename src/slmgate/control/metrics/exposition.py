"""What is counted and how things stand, as text: OpenMetrics with examples, or Prometheus' older format, as a scraper asks.

The text itself is written by `prometheus_client`; this module hands it the families of the table in their order, and knows what
neither counts nor stands.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from slmgate.control.metrics.counting import Histogram, Labels
from slmgate.control.metrics.families import FAMILIES, Family
from slmgate.control.metrics.gauges import Samples


class Picture(Collector):
    """All families at one moment, as the library asks for them."""

    def __init__(
        self, counters: dict[str, dict[Labels, int]], histograms: dict[str, dict[Labels, Histogram]], gauges: Samples
    ) -> None:
        self._counters = counters
        self._histograms = histograms
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            name = family.told_name()
            metric = Metric(name, family.help, family.kind, family.unit if name.endswith(f"_{family.unit}") else "")
            for labels, number in self._counters.get(family.name, {}).items():
                metric.add_sample(family.name, _named(family, labels), number * family.scale if family.scale != 1 else number)
            for labels, one in self._histograms.get(family.name, {}).items():
                _add_histogram(metric, family, _named(family, labels), one)
            for labels, value in self._gauges.get(family.name, ()):
                metric.add_sample(family.name, _named(family, labels), value)
            yield metric


def _named(family: Family, labels: Labels) -> dict[str, str]:
    return dict(zip(family.labels, labels, strict=True))


def _add_histogram(metric: Metric, family: Family, labels: dict[str, str], one: Histogram) -> None:
    upto = 0
    for number, bucket in enumerate(one.counts):
        upto += bucket
        le = str(one.bounds[number] / 1e6) if number < len(one.bounds) else "+Inf"
        example = one.exemplars.get(number)
        shown = None if example is None else Exemplar({"trace_id": example[0]}, example[1] / 1e6, example[2])
        metric.add_sample(f"{family.name}_bucket", {**labels, "le": le}, upto, exemplar=shown)
    metric.add_sample(f"{family.name}_count", labels, upto)
    metric.add_sample(f"{family.name}_sum", labels, one.sum / 1e6)


def form(accept: str) -> str:
    """The content type in which a scraper with this Accept is answered."""
    return choose_encoder(accept)[1]


def told(picture: Picture, accept: str) -> bytes:
    """The text for such a scraper."""
    encode, _ = choose_encoder(accept)
    return encode(picture)
