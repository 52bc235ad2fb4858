"""An exchange's records: the intent before its work begins, the receipt when it is over, and the tokens it came to.

Pure reading of an exchange's fields; where the records go is the journal's affair. Records are JSON of `terms.Intent` and
`terms.Receipt`. Those of admitted work are put together from texts that were encoded before, since all but a few figures
is the same from one request of a client to the next; `tests/dataplane/test_account.py` holds both ways against each other.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from slmgate.dataplane.fallback import mark_of
from slmgate.dataplane.tracing import trace_of
from slmgate.dialects import error_dialect
from slmgate.dialects.parameters import noted
from slmgate.terms import Ended, Receipt, Usage

if TYPE_CHECKING:
    from slmgate.dataplane.exchange import Exchange
    from slmgate.dialects.contract import Route
    from slmgate.policy.specs import ModelSpec

SHOWN_PATH = 200
SHOWN_AGENT = 256
"""Bytes of a User-Agent, and of a Referer, as a record has them."""
READING = frozenset(("embeddings", "rerank"))
"""Endpoints at which nothing is written: however long their answers are, there is no token of the model's in them."""
_SAID = ((b"referer", "referer"), (b"user-agent", "user_agent"))
_NOTHING = Usage()
_encode = msgspec.json.Encoder().encode
# Ids and times need no escapes.
_INTENT = b'{"id":"%b","request_id":"%b","time":"%b","prompt_tokens":%d,%b%b%b'
# What receipts share stands in one piece behind their own figures: so control need not decode it each time.
_RECEIPT = (
    b'{"id":"%b","request_id":"%b","time":"%b","prompt_tokens":%d,"completion_tokens":%d,"bytes_in":%d,"bytes_out":%d,'
    b'"queue_us":%d,"first_byte_us":%b,"total_us":%d,"attempts":%d,%b,"parameters":"%b","cost":%d,'
    b'"receive_us":%d,"connect_us":%d,"overhead_us":%d,"trace":"%b",%b%b%b}'
)
_BEFORE_SHARED = b',"method":'  # where that piece begins; no text can hold it, since quotes in it have a backslash before them
# That piece, before the instance and after it.
_SHARED = b'%b,"status":%d,"verdict":"%b","reason":"%b","ended":"%b",%b,"rule":%b,%b,', b',%b,"estimated":%b,%b'


class What(msgspec.Struct, frozen=True):
    """What the records of one client's requests for a model have in common, whichever instance they go to.

    All of it are members of a JSON object; of pairs, the first stands before the instance (`named`), the second after it.
    """

    model: ModelSpec
    stream: bool
    role: str
    rule: bytes
    """JSON of the rule that admitted."""
    line: bytes
    """Method and path."""
    whose: bytes
    """`principal` to `roles`."""
    work: tuple[bytes, bytes]
    """What of which model, where: `dialect` to `stream`."""
    place: bytes
    """Address and worker, and where it is wanted what the client says of itself."""
    charge: bytes
    """Plan and price."""
    intent: tuple[bytes, bytes]
    """The end of an intent: `whose`, `work`, `place` and `charge`."""
    usual: tuple[bytes, bytes]
    """What many receipts share, of one that came to its end as it should: `method` to `price`."""


def named(instance: str) -> bytes:
    """An instance's id, as a member of its requests' records."""
    return _members({"instance": instance})


def _members(fields: dict[str, Any]) -> bytes:
    return _encode(fields)[1:-1]


