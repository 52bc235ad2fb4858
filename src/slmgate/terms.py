"""The frozen records that all rooms speak: who calls, what is asked, what was decided, what it came to.

Every record is a `msgspec.Struct`: the cheapest object to build and to encode that we measured, typed
and immutable; those that can hold no cycle are kept out of the garbage collector's sight.
This module knows no room, no clock and no wire format; it only names things, with the words of the dictionary in ARCHITECTURE.md.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

Ended = Literal[
    "complete",  # the client had the whole answer
    "refused",  # the gate answered without asking an instance
    "client_left",  # the client closed before its last byte
    "upstream_error",  # the instance died, broke the protocol or could not be reached
    "upstream_timeout",  # the instance was silent for longer than its time limit
    "gate_failed",  # a fault of the gate itself
    "gate_stopped",  # the gate ended it under way: its drain limit ran out, or an operator cancelled it (reason `cancelled`)
    "unknown",  # the worker died: settled from the intent that it had journaled
]


PrincipalKind = Literal["key", "token", "certificate", "anonymous"]


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who calls, once authenticated; what it may do follows from its roles and its team's.

    `id` is unique among all kinds: a key's id, `<issuer>#<subject>` of a token, `cert:<digest of issuer and name>`, `anonymous`.
    `name` is what receipts and lists show. `networks` (CIDR, empty: any) are where it may call from, whatever its roles say.
    """

    id: str
    name: str
    kind: PrincipalKind = "key"
    team: str | None = None
    roles: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


Unit = Literal["requests", "tokens", "prompt_tokens", "completion_tokens", "cost", "engine_time", "concurrent"]
"""`cost` is in billionths of the currency, `engine_time` in microseconds of an instance's work, the others are counted."""

Calendar = Literal["day", "week", "month"]

Per = Literal["principal", "team", "role", "model", "ip"]
"""Whose use is counted together. Several of them make one count for each combination; none: one count for all."""


class LimitSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One limit. `name` is where it stands (`roles.partner.limits[0]`), `text` how it is told to people.

    Exactly one of `seconds` (a rolling window), `calendar` and neither (`concurrent`). A rolling window without `burst` lets
    through at most `amount` in any window of its length; with it, a bucket of `burst` units that fills at `amount` a window.
    `identity` is what the state is known by: it names no amount, so that what was used stays used when an amount changes.
    A calendar's day, week (from `first_day`, 0 is Monday) and month begin at midnight in `zone`.
    """

    name: str
    text: str
    identity: str
    unit: Unit
    amount: int
    seconds: int = 0
    calendar: Calendar | None = None
    burst: int | None = None
    zone: str = "UTC"
    first_day: int = 0
    per: tuple[Per, ...] = ("principal",)
    clamp: bool = False
    """Whether a request for more tokens than are left gets what is left, and is not refused."""
    currency: str = ""
    raised: int | None = None
    """The amount until the second `raised_until` since the epoch."""
    raised_until: float = 0.0


class Key(Principal, frozen=True, kw_only=True, gc=False):
    """One API key as the road needs it: whose it is and until when. The secret itself is nowhere.

    `expires` is seconds since the epoch, or None for never. `digests` are the SHA-256 digests (32 bytes)
    of the secrets that open it, each with the second it stops working: two while a rotation overlaps.
    `limits` are its own, beside those that come from roles, teams and models; a declared key's stand in the snapshot.
    """

    disabled: bool = False
    expires: float | None = None
    digests: tuple[tuple[bytes, float | None], ...] = ()
    limits: tuple[LimitSpec, ...] = ()


class Bearer(Principal, frozen=True, kw_only=True):
    """The holder of a verified access token. `grounds` names what its verification rests on: the provider's configuration and
    the key that signed it. Once the control process does not list these grounds any more, the verification is void.
    """

    grounds: str = ""


class Refuse(msgspec.Struct, frozen=True):
    """A verdict: no. `code` is a row of `errors.FAULTS`; `message` is for the client; both name nothing inside.

    `param` names the request field at fault, as OpenAI's error object does; `retry_after` is whole seconds. `rule` is for the
    operator alone: the rule of the configuration that said no, such as `roles.partner.parameters.max_tokens.max`.
    """

    code: str
    message: str
    param: str | None = None
    retry_after: int | None = None
    rule: str = ""


class Ask(msgspec.Struct, frozen=True):
    """What one request asks for, read from its body by a dialect.

    `prompt_estimate` is in tokens and bounded, for use where no engine's count is to be had.
    `max_tokens` is the completion bound that the client set, whatever its dialect calls it.
    `wants_usage`: the client itself asked for usage in its stream, so the gate must not strip it.
    `fields` is the decoded JSON object (for a multipart body: its text fields), for parameter rules and patches.
    """

    model: str
    stream: bool = False
    wants_usage: bool = False
    prompt_estimate: int = 0
    max_tokens: int | None = None
    fields: dict[str, Any] = {}


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one request. `estimated`: counted by the gate because the engine did not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False


class Intent(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Journaled before a request is forwarded, so that a crash cannot make the work free.

    A receipt with the same `id` closes it; an intent whose worker died without one becomes a receipt `unknown`.
    """

    id: str
    request_id: str
    time: datetime
    key: str | None
    principal: str
    team: str | None
    model: str
    instance: str
    dialect: str
    endpoint: str
    stream: bool = False
    prompt_tokens: int = 0
    address: str = ""
    worker: int = 0
    roles: str = ""
    plan: str = ""
    price: str = ""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The record of one finished request; also, encoded as JSON, its line in the access log.

    `id` is the gate's own and unique; `request_id` is what the client saw in `x-request-id` (its own, when sane,
    so it may repeat). Times are UTC; `queue_us`, `first_byte_us` and `total_us` are microseconds of monotonic time
    since the request's head was there: until an instance was asked, until the answer's first byte (of a stream: its first piece;
    None: no byte came), and until the end. Of the first of them, `receive_us` went by until the request was whole and its
    caller known, `connect_us` while a connection was opened (0: a kept one served). `overhead_us` is the gate's own share: from
    the request being whole to its instance having been handed it, less standing in line and connecting (0: no instance was
    asked). `trace` is the trace that it is part of, where that is recorded or the client began it: 32 hexadecimal digits, and of
    a client's behind dashes the span that it was sent in and the trace's flags. `prompt_tokens` and
    `completion_tokens` are the engine's own figures unless `estimated`. `roles` are the principal's, its team's among them, with
    commas between; `rule` is the role that admitted or the rule that refused; `parameters` is what `dialects/parameters.noted`
    kept of the request, with the model that it asked for where `model`, which served, is another. `plan` is the team's; `price`
    is what it asked at that time, as the currency and billionths of it for each prompt and each completion token
    (`EUR 100 300`), empty where nothing was asked; `cost` is what that comes to, in billionths.
    """

    id: str
    request_id: str
    time: datetime
    prompt_tokens: int = 0
    completion_tokens: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    queue_us: int = 0
    first_byte_us: int | None = None
    total_us: int = 0
    attempts: int = 0
    address: str = ""
    worker: int = 0
    parameters: str = ""
    cost: int = 0
    receive_us: int = 0
    connect_us: int = 0
    overhead_us: int = 0
    trace: str = ""
    # what is told above is each receipt's own, what follows is shared by many: the ledger keeps the two apart
    method: str
    path: str
    status: int
    verdict: Literal["admit", "refuse", "none", "shadow"]
    """`none`: it ended before there was one, as when a client leaves in the middle of its body. `shadow`: it is the record of a
    copy, for which nobody is charged; `parameters` names the receipt of the request that it is of.
    """
    reason: str
    ended: Ended
    principal: str
    key: str | None = None
    """The principal's id: a key's, or what `Principal.id` says."""
    team: str | None = None
    roles: str = ""
    rule: str = ""
    dialect: str = ""
    endpoint: str = ""
    model: str = ""
    instance: str = ""
    stream: bool = False
    estimated: bool = False
    plan: str = ""
    price: str = ""
