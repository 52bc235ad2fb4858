"""What the options of one configuration must be to each other: the faults that no single option shows.

Each check looks only at values that were read well, so that it adds no echo of a fault told already. This module knows
no YAML; `Reader.places` tells where a value stands, and no message holds a value that the file itself does not show.
"""

from __future__ import annotations

from difflib import get_close_matches
from ipaddress import ip_address
from typing import NamedTuple

from slmgate.control.config.acme_checks import check_acme
from slmgate.control.config.addresses import Address, Origin, is_everywhere, is_public
from slmgate.control.config.admin_options import Admin
from slmgate.control.config.compile import instance_id
from slmgate.control.config.engine_checks import check_engine, check_ports, lacks_words
from slmgate.control.config.faults import quote
from slmgate.control.config.limit_checks import check_limits, check_money
from slmgate.control.config.options import Config, Instance, Listen, Model, Parameter
from slmgate.control.config.proxy_checks import check_proxies
from slmgate.control.config.reading import Place, Reader
from slmgate.control.config.table import Section
from slmgate.control.config.tls_options import ListenTls
from slmgate.control.config.tlsfiles import (
    FileFault,
    authorities_fault,
    crl_fault,
    never_shown,
    read_identity,
)
from slmgate.control.config.tokenizer_files import tokenizer_fault
from slmgate.control.config.trust_checks import check_trust
from slmgate.control.config.version_checks import check_versions
from slmgate.dialects.parameters import NAMES
from slmgate.policy.roles import matches

PLAIN_PROBLEM = (
    "can be reached from outside of private networks, and speaks plain HTTP: keys and prompts can be read on their way"
)
ADMIN_PROBLEM = (
    "can be reached from outside of private networks, and speaks plain HTTP: admin keys and passwords can be read on their way"
)
ADMIN_HINT = "give a private address; where a proxy with TLS is all that reaches it, write plain_http: true beside it"
PLAIN_HINT = "give tls, or a private address; behind a proxy with TLS, or in a closed network, write plain_http: true beside it"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check(config: Config, reader: Reader, *, tls_files: bool = True) -> None:
    """Give `reader` every fault between options of `config`, and of files that they name; `tls_files`: of those of TLS too."""
    _listeners(config, reader)
    check_proxies(config, reader)
    gate = [listen.address for listen in config.listen]
    for name, model in config.models.items():
        _instances(name, model, gate, reader)
        _parameters(model, model.parameters, reader)
        _tokenizer(model, reader)
        _fallback(name, model, list(config.models), reader)
        check_versions(name, model, config, reader)
    check_ports((instance for model in config.models.values() for instance in model.instances), reader)
    _discovery(config, reader)
    _tls(config, reader, tls_files)
    check_acme(config, reader)
    check_trust(config, reader, tls_files)
    _keys(config, reader)
    _auth(config, reader)
    _roles(config, reader)
    _plans(config, reader)
    check_limits(config, reader)
    currencies = {name: plan.currency for name, plan in config.plans.items()}
    check_money(config, reader, currencies, {name: team.plan for name, team in config.teams.items()})


def overlap(one: Address, other: Address) -> bool:
    """Whether both cannot be bound at once: the same port, and the same host or one of them every host."""
    return one.port == other.port and (one.host == other.host or is_everywhere(one.host) or is_everywhere(other.host))


class _Listener(NamedTuple):
    address: Address
    place: Place | None
    """None: a default, which stands nowhere."""


def _place(reader: Reader, section: Section, option: str) -> Place | None:
    return reader.places.get((id(section), option))


def _listeners(config: Config, reader: Reader) -> None:
    every = [_Listener(listen.address, _place(reader, listen, "address")) for listen in config.listen]
    if not _replaced(config.admin, config, reader):
        every.append(_Listener(config.admin.address, _place(reader, config.admin, "address")))
    for i, one in enumerate(every):
        earlier = next((other for other in every[:i] if overlap(one.address, other.address)), None)
        if earlier is None:
            continue
        blamed, other = (one, earlier) if one.place is not None else (earlier, one)
        if blamed.place is not None:
            owner = (
                f"{other.place.option} in line {other.place.node.span.line + 1}"
                if other.place
                else "the default of admin.address"
            )
            _blame(reader, blamed.place, "cannot be listened on twice", f"{owner} has the same port: take another")


