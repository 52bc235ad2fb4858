"""The doctor's table of checks from inside: each looks at some of the facts, and says what is well, weak or bad.

Pure: what is looked at comes in a `Patient`, which asks `facts.py` unless a test gives it something else to ask. A check says one
thing for each weak spot that it found, or one word that there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from slmgate.control.config import Config
from slmgate.control.config.addresses import Address, Origin, is_everywhere, is_loopback, is_public
from slmgate.control.config.options import Instance, Role
from slmgate.control.doctor import facts
from slmgate.control.doctor.facts import Answer, Automatic, Mode, is_global
from slmgate.control.doctor.findings import Finding, Verdict, ok

SKEW_WARN, SKEW_BAD = 2.0, 30.0
"""Seconds. Tokens are taken up to a minute early or late, and windows of limits begin by the clock."""
ENDS_SOON, ENDS_NOW = timedelta(days=21), timedelta(days=3)
OLD_KEY, UNUSED_KEY = timedelta(days=365), timedelta(days=90)
FREE_WARN, FREE_BAD = 1024**3, 128 * 1024**2
OLD_INTENT = timedelta(hours=24)
"""No request may take longer (`x-request-timeout`)."""
NAMED = 5
"""Names in one sentence, before it says how many more there are."""


class Patient(NamedTuple):
    """What is examined. Times are UTC; `keys` are rows of the admin API.

    `wrong_sums`: of the ledger, None: not compared. `audit`: what is wrong with the audit log.
    """

    config: Config
    now: datetime
    served: bool = False
    file: Path | None = None
    text: str = ""
    keys: Sequence[Mapping[str, Any]] = ()
    wrong_sums: int | None = None
    audit: str = ""
    free: int | None = None
    ask: Callable[[Origin, str], Answer | None] = facts.asked
    listens: Callable[[int], bool] = facts.listening_on_all
    mode: Callable[[Path], Mode | None] = facts.mode_of
    modes: Callable[[Path], list[Mode]] = facts.modes_in
    ends: Callable[[Path], datetime | None] = facts.ends_at
    automatic: Callable[[Config], list[Automatic]] = facts.automatic
    intents: Callable[[Path], list[datetime]] = facts.open_intents


def examine(patient: Patient) -> list[Finding]:
    """All checks, in the order of the table."""
    answers: dict[tuple[Origin, str], Answer | None] = {}

    def ask(origin: Origin, engine: str) -> Answer | None:
        """Each instance is asked once."""
        if (origin, engine) not in answers:
            answers[origin, engine] = patient.ask(origin, engine)
        return answers[origin, engine]

    return _examined(patient._replace(ask=ask))


def _examined(patient: Patient) -> list[Finding]:
    found: list[Finding] = []
    for name, (check, well) in CHECKS.items():
        seen = list(check(patient))
        found += [Finding(name, verdict, what, next) for verdict, what, next in seen] or ok(name, well)
    return found


Seen = tuple[Verdict, str, str]
"""Verdict, what was seen, what to do."""


def _names(names: Iterable[str]) -> str:
    all_ = sorted(names)
    more = f" and {len(all_) - NAMED} more" if len(all_) > NAMED else ""
    return ", ".join(all_[:NAMED]) + more


def _reach(address: Address) -> str:
    return "every address of this machine" if is_everywhere(address.host) else str(address)


def _plain(patient: Patient) -> Iterable[Seen]:
    for listen in patient.config.listen:
        host = listen.address.host
        if listen.tls is None and not is_loopback(host):
            yield (
                "bad" if is_public(host) and not listen.plain_http else "warn",
                f"clients reach {_reach(listen.address)} in plain HTTP, port {listen.address.port}: keys and prompts can be read",
                "give this listener `tls`, or put it on 127.0.0.1 behind a proxy with TLS",
            )


def _admin(patient: Patient) -> Iterable[Seen]:
    address = patient.config.admin.address
    if is_loopback(address.host):
        return
    networks = getattr(patient.config.admin, "networks", ())
    yield (
        "bad" if is_public(address.host) and not networks else "warn",
        f"the admin side listens on {_reach(address)}, port {address.port}" + (", for some networks only" if networks else ""),
        "put admin.address on 127.0.0.1 or a private address, and reach it through a tunnel or a proxy with TLS",
    )


def _anonymous(patient: Patient) -> Iterable[Seen]:
    anonymous = patient.config.auth.anonymous
    if anonymous is None or all(is_loopback(listen.address.host) for listen in patient.config.listen):
        return
    role: Role | None = patient.config.roles.get(anonymous.role)
    open_ = role is None or not role.limits
    yield (
        "bad" if open_ else "warn",
        f"whoever calls without a key has the role {anonymous.role}" + (", which has no limits" if open_ else ""),
        "give the role limits per address (docs/limits.md), or take auth.anonymous out" if open_ else "is it meant so?",
    )


def _limits(patient: Patient) -> Iterable[Seen]:
    config = patient.config
    if all(is_loopback(listen.address.host) for listen in config.listen):
        return
    bare = [name for name, role in config.roles.items() if not role.limits]
    if not config.roles:
        yield (
            "warn",
            "no roles are configured: every key may use every model, without limits",
            "configure `roles` with limits (docs/policies.md)",
        )
    elif (bare and not all(team.limits for team in config.teams.values())) or (bare and not config.teams):
        yield "warn", f"roles without any limit: {_names(bare)}", "give them limits, if not their teams or keys have some"


def _places(config: Config) -> list[tuple[str, Instance]]:
    return [(name, instance) for name, model in config.models.items() for instance in model.instances]


def _around(patient: Patient) -> Iterable[Seen]:
    for model, instance in _places(patient.config):
        origin = instance.url
        if origin is None:
            continue
        if is_loopback(origin.host):
            if patient.listens(origin.port):
                yield (
                    "bad",
                    f"{model}: the instance at {origin} listens on every address of this machine: who reaches the machine goes "
                    "around the gate",
                    "let it listen on 127.0.0.1 only, or close the port to others with a firewall",
                )
            continue
        answer = patient.ask(origin, instance.engine)
        if answer is not None and answer.status == 200:
            kept = instance.bearer is not None
            yield (
                "bad" if kept or is_global(origin.host) else "warn",
                f"{model}: the instance at {origin} answers without a credential"
                + (", although it has a `bearer` here" if kept else ""),
                "let only the gate's machine reach it (a firewall, a private network), or let it ask for a key and give that as "
                "`bearer`",
            )


def _road(patient: Patient) -> Iterable[Seen]:
    for model, instance in _places(patient.config):
        origin, tls = instance.url, instance.tls
        if origin is None or is_loopback(origin.host):
            continue
        if not origin.tls and is_global(origin.host):
            yield "bad", f"{model}: prompts go to {origin} over plain HTTP", "reach it over https://, or through a tunnel"
        elif not origin.tls and instance.bearer is not None:
            yield "warn", f"{model}: the bearer of {origin} goes over plain HTTP", "reach it over https://"
        elif origin.tls and tls is not None and not tls.verify:
            yield (
                "bad",
                f"{model}: the certificate of {origin} is not verified: anybody may stand in its place",
                "give the authority that signed it, and take the word away that turns verification off",
            )


def _state_dir(patient: Patient) -> Iterable[Seen]:
    folder = patient.config.state_dir
    modes = patient.modes(folder)
    open_ = [one for one in modes if one.open_to_others and one.path != folder]
    own = next((one for one in modes if one.path == folder), None)
    if own is not None and own.open_to_others:
        yield "bad" if own.mode & 0o007 else "warn", f"{folder} may be used by others (mode {own.mode:o})", f"chmod 700 {folder}"
        if open_:
            names = _names(str(one.path.relative_to(folder)) for one in open_)
            yield "bad", f"files in {folder} may be read by others: {names}", f"chmod -R go= {folder}"


def _files(patient: Patient) -> Iterable[Seen]:
    for _, key in facts.certificate_files(patient.config):
        mode = patient.mode(key)
        if mode is not None and mode.mode & 0o077:
            yield "bad" if mode.mode & 0o007 else "warn", f"the TLS key {key} may be read by others", f"chmod 600 {key}"
    literal = facts.literal_secrets(patient.text)
    mode = patient.mode(patient.file) if patient.file is not None else None
    if literal and mode is not None and mode.mode & 0o077:
        yield (
            "bad" if mode.mode & 0o007 else "warn",
            f"{patient.file} holds secrets ({_names(literal)}), and others may read it (mode {mode.mode:o})",
            "write them as ${env:NAME} or ${file:PATH}, or chmod 600 the file",
        )


def _certificates(patient: Patient) -> Iterable[Seen]:
    for cert, _ in facts.certificate_files(patient.config):
        ends = patient.ends(cert)
        if ends is None or ends - patient.now > ENDS_SOON:
            continue
        left = ends - patient.now
        when = f"ended on {ends:%Y-%m-%d}" if left < timedelta() else f"ends on {ends:%Y-%m-%d}, in {left.days} days"
        yield "bad" if left < ENDS_NOW else "warn", f"the certificate {cert} {when}", "renew it"
    for name, wanted, ends in patient.automatic(patient.config):
        if wanted is None or ends is None:
            what = f"there is no certificate for {name} yet: until there is, one that nobody vouches for is shown"
        elif patient.now >= ends:
            what = f"the certificate for {name} ended on {ends:%Y-%m-%d}"
        elif patient.now - wanted > (ends - wanted) / 4:
            what = f"the certificate for {name} was to be renewed on {wanted:%Y-%m-%d}, and ends on {ends:%Y-%m-%d}"
        else:
            continue
        good = patient.now < ends if ends is not None else not patient.served
        yield "warn" if good else "bad", what, "slmgate certificates list says why, and when it is asked for again"


def _keys(patient: Patient) -> Iterable[Seen]:
    now = patient.now
    active = [key for key in patient.keys if key["state"] == "active"]
    old, unused = [], []
    for key in active:
        made, used = _time(key["created"]), _time((key["used"] or {}).get("time"))
        secrets = [_time(secret["created"]) for secret in key["secrets"]]
        newest = max([moment for moment in secrets if moment is not None], default=made)
        if key["expires"] is None and newest is not None and now - newest > OLD_KEY:
            old.append(key["name"])
        if made is not None and now - made > UNUSED_KEY and (used is None or now - used > UNUSED_KEY):
            unused.append(key["name"])
    if old:
        yield (
            "warn",
            f"keys that never expire, with secrets older than a year: {_names(old)}",
            "slmgate keys rotate NAME --overlap 24h",
        )
    if unused:
        yield "warn", f"keys not used for {UNUSED_KEY.days} days: {_names(unused)}", "slmgate keys disable NAME, or revoke them"


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str):
        return None
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _clock(patient: Patient) -> Iterable[Seen]:
    for model, instance in _places(patient.config):
        answer = None if instance.url is None else patient.ask(instance.url, instance.engine)
        if answer is None or answer.skew is None or abs(answer.skew) <= SKEW_WARN:
            continue
        ahead = "ahead of" if answer.skew > 0 else "behind"
        yield (
            "bad" if abs(answer.skew) > SKEW_BAD else "warn",
            f"{model}: the clock of {instance.url} is {abs(answer.skew):.0f} s {ahead} this machine's",
            "let both follow a time server; expiry, limits and tokens go by this machine's clock",
        )


def _disk(patient: Patient) -> Iterable[Seen]:
    free = patient.free
    if free is not None and free < FREE_WARN:
        yield (
            "bad" if free < FREE_BAD else "warn",
            f"{free // 1024**2} MiB are left on the disk of {patient.config.state_dir}",
            "make room: without it no work can be recorded, and then none is taken (docs/operations.md)",
        )


def _holds(patient: Patient) -> Iterable[Seen]:
    began = patient.intents(patient.config.state_dir)
    orphans = [moment for moment in began if not patient.served or patient.now - moment > OLD_INTENT]
    if orphans:
        yield (
            "warn",
            f"{len(orphans)} requests since {min(orphans):%Y-%m-%d %H:%M} have begun and not ended",
            "a restart of the gate settles what nobody works on any more (docs/operations.md)"
            if patient.served
            else "start the gate: it settles what a crash cut off",
        )


def _ledger(patient: Patient) -> Iterable[Seen]:
    if patient.wrong_sums is None:
        yield "ok", "there is none yet", ""
    elif patient.wrong_sums:
        yield "bad", f"{patient.wrong_sums} sums of the ledger are not those of its receipts", "slmgate db verify shows which"


def _audit(patient: Patient) -> Iterable[Seen]:
    if patient.audit:
        yield "bad", f"the audit log is not as it was written: {patient.audit}", "slmgate audit verify shows where"


CHECKS: Mapping[str, tuple[Callable[[Patient], Iterable[Seen]], str]] = {
    "plain HTTP": (_plain, "no listener beyond this machine speaks plain HTTP"),
    "admin side": (_admin, "it listens on this machine only"),
    "anonymous callers": (_anonymous, "nobody from elsewhere gets in without a credential"),
    "limits": (_limits, "whoever calls from elsewhere has limits"),
    "around the gate": (_around, "no instance was found that others can reach"),
    "road to instances": (_road, "no prompt or bearer leaves this machine unprotected"),
    "state directory": (_state_dir, "only its owner can read it"),
    "secrets in files": (_files, "nobody else can read a secret in a file"),
    "certificates": (_certificates, "none ends within three weeks, or is late to be renewed"),
    "keys": (_keys, "no old or unused keys"),
    "clock": (_clock, "no instance that says the time disagrees"),
    "disk": (_disk, "there is room"),
    "orphaned holds": (_holds, "no request is left over from a crash"),
    "ledger": (_ledger, "its sums are those of its receipts"),
    "audit log": (_audit, "nothing in it was altered"),
}
"""Name -> the check, and what is said when it found nothing."""
