"""Writes the Grafana dashboards of slmgate: `python -m deploy.grafana.dashboards` makes the files in `dashboards/`.

Here stands what is shown where, and each question to Prometheus; how a panel looks is `panels.py`'s. The names of the metrics are
those of docs/metrics.md; a test asks a real Prometheus every question here. `make docs` writes the files too, and compares in CI.
Length: one dashboard after the other, each as it stands on the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from deploy.grafana.panels import (
    RED,
    YELLOW,
    Json,
    Query,
    bars,
    choice,
    dashboard,
    figure,
    heading,
    lines,
    states,
    table,
)

HERE = Path(__file__).parent

WINDOW = "$__rate_interval"
RANGE = "$__range"
MODELS = 'model=~"$model"'
INSTANCES = 'model="$model",instance=~"$instance"'
CLIENT = 'client="$client"'
FAULTS = 'ended=~"upstream_error|upstream_timeout|gate_failed|gate_stopped|unknown"'
"""How requests end that the gate or an instance failed; refusals of the gate for want of room are 5xx."""
NOBODYS = 'code!~"4.."'
"""All requests but those that their client got wrong, or was not let in with."""
NO_REQUESTS = "No requests in this time"
QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
ASKED = {"1": "asked", "0": "passed over"}


def quantile(share: float, metric: str, where: str = "", by: str = "", window: str = WINDOW) -> str:
    """The value that `share` of the observations do not exceed, for each value of the label `by`."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[{window}])))"


def quantiles(metric: str, where: str = "") -> list[Query]:
    return [Query(quantile(share, metric, where), name) for share, name in QUANTILES]


def rate(metric: str, where: str = "", by: str = "", window: str = WINDOW) -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[{window}]))"


