"""A configuration becomes a snapshot, and what it declares becomes keys.

What a worker makes of a snapshot is tested in `tests/policy`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from slmgate.control.config import compile_snapshot, declared_keys, instance_id, load_text, owned_twice
from slmgate.control.config.addresses import Origin
from slmgate.control.config.compile_guard import guard_spec
from slmgate.control.config.options import Guard
from slmgate.policy.certificates import CertificateSpec
from slmgate.policy.guard import GuardSpec, RateSpec
from slmgate.policy.limits import LimitSpec, PlanSpec, Price
from slmgate.policy.roles import RoleSpec
from slmgate.policy.specs import GateSpec, InstanceSpec, ModelSpec, SnapshotSpec, TrustSpec
from slmgate.policy.split import CanarySpec, ShadowSpec
from slmgate.terms import Key
from tests.tools.authority import Authority

MINIMAL = 'models: {m: {instances: [{url: "http://h:1"}]}}\n'
FULL = """\
models:
  m:
    balance: weighted
    balance_by: header x-session
    cache_salt: none
    instances:
      - {url: "https://[::1]", engine: vllm, weight: 3, max_in_flight: 7, upstream_model: "Big/M", bearer: s3cret,
         tls: {server_name: A.test, verify: false}}
    retry: {attempts: 1, on: [connect, 429], budget: 7%%}
    timeouts: {connect: 1s, first_byte: 2s, idle: 3s, total: 6s}
    queue: {waiting: 4, timeout: 5s}
    fallback: [n]
    canary: {model: o, share: 15%%, by: request, principals: [bot], teams: [acme], roles: [partner]}
    shadow: {model: o, share: 16%%, in_flight: 17, max_body: 18k, timeout: 19s}
    hedge: {after: 20ms}
  o: {hidden: true, instances: [{url: "http://h:2"}]}
  n: {instances: [{url: "http://h:1"}]}
guard:
  {max_body: 6k, max_header: 7k, max_headers: 8, max_connections: 9, header_timeout: 10s,
   body_timeout: 11s, keep_alive: 12s, send_timeout: 13s, body_total: 21s, body_rate: 22, max_buffered: 23M,
   exempt: [], per_ip: {requests: off, connections: off, new_connections: 3/second, failed_auth: {limit: off}}}
drain_timeout: 14s
roles: {partner: {models: ["*"]}}
keys:
  - {name: bot, team: acme, owner: jane, roles: [partner], tags: [a], networks: [10.0.0.0/8], hash: "sha256:%s",
     expires: 1970-01-02, disabled: true}
""" % ("0a" * 32)


def test_the_defaults_are_those_of_the_snapshot() -> None:
    """Two tables of defaults would drift apart; this holds them together."""
    spec = compile_snapshot(load_text(MINIMAL).unwrap(), 7)
    model = ModelSpec(name="m", instances=(InstanceSpec(id="m/h:1", host="h", port=1),))
    gate = GateSpec(guard=guard_spec(Guard()))  # what is counted of addresses, in unit tests nothing is
    assert spec == SnapshotSpec(generation=7, gate=gate, models=(model,))


def test_one_that_the_gate_starts() -> None:
    """Asleep without an address, reachable with one; its id is the same."""
    text = 'models: {m: {instances: [{command: ["/bin/sh", "{port}"]%s}]}}'
    config = load_text(text % "").unwrap()
    (spec,) = compile_snapshot(config, 1).models[0].instances
    id = instance_id("m", config.models["m"].instances[0])
    assert spec == InstanceSpec(id=id, host="127.0.0.1", port=0, asleep=True, start_within=120.0)
    up = msgspec.structs.replace(config.models["m"].instances[0], url=Origin("127.0.0.1", 4711))
    models = {"m": msgspec.structs.replace(config.models["m"], instances=(up,))}
    (spec,) = compile_snapshot(msgspec.structs.replace(config, models=models), 1, [id]).models[0].instances
    assert spec == InstanceSpec(id=id, host="127.0.0.1", port=4711, start_within=120.0, draining=True)
    (spec,) = compile_snapshot(load_text(text % ", start_within: 5s").unwrap(), 1).models[0].instances
    assert (spec.id, spec.start_within) == (id, 5.0)


def test_every_value_arrives() -> None:
    spec = compile_snapshot(load_text(FULL).unwrap(), 1)
    instance = InstanceSpec(
        id="m/[::1]:443",
        host="::1",
        port=443,
        tls=True,
        trust=TrustSpec(verify=False),
        server_name="a.test",
        engine="vllm",
        weight=3,
        max_in_flight=7,
        upstream_model="Big/M",
        bearer="s3cret",
    )
    model = ModelSpec(
        name="m",
        instances=(instance,),
        balance="weighted",
        balance_by="header x-session",
        cache_salt="none",
        attempts=1,
        retry_on=("connect", "429"),
        retry_budget=0.07,
        connect_timeout=1,
        first_byte_timeout=2,
        idle_timeout=3,
        total_timeout=6,
        queue_waiting=4,
        queue_timeout=5,
        fallback=("n",),
        canary=CanarySpec(
            model="o",
            share=0.15,
            by="request",
            principals=frozenset({"bot"}),
            teams=frozenset({"acme"}),
            roles=frozenset({"partner"}),
        ),
        shadow=ShadowSpec(model="o", share=0.16, in_flight=17, max_body=18_000, timeout=19),
        hedge_after=0.02,
    )
    hidden = ModelSpec(name="o", instances=(InstanceSpec(id="o/h:2", host="h", port=2),), hidden=True)
    other = ModelSpec(name="n", instances=(InstanceSpec(id="n/h:1", host="h", port=1),))
    gate = GateSpec(
        max_body=6000,
        max_header=7000,
        max_headers=8,
        max_connections=9,
        header_timeout=10,
        body_timeout=11,
        keep_alive=12,
        send_timeout=13,
        drain_timeout=14,
        body_total=21,
        body_rate=22,
        max_buffered=23_000_000,
        guard=GuardSpec(new_connections=RateSpec(3, 1, 3, "3 requests/second")),
    )
    assert spec == SnapshotSpec(generation=1, gate=gate, models=(model, hidden, other), roles=(RoleSpec(name="partner"),))


def test_a_snapshot_travels() -> None:
    spec = compile_snapshot(load_text(FULL).unwrap(), 1)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=SnapshotSpec) == spec
    assert type(spec.models[0].instances[0].bearer) is str


def test_the_configuration_hides_what_the_snapshot_needs() -> None:
    assert "s3cret" not in repr(load_text(FULL).unwrap())


def test_declared_keys() -> None:
    key = Key(
        id="declared:bot",
        name="bot",
        team="acme",
        roles=("partner",),
        networks=("10.0.0.0/8",),
        disabled=True,
        expires=86400.0,
        digests=((b"\n" * 32, None),),
    )
    assert declared_keys(load_text(FULL).unwrap()) == {"declared:bot": key}
    assert declared_keys(load_text(MINIMAL).unwrap()) == {}


def test_a_secret_with_two_owners_is_told_without_it() -> None:
    (key,) = declared_keys(load_text(FULL).unwrap()).values()
    fault = owned_twice(key, "abc")
    assert "bot (declared:bot)" in fault.problem
    assert "abc" in fault.problem
    assert "0a0a" not in str(fault)


def test_client_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server("gate")
    text = (
        MINIMAL
        + """
