"""A configuration -> the snapshot that workers decide by, and the keys that are declared in it.

Pure: no file, store or clock. What the snapshot does not carry (where to listen, logs, the journal) is not its affair.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from hashlib import blake2b

import msgspec

from slmgate.control.config.addresses import Origin
from slmgate.control.config.auth_options import Auth
from slmgate.control.config.compile_guard import guard_spec
from slmgate.control.config.compile_limits import Limits
from slmgate.control.config.faults import ConfigFault
from slmgate.control.config.log_options import targets
from slmgate.control.config.options import Config, DeclaredKey, Guard, Instance, Model, Parameter, Role, Team
from slmgate.control.config.plan_options import Plan
from slmgate.control.config.tracing_options import Tracing
from slmgate.control.config.trust import tls_of, trust_of
from slmgate.control.config.version_options import Canary, Shadow
from slmgate.control.keyfields import DECLARED
from slmgate.http1.trace_context import threshold
from slmgate.policy.certificates import CertificateSpec
from slmgate.policy.health import HealthSpec
from slmgate.policy.limits import LimitSpec, PlanSpec, Price
from slmgate.policy.roles import ParameterRule, RoleSpec, TeamSpec
from slmgate.policy.specs import AuthSpec, GateSpec, InstanceSpec, ModelSpec, SnapshotSpec, TokenizerSpec, TracingSpec, TrustSpec
from slmgate.policy.split import CanarySpec, ShadowSpec
from slmgate.terms import Key, Principal

LOOPBACK = "127.0.0.1"
"""Where instances are that the gate starts itself."""
START_WITHIN = 120.0
"""Seconds that one may take to be ready, unless it is said otherwise."""
_AS_USUAL = TrustSpec()


def compile_snapshot(config: Config, generation: int, drained: Collection[str] = ()) -> SnapshotSpec:
    """The snapshot of `config`; its keys travel apart. `drained` are ids of instances that get no new request.

    What stands for instances (`dns`) is not in it: the instances that were found by it stand beside it in `config`. One that the
    gate starts has a `url` beside its `command` while it runs; without, it is `asleep`.
    """
    limits = Limits(config)
    return SnapshotSpec(
        generation=generation,
        gate=_gate(config.guard, config.drain_timeout, config.me.enabled),
        models=tuple(_model(name, model, limits, drained) for name, model in config.models.items()),
        roles=tuple(_role(name, role, limits, config.log.content == "roles") for name, role in config.roles.items()),
        teams=tuple(_team(name, team, config.plans, limits) for name, team in config.teams.items()),
        auth=_auth(config.auth),
        plans=tuple(_plan(name, plan) for name, plan in config.plans.items()),
        limits=limits.of(""),
        key_limits=limits.of_keys(),
        tracing=_tracing(config.tracing),
        agents=any(one.form == "combined" and one.to != "off" for one in targets(config.log)),
    )


def _tracing(tracing: Tracing) -> TracingSpec | None:
    """How requests are traced; without a collector, they are not."""
    if tracing.otlp is None:
        return None
    return TracingSpec(threshold(tracing.sample), tracing.parent == "trust")


def declared_keys(config: Config) -> dict[str, Key]:
    """The keys that are declared in `config`, by their ids."""
    return {key.id: key for key in map(_declared, config.keys)}


def owned_twice(key: Key, owner: str) -> ConfigFault:
    """The fault of a declared key that has the secret of the stored key `owner`: nobody could say whose request it is."""
    problem = f"the keys {key.name} ({key.id}) and {owner} have the same secret"
    hint = "revoke one of them, or remove the declared one"
    return ConfigFault(file="keys", line=0, column=0, option="keys", problem=problem, hint=hint)


def instance_id(model: str, instance: Instance) -> str:
    """How operators see an instance that has a `url`, `<model>/<host>:<port>`, or a `command`, `<model>/<program>-<digest>`.

    The digest is of all that makes the process what it is: where that changes it is another instance.
    """
    if instance.command:
        made_of = (
            instance.command,
            sorted((name, str(value)) for name, value in instance.environment.items()),
            str(instance.directory or ""),
            instance.port,
        )
        digest = blake2b(msgspec.json.encode(made_of), digest_size=4)
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", instance.command[0].rpartition("/")[2])[:40]
        return f"{model}/{name}-{digest.hexdigest()}"
    assert instance.url is not None
    return f"{model}/{instance.url.location}"


def has_id(instance: Instance) -> bool:
    """Whether it is one instance, and not a name that leads to several."""
    return instance.url is not None or bool(instance.command)


def _auth(auth: Auth) -> AuthSpec:
    who, shown = auth.anonymous, auth.client_certificates
    return AuthSpec(
        signed=bool(auth.oidc),
        opaque=bool(auth.introspection),
        certificates=None
        if shown is None
        else CertificateSpec(principal=shown.principal, roles=shown.role, team=shown.team is not None),
        anonymous=Principal(id="anonymous", name="anonymous", kind="anonymous", roles=(who.role,)) if who is not None else None,
    )


def _declared(key: DeclaredKey) -> Key:
    return Key(
        id=DECLARED + key.name,
        name=key.name,
        team=key.team,
        roles=key.roles,
        networks=key.networks,
        disabled=key.disabled,
        expires=None if key.expires is None else key.expires.timestamp(),
        digests=((key.hash, None),),
    )


def _gate(guard: Guard, drain_timeout: float, me: bool) -> GateSpec:
    return GateSpec(
        trusted_proxies=guard.trusted_proxies,
        proxy_header=guard.proxy_header,
        max_body=guard.max_body,
        max_header=guard.max_header,
        max_headers=guard.max_headers,
        max_connections=guard.max_connections,
        header_timeout=guard.header_timeout,
        body_timeout=guard.body_timeout,
        keep_alive=guard.keep_alive,
        send_timeout=guard.send_timeout,
        drain_timeout=drain_timeout,
        body_total=guard.body_total,
        body_rate=guard.body_rate,
        max_buffered=guard.max_buffered,
        me=me,
        guard=guard_spec(guard),
    )


def _model(name: str, model: Model, limits: Limits, drained: Collection[str]) -> ModelSpec:
    return ModelSpec(
        name=name,
        instances=tuple(_instance(name, model, one, drained) for one in model.instances if has_id(one)),
        balance=model.balance,
        balance_by=model.balance_by,
        cache_salt=model.cache_salt,
        attempts=model.retry.attempts,
        retry_on=model.retry.on,
        retry_budget=model.retry.budget,
        connect_timeout=model.timeouts.connect,
        first_byte_timeout=model.timeouts.first_byte,
        idle_timeout=model.timeouts.idle,
        total_timeout=model.timeouts.total or 0.0,
        queue_waiting=model.queue.waiting,
        queue_timeout=model.queue.timeout,
        queue_fairness=model.queue.fairness,
        fallback=model.fallback,
        canary=None if model.canary is None else _canary(model.canary),
        shadow=None if model.shadow is None else _shadow(model.shadow),
        hedge_after=0.0 if model.hedge is None else model.hedge.after,
        hidden=model.hidden,
        parameters=_parameters(model.parameters),
        limits=limits.of(f"models.{name}"),
        tokenizer=None if model.tokenizer is None else TokenizerSpec(path=str(model.tokenizer)),
        health=HealthSpec(
            errors=model.health.errors,
            slow_start=model.health.slow_start,
            panic=model.health.panic / 100,
            outlier=None if model.health.outlier == "off" else model.health.outlier,
        ),
    )


def _canary(canary: Canary) -> CanarySpec:
    return CanarySpec(
        model=canary.model,
        share=canary.share,
        by=canary.by,
        principals=frozenset(canary.principals),
        teams=frozenset(canary.teams),
        roles=frozenset(canary.roles),
    )


def _shadow(shadow: Shadow) -> ShadowSpec:
    return ShadowSpec(
        model=shadow.model,
        share=shadow.share,
        in_flight=shadow.in_flight,
        max_body=shadow.max_body,
        timeout=shadow.timeout,
    )


def _role(name: str, role: Role, limits: Limits, keeps: bool) -> RoleSpec:
    """`keeps`: prompts and answers may be kept at all."""
    return RoleSpec(
        name=name,
        models=role.models,
        deny_models=role.deny_models,
        endpoints=role.endpoints,
        deny_endpoints=role.deny_endpoints,
        parameters=_parameters(role.parameters),
        stream=role.stream,
        max_body=role.max_body,
        max_context=role.max_context,
        networks=role.networks,
        deny_networks=role.deny_networks,
        hours=() if role.hours is None else (role.hours,),
        priority=role.priority,
        weight=role.weight,
        limits=limits.of(f"roles.{name}"),
        capture=role.content.capture if keeps and role.content is not None else "",
    )


def _team(name: str, team: Team, plans: Mapping[str, Plan], limits: Limits) -> TeamSpec:
    included = () if team.plan is None else _included(team.plan, plans[team.plan])
    return TeamSpec(name=name, roles=team.roles, plan=team.plan, limits=limits.of(f"teams.{name}") + included)


def _plan(name: str, plan: Plan) -> PlanSpec:
    prices = tuple((model, Price(price.prompt, price.completion)) for model, price in plan.prices.items())
    return PlanSpec(name=name, currency=plan.currency, prices=prices)


def _included(name: str, plan: Plan) -> tuple[LimitSpec, ...]:
    """What a plan includes, as the limit of each of its teams where use ends with it."""
    if plan.included is None or plan.overage != "stop":
        return ()
    limit = LimitSpec(
        name=f"plans.{name}.included",
        text=str(plan.included),
        identity=f"plans.{name}.included {plan.included.currency}".rstrip(),  # what was used of money is no number of tokens
        unit=plan.included.unit,
        amount=plan.included.amount,
        calendar="month",
        zone=plan.timezone,
        per=("team",),
        currency=plan.included.currency,
    )
    return (limit,)


def _parameters(options: Mapping[str, Parameter]) -> tuple[ParameterRule, ...]:
    return tuple(
        ParameterRule(name=name, deny=one.deny, min=one.min, max=one.max, default=one.default, allowed=one.allowed or None)
        for name, one in options.items()
    )


def _instance(name: str, model: Model, instance: Instance, drained: Collection[str]) -> InstanceSpec:
    id = instance_id(name, instance)
    url = instance.url or Origin(LOOPBACK, 0)
    trust = trust_of(model, instance)
    return InstanceSpec(
        id=id,
        host=url.host,
        port=url.port,
        tls=url.tls,
        trust=trust if url.tls and trust != _AS_USUAL else None,
        server_name=(tls_of(model, instance).server_name or "") if url.tls else "",
        engine=instance.engine,
        weight=instance.weight,
        max_in_flight=instance.max_in_flight,
        upstream_model=instance.upstream_model,
        bearer=None if instance.bearer is None else str(instance.bearer),
        draining=id in drained,
        asleep=instance.url is None,
        start_within=(instance.start_within or START_WITHIN) if instance.command else 0.0,
    )