def _tokenizer(model: Model, reader: Reader) -> None:
    place = _place(reader, model, "tokenizer")
    if model.tokenizer is not None and place is not None and (fault := tokenizer_fault(model.tokenizer)) is not None:
        _blame(reader, place, fault.problem, fault.hint)


def _fallback(name: str, model: Model, models: list[str], reader: Reader) -> None:
    """Fallbacks are other models, and are there. A circle is none: those of a fallback are not followed."""
    strange = [other for other in model.fallback if other not in models]
    _known(model, "fallback", strange, "model", [other for other in models if other != name], reader)
    place = _place(reader, model, "fallback")
    if place is not None and name in model.fallback:
        reader.blame(place, place.node.span, f"{quote(name)} cannot stand in for itself", "name other models")


def _replaced(admin: Admin, config: Config, reader: Reader) -> bool:
    """Whether the file has an `admin` whose address could not be read, so that the default stands in for it."""
    return _place(reader, config, "admin") is not None and _place(reader, admin, "address") is None and reader.broken(admin)


def _instances(name: str, model: Model, gate: list[Address], reader: Reader) -> None:
    first: dict[str, Place] = {}
    for instance in model.instances:
        port = _place(reader, instance, "port")
        if reader.broken(instance):
            continue
        check_engine(instance, reader)
        if instance.dns is None and not instance.command and port is not None:
            _blame(reader, port, "is never looked at", "the port of a url stands in it")
        if instance.dns is not None and instance.port is None:
            place = _place(reader, instance, "dns")
            if place is not None:
                _blame(reader, place, "has no port", "say it beside the name, like port: 8000")
        if instance.command:
            option, where = "command", instance_id(name, instance)
        elif instance.url is not None:
            option, where = "url", instance.url.location
        elif instance.dns is not None:
            option, where = "dns", f"{instance.dns} {instance.port}"
        else:
            option, where = "file", str(instance.file)
        place = _place(reader, instance, option)
        if place is None or (instance.command and lacks_words(instance, place)):
            continue
        earlier = first.setdefault(where, place)
        if earlier is not place:
            subject, different = reader.subject(place.node), "weight says how much it takes"
            if instance.command:
                subject, different = "the command", "a second one needs a difference, in its arguments or its environment"
            hint = f"see {earlier.option}; {different}"
            reader.blame(place, place.node.span, f"{subject} is an instance of {name} already", hint)
        if is_the_gate(instance, gate):
            _blame(reader, place if port is None else port, "is the gate itself", "give the address of the model's instance")


def is_the_gate(instance: Instance, gate: list[Address]) -> bool:
    """Whether the instance's address is one on which the gate listens."""
    return any(_reaches(instance, listener) for listener in gate)


def _reaches(instance: Instance, listener: Address) -> bool:
    if instance.url is None and (not instance.command or instance.port is None):
        return False
    host, port, _ = instance.url or Origin(_LOOPBACK[0], instance.port or 0)
    if port != listener.port:
        return False
    return host == listener.host or (host in _LOOPBACK and (is_everywhere(listener.host) or listener.host in _LOOPBACK))


def _discovery(config: Config, reader: Reader) -> None:
    place = _place(reader, config.discovery, "nameservers")
    for address in config.discovery.nameservers if place is not None else ():
        try:
            ip_address(address.host)
        except ValueError:
            assert place is not None
            problem = f"{quote(str(address))} is not the address of a DNS server"
            reader.blame(place, place.node.span, problem, "write its IP address and port, like 10.0.0.2:53")


def _keys(config: Config, reader: Reader) -> None:
    first: dict[str | bytes, Place] = {}
    for key in config.keys:
        for option, value in (("name", key.name), ("hash", key.hash)):
            place = _place(reader, key, option)
            if place is not None and (earlier := first.setdefault(value, place)) is not place:
                _blame(reader, place, f"is the {option} of another key already", f"see {earlier.option}; each key needs its own")


