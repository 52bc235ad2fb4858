"""When orders are made and what becomes of them, with an authority and a clock that the test sets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import trustme
from msgspec import structs

from slmgate.control.acme.files import Account, AcmeFiles
from slmgate.control.acme.making import key_pem, leaf_of, new_key, request_pem
from slmgate.control.acme.service import Automatic, Failed, Order
from slmgate.control.acme.timing import AWAY_FIRST, HOUR, REFUSED_FIRST, TRIES_AN_HOUR
from slmgate.control.config import Config, load_text
from slmgate.control.config.tls_options import ServerCertificate

ONE, TWO = "one.example.com", "two.example.com"
DAY = 86_400.0


def config(*domains: str, plain: bool = True, extra: str = "") -> Config:
    listeners = f"- address: 127.0.0.1:{80 if plain else 8080}\n"
    text = f"""\
listen:
{listeners}- address: 127.0.0.1:8443
  tls:
    acme: {{domains: [{", ".join(domains)}], agree_to_terms: true{extra}}}
models: {{tiny: {{instances: [{{url: "http://127.0.0.1:8000"}}]}}}}
"""
    loaded = load_text(text, "slmgate.yaml", Path("/"))
    assert loaded.config is not None, loaded.faults
    return loaded.config


class World:
    """An authority that says what the test says, and the time."""

    def __init__(self, home: Path) -> None:
        self.now = 1_800_000_000.0
        self.home = home
        self.said: list[str] = []
        self.complained: list[str] = []
        self.orders: list[Order] = []
        self.answer: Failed | Exception | None = None  # None: a certificate
        self.lifetime = 90 * DAY
        self.automatic = self.begin()

    def begin(self) -> Automatic:
        """A control process, as after a restart."""
        made = Automatic(self.home, self.issue, self.said.append, self.complained.append, lambda: self.now)
        self.automatic = made
        return made

    def issue(self, order: Order) -> bytes | Failed:
        self.orders.append(order)
        order.keep(Account(key="k", uri="https://acme/1"))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or certificate(order.domain, self.now, self.lifetime)

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let the service look every `step` seconds."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + step)
            asyncio.run(self.automatic.step())

    def files(self) -> AcmeFiles:
        return AcmeFiles(self.home, "https://acme-v02.api.letsencrypt.org/directory", self.complained.append)


def certificate(domain: str, now: float, lifetime: float) -> bytes:
    """As an authority would give it, with its key."""
    from datetime import UTC, datetime, timedelta

    made = trustme.CA().issue_cert(
        domain,
        not_before=datetime.fromtimestamp(now, UTC),
        not_after=datetime.fromtimestamp(now, UTC) + timedelta(seconds=lifetime),
        key_type=trustme.KeyType.ECDSA,
    )
    key = made.private_key_pem.bytes()
    if b"BEGIN PRIVATE KEY" not in key:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = key_pem(load_pem_private_key(key, None))  # type: ignore[arg-type]  # it is an ECDSA key
    return b"".join(one.bytes() for one in made.cert_chain_pems) + key


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "acme")


def paths(configured: Config) -> list[str]:
    return [own.cert.name for listen in configured.listen if listen.tls for own in listen.tls.certificates]


def test_a_name_has_a_placeholder_until_its_certificate_is_here(world: World) -> None:
    expanded = world.automatic.configure(config(ONE))
    assert paths(expanded) == [f"{ONE}.pem"]
    path = world.files().certificate_path(ONE)
    assert leaf_of(path.read_bytes()).placeholder
    assert [(one.names, one.state, one.issuer) for one in world.automatic.statuses()] == [((ONE,), "waiting", "")]
    world.pass_time(1)
    assert not leaf_of(path.read_bytes()).placeholder
    status = world.automatic.statuses()[0]
    assert (status.state, status.error, status.source) == ("valid", "", "acme-v02.api.letsencrypt.org")
    assert [order.domain for order in world.orders] == [ONE] and len(world.said) == 2
    assert f"no certificate for {ONE} yet" in world.said[0] and f"for {ONE} is here" in world.said[1]


def test_a_configuration_without_it_is_left_as_it_is(world: World) -> None:
    plain = load_text('models: {tiny: {instances: [{url: "http://127.0.0.1:8000"}]}}', "x", Path("/")).config
    assert plain is not None and world.automatic.configure(plain) is plain
    world.pass_time(3)
    assert world.orders == [] and not world.home.exists() and world.automatic.statuses() == []


def test_certificates_of_the_configuration_come_first(world: World) -> None:
    loaded = config(ONE)
    tls = loaded.listen[1].tls
    assert tls is not None
    own = ServerCertificate(cert=Path("/own.pem"), key=Path("/own.key"))
    mixed = structs.replace(loaded, listen=(structs.replace(loaded.listen[1], tls=structs.replace(tls, certificates=(own,))),))
    assert paths(world.automatic.configure(mixed)) == ["own.pem", f"{ONE}.pem"]


def test_a_restart_uses_what_is_stored(world: World) -> None:
    world.automatic.configure(config(ONE, TWO))
    world.pass_time(5)
    assert [order.domain for order in world.orders] == [ONE, TWO]
    world.begin().configure(config(ONE, TWO))
    world.pass_time(5)
    assert len(world.orders) == 2
    assert world.orders[1].account == Account(key="k", uri="https://acme/1"), "the account that the first order made"


def test_renewed_at_two_thirds_and_not_before(world: World) -> None:
    world.automatic.configure(config(ONE))
    world.pass_time(1)
    world.pass_time(59.9 * DAY, step=DAY / 10)
    assert len(world.orders) == 1
    world.pass_time(3.2 * DAY, step=DAY / 10)
    assert len(world.orders) == 2
    assert world.automatic.statuses()[0].state == "valid"


def test_no_order_before_workers_can_answer(world: World) -> None:
    world.automatic.can_answer = lambda: False
    world.automatic.configure(config(ONE))
    world.pass_time(20)
    assert world.orders == []
    world.automatic.can_answer = lambda: True
    world.pass_time(1)
    assert len(world.orders) == 1


def test_a_refusal_is_told_and_tried_again_ever_more_seldom(world: World) -> None:
    world.answer = Failed("refused", "port 80 must lead here")
    world.automatic.configure(config(ONE))
    world.pass_time(REFUSED_FIRST)
    assert len(world.orders) == 1
    assert world.complained[-1].startswith(f"no certificate for {ONE}: port 80 must lead here; next try 20")
    assert world.automatic.troubles == [f"no certificate for {ONE}: port 80 must lead here"]
    status = world.automatic.statuses()[0]
    assert status.error == "port 80 must lead here" and status.error_at is not None and status.next_try is not None
    world.pass_time(HOUR, step=10)
    assert 3 <= len(world.orders) <= TRIES_AN_HOUR + 1
    world.answer = None
    world.pass_time(7 * HOUR, step=30)
    assert world.automatic.statuses()[0].error == "" and world.automatic.troubles == []


def test_ways_to_be_checked_are_tried_in_turn(world: World) -> None:
    world.answer = Failed("refused", "no")
    world.automatic.configure(config(ONE))
    world.pass_time(4 * REFUSED_FIRST)
    assert [order.challenge for order in world.orders[:3]] == ["tls-alpn-01", "http-01", "tls-alpn-01"]
    world.orders.clear()
    world.automatic.configure(config(TWO, plain=False))
    world.pass_time(4 * REFUSED_FIRST)
    assert {order.challenge for order in world.orders} == {"tls-alpn-01"}
    world.orders.clear()
    world.automatic.configure(config("three.example.com", extra=", challenges: http-01"))
    world.pass_time(4 * REFUSED_FIRST)
    assert {order.challenge for order in world.orders} == {"http-01"}


def test_an_authority_that_is_away_is_asked_again_soon(world: World) -> None:
    world.answer = Failed("away", "cannot be reached")
    world.automatic.configure(config(ONE))
    world.pass_time(1 + AWAY_FIRST)
    assert len(world.orders) == 2
    world.answer = None
    world.pass_time(2 * AWAY_FIRST + 1)
    assert world.automatic.statuses()[0].state == "valid"


def test_what_the_authority_asks_to_wait_for_is_waited_for(world: World) -> None:
    world.answer = Failed("refused", "rate limited", 3 * HOUR)
    world.automatic.configure(config(ONE))
    world.pass_time(3 * HOUR, step=10)
    assert len(world.orders) == 1
    world.begin().configure(config(ONE))  # nor does a restart ask sooner
    world.pass_time(60)
    assert len(world.orders) == 2


def test_a_gate_that_is_restarted_again_and_again_asks_no_more_often(world: World) -> None:
    world.answer = ConnectionResetError("the process was killed in the middle")
    for _ in range(40):
        world.begin().configure(config(ONE))
        world.automatic._failed = lambda *_: None  # type: ignore[method-assign]  # it did not come to that
        world.pass_time(3)
    assert len(world.orders) == TRIES_AN_HOUR


def test_one_name_that_is_refused_stands_in_no_others_way(world: World) -> None:
    world.answer = Failed("refused", "no")
    world.automatic.configure(config(ONE, TWO))
    world.pass_time(1)
    world.answer = None
    world.pass_time(2)
    assert [one.state for one in world.automatic.statuses()] == ["waiting", "valid"]


def test_a_fault_of_ours_is_a_failure_like_another(world: World) -> None:
    world.answer = RuntimeError("oh")
    world.automatic.configure(config(ONE))
    world.pass_time(60)
    assert len(world.orders) == 1 and "RuntimeError" in world.complained[-1]


@pytest.mark.parametrize("refused", [False, True])
def test_a_reload_while_an_order_is_under_way(world: World, refused: bool) -> None:
    """What comes of the order is known afterwards: it is not made twice, nor tried again sooner than after any refusal."""
    plain = world.issue

    def issue(order: Order) -> bytes | Failed:
        if len(world.orders) == 0:
            world.automatic.configure(config(ONE, TWO))
        return plain(order)

    world.issue = issue  # type: ignore[method-assign]  # for this one
    world.begin().configure(config(ONE))
    world.answer = Failed("refused", "no") if refused else None
    asyncio.run(world.automatic.step())
    world.answer = None
    status = {one.names[0]: one for one in world.automatic.statuses()}[ONE]
    assert (status.state, status.error) == (("waiting", "no") if refused else ("valid", ""))
    world.pass_time(60)
    assert [order.domain for order in world.orders] == [ONE, TWO]


def test_a_name_that_goes_and_comes_back_while_its_order_is_under_way(world: World) -> None:
    """Two edits of the file within one order, which takes up to minutes: what comes of it is still this name's."""
    plain = world.issue

    def issue(order: Order) -> bytes | Failed:
        if len(world.orders) == 0:
            world.automatic.configure(config(TWO))
            world.automatic.configure(config(ONE, TWO))
        return plain(order)

    world.issue = issue  # type: ignore[method-assign]  # for this one
    world.begin().configure(config(ONE))
    asyncio.run(world.automatic.step())
    assert [(one.names[0], one.state) for one in world.automatic.statuses()] == [(ONE, "valid"), (TWO, "waiting")]
    world.pass_time(60)
    assert [order.domain for order in world.orders] == [ONE, TWO]


