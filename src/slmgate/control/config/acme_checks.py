"""What the options of automatic certificates must be to the rest: somebody answers the challenge, and nobody contradicts.

A part of `checks.py` in a file of its own. It knows no YAML, and asks no authority.
"""

from __future__ import annotations

from slmgate.control.config.acme_options import HTTP_01, HTTP_PORT, LETS_ENCRYPT, MAX_DOMAINS, Acme
from slmgate.control.config.faults import quote
from slmgate.control.config.options import Config
from slmgate.control.config.reading import Place, Reader
from slmgate.control.config.tlsfiles import authorities_fault


def check_acme(config: Config, reader: Reader) -> None:
    """Give `reader` every fault of automatic certificates."""
    plain = any(listen.tls is None for listen in config.listen)
    by_itself = any(
        listen.tls is None and listen.address.port == HTTP_PORT for listen in config.listen
    )  # http-01 is tried unasked
    closed = all(listen.tls is None or listen.tls.client_auth == "required" for listen in config.listen)
    owners: dict[str, tuple[Acme, Place]] = {}
    by_directory: dict[str, tuple[Acme, Place]] = {}
    for listen in config.listen:
        if listen.tls is None:
            continue
        acme = listen.tls.acme
        if acme is None:
            spoken = reader.places.get((id(listen), "tls"))
            if spoken is not None and not listen.tls.certificates and not reader.broken(listen.tls):
                hint = "give certificates, or acme to have the gate get one by itself"
                reader.blame(spoken, spoken.node.span, "there is no certificate to show", hint)
            continue
        _one(acme, plain, reader)
        if closed and not (HTTP_01 in acme.challenges if acme.challenges else by_itself):
            stated = reader.places.get((id(listen.tls), "client_auth"))
            if stated is not None:
                problem = "keeps out the authority too, which shows no certificate when it asks by tls-alpn-01"
                hint = "write client_auth: optional, or add a listener without tls, to which port 80 leads, for http-01"
                reader.blame(stated, stated.node.span, problem, hint)
        place = reader.places.get((id(acme), "domains"))
        if place is None:
            continue
        for domain in acme.domains:
            owner, where = owners.setdefault(domain, (acme, place))
            if owner is not acme and _source(owner) != _source(acme):
                hint = f"a name has one certificate: give the same options as {where.option}, or take other names"
                reader.blame(place, place.node.span, f"{quote(domain)} is got in another way already", hint)
                break
        if reader.broken(acme):
            continue
        other, where = by_directory.setdefault(acme.directory, (acme, place))
        if other is not acme and _account(other) != _account(acme):
            hint = f"at one authority the gate has one account: give the same email, eab and ca as beside {where.option}"
            reader.blame(place, place.node.span, "has another account at the same authority", hint)


def _one(acme: Acme, plain: bool, reader: Reader) -> None:
    place = reader.places.get((id(acme), "domains"))
    if place is not None:
        twice = next((name for number, name in enumerate(acme.domains) if name in acme.domains[:number]), None)
        if twice is not None:
            reader.blame(place, place.node.span, f"{quote(twice)} stands here twice", "leave one")
        if len(acme.domains) > MAX_DOMAINS:
            reader.blame(place, place.node.span, f"has more than {MAX_DOMAINS} names", "spread them over several gates")
    if acme.ca is None and not acme.agree_to_terms and not reader.broken(acme):
        stated = reader.places.get((id(acme), "agree_to_terms")) or place
        if stated is not None:
            whose = (
                "Let's Encrypt's are at https://letsencrypt.org/repository/" if acme.directory == LETS_ENCRYPT else "read them"
            )
            reader.blame(
                stated,
                stated.node.span,
                "needs your agreement to the authority's terms of service",
                f"{whose}; then write agree_to_terms: true",
            )
    asked = reader.places.get((id(acme), "challenges"))
    if asked is not None and HTTP_01 in acme.challenges and not plain:
        hint = "add a listener without tls, to which port 80 leads, or write challenges: [tls-alpn-01]"
        reader.blame(asked, asked.node.span, "http-01 would be asked of a listener without TLS, and there is none", hint)
    trusted = reader.places.get((id(acme), "ca"))
    if acme.ca is not None and trusted is not None and (fault := authorities_fault(acme.ca)) is not None:
        reader.blame(trusted, trusted.node.span, f"{reader.subject(trusted.node)} {fault.problem}", fault.hint)


def _source(acme: Acme) -> tuple[object, ...]:
    return acme.directory, acme.challenges


def _account(acme: Acme) -> tuple[object, ...]:
    return acme.email, acme.ca, acme.eab, acme.agree_to_terms