def what_of(exchange: Exchange) -> What:
    """What an exchange that is about to ask its instance has in common with others."""
    repeat, ask, admit, model = exchange.repeat, exchange.ask, exchange.admit, exchange.model
    assert ask is not None and admit is not None and model is not None
    known = repeat.what if repeat is not None and repeat.snapshot is exchange.snapshot else None
    if known is not None and known.model is model and known.stream is ask.stream and known.role is admit.role:
        return known
    principal, route, tariff = exchange.principal, exchange.route, exchange.tariff
    assert principal is not None and route is not None
    whose = _members(
        {
            "principal": principal.name,
            "key": principal.id,
            "team": principal.team,
            "roles": exchange.roles(),
        }
    )
    work = (
        _members({"dialect": route.dialect.name, "endpoint": route.endpoint, "model": model.name}),
        _members({"stream": ask.stream}),
    )
    place = _members({"address": exchange.client.address, "worker": exchange.worker.slot})
    plan, price = ("", "") if tariff is None else (tariff.plan, tariff.price_text)
    charge = _members({"plan": plan, "price": price})
    rule = _encode(admit.rule)
    line = _members({"method": exchange.head.method, "path": route.path})
    what = What(
        model,
        ask.stream,
        admit.role,
        rule,
        line,
        whose,
        work,
        place + said_of(exchange),
        charge,
        (b"%b,%b," % (whose, work[0]), b",%b,%b,%b}" % (work[1], place, charge)),
        (
            _SHARED[0] % (line, 200, b"admit", b"", b"complete", whose, rule, work[0]),
            _SHARED[1] % (work[1], b"false", charge),
        ),
    )
    if repeat is not None and repeat.snapshot is exchange.snapshot:
        repeat.what = what
    return what


def said_of(exchange: Exchange) -> bytes:
    """What the client says of itself, as members behind others, for those who want to see it in their access log."""
    snapshot, fields = exchange.snapshot or exchange.worker.snapshot, exchange.head.fields
    if not snapshot.agents:
        return b""
    return b"".join([b',"%b":%b' % (name.encode(), _said(fields[field])) for field, name in _SAID if field in fields])


def _said(value: bytes) -> bytes:
    """A header's value as JSON, cut to so many bytes of that; what is no UTF-8 is read as Latin-1, which anything is."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    text = text[:SHOWN_AGENT]
    while (over := len(said := _encode(text)) - SHOWN_AGENT - 2) > 0:
        text = text[: -max(1, over // 6)]  # a character is six bytes at the most
    return said


def usage_of(exchange: Exchange) -> Usage:
    """The engine's figures, or the gate's own count where the engine did not say."""
    if not exchange.attempts:
        return _NOTHING
    scanner = exchange.scanner
    said = exchange.usage if scanner is None else scanner.usage
    if said is not None:
        return said
    assert exchange.ask is not None
    if exchange.upstream_status >= 300 or not exchange.asked_at:
        return _NOTHING  # the instance said that it did nothing, or was never asked
    if scanner is not None:
        completion = scanner.tokens_seen
    elif exchange.status == exchange.upstream_status:
        completion = written(exchange.route, exchange.bytes_out)
    else:
        completion = 0  # it was asked, and what it did with that nobody knows: the bytes that went out were the gate's own
    return Usage(exchange.prompt_tokens(), completion, True)


def written(route: Route | None, size: int) -> int:
    """The tokens in an unstreamed answer of so many bytes whose instance does not say how many it wrote."""
    return 0 if route is not None and route.access in READING else -(-size // 4)


def intent_of(exchange: Exchange) -> bytes:
    """The record (a `terms.Intent`) that work is about to begin at the exchange's instance."""
    what, ask, instance = exchange.what, exchange.ask, exchange.instance
    assert what is not None and ask is not None and instance is not None
    before, after = what.intent
    return _INTENT % (exchange.id, exchange.request_id, exchange.began, ask.prompt_estimate, before, instance.named, after)


def noted_of(exchange: Exchange) -> bytes:
    """What the request set of the parameters that a receipt keeps; with the model, where another served."""
    ask, route = exchange.asked, exchange.route
    found = noted(route.dialect.name, ask).encode() if ask is not None and route is not None else b""
    return found if exchange.detour is None else b" ".join(filter(None, (mark_of(exchange), found)))


def _rule(exchange: Exchange) -> str:
    """The rule that refused, or that admitted."""
    refused, admit = exchange.refused, exchange.admit
    if refused is not None and refused.rule:
        return refused.rule
    return "" if admit is None else admit.rule