def test_a_certificate_that_is_due_as_it_comes_is_not_asked_for_at_once(world: World) -> None:
    """By a clock that is months ahead, or from an authority that gives old ones.

    It is shown, since clients may have the right time, and asked for ever more seldom, since authorities count what they give.
    """
    world.automatic.configure(config(ONE))
    world.lifetime = 90 * DAY
    plain = world.issue

    def issue(order: Order) -> bytes | Failed:
        now, world.now = world.now, world.now - 120 * DAY  # the authority's clock
        try:
            return plain(order)
        finally:
            world.now = now

    world.automatic._issue = issue
    world.pass_time(1)
    assert not leaf_of(world.files().certificate_path(ONE).read_bytes()).placeholder
    status = world.automatic.statuses()[0]
    assert status.state == "expired"
    assert "due for renewal as it comes" in status.error and "clock" in status.error
    assert world.complained[-1].startswith(f"no certificate for {ONE}: the one that came is due")
    world.pass_time(DAY, step=60.0)
    assert len(world.orders) < 15
    world.automatic._issue = plain
    world.pass_time(DAY, step=600.0)
    status = world.automatic.statuses()[0]
    assert (status.state, status.error) == ("valid", "")


def test_a_broken_certificate_is_got_anew(world: World) -> None:
    world.automatic.configure(config(ONE))
    world.pass_time(1)
    path = world.files().certificate_path(ONE)
    path.write_bytes(path.read_bytes()[:200])
    world.begin().configure(config(ONE))
    assert leaf_of(path.read_bytes()).placeholder and "moved to" in world.complained[-1]
    world.pass_time(1)
    assert len(world.orders) == 2 and not leaf_of(path.read_bytes()).placeholder