def increase(metric: str, where: str = "", by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (increase({metric}{{{where}}}[{RANGE}]))"


def failed(where: str, window: str, by: str = "") -> str:
    """The share of requests that the gate or an instance failed, 0 to 1; nothing where there were no requests."""
    metric, label = "slmgate_requests_total", f" by ({by})" if by else ""
    bad = (
        f'sum{label} (rate({metric}{{{where},code=~"5.."}}[{window}]) or rate({metric}{{{where},{NOBODYS},{FAULTS}}}[{window}]))'
    )
    every = rate(metric, f"{where},{NOBODYS}", by, window)
    return f"({bad} or 0 * {every}) / ({every} > 0)"


def latency_parts(where: str, with_instance: str) -> list[Query]:
    """Where the time goes, one line for each part of a request: `where` selects by model, `with_instance` by instance as well."""
    return [
        Query(quantile(0.95, "slmgate_queue_duration_seconds", where), "waiting for room"),
        Query(quantile(0.95, "slmgate_connect_duration_seconds", with_instance), "connecting"),
        Query(quantile(0.95, "slmgate_time_to_first_token_seconds", with_instance), "to the first token"),
        Query(quantile(0.95, "slmgate_stream_duration_seconds", with_instance), "the rest of the answer"),
    ]


def overview() -> Json:
    def panels() -> Iterator[Json]:
        yield figure(
            "Requests",
            "Requests a second, refused ones too.",
            "reqps",
            Query(rate("slmgate_requests_total", MODELS), "requests"),
            empty=NO_REQUESTS,
        )
        yield figure(
            "Failed",
            "The share of requests that the gate or an instance failed, in the time shown. What clients got wrong is left out.",
            "percentunit",
            Query(failed(MODELS, RANGE), "failed"),
            empty=NO_REQUESTS,
            bounds=((0.005, YELLOW), (0.02, RED)),
            decimals=2,
        )
        yield figure(
            "First token, p95",
            "95 of 100 streams had their first token within this time from when the instance was asked.",
            "s",
            Query(quantile(0.95, "slmgate_time_to_first_token_seconds", MODELS, window=RANGE), "p95"),
            empty="No streams in this time",
        )
        yield figure(
            "Under way",
            "Requests that instances are working on now.",
            "short",
            Query(f"sum(slmgate_in_flight_requests{{{MODELS}}})", "under way"),
            empty="No instances",
        )
        yield figure(
            "Waiting",
            "Requests that wait now since every instance of their model is full.",
            "short",
            Query(f"sum(slmgate_queue_length{{{MODELS}}})", "waiting"),
            empty="No models",
            bounds=((1, YELLOW), (50, RED)),
        )
        yield figure(
            "Instances passed over",
            "Instances that get no requests now: they failed, or their checks do.",
            "short",
            Query(f"count(slmgate_instance_up{{{MODELS}}} == 0) or 0 * count(slmgate_instance_up{{{MODELS}}})", "passed over"),
            empty="No instances",
            bounds=((1, RED),),
        )
        yield heading("What is asked")
        yield lines(
            "Requests by model",
            "Requests a second, refused ones too.",
            "reqps",
            Query(rate("slmgate_requests_total", MODELS, "model"), "{{model}}"),
            empty=NO_REQUESTS,
            stacked=True,
        )
        yield lines(
            "Tokens by direction",
            "Tokens a second: of prompts, and written by the models.",
            "suffix: tokens/s",
            Query(rate("slmgate_tokens_total", MODELS, "direction"), "{{direction}}"),
            empty="No tokens in this time",
            stacked=True,
        )
        yield lines(
            "Refused, by reason",
            "Requests a second that the gate refused. docs/errors.md explains each reason.",
            "reqps",
            Query(rate("slmgate_refusals_total", MODELS, "reason"), "{{reason}}"),
            empty="Nothing was refused in this time",
            stacked=True,
        )
        yield lines(
            "Failed, by model",
            "The share of requests that the gate or an instance failed. The line is the target.",
            "percentunit",
            Query(failed(MODELS, WINDOW, "model"), "{{model}}"),
            empty=NO_REQUESTS,
            top=0.05,
            bounds=((0.005, RED),),
        )
        yield heading("Is it the client, the gate or the model?")
        yield lines(
            "A whole request",
            "From its first byte to the last byte of its answer.",
            "s",
            *quantiles("slmgate_request_duration_seconds", MODELS),
            empty=NO_REQUESTS,
        )
        yield lines(
            "Where the time goes, p95",
            "The parts of requests. Waiting for room grows when instances are too few; the first token when prompts are long or "
            "instances busy.",
            "s",
            *latency_parts(MODELS, MODELS),
            empty=NO_REQUESTS,
        )
        yield lines(
            "The gate's own share",
            "What the gate added: a request's time less all waiting for clients and instances.",
            "s",
            *quantiles("slmgate_overhead_duration_seconds"),
            empty=NO_REQUESTS,
        )
        yield lines(
            "Time per output token, p95",
            "How slowly words come once they come: 0.05 s is 20 tokens a second.",
            "s",
            Query(quantile(0.95, "slmgate_time_per_output_token_seconds", MODELS, "model"), "{{model}}"),
            empty="No streams in this time",
        )
        yield heading("Who asks")
        yield table(
            "Clients",
            "The clients with the most requests in the time shown. Click one to see it alone.",
            "short",
            Query(f"topk(20, {increase('slmgate_client_requests_total', MODELS, 'client')})", ""),
            empty=NO_REQUESTS,
            value="Requests",
            link="client",
        )
        yield table(
            "Models",
            "Requests in the time shown. Click a model to see it alone.",
            "short",
            Query(f"topk(20, {increase('slmgate_requests_total', MODELS, 'model')})", ""),
            empty=NO_REQUESTS,
            value="Requests",
            link="model",
        )
        yield heading("The gate itself")
        yield figure(
            "Workers", "Worker processes that run.", "short", Query("sum(slmgate_workers)", "workers"), empty="No gate", width=6
        )
        yield figure(
            "Ledger",
            "Whether receipts can be written. While they cannot, they wait in the journal.",
            "none",
            Query("min(slmgate_ledger_up)", "ledger"),
            empty="No gate",
            width=6,
            bounds=((1, "green"),),
            first=RED,
            words={"1": "up", "0": "down"},
        )
        yield figure(
            "Configuration",
            "Whether the last change of the configuration was taken over.",
            "none",
            Query("min(slmgate_config_last_reload_successful)", "configuration"),
            empty="No gate",
            width=6,
            bounds=((1, "green"),),
            first=RED,
            words={"1": "in force", "0": "refused: the old one stays"},
        )
        yield table(
            "Versions",
            "Gates by version.",
            "short",
            Query("count by (version) (slmgate_build_info)", ""),
            empty="No gate",
            value="Gates",
            width=6,
            height=4,
        )
        yield lines(
            "Journal",
            "How long the oldest receipt has been waiting for the ledger.",
            "s",
            Query("max(slmgate_journal_lag_seconds)", "oldest receipt"),
            empty="No gate",
            top=5,
        )
        yield lines(
            "Journal's size",
            "Bytes of receipts that wait for the ledger.",
            "bytes",
            Query("sum(slmgate_journal_waiting_bytes)", "waiting"),
            empty="No gate",
        )
        yield lines(
            "Connections by worker",
            "Clients' connections that are open.",
            "short",
            Query("sum by (worker) (slmgate_worker_connections)", "worker {{worker}}"),
            empty="No gate",
            stacked=True,
        )
        yield lines(
            "Workers that died",
            "Workers that were started anew, in each five minutes.",
            "short",
            Query("sum(increase(slmgate_worker_restarts_total[5m]))", "started anew"),
            empty="No gate",
            top=1,
        )
        yield lines(
            "Requests under way by worker",
            "What each worker has in hand: a worker far above the others is slow.",
            "short",
            Query("sum by (worker) (slmgate_worker_in_flight_requests)", "worker {{worker}}"),
            empty="No gate",
            stacked=True,
        )
        yield lines(
            "Log lines and spans dropped",
            "What a full disk or a collector out of reach made the gate drop, a second. Requests are not held up by it.",
            "cps",
            Query("sum(rate(slmgate_log_dropped_lines_total[$__rate_interval]))", "log lines"),
            Query("sum(rate(slmgate_trace_dropped_spans_total[$__rate_interval]))", "spans"),
            empty="No gate",
        )
        yield lines(
            "Served without a record",
            "Requests a second that were served although there was no room to record them, as `on_ledger_loss: serve` has it.",
            "reqps",
            Query("sum(rate(slmgate_unrecorded_requests_total[$__rate_interval]))", "unrecorded"),
            empty="No gate",
        )
        yield lines(
            "Copies for shadows",
            "Requests a second of which a shadow model got a copy.",
            "reqps",
            Query("sum(rate(slmgate_shadow_requests_total[$__rate_interval]))", "copies"),
            empty="No gate",
        )

    model = choice("model", "Model", "What is shown is about these models.", "slmgate_requests_total")
    about = "The whole of slmgate: what is asked, how long it takes and where, who asks, and how the gate is."
    return dashboard("overview", "slmgate: overview", about, [model], panels())


def client() -> Json:
    both = f"{CLIENT},{MODELS}"

    def panels() -> Iterator[Json]:
        yield figure(
            "Requests",
            "In the time shown.",
            "short",
            Query(increase("slmgate_client_requests_total", both), "requests"),
            empty=NO_REQUESTS,
            width=6,
        )
        yield figure(
            "Tokens",
            "Of prompts and answers, in the time shown.",
            "short",
            Query(increase("slmgate_client_tokens_total", both), "tokens"),
            empty="No tokens in this time",
            width=6,
        )
        yield figure(
            "Cost",
            "What that comes to by the plan's prices, in the time shown.",
            "short",
            Query(increase("slmgate_client_cost_total", CLIENT, "currency"), "{{currency}}"),
            empty="Nothing is charged to this client",
            width=6,
            decimals=2,
        )
        yield figure(
            "Share of all requests",
            "This client's part of what all ask, in the time shown.",
            "percentunit",
            Query(
                f"{increase('slmgate_client_requests_total', both)} / {increase('slmgate_client_requests_total', MODELS)}",
                "share",
            ),
            empty=NO_REQUESTS,
            width=6,
        )
        yield lines(
            "Requests by model",
            "Requests a second.",
            "reqps",
            Query(rate("slmgate_client_requests_total", both, "model"), "{{model}}"),
            empty=NO_REQUESTS,
            stacked=True,
        )
        yield lines(
            "Tokens by direction",
            "Tokens a second: of its prompts, and written for it.",
            "suffix: tokens/s",
            Query(rate("slmgate_client_tokens_total", both, "direction"), "{{direction}}"),
            empty="No tokens in this time",
            stacked=True,
        )
        yield lines(
            "Tokens by model",
            "Tokens a second.",
            "suffix: tokens/s",
            Query(rate("slmgate_client_tokens_total", both, "model"), "{{model}}"),
            empty="No tokens in this time",
            stacked=True,
        )
        yield lines(
            "Cost an hour",
            "What an hour costs at the pace of each moment.",
            "short",
            Query(f"3600 * {rate('slmgate_client_cost_total', CLIENT, 'currency')}", "{{currency}}"),
            empty="Nothing is charged to this client",
        )
        yield table(
            "Tokens by model and direction",
            "In the time shown.",
            "short",
            Query(increase("slmgate_client_tokens_total", both, "model, direction"), ""),
            empty="No tokens in this time",
            value="Tokens",
        )
        yield bars(
            "Limits of this client",
            "How full the limits are that count for this client, of those that are nearest to full at all.",
            "percentunit",
            Query('max by (limit) (slmgate_limit_used_ratio{subject="$client"})', "{{limit}}"),
            empty="None of its limits is among the fullest",
            bounds=((0.8, YELLOW), (1, RED)),
        )

    variables = [
        choice("client", "Client", "Who is shown.", "slmgate_client_requests_total", several=False),
        choice("model", "Model", "What is shown is about these models.", "slmgate_client_requests_total"),
    ]
    about = "One client: what it asks, what it gets and costs, and how near its limits it is."
    return dashboard("client", "slmgate: one client", about, variables, panels())


def model() -> Json:
    one = 'model="$model"'

    def panels() -> Iterator[Json]:
        yield figure(
            "Instances asked",
            "Instances that get requests now.",
            "short",
            Query(f"sum(slmgate_instance_up{{{INSTANCES}}})", "asked"),
            empty="No instances",
            bounds=((1, "green"),),
            first=RED,
        )
        yield figure(
            "Under way",
            "Requests that instances are working on now.",
            "short",
            Query(f"sum(slmgate_in_flight_requests{{{INSTANCES}}})", "under way"),
            empty="No instances",
        )
        yield figure(
            "Waiting",
            "Requests that wait for room now.",
            "short",
            Query(f"sum(slmgate_queue_length{{{one}}})", "waiting"),
            empty="No such model",
            bounds=((1, YELLOW), (50, RED)),
        )
        yield figure(
            "Failed",
            "The share of requests that the gate or an instance failed, in the time shown.",
            "percentunit",
            Query(failed(one, RANGE), "failed"),
            empty=NO_REQUESTS,
            bounds=((0.005, YELLOW), (0.02, RED)),
            decimals=2,
        )
        yield figure(
            "First token, p95",
            "95 of 100 streams had their first token within this time.",
            "s",
            Query(quantile(0.95, "slmgate_time_to_first_token_seconds", INSTANCES, window=RANGE), "p95"),
            empty="No streams in this time",
        )
        yield figure(
            "Time per output token, p95",
            "How slowly words come once they come.",
            "s",
            Query(quantile(0.95, "slmgate_time_per_output_token_seconds", INSTANCES, window=RANGE), "p95"),
            empty="No streams in this time",
        )
        yield states(
            "Instances",
            "When each was asked, and when it was passed over.",
            Query(f"min by (instance) (slmgate_instance_up{{{INSTANCES}}})", "{{instance}}"),
            empty="No instances",
            words=ASKED,
        )
        yield table(
            "Health",
            "The state that each instance is in: checking, healthy, recovering, half_open, ejected or unhealthy; "
            "docs/operations.md tells what each means.",
            "short",
            Query(f"max by (instance, state) (slmgate_instance_state{{{INSTANCES}}}) == 1", ""),
            empty="No instances",
            value="",
        )
        yield lines(
            "Under way by instance",
            "Requests that each instance is working on.",
            "short",
            Query(f"sum by (instance) (slmgate_in_flight_requests{{{INSTANCES}}})", "{{instance}}"),
            empty="No instances",
            stacked=True,
        )
        yield lines(
            "Waiting",
            "Requests that wait since every instance is full.",
            "short",
            Query(f"sum(slmgate_queue_length{{{one}}})", "waiting"),
            empty="No such model",
            top=1,
        )
        yield lines(
            "Time in the queue",
            "How long requests waited for room.",
            "s",
            *quantiles("slmgate_queue_duration_seconds", one),
            empty=NO_REQUESTS,
        )
        yield lines(
            "To the first token, p95",
            "By instance: one that is slower than its peers is ill or full.",
            "s",
            Query(quantile(0.95, "slmgate_time_to_first_token_seconds", INSTANCES, "instance"), "{{instance}}"),
            empty="No streams in this time",
        )
        yield lines(
            "Time per output token, p95",
            "By instance: 0.05 s is 20 tokens a second.",
            "s",
            Query(quantile(0.95, "slmgate_time_per_output_token_seconds", INSTANCES, "instance"), "{{instance}}"),
            empty="No streams in this time",
        )
        yield lines(
            "Where the time goes, p95",
            "The parts of requests.",
            "s",
            *latency_parts(one, INSTANCES),
            empty=NO_REQUESTS,
        )
        yield lines(
            "A whole request, p95",
            "By endpoint, from its first byte to the last byte of its answer.",
            "s",
            Query(quantile(0.95, "slmgate_request_duration_seconds", one, "endpoint"), "{{endpoint}}"),
            empty=NO_REQUESTS,
        )
        yield lines(
            "Tokens written, by instance",
            "Tokens a second that each instance wrote.",
            "suffix: tokens/s",
            Query(rate("slmgate_tokens_total", f'{INSTANCES},direction="completion"', "instance"), "{{instance}}"),
            empty="No tokens in this time",
            stacked=True,
        )
        yield lines(
            "Tokens read, by instance",
            "Tokens of prompts a second that each instance was sent.",
            "suffix: tokens/s",
            Query(rate("slmgate_tokens_total", f'{INSTANCES},direction="prompt"', "instance"), "{{instance}}"),
            empty="No tokens in this time",
            stacked=True,
        )
        yield lines(
            "Answers by status",
            "Requests a second, by what the client was told.",
            "reqps",
            Query(rate("slmgate_requests_total", one, "code"), "{{code}}"),
            empty=NO_REQUESTS,
            stacked=True,
        )
        yield lines(
            "Requests by end",
            "Requests a second, by how they ended: complete, or why not.",
            "reqps",
            Query(rate("slmgate_requests_total", one, "ended"), "{{ended}}"),
            empty=NO_REQUESTS,
            stacked=True,
        )

    variables = [
        choice("model", "Model", "Which model is shown.", "slmgate_instance_up", several=False),
        choice("instance", "Instance", "Which of its instances are shown.", 'slmgate_instance_up{model="$model"}'),
    ]
    about = "One model and its instances: load, health, and where the time goes."
    return dashboard("model", "slmgate: one model", about, variables, panels())


def limits() -> Json:
    def panels() -> Iterator[Json]:
        yield bars(
            "Limits nearest to full",
            "How much of each limit is used now. What is full refuses requests with 429 until it has room again.",
            "percentunit",
            Query("topk(20, max by (limit, subject) (slmgate_limit_used_ratio))", "{{subject}}: {{limit}}"),
            empty="No limits, or nothing used of any",
            bounds=((0.8, YELLOW), (1, RED)),
        )
        yield bars(
            "Plans",
            "How much of each team's plan is used in this period.",
            "percentunit",
            Query("topk(20, max by (team, plan) (slmgate_plan_used_ratio))", "{{team}}: {{plan}}"),
            empty="No team has a plan with an allowance",
            bounds=((0.8, YELLOW), (1, RED)),
        )
        yield lines(
            "Limits nearest to full, over time",
            "The line is where requests are refused.",
            "percentunit",
            Query("topk(10, max by (limit, subject) (slmgate_limit_used_ratio))", "{{subject}}: {{limit}}"),
            empty="No limits, or nothing used of any",
            top=1,
            bounds=((1, RED),),
        )
        yield lines(
            "Refused for a limit",
            "Requests a second that were refused with 429.",
            "reqps",
            Query(
                rate("slmgate_refusals_total", f'{MODELS},reason=~"rate_limit_exceeded|quota_exceeded"', "reason, model"),
                "{{reason}}, {{model}}",
            ),
            empty="No limit refused anything in this time",
            stacked=True,
        )
        yield heading("Money")
        yield figure(
            "Cost",
            "What was charged in the time shown, by currency.",
            "short",
            Query(increase("slmgate_cost_total", MODELS, "currency"), "{{currency}}"),
            empty="Nothing was charged in this time",
            width=8,
            decimals=2,
        )
        yield figure(
            "Tokens",
            "Of prompts and answers, in the time shown.",
            "short",
            Query(increase("slmgate_tokens_total", MODELS), "tokens"),
            empty="No tokens in this time",
            width=8,
        )
        yield figure(
            "Estimated",
            "The share of tokens that the gate had to estimate, since an engine gave no figures.",
            "percentunit",
            Query(
                f"({increase('slmgate_estimated_tokens_total', MODELS)} or 0 * {increase('slmgate_tokens_total', MODELS)})"
                f" / {increase('slmgate_tokens_total', MODELS)}",
                "estimated",
            ),
            empty="No tokens in this time",
            width=8,
            bounds=((0.01, YELLOW), (0.1, RED)),
            decimals=2,
        )
        yield lines(
            "Cost an hour by model",
            "What an hour costs at the pace of each moment.",
            "short",
            Query(f"3600 * {rate('slmgate_cost_total', MODELS, 'model, currency')}", "{{model}}, {{currency}}"),
            empty="Nothing was charged in this time",
            stacked=True,
        )
        yield table(
            "Cost by client",
            "What each was charged in the time shown. Click one to see it alone.",
            "short",
            Query(f"topk(20, {increase('slmgate_client_cost_total', '', 'client, currency')})", ""),
            empty="Nothing was charged in this time",
            value="Cost",
            link="client",
        )
        yield table(
            "Tokens by client",
            "Of prompts and answers, in the time shown. Click one to see it alone.",
            "short",
            Query(f"topk(20, {increase('slmgate_client_tokens_total', MODELS, 'client')})", ""),
            empty="No tokens in this time",
            value="Tokens",
            link="client",
        )
        yield lines(
            "Tokens by client",
            "Tokens a second, of the ten clients with the most.",
            "suffix: tokens/s",
            Query(f"topk(10, {rate('slmgate_client_tokens_total', MODELS, 'client')})", "{{client}}"),
            empty="No tokens in this time",
        )

    chosen = choice("model", "Model", "What is shown is about these models.", "slmgate_tokens_total")
    about = "How near to full limits and plans are, what was refused for it, and what everything comes to."
    return dashboard("limits", "slmgate: limits and money", about, [chosen], panels())


def security() -> Json:
    strangers = 'reason=~"invalid_api_key|permission_denied|model_not_found|parameter_not_allowed"'
    broken = (
        'reason=~"invalid_request|not_found|method_not_allowed|request_.*|uri_too_long|headers_too_large|misdirected_request"'
    )

    def panels() -> Iterator[Json]:
        yield figure(
            "Wrong credentials",
            "Requests a second without a valid credential.",
            "reqps",
            Query(rate("slmgate_refusals_total", 'reason="invalid_api_key"') + " or vector(0)", "wrong"),
            empty="No gate",
            width=6,
            bounds=((1, YELLOW), (10, RED)),
        )
        yield figure(
            "Turned away",
            "Connections a second that were closed at the door.",
            "cps",
            Query("sum(rate(slmgate_connections_refused_total[$__rate_interval])) or vector(0)", "turned away"),
            empty="No gate",
            width=6,
            bounds=((1, YELLOW), (100, RED)),
        )
        yield figure(
            "Bans",
            "Addresses that were banned in the time shown.",
            "short",
            Query("sum(increase(slmgate_bans_total[$__range]))", "bans"),
            empty="No gate",
            width=6,
            bounds=((1, YELLOW),),
        )
        yield figure(
            "First certificate to expire",
            "How long it is good for.",
            "s",
            Query("min(slmgate_certificate_expiry_timestamp_seconds) - time()", "left"),
            empty="No certificates: nothing here speaks TLS",
            width=6,
            bounds=((3 * 86400, YELLOW), (14 * 86400, "green")),
            first=RED,
        )
        yield lines(
            "Refused: who, or what they may",
            "Requests a second without a valid credential, or with one that may not do that.",
            "reqps",
            Query(rate("slmgate_refusals_total", strangers, "reason"), "{{reason}}"),
            empty="Nobody was refused for who they are in this time",
            stacked=True,
        )
        yield lines(
            "Refused: unreadable, or out of bounds",
            "Requests a second that no client in good order sends.",
            "reqps",
            Query(rate("slmgate_refusals_total", broken, "reason"), "{{reason}}"),
            empty="No request was out of order in this time",
            stacked=True,
        )
        yield lines(
            "Connections turned away",
            "By why: turned_away (a ban, or too many of one address), shed (no room for anybody).",
            "cps",
            Query("sum by (why) (rate(slmgate_connections_refused_total[$__rate_interval]))", "{{why}}"),
            empty="No connection was turned away in this time",
            stacked=True,
        )
        yield lines(
            "Requests stopped by the guard",
            "Requests a second that an address's own limits refused, before anybody asked for a key.",
            "reqps",
            Query("sum(rate(slmgate_guarded_requests_total[$__rate_interval]))", "stopped"),
            empty="No gate",
        )
        yield lines(
            "Bans",
            "Addresses that were banned, in each five minutes.",
            "short",
            Query("sum(increase(slmgate_bans_total[5m]))", "banned"),
            empty="No gate",
            top=1,
        )
        yield table(
            "Certificates",
            "How long each is good for.",
            "s",
            Query("min by (certificate) (slmgate_certificate_expiry_timestamp_seconds) - time()", ""),
            empty="No certificates: nothing here speaks TLS",
            value="Good for",
        )
        yield lines(
            "Time since the configuration changed",
            "Since a configuration was last taken over.",
            "s",
            Query("time() - max(slmgate_config_last_reload_success_timestamp_seconds)", "age"),
            empty="No gate",
        )

    about = "Who is turned away and why, what the guard does, and how long certificates are good for."
    return dashboard("security", "slmgate: security", about, [], panels())


def every() -> list[Json]:
    """All dashboards."""
    return [overview(), client(), model(), limits(), security()]


def write(folder: Path) -> None:
    """Write each dashboard into its own file below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for made in every():
        name = made["uid"].removeprefix("slmgate-")
        (folder / f"{name}.json").write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(HERE / "dashboards")
