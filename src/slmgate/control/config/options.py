"""The option table: every option's name, type, default, bounds, sentence and whether a reload applies it.

The records are the configuration itself, as the rest of slmgate uses it: frozen, typed, times in seconds, sizes in
bytes, paths absolute once loaded. This module knows no YAML and no file; `docs/configuration.md`, the JSON Schema, the
sample file and `slmgate config show` are made from it.
Length: one table, in the order of the file; sections that can be read by themselves stand beside it (`*_options.py`).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from slmgate.control.config.addresses import Address, HostName, Listener, Origin, Url
from slmgate.control.config.admin_options import Admin
from slmgate.control.config.auth_options import DAY, HOUR, NAME, NOTHING, Auth
from slmgate.control.config.content_options import Content
from slmgate.control.config.discovery_options import Discovery
from slmgate.control.config.guard_options import NEW_CONNECTIONS, PerIp
from slmgate.control.config.health_options import Health
from slmgate.control.config.kinds import (
    Choice,
    Digest,
    Duration,
    Location,
    Moment,
    Network,
    Number,
    Password,
    Plain,
    Secret,
    Size,
    Switch,
    Text,
    Variable,
    Week,
    Whole,
    Word,
)
from slmgate.control.config.ledger_options import Ledger
from slmgate.control.config.limit_options import Limit
from slmgate.control.config.limit_words import LimitWords
from slmgate.control.config.log_options import Log
from slmgate.control.config.me_options import Me
from slmgate.control.config.metrics_options import Metrics
from slmgate.control.config.notify_options import Notification
from slmgate.control.config.plan_options import Plan
from slmgate.control.config.proxy_options import ProxyHeader, ProxyProtocol, TrustedProxies
from slmgate.control.config.retry_options import Retry, Timeouts
from slmgate.control.config.table import Option, Section
from slmgate.control.config.tls_options import ListenTls
from slmgate.control.config.tracing_options import Tracing
from slmgate.control.config.trust_options import InstanceTls
from slmgate.control.config.version_options import Canary, Hedge, Shadow
from slmgate.dialects import ENDPOINTS
from slmgate.policy.roles import Hours, Scalar

Engine = Literal["openai", "vllm", "llamacpp", "ollama", "sglang", "tgi"]
Balance = Literal["least_busy", "round_robin", "weighted", "peak_ewma", "consistent_hash", "prefix"]
BALANCES = ("least_busy", "round_robin", "weighted", "peak_ewma", "consistent_hash", "prefix")
Fairness = Literal["tokens", "requests", "none"]

KIB, MIB, GIB = 1024, 1024**2, 1024**3

ENGINES = Choice(values=("openai", "vllm", "llamacpp", "ollama", "sglang", "tgi"))
MODEL_NAME = Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}",
    described="a letter or digit, then letters, digits and . _ : / @ + -, at most 128 in all",
)
UPSTREAM_NAME = Text(pattern=r"[^\x00-\x1f\x7f]{1,512}", described="at most 512 characters, none of them a control character")
OWNER = Text(pattern=r"[^\x00-\x1f\x7f]{1,64}", described="at most 64 characters, none of them a control character")
TAG = Text(
    pattern=r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}",
    described="a letter or digit, then letters, digits and . _ : / = @ + -, at most 64 in all",
)
PATTERN = Text(
    pattern=r"[A-Za-z0-9*][A-Za-z0-9._:/@+*-]{0,127}",
    described="a model's name, in which * stands for any characters",
)
PARAMETER = Text(
    pattern=r"[A-Za-z][A-Za-z0-9_]{0,63}",
    described="a parameter's name: a letter, then letters, digits and _, at most 64 in all",
)
VARIABLE = Text(
    pattern=r"[A-Za-z_][A-Za-z0-9_]{0,127}",
    described="a variable's name: a letter or _, then letters, digits and _, at most 128 in all",
)
ENDPOINT = Choice(values=("*", *ENDPOINTS))


class Listen(Section, frozen=True, kw_only=True):
    """One address on which clients reach the gate."""

    address: Annotated[
        Address,
        Option(
            "Where the gate listens; `:8080` is port 8080 on every address of this machine, IPv4 and IPv6.",
            Listener(),
            False,
            example="127.0.0.1:8080",
        ),
    ]
    tls: Annotated[ListenTls | None, Option("Speak TLS on this address. Unset: plain HTTP.", reloadable=False)] = None
    plain_http: Annotated[
        bool,
        Option(
            "Whether plain HTTP is meant on an address that can be reached from outside of private networks, where keys and "
            "prompts can be read on their way. Without `tls`, such an address needs this word; `0.0.0.0`, `::` and names too.",
            Switch(),
        ),
    ] = False
    proxy_protocol: ProxyProtocol = False


class Instance(Section, frozen=True, kw_only=True):
    """One running copy of a model: at an address, or one that the gate starts; or as many as a name has or a file lists."""

    one_of: ClassVar[tuple[str, ...]] = ("url", "dns", "file", "command")

    url: Annotated[
        Origin | None,
        Option(
            "Where the instance is: scheme, host and port; the gate adds the path of each request itself. Unset: see `dns`, "
            "`file` and `command`.",
            Url(),
            example="http://127.0.0.1:8000",
        ),
    ] = None
    dns: Annotated[
        str | None,
        Option(
            "In place of `url`, a name: each of its addresses is an instance with these options, reached over plain HTTP, or "
            "over TLS with `tls` beside it. They come and go as the name says; docs/operations.md tells how it is followed.",
            HostName(),
            example="vllm.models.svc",
        ),
    ] = None
    port: Annotated[
        int | None,
        Option(
            "The port of the addresses of `dns`, or the one that `command` listens on; unset, the gate gives it a free one.",
            Whole(low=1, high=65535),
            example="8000",
        ),
    ] = None
    file: Annotated[
        Path | None,
        Option(
            "In place of `url`, a file with a list of URLs, in YAML or JSON, each alone or with options of its own in place of "
            "these. It is followed as it changes; docs/operations.md.",
            Location(),
            example="instances.yaml",
        ),
    ] = None
    command: Annotated[
        tuple[str, ...],
        Option(
            "In place of `url`, what the gate starts when the model is asked for: a program and its arguments, without a shell; "
            "a text is split at spaces, quotes keep together. `{port}` stands for the port of 127.0.0.1 on which it must listen. "
            "docs/operations.md tells how it is watched and stopped.",
            Word(),
            at_least=1,
            lone=True,
            example='[llama-server, -m, model.gguf, --port, "{port}"]',
        ),
    ] = ()
    environment: Annotated[
        dict[str, str],
        Option(
            "Variables of the environment of `command`, beside the few that it gets from the gate's own (PATH, HOME, LANG and "
            "such); `{port}` stands for its port here too.",
            Variable(),
            key=VARIABLE,
        ),
    ] = NOTHING
    directory: Annotated[
        Path | None,
        Option("Where `command` is started. Unset: the configuration file's directory.", Location(), example="/srv/models"),
    ] = None
    start: Annotated[
        Literal["on_demand", "always"] | None,
        Option(
            "When `command` is started: `on_demand`, when a request waits for it, or `always`. Unset: on_demand.",
            Choice(values=("on_demand", "always")),
            example="always",
        ),
    ] = None
    start_within: Annotated[
        float | None,
        Option(
            "How long `command` may take until it is ready; then it is ended, and tried again after a pause. Requests that wait "
            "for it wait so long, or for queue.timeout where that is longer. Unset: 120s.",
            Duration(low=100, high=HOUR),
            example="60s",
        ),
    ] = None
    stop_within: Annotated[
        float | None,
        Option(
            "How long `command` may take to end after SIGTERM, before it is killed. Unset: 10s.",
            Duration(low=100, high=600_000),
            example="5s",
        ),
    ] = None
    idle: Annotated[
        float | None,
        Option(
            "`command` is stopped when it has had no request for so long. Unset: never.",
            Duration(low=1000, high=DAY),
            example="10m",
        ),
    ] = None
    output: Annotated[
        Literal["start", "all", "none"] | None,
        Option(
            "What of the output of `command` goes to the gate's log: all until it is ready, which cannot hold what clients ask; "
            "`all`; or `none`. Unset: start.",
            Choice(values=("start", "all", "none")),
            example="all",
        ),
    ] = None
    engine: Annotated[
        Engine,
        Option("The instance's software; `openai` stands for anything that speaks OpenAI's HTTP API.", ENGINES),
    ] = "openai"
    weight: Annotated[
        int,
        Option("Share of the work beside the other instances, for every `balance` but `round_robin`.", Whole(low=1, high=1000)),
    ] = 1
    max_in_flight: Annotated[
        int | None,
        Option(
            "Requests of each worker that the instance works on at once; more wait in the model's queue. Unset: no bound.",
            Whole(low=1, high=100_000),
            example="16",
        ),
    ] = None
    upstream_model: Annotated[
        str | None,
        Option(
            "The model's name at this instance, where it differs from the name that clients use.",
            UPSTREAM_NAME,
            example="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
    ] = None
    bearer: Annotated[
        Secret | None,
        Option(
            "The secret that this instance asks for, sent as `Authorization: Bearer`; clients never see it.",
            Password(),
            example="${env:VLLM_KEY}",
        ),
    ] = None
    tls: Annotated[
        InstanceTls | None,
        Option(
            "Whom to believe where `url` is https, and as whom the gate shows itself; with `dns` it also says that its addresses "
            "are reached over TLS. What is not said is as the model's `tls` says. Unset: all of it."
        ),
    ] = None


class Queue(Section, frozen=True, kw_only=True):
    """Requests that wait while every instance of the model is at its `max_in_flight`."""

    waiting: Annotated[
        int,
        Option(
            "How many may wait in each worker; of more, the newest of who has the most there is refused with `overloaded`. "
            "0: none waits.",
            Whole(low=0, high=1_000_000),
        ),
    ] = 500
    timeout: Annotated[
        float, Option("How long one may wait before it is refused with `overloaded`.", Duration(low=10, high=HOUR))
    ] = 30.0
    fairness: Annotated[
        Fairness,
        Option(
            "What those who wait share by the `weight` of their roles: the tokens they ask for, or requests of any size. "
            "`none`: first come, first served, whoever it is.",
            Choice(values=("tokens", "requests", "none")),
        ),
    ] = "tokens"


class Parameter(Section, frozen=True, kw_only=True):
    """What requests may set one parameter to."""

    short: ClassVar[dict[str, str]] = {"deny": "deny"}

    max: Annotated[
        float | None,
        Option("The largest value; a request for more is refused. For a list, its length.", Number(), example="512"),
    ] = None
    min: Annotated[float | None, Option("The smallest value.", Number(), example="1")] = None
    default: Annotated[
        Scalar | None,
        Option(
            "What a request gets that leaves the parameter alone. `max_tokens` with a `max` and no default gets the maximum.",
            Plain(),
            example="256",
        ),
    ] = None
    allowed: Annotated[
        tuple[Scalar, ...],
        Option("The only values accepted; in texts, `*` stands for any characters. Empty: any.", Plain()),
    ] = ()
    deny: Annotated[bool, Option("`true`: the parameter may not be set at all; `deny` alone says the same.", Switch())] = False


class Model(Section, frozen=True, kw_only=True):
    """A language model under the name that clients use."""

    instances: Annotated[tuple[Instance, ...], Option("Where the model runs: its instances, at least one.", at_least=1)]
    balance: Annotated[
        Balance,
        Option(
            "How an instance is chosen: the one with the fewest requests in flight, in turn, in turn by `weight`, the one that "
            "answers soonest, by the key `balance_by`, or where the beginning of the prompt was read before; docs/operations.md.",
            Choice(values=BALANCES),
        ),
    ] = "least_busy"
    balance_by: Annotated[
        str,
        Option(
            "What `balance: consistent_hash` goes by: who calls, from which address, or what stands in a header of the request "
            "(who calls, where it is missing).",
            Text(
                pattern=r"principal|address|header [A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}",
                described="principal, address, or header and its name",
            ),
            example="header x-session-id",
        ),
    ] = "principal"
    cache_salt: Annotated[
        Literal["tenant", "none"],
        Option(
            "What instances of the engine vllm are told as `cache_salt`, with which they keep what they have read apart: one for "
            "each team (who has none, alone), and never what a client wrote; or `none`.",
            Choice(values=("tenant", "none")),
        ),
    ] = "tenant"
    retry: Annotated[Retry, Option("When a failed request is tried again.")] = Retry()
    timeouts: Annotated[Timeouts, Option("How long the gate waits for the model's instances.")] = Timeouts()
    tls: Annotated[
        InstanceTls | None, Option("What holds for its instances that are reached over TLS, where their own `tls` says nothing.")
    ] = None
    queue: Annotated[Queue, Option("The line before the model when all its instances are at work.")] = Queue()
    health: Annotated[Health, Option("Which instances are passed over.")] = Health()
    fallback: Annotated[
        tuple[str, ...],
        Option(
            "Models that serve a request when no instance of this one can, in this order; only where the caller may use them "
            "itself. Theirs are not followed.",
            MODEL_NAME,
        ),
    ] = ()
    canary: Annotated[Canary | None, Option("Another version of the model, which serves some requests. Unset: none.")] = None
    shadow: Annotated[Shadow | None, Option("Another model that is sent copies of requests. Unset: none.")] = None
    hedge: Annotated[
        Hedge | None, Option("For embeddings: ask a second instance where the first lets them wait. Unset: never.")
    ] = None
    hidden: Annotated[
        bool,
        Option(
            "`true`: no list shows the model and nobody may ask for it, whatever their roles; it serves as a `canary` or "
            "`shadow` of others.",
            Switch(),
        ),
    ] = False
    parameters: Annotated[
        dict[str, Parameter],
        Option("What requests for this model may set parameters to, whoever calls; see roles.NAME.parameters.", key=PARAMETER),
    ] = NOTHING
    limits: Annotated[
        tuple[Limit, ...],
        Option("How much may be asked of the model, by all together unless `per` says otherwise; docs/limits.md."),
    ] = ()
    tokenizer: Annotated[
        Path | None,
        Option(
            "The model's `tokenizer.json`, by which prompts are counted before a limit lets them through; needs the extra "
            "`tokenizer`. Unset: a token for four bytes is reckoned.",
            Location(),
            example="smollm2/tokenizer.json",
        ),
    ] = None


class Role(Section, frozen=True, kw_only=True):
    """What some may do: one whole grant. docs/policies.md says how several add up."""

    models: Annotated[
        tuple[str, ...],
        Option("The models that the role may use, by name or with `*`.", PATTERN, at_least=1, example="[smollm2]"),
    ]
    deny_models: Annotated[
        tuple[str, ...], Option("Models that nobody with this role may use, whatever another role says.", PATTERN)
    ] = ()
    endpoints: Annotated[
        tuple[str, ...],
        Option(
            "What may be asked of them, under the names that all APIs share; docs/apis.md lists their paths.",
            ENDPOINT,
            at_least=1,
        ),
    ] = ("*",)
    deny_endpoints: Annotated[
        tuple[str, ...], Option("Endpoints that nobody with this role may use, whatever another role says.", ENDPOINT)
    ] = ()
    parameters: Annotated[
        dict[str, Parameter],
        Option(
            "What requests may set parameters to, by the name that all APIs share; `deny` in place of options: not at all.",
            key=PARAMETER,
        ),
    ] = NOTHING
    stream: Annotated[bool, Option("Whether answers may be streamed.", Switch())] = True
    max_body: Annotated[
        int | None,
        Option("The largest request body, where it is less than guard.max_body.", Size(low=1, high=GIB), example="64KiB"),
    ] = None
    max_context: Annotated[
        int | None,
        Option(
            "The most tokens of prompt (estimated) and answer (`max_tokens`, by any name) together; a request that sets no "
            "length is given what its prompt leaves.",
            Whole(low=1, high=1_000_000_000),
            example="4096",
        ),
    ] = None
    networks: Annotated[tuple[str, ...], Option("Where calls may come from. Empty: anywhere.", Network())] = ()
    deny_networks: Annotated[
        tuple[str, ...], Option("Where nobody with this role may call from, whatever another role says.", Network())
    ] = ()
    hours: Annotated[
        Hours | None,
        Option("When calls may come. Unset: at any time.", Week(), example="Mon-Fri 08:00-18:00 Europe/Berlin"),
    ] = None
    priority: Annotated[
        int, Option("Whose requests go first when instances are full: more before less.", Whole(low=0, high=100))
    ] = 0
    weight: Annotated[int, Option("Share among those of one priority.", Whole(low=1, high=1000))] = 1
    limits: Annotated[
        tuple[Limit, ...],
        Option("How much each of those with the role may use, unless `per` says for whom together; docs/limits.md."),
    ] = ()
    content: Annotated[
        Content | None,
        Option("What is kept of prompts and answers of requests that the role admits; docs/content.md. Unset: nothing."),
    ] = None


class Team(Section, frozen=True, kw_only=True):
    """Several principals: its members have its roles beside their own."""

    roles: Annotated[tuple[str, ...], Option("The roles that every member has.", NAME)] = ()
    limits: Annotated[
        tuple[Limit, ...], Option("How much the team may use, its members together unless `per` says otherwise; docs/limits.md.")
    ] = ()
    plan: Annotated[
        str | None, Option("The plan by which the team's use is charged. Unset: nothing is.", NAME, example="gold")
    ] = None


class DeclaredKey(Section, frozen=True, kw_only=True):
    """A key in the configuration file. Only the digest of its secret stands there."""

    name: Annotated[
        str, Option("What the key is called in receipts and lists; unique among declared keys.", NAME, example="acme-bot")
    ]
    hash: Annotated[
        bytes,
        Option(
            "The SHA-256 of the secret's text; any secret of at least 20 characters works.",
            Digest(),
            example="sha256:" + "0" * 64,
        ),
    ]
    owner: Annotated[
        str | None, Option("Who answers for the key: a person, an address, a program.", OWNER, example="jane@acme.example")
    ] = None
    team: Annotated[str | None, Option("The team that the key belongs to.", NAME, example="acme")] = None
    roles: Annotated[tuple[str, ...], Option("The roles of the key, beside those of its team.", NAME, example="[partner]")] = ()
    tags: Annotated[
        tuple[str, ...], Option("Words to find the key by; they decide nothing.", TAG, example='["env:production"]')
    ] = ()
    networks: Annotated[
        tuple[str, ...],
        Option(
            "From where the key may be used: networks or single addresses. Unset: from anywhere.",
            Network(),
            example="[10.0.0.0/8]",
        ),
    ] = ()
    expires: Annotated[
        datetime | None,
        Option(
            "From when on the key is refused; a date stands for its first moment in UTC. Unset: never.",
            Moment(),
            example="2030-01-01",
        ),
    ] = None
    disabled: Annotated[bool, Option("`true` refuses the key for as long as it stands.", Switch())] = False
    limits: Annotated[
        tuple[Limit, ...], Option("How much may be used with the key, beside the limits of its roles and team; docs/limits.md.")
    ] = ()


class Guard(Section, frozen=True, kw_only=True):
    """Bounds of the listening side, whoever calls."""

    max_body: Annotated[
        int, Option("The largest request body; a larger one gets `request_too_large`.", Size(low=KIB, high=GIB))
    ] = 8 * MIB
    max_header: Annotated[
        int, Option("The largest header section of a request, request line included.", Size(low=KIB, high=MIB))
    ] = 32 * KIB
    max_headers: Annotated[int, Option("The most header fields of a request.", Whole(low=8, high=10_000))] = 100
    trusted_proxies: TrustedProxies = ()
    proxy_header: ProxyHeader = "x-forwarded-for"
    per_ip: Annotated[PerIp, Option("What each address may do, whoever calls from there; docs/security.md.")] = PerIp()
    exempt: Annotated[
        tuple[str, ...],
        Option(
            "Networks and addresses that `per_ip` and `new_connections` do not count, and that are never banned: this machine's "
            "own programs, among them a proxy that stands before the gate.",
            Network(),
        ),
    ] = ("127.0.0.0/8", "::1/128")
    new_connections: Annotated[
        LimitWords | None,
        Option(
            "New connections of all addresses together; one too many is closed. Unset: no bound.",
            NEW_CONNECTIONS,
            example="2000/second",
        ),
    ] = None
    max_connections: Annotated[
        int,
        Option(
            "The most client connections of each worker. Above, those are closed that show no key within a second or have been "
            "idle for long; while there are none, newcomers wait in the kernel's line.",
            Whole(low=1, high=1_000_000),
        ),
    ] = 20_000
    header_timeout: Annotated[
        float,
        Option("From a connection's or request's first byte to the end of its header section.", Duration(low=100, high=HOUR)),
    ] = 10.0
    body_timeout: Annotated[float, Option("The longest silence while a request body arrives.", Duration(low=100, high=HOUR))] = (
        30.0
    )
    body_total: Annotated[float, Option("The longest that a request body may take to arrive.", Duration(low=100, high=DAY))] = (
        300.0
    )
    body_rate: Annotated[
        int,
        Option(
            "The least bytes a second that a request body must come with, on the average, once it has taken a minute.",
            Size(low=1, high=GIB),
        ),
    ] = 512
    max_buffered: Annotated[
        int,
        Option(
            "Bytes that each worker keeps at the most of requests that do not come in one piece, until they are done; with more, "
            "the request that would go beyond gets `overloaded`.",
            Size(low=MIB, high=1024 * GIB),
        ),
    ] = 256 * MIB
    keep_alive: Annotated[float, Option("How long an idle client connection is kept open.", Duration(low=100, high=DAY))] = 75.0
    send_timeout: Annotated[
        float, Option("How long a client may take nothing of its answer before it is given up.", Duration(low=100, high=HOUR))
    ] = 30.0


class Journal(Section, frozen=True, kw_only=True):
    """The files in which a worker records each request before the ledger has it."""

    segment_size: Annotated[
        int, Option("The size of one journal file; each worker holds two from its start.", Size(low=MIB, high=GIB), False)
    ] = 8 * MIB
    sync: Annotated[
        Literal["never"] | float,
        Option(
            "How often the journal is forced to the disk; it survives the death of any process without, a power cut only with.",
            Duration(low=10, high=HOUR, words=("never",)),
            False,
        ),
    ] = 1.0


class Config(Section, frozen=True, kw_only=True):
    """One whole configuration."""

    later: ClassVar[tuple[str, ...]] = (
        "cluster",
        "on_store_loss",
        "tls",
    )

    models: Annotated[
        dict[str, Model],
        Option("The language models, under the names that clients use; at least one.", at_least=1, key=MODEL_NAME),
    ]
    listen: Annotated[
        tuple[Listen, ...], Option("The addresses on which clients reach the gate.", reloadable=False, at_least=1)
    ] = (Listen(address=Address("127.0.0.1", 8080)),)
    admin: Annotated[Admin, Option("The separate listener for operators.")] = Admin()
    roles: Annotated[
        dict[str, Role],
        Option("Who may do what. Without any, every key has the built-in role `internal`: everything.", key=NAME),
    ] = NOTHING
    teams: Annotated[dict[str, Team], Option("Teams, with the roles of their members.", key=NAME)] = NOTHING
    keys: Annotated[
        tuple[DeclaredKey, ...],
        Option("Keys declared here by digest; keys made with `slmgate keys create` live in the store instead."),
    ] = ()
    limits: Annotated[
        tuple[Limit, ...], Option("How much all together may use, unless `per` says otherwise; docs/limits.md.")
    ] = ()
    plans: Annotated[dict[str, Plan], Option("What use costs, by the names that teams have in `plan`.", key=NAME)] = NOTHING
    notifications: Annotated[
        dict[str, Notification],
        Option("Webhooks that are told of what happens: instances fail, certificates end, limits are used up.", key=NAME),
    ] = NOTHING
    discovery: Annotated[Discovery, Option("How the names (`dns`) and files (`file`) of instances are followed.")] = Discovery()
    auth: Annotated[Auth, Option("Who is let in beside the holders of keys.")] = Auth()
    policy_tests: Annotated[
        tuple[Path, ...],
        Option(
            "Files of policy tests (docs/policies.md). They run before every start and reload against the new configuration, "
            "which is not taken while a case fails.",
            Location(),
            example="[policies.test.yaml]",
        ),
    ] = ()
    guard: Annotated[Guard, Option("Bounds of the listening side.")] = Guard()
    me: Annotated[Me, Option("What holders of keys may see and do by themselves, at `/me` on the gate's own address.")] = Me()
    state_dir: Annotated[
        Path, Option("The directory of everything that must outlive a restart: ledger, keys, journals.", Location(), False)
    ] = Path("./slmgate-data")
    workers: Annotated[
        int | Literal["auto"],
        Option(
            "Worker processes; `auto` is one for each CPU that slmgate may use.", Whole(low=1, high=256, words=("auto",)), False
        ),
    ] = "auto"
    drain_timeout: Annotated[
        float, Option("How long requests under way may go on after a stop was asked for.", Duration(low=0, high=DAY))
    ] = 30.0
    worker_timeout: Annotated[
        float, Option("A worker silent for this long is replaced.", Duration(low=500, high=HOUR), False)
    ] = 5.0
    log: Annotated[Log, Option("What slmgate writes about its work.")] = Log()
    tracing: Annotated[Tracing, Option("Traces of requests, for OpenTelemetry.")] = Tracing()
    metrics: Annotated[Metrics, Option("Figures for Prometheus.")] = Metrics()
    journal: Annotated[Journal, Option("How requests are recorded before the ledger has them.")] = Journal()
    ledger: Annotated[Ledger, Option("How long receipts and their sums are kept.")] = Ledger()
    on_ledger_loss: Annotated[
        Literal["refuse", "serve"],
        Option(
            "When a request can no longer be recorded: `refuse` it, or `serve` it unaccounted.",
            Choice(values=("refuse", "serve")),
            False,
        ),
    ] = "refuse"