def test_an_account_that_is_lost_is_made_anew(world: World) -> None:
    world.automatic.configure(config(ONE))
    world.pass_time(1)
    (world.files().folder / "account.json").write_bytes(b"{")
    world.pass_time(63 * DAY, step=DAY / 10)
    assert world.orders[1].account is None
    assert world.files().account() is not None


def test_an_expired_certificate_is_renewed_at_once_and_shown_until_then(world: World) -> None:
    world.automatic.configure(config(ONE))
    world.pass_time(1)
    world.now += 100 * DAY
    world.begin().configure(config(ONE))
    assert world.automatic.statuses()[0].state == "expired"
    world.answer = Failed("away", "no")
    world.pass_time(1)
    assert not leaf_of(world.files().certificate_path(ONE).read_bytes()).placeholder


def test_what_stands_in_for_a_certificate_is_made_anew_before_it_ends(world: World) -> None:
    world.automatic.can_answer = lambda: False
    world.automatic.configure(config(ONE))
    path = world.files().certificate_path(ONE)
    first = path.read_bytes()
    world.pass_time(5.5 * DAY, step=DAY / 4)
    assert path.read_bytes() == first
    world.pass_time(1.4 * DAY, step=DAY / 4)
    assert path.read_bytes() != first and leaf_of(path.read_bytes()).placeholder