def _tls(config: Config, reader: Reader, files: bool) -> None:
    """TLS files are looked into now: a fault in one would stop the gate at its next start."""
    for listen in config.listen:
        if listen.tls is not None and files:
            _certificates(listen.tls, reader)
            _clients(listen.tls, reader)
        _plain(listen, reader)
    place = _place(reader, config.admin, "address")
    if place is not None and not config.admin.plain_http and is_public(config.admin.address.host):
        _blame(reader, place, ADMIN_PROBLEM, ADMIN_HINT)


def _certificates(tls: ListenTls, reader: Reader) -> None:
    identities = []
    for own in tls.certificates:
        read = read_identity(own.cert, own.key)
        if not isinstance(read, FileFault):
            identities.append(read)
        elif (place := _place(reader, own, read.option)) is not None:
            _blame(reader, place, read.problem, read.hint)
    if len(identities) == len(tls.certificates):
        for number, problem in never_shown(identities).items():
            if (place := _place(reader, tls.certificates[number], "cert")) is not None:
                _blame(reader, place, problem, "leave it out, or put it first to have it shown to whoever asks for no name")


def _clients(tls: ListenTls, reader: Reader) -> None:
    authorities, crl = _place(reader, tls, "client_ca"), _place(reader, tls, "crl")
    if tls.client_ca is not None and authorities is not None:
        if (fault := authorities_fault(tls.client_ca)) is not None:
            _blame(reader, authorities, fault.problem, fault.hint)
        elif tls.crl is not None and crl is not None and (fault := crl_fault(tls.crl, tls.client_ca)) is not None:
            _blame(reader, crl, fault.problem, fault.hint)
    asked = _place(reader, tls, "client_auth") if tls.client_auth != "optional" else None  # the default stands in what is shown
    for place in (asked, crl):
        if place is not None and tls.client_ca is None and not reader.broken(tls):
            _blame(reader, place, "is never looked at", "say in client_ca whose client certificates are taken")


def _plain(listen: Listen, reader: Reader) -> None:
    """Plain HTTP where the world can listen in needs a word."""
    place, word = _place(reader, listen, "address"), _place(reader, listen, "plain_http")
    if reader.broken(listen) or place is None:
        return
    if listen.tls is not None and listen.plain_http and word is not None:
        reader.blame(
            word, word.node.span, "plain_http is never looked at where TLS is spoken", "leave out one of tls and plain_http"
        )
    elif listen.tls is None and not listen.plain_http and is_public(listen.address.host):
        _blame(reader, place, PLAIN_PROBLEM, PLAIN_HINT)


def _auth(config: Config, reader: Reader) -> None:
    first: dict[str, Place] = {}
    for option, entries in (("issuer", config.auth.oidc), ("url", config.auth.introspection)):
        for entry in entries:
            place = _place(reader, entry, option)
            if place is not None and (earlier := first.setdefault(getattr(entry, option), place)) is not place:
                _blame(reader, place, "is configured already", f"see {earlier.option}; give all its options in one place")
            claim = _place(reader, entry.roles, "map")
            if claim is not None and entry.roles.map and entry.roles.claim is None and not reader.broken(entry.roles):
                _blame(reader, claim, "is never looked at", "say in roles.claim which claim it is for")
            for option_of_roles, names in (("map", entry.roles.map.values()), ("default", entry.roles.default)):
                strange = [name for name in names if name not in config.roles]
                _known(entry.roles, option_of_roles, strange, "role", list(config.roles), reader)
    shown = config.auth.client_certificates
    if shown is not None:
        _known(shown, "role", [name for name in shown.role if name not in config.roles], "role", list(config.roles), reader)
        place = _place(reader, config.auth, "client_certificates")
        unread = reader.broken(config) or any(
            reader.broken(section) for each in config.listen for section in (each, each.tls) if section
        )
        if place is not None and not unread and not any(each.tls is not None and each.tls.client_ca for each in config.listen):
            hint = "give listen[].tls.client_ca, the authorities whose certificates are taken"
            reader.blame(place, place.node.span, "no listener asks for client certificates", hint)
    if (anonymous := config.auth.anonymous) is not None and anonymous.role not in config.roles:
        _known(anonymous, "role", [anonymous.role], "role", list(config.roles), reader)


