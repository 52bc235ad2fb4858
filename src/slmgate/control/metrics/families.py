"""The table of metrics: name, kind, labels, unit and help of each family, one row each; and how many values a label may have.

Everything that is exposed has a row here, and docs/metrics.md is made from it. Bounds of histograms are microseconds, as receipts
have them, so that counting needs no arithmetic. It knows no receipt and no text format.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram", "info"]

OTHER = "(other)"
"""Stands for every value of a label beyond its bound."""
UNKNOWN = "(unknown)"
"""Stands for every model that somebody asked for and that nobody has."""

SERIES = 2000
"""Label sets of one family at the most; those beyond are one, with `OTHER` in every label."""
BOUNDS = {
    "model": 200,
    "instance": 500,
    "client": 200,  # unless `metrics.clients` says otherwise
    "endpoint": 50,
    "code": 60,
    "reason": 60,
    "currency": 20,
}
"""Values of each label at the most, in all families together: those that came first. The others are `OTHER`."""
MAX_VALUE = 200
"""Characters of a label's value at the most."""

REQUEST_US = tuple(
    int(seconds * 1e6) for seconds in (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
)
WAIT_US = tuple(
    int(seconds * 1e6) for seconds in (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
)
CONNECT_US = (100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000)
# what OpenTelemetry's conventions for generative models advise, with finer ones below for small models
FIRST_TOKEN_US = tuple(
    int(seconds * 1e6) for seconds in (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
)
TOKEN_US = (500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000)
OVERHEAD_US = (10, 25, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000)


class Family(msgspec.Struct, frozen=True):
    """One row. `name` is as queries have it, `_total` and `_info` included. `bounds` are a histogram's, in microseconds; `scale`
    is what its, or a counter's, whole numbers are multiplied with. `note` is for the documentation alone.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    bounds: tuple[int, ...] = ()
    scale: float = 1.0
    note: str = ""

    def told_name(self) -> str:
        """The family's name as OpenMetrics has it, without the ending of its kind."""
        return self.name.removesuffix("_total" if self.kind == "counter" else "_info" if self.kind == "info" else "")


def _histogram(name: str, bounds: tuple[int, ...], help: str, labels: tuple[str, ...] = (), note: str = "") -> Family:
    return Family(name, "histogram", help, labels, "seconds", bounds, 1e-6, note)


FROM_RECEIPTS: tuple[Family, ...] = (
    Family(
        "slmgate_requests_total",
        "counter",
        "Requests that have ended, each counted once, when its receipt is in the ledger.",
        ("model", "endpoint", "code", "ended"),
        note="`code` is the HTTP status that the client was told, `0` where nobody knows; `ended` as in receipts.",
    ),
    Family(
        "slmgate_refusals_total",
        "counter",
        "Requests that the gate refused, by reason.",
        ("reason", "model"),
        note=(
            "They are among `slmgate_requests_total` too. `reason` is a code of docs/errors.md, or `client_left` where the "
            "client was gone before there was a verdict."
        ),
    ),
    Family("slmgate_client_requests_total", "counter", "Requests of each client.", ("client", "model")),
    Family("slmgate_client_tokens_total", "counter", "Tokens of each client.", ("client", "model", "direction"), "tokens"),
    Family(
        "slmgate_client_cost_total",
        "counter",
        "What the requests of each client cost.",
        ("client", "currency"),
        scale=1e-9,
        note="In units of the currency.",
    ),
    Family(
        "slmgate_tokens_total",
        "counter",
        "Tokens that instances read and wrote.",
        ("model", "instance", "direction"),
        "tokens",
        note="`direction` is `prompt` or `completion`.",
    ),
    Family(
        "slmgate_estimated_tokens_total",
        "counter",
        "Tokens among those of slmgate_tokens_total that the gate had to estimate.",
        ("model", "direction"),
        "tokens",
    ),
    Family("slmgate_cost_total", "counter", "What requests cost, by plans and prices.", ("model", "currency"), scale=1e-9),
    Family(
        "slmgate_shadow_requests_total",
        "counter",
        "Copies of requests that were sent to a shadow model. They are in no other figure.",
    ),
    _histogram(
        "slmgate_request_duration_seconds",
        REQUEST_US,
        "From a request's head until the client's last byte.",
        ("model", "endpoint"),
        "Admitted requests only: refusals take no time worth a histogram, and would hide what does.",
    ),
    _histogram(
        "slmgate_queue_duration_seconds",
        WAIT_US,
        "How long requests stood in line for an instance.",
        ("model",),
        "Admitted requests, and those that were refused after they had waited.",
    ),
    _histogram(
        "slmgate_connect_duration_seconds",
        CONNECT_US,
        "How long opening a connection to the instance took, TLS included.",
        ("model", "instance"),
        "Only requests for which one was opened: most are served over a kept one.",
    ),
    _histogram(
        "slmgate_time_to_first_token_seconds",
        FIRST_TOKEN_US,
        "From a request being with its instance until the first piece of its stream.",
        ("model", "instance"),
        "Streams only: of other answers nobody can tell.",
    ),
    _histogram(
        "slmgate_stream_duration_seconds",
        REQUEST_US,
        "From the first piece of a stream until its end.",
        ("model", "instance"),
    ),
    _histogram(
        "slmgate_time_per_output_token_seconds",
        TOKEN_US,
        "Time for each token of a stream after its first.",
        ("model", "instance"),
        "Streams that came to their end, with two tokens at least; each stream counts once, with its mean.",
    ),
    _histogram(
        "slmgate_overhead_duration_seconds",
        OVERHEAD_US,
        "The gate's own share: from a request being whole to its instance having it, less standing in line and connecting.",
        note="Requests for which an instance was asked.",
    ),
)
"""Counted from receipts, exactly: known traffic gives known figures."""

FROM_WORKERS: tuple[Family, ...] = (
    Family(
        "slmgate_connections_refused_total",
        "counter",
        "Connections of clients that the guard closed at once (turned_away) or as the gate was full (shed).",
        ("why",),
    ),
    Family(
        "slmgate_guarded_requests_total",
        "counter",
        "Requests that were refused and have no receipt: by the guard, and of strangers too many.",
    ),
    Family("slmgate_bans_total", "counter", "Addresses that were banned."),
    Family(
        "slmgate_unrecorded_requests_total",
        "counter",
        "Requests that were served without a record, as on_ledger_loss: serve has it.",
    ),
    Family("slmgate_worker_restarts_total", "counter", "Workers that took the place of one that had ended."),
    Family("slmgate_log_dropped_lines_total", "counter", "Lines of the access log that could not be written."),
    Family("slmgate_trace_dropped_spans_total", "counter", "Spans that were not sent, as the collector did not take them."),
)
"""Grown by what workers and the control process say about once a second: of a process that is killed, the last second is lost."""

NOW: tuple[Family, ...] = (
    Family("slmgate_build_info", "info", "The version of slmgate, as a label; the value is 1.", ("version",)),
    Family("slmgate_workers", "gauge", "Worker processes that take requests."),
    Family("slmgate_worker_connections", "gauge", "Open connections of clients.", ("worker",)),
    Family("slmgate_worker_in_flight_requests", "gauge", "Requests under way.", ("worker",)),
    Family("slmgate_in_flight_requests", "gauge", "Requests that an instance has.", ("model", "instance")),
    Family("slmgate_queue_length", "gauge", "Requests in line for an instance of a model.", ("model",)),
    Family(
        "slmgate_instance_up",
        "gauge",
        "Whether an instance is given requests: 1, or 0 where one worker at least passes it over.",
        ("model", "instance"),
        note="A drained one is 0 too.",
    ),
    Family(
        "slmgate_instance_state",
        "gauge",
        "Whether an instance is in this state: 1, or 0 for all the others.",
        ("model", "instance", "state"),
        note="States as in `slmgate instances list`.",
    ),
    Family(
        "slmgate_limit_used_ratio",
        "gauge",
        "How much of a limit is used: 1 is all of it. Those that are nearest to being full, and at most 50.",
        ("limit", "subject"),
        "ratio",
        note=(
            "Looked up when scraped, at most once in 5 s: limits that are shared, and those of the clients that called last, 300 "
            "in all. `slmgate limits` shows every one."
        ),
    ),
    Family(
        "slmgate_plan_used_ratio",
        "gauge",
        "How much a team has used of what its plan includes this month: 1 is all of it.",
        ("team", "plan"),
        "ratio",
        note="Plans with `included`; the 50 that are nearest to being used up.",
    ),
    Family("slmgate_ledger_up", "gauge", "Whether the ledger can be written."),
    Family("slmgate_journal_lag_seconds", "gauge", "For how long receipts have waited to come into the ledger.", (), "seconds"),
    Family("slmgate_journal_waiting_bytes", "gauge", "Bytes of journals that are not in the ledger yet.", (), "bytes"),
    Family(
        "slmgate_certificate_expiry_timestamp_seconds",
        "gauge",
        "When a certificate of the gate ends, in seconds since the epoch.",
        ("certificate",),
        "seconds",
        note="`certificate` is the first of its names. At most 50, those that end first.",
    ),
    Family("slmgate_config_last_reload_successful", "gauge", "Whether the configuration file is in force as it was read last."),
    Family(
        "slmgate_config_last_reload_success_timestamp_seconds",
        "gauge",
        "When a configuration was taken last, in seconds since the epoch.",
        (),
        "seconds",
    ),
)
"""How things stand when it is asked."""

FAMILIES: tuple[Family, ...] = (*NOW, *FROM_RECEIPTS, *FROM_WORKERS)
BY_NAME = {family.name: family for family in FAMILIES}