def test_nothing_is_asked_for_that_cannot_be_written_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.automatic.configure(config(ONE))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AcmeFiles, "keep_tries", full)
    world.pass_time(60)
    assert world.orders == [] and any("No space left" in line for line in world.complained)
    assert len(world.complained) <= 2, "and it is not said each second"
    monkeypatch.undo()
    world.pass_time(2 * REFUSED_FIRST)
    assert world.automatic.statuses()[0].state == "valid"


def test_a_state_directory_that_cannot_be_written_is_told(world: World) -> None:
    world.home.parent.joinpath("acme").write_text("a file in the folder's place")
    world.automatic.configure(config(ONE))
    assert any("cannot be written" in line for line in world.complained)
    world.pass_time(60)
    assert world.orders == [] and len(world.complained) <= 4, "and it is not said each second"


def test_a_name_that_is_not_configured_any_more_is_not_renewed(world: World) -> None:
    world.automatic.configure(config(ONE, TWO))
    world.pass_time(3)
    world.automatic.configure(config(TWO))
    world.pass_time(63 * DAY, step=DAY / 10)
    assert [order.domain for order in world.orders].count(ONE) == 1
    world.now += DAY
    world.automatic.configure(config(ONE, TWO))  # what was stored is used
    assert not leaf_of(world.files().certificate_path(ONE).read_bytes()).placeholder


def test_its_repr_names_what_it_cares_for(world: World) -> None:
    world.automatic.configure(config(ONE))
    assert ONE in repr(world.automatic) and "acme" in repr(world.files())


def test_the_certificate_in_these_tests_is_like_an_authoritys() -> None:
    leaf = leaf_of(certificate(ONE, 1_800_000_000.0, DAY))
    assert leaf.names == (ONE,) and not leaf.placeholder and request_pem(new_key(), ONE)