def _roles(config: Config, reader: Reader) -> None:
    """Every role that is named must be there; so must the models that a role names without `*`."""
    holders: list[tuple[Section, tuple[str, ...]]] = [(team, team.roles) for team in config.teams.values()]
    holders += [(key, key.roles) for key in config.keys]
    for holder, names in holders:
        _known(holder, "roles", [name for name in names if name not in config.roles], "role", list(config.roles), reader)
    for key in config.keys:
        if key.team is not None and config.teams:
            _known(key, "team", [key.team] if key.team not in config.teams else [], "team", list(config.teams), reader)
    for role in config.roles.values():
        for option, patterns in (("models", role.models), ("deny_models", role.deny_models)):
            strange = [name for name in patterns if not _names_a_model(name, config)]
            _known(role, option, strange, "model", list(config.models), reader)
        _parameters(role, role.parameters, reader)


def _plans(config: Config, reader: Reader) -> None:
    """Plans that teams name are there, as are the models that have prices; all of a plan's money is in its one currency."""
    for team in config.teams.values():
        strange = [team.plan] if team.plan is not None and team.plan not in config.plans else []
        _known(team, "plan", strange, "plan", list(config.plans), reader)
    for plan in config.plans.values():
        strange = [name for name in plan.prices if not _names_a_model(name, config)]
        _known(plan, "prices", strange, "model", list(config.models), reader)
        for option in ("base", "credit", "included"):
            money, place = getattr(plan, option), _place(reader, plan, option)
            if money is not None and place is not None and money.currency not in ("", plan.currency):
                _blame(reader, place, "is not in the plan's currency", f"all of a plan is in one: write it in {plan.currency}")
        idle = [name for name, used in (("overage", plan.overage == "stop"), ("notify", plan.notify is not None)) if used]
        for option in idle if plan.included is None and not reader.broken(plan) else []:
            if (place := _place(reader, plan, option)) is not None:
                problem = f"{option} asks for an end of what is included, and nothing is"
                reader.blame(place, place.node.span, problem, "say what is included, like included: 10M tokens/month")


def _names_a_model(pattern: str, config: Config) -> bool:
    return pattern in config.models or ("*" in pattern and any(matches(pattern, model) for model in config.models))


def _known(holder: Section, option: str, strange: list[str], what: str, known: list[str], reader: Reader) -> None:
    place = _place(reader, holder, option)
    if place is None:
        return
    for name in strange:
        near = get_close_matches(name, known, 1)
        there = f"there is {', '.join(known[:8])}" if known else f"the file has no {what}s at all"
        hint = f"did you mean {near[0]}?" if near else there
        reader.blame(place, place.node.span, f"there is no {what} {quote(name)}", hint)


def _parameters(holder: Section, options: dict[str, Parameter], reader: Reader) -> None:
    whole = _place(reader, holder, "parameters")
    for name, one in options.items():
        places = (_place(reader, one, option) for option in one.__struct_fields__)
        place = next((place for place in places if place is not None), whole)  # `deny` alone has no place of its own
        if place is None:
            continue
        if one.deny and (one.max, one.min, one.default, one.allowed) != (None, None, None, ()):
            _blame(reader, place, "cannot stand beside deny", "what is denied has no bounds: leave one of them out")
        elif one.min is not None and one.max is not None and one.min > one.max:
            _blame(reader, place, "is out of order", f"the min of {name} is more than its max")
        elif not isinstance(one.default, str | bool | None) and one.max is not None and one.default > one.max:
            _blame(reader, place, "is out of order", f"the default of {name} is more than its max")
        shared = next((shared for shared, names in NAMES.items() if name.casefold() in names and name != shared), None)
        if shared is not None:
            problem = f"{quote(name)} is one of several names of one parameter"
            reader.blame(place, place.node.span, problem, f"write {shared}, which stands for them all")


def _blame(reader: Reader, place: Place, problem: str, hint: str) -> None:
    reader.blame(place, place.node.span, f"{reader.subject(place.node)} {problem}", hint)