roles: {internal: {models: ["*"]}, partner: {models: ["*"]}}
listen: [{address: ":8443", tls: {certificates: [{cert: gate.pem, key: gate.key}], client_ca: ca.pem}}]
auth: {client_certificates: %s}
"""
    )
    for options, spec in (
        ("{role: internal}", CertificateSpec(roles=("internal",))),
        (
            "{principal: san_uri, role: [internal, partner], team: subject_o}",
            CertificateSpec(principal="san_uri", roles=("internal", "partner"), team=True),
        ),
    ):
        assert compile_snapshot(load_text(text % options, base_dir=tmp_path).unwrap(), 1).auth.certificates == spec
    assert compile_snapshot(load_text(MINIMAL).unwrap(), 1).auth.certificates is None


def test_instance_id() -> None:
    config = load_text('models: {a/b: {instances: [{url: "http://[::1]:80"}]}}').unwrap()
    assert instance_id("a/b", config.models["a/b"].instances[0]) == "a/b/[::1]:80"


PLANS = """
teams: {acme: {plan: gold}, beta: {plan: free}, none: {}}
plans:
  gold: {currency: EUR, prices: {m: {prompt: 0.10/1M, completion: 0.30/1M}, "*": {prompt: 1/1M}}, included: 5 EUR/month}
  free: {currency: JPY, timezone: Asia/Tokyo, included: 1k tokens/month, overage: stop}
"""


def test_drained_instances_and_those_that_are_still_to_be_found() -> None:
    text = 'models: {m: {instances: [{url: "http://a:1"}, {dns: x.example, port: 1}, {url: "http://b:1"}]}}'
    (model,) = compile_snapshot(load_text(text).unwrap(), 1, {"m/b:1", "m/other:1"}).models
    assert [(one.id, one.draining) for one in model.instances] == [("m/a:1", False), ("m/b:1", True)]


def test_plans() -> None:
    spec = compile_snapshot(load_text(MINIMAL + PLANS).unwrap(), 1)
    assert spec.plans == (
        PlanSpec(name="gold", currency="EUR", prices=(("m", Price(100, 300)), ("*", Price(1000, 0)))),
        PlanSpec(name="free", currency="JPY"),
    )
    stop = LimitSpec(
        name="plans.free.included",
        text="1k tokens/month",
        identity="plans.free.included",
        unit="tokens",
        amount=1000,
        calendar="month",
        zone="Asia/Tokyo",
        per=("team",),
    )
    assert [(team.name, team.plan, team.limits) for team in spec.teams] == [
        ("acme", "gold", ()),
        ("beta", "free", (stop,)),
        ("none", None, ()),
    ]
    money = PLANS.replace("5 EUR/month", "5 EUR/month, overage: stop")
    (limit,) = compile_snapshot(load_text(MINIMAL + money).unwrap(), 1).teams[0].limits
    assert (limit.unit, limit.amount, limit.currency, limit.text) == ("cost", 5_000_000_000, "EUR", "5 EUR/month")
    assert limit.identity == "plans.gold.included EUR"


def test_what_was_used_of_included_money_is_no_number_of_tokens() -> None:
    """Each unit and each currency counts by itself, as with other limits."""
    known = set()
    for currency, included in (("EUR", "5 EUR"), ("USD", "5 USD"), ("EUR", "1k tokens"), ("EUR", "9 EUR")):
        plan = f"plans: {{p: {{currency: {currency}, included: {included}/month, overage: stop}}}}\nteams: {{t: {{plan: p}}}}\n"
        (limit,) = compile_snapshot(load_text(MINIMAL + plan).unwrap(), 1).teams[0].limits
        known.add(limit.identity)
    assert len(known) == 3