def receipt_of(exchange: Exchange, ended: Ended, reason: str) -> bytes:
    """The record (a `terms.Receipt`) of a finished exchange."""
    what = exchange.what
    if what is None:
        record, said = _encode(plain_receipt(exchange, ended, reason)), said_of(exchange)
        return record.replace(_BEFORE_SHARED, said + _BEFORE_SHARED, 1) if said else record
    usage, started = exchange.usage or usage_of(exchange), exchange.started
    if ended == "complete" and exchange.status == 200 and not reason and not usage.estimated and exchange.refused is None:
        before, after = what.usual
    else:
        before = _SHARED[0] % (
            what.line,
            exchange.status,
            b"refuse" if ended == "refused" else b"admit",
            reason.encode(),
            ended.encode(),
            what.whose,
            what.rule if exchange.refused is None else _encode(_rule(exchange)),
            what.work[0],
        )
        after = _SHARED[1] % (what.work[1], b"true" if usage.estimated else b"false", what.charge)
    return _RECEIPT % (
        exchange.id,
        exchange.request_id,
        exchange.began,
        usage.prompt_tokens,
        usage.completion_tokens,
        len(exchange.body),
        exchange.bytes_out,
        int((exchange.handed_at - started) * 1e6),
        b"%d" % int((exchange.first_byte_at - started) * 1e6) if exchange.first_byte_at else b"null",
        int((time.monotonic() - started) * 1e6),
        exchange.attempts,
        what.place,
        noted_of(exchange),
        0 if exchange.tariff is None else exchange.tariff.cost(usage),
        int((exchange.whole_at - started) * 1e6),
        exchange.connect_us,
        overhead_us(exchange),
        exchange.trace,
        before,
        exchange.tried[-1].named,
        after,
    )


def _queue_us(exchange: Exchange) -> int:
    """How long it took to an instance; of one that waited in vain, how long it waited."""
    if exchange.handed_at:
        return int((exchange.handed_at - exchange.started) * 1e6)
    return int((time.monotonic() - exchange.queued_at) * 1e6) if exchange.queued_at else 0


def overhead_us(exchange: Exchange) -> int:
    """The gate's own share: see `terms.Receipt`. Of one that went to another model, since it was turned to that."""
    sent = exchange.sent_at
    if not sent:
        return 0
    handed, detour = exchange.handed_at, exchange.detour
    whole = exchange.whole_at if detour is None else detour.since or exchange.whole_at
    return int(((exchange.queued_at or handed) - whole + sent - handed) * 1e6)


def _began(exchange: Exchange) -> datetime:
    if exchange.began:
        return datetime.fromisoformat(exchange.began.decode())
    return datetime.fromtimestamp(exchange.started + exchange.worker.wall_offset, UTC)


def plain_receipt(exchange: Exchange, ended: Ended, reason: str) -> Receipt:
    """The receipt of any exchange, also of one that ended before it asked an instance."""
    usage = usage_of(exchange)
    principal, ask, route, model = exchange.principal, exchange.ask, exchange.route, exchange.model
    started, tried, head, tariff = exchange.started, exchange.tried, exchange.head, exchange.tariff
    return Receipt(
        id=exchange.id.decode(),
        request_id=exchange.request_id.decode(),
        time=_began(exchange),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        bytes_in=len(exchange.body),
        bytes_out=exchange.bytes_out,
        queue_us=_queue_us(exchange),
        first_byte_us=int((exchange.first_byte_at - started) * 1e6) if exchange.first_byte_at else None,
        total_us=int((time.monotonic() - started) * 1e6),
        attempts=exchange.attempts,
        address=exchange.client.address,
        worker=exchange.worker.slot,
        parameters=noted_of(exchange).decode(),
        cost=0 if tariff is None else tariff.cost(usage),
        receive_us=int((exchange.whole_at - started) * 1e6),
        connect_us=exchange.connect_us,
        overhead_us=overhead_us(exchange),
        trace=trace_of(exchange).decode(),
        method=head.method,
        # a path in no row is the client's own text: bounded
        path=route.path if route is not None else head.path[:SHOWN_PATH],
        status=exchange.status,
        verdict="refuse" if ended == "refused" else "none" if model is None and ended != "complete" else "admit",
        reason=reason,
        ended=ended,
        principal=principal.name if principal is not None else "",
        key=principal.id if principal is not None else None,
        team=principal.team if principal is not None else None,
        roles=exchange.roles(),
        rule=_rule(exchange),
        dialect=route.dialect.name if route is not None else error_dialect(head.path).name,
        endpoint=route.endpoint if route is not None else "",
        model=model.name if model is not None else ask.model if ask is not None else "",
        instance=tried[-1].spec.id if tried else "",
        stream=ask.stream if ask is not None else False,
        estimated=usage.estimated,
        plan="" if tariff is None else tariff.plan,
        price="" if tariff is None else tariff.price_text,
    )
