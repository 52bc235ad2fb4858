"""What is said of instances at run time: drained, added, removed; kept in the store and merged into each configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slmgate.control.config import Config, compile_snapshot, load_text
from slmgate.control.roster import BadInstance, InstanceOfFile, InstanceTaken, Roster, UnknownInstance
from slmgate.stores.instances import InstanceRecord
from slmgate.stores.records import AuditRecord, LedgerUnavailable
from slmgate.stores.sql import SqlStore, open_store
from slmgate.stores.sql_instances import SqlInstances

CONFIG = load_text('models: {m: {instances: [{url: "http://a:1"}]}, n: {instances: [{url: "http://b:1"}]}}').unwrap()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path / "ledger")
    yield store
    store.close()


Open = Callable[[], Roster]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(store: SqlStore, said: list[str]) -> Open:
    def opened() -> Roster:
        """A roster as control has it after a start."""
        roster = Roster(store.instances, said.append, {"KEY": "secret"})
        roster.config = lambda: roster.expand(CONFIG)
        roster.on_change = lambda: said.append("changed")
        return roster

    return opened


def ids(config: Config, drained: frozenset[str] = frozenset()) -> list[str]:
    specs = [one for model in compile_snapshot(config, 1, drained).models for one in model.instances]
    return [one.id + (" draining" if one.draining else "") for one in specs]


def test_a_drain_is_kept(opened: Open, said: list[str], store: SqlStore) -> None:
    roster = opened()
    roster.drain("m/a:1", "ann")
    roster.drain("m/a:1", "ann")
    assert said == ["changed"] and roster.drained == {"m/a:1"}
    assert ids(roster.expand(CONFIG), roster.drained) == ["m/a:1 draining", "n/b:1"]
    assert opened().drained == {"m/a:1"}
    roster.enable("m/a:1", "bob")
    assert opened().drained == frozenset() and store.instances.all() == []
    lines = [(line.actor, line.action, line.target) for line in store.audit(9)]
    assert lines == [("bob", "instance.enable", "m/a:1"), ("ann", "instance.drain", "m/a:1")]


def test_added_ones_stand_beside_those_of_the_file(opened: Open, said: list[str], store: SqlStore) -> None:
    roster = opened()
    assert roster.add("m", {"url": "http://c:1", "weight": 2, "bearer": "${env:KEY}"}, "ann") == "m/c:1"
    assert ids(roster.expand(CONFIG)) == ["m/a:1", "m/c:1", "n/b:1"]
    assert ids(opened().expand(CONFIG)) == ["m/a:1", "m/c:1", "n/b:1"]
    made = roster.expand(CONFIG).models["m"].instances[1]
    assert (made.weight, str(made.bearer)) == (2, "secret")
    assert [roster.source("m", one) for one in roster.expand(CONFIG).models["m"].instances] == ["file", "added"]
    assert "secret" not in repr(store.audit(9)) and "${env:KEY}" in store.audit(9)[0].detail["options"]
    roster.drain("m/c:1", "ann")
    assert ids(opened().expand(CONFIG), opened().drained) == ["m/a:1", "m/c:1 draining", "n/b:1"]
    roster.enable("m/c:1", "ann")
    assert ids(opened().expand(CONFIG), opened().drained) == ["m/a:1", "m/c:1", "n/b:1"]
    roster.remove("m/c:1", "ann")
    assert ids(roster.expand(CONFIG)) == ["m/a:1", "n/b:1"] and store.instances.all() == []
    assert said == ["changed"] * 4


def test_the_file_goes_before_what_was_added(opened: Open) -> None:
    roster = opened()
    roster.add("m", {"url": "http://c:1", "weight": 2}, "ann")
    both = load_text('models: {m: {instances: [{url: "http://c:1", weight: 7}]}}').unwrap()
    assert roster.expand(both) == both
    assert roster.source("m", both.models["m"].instances[0]) == "file"
    without = load_text('models: {n: {instances: [{url: "http://c:1"}]}}').unwrap()
    assert roster.expand(without) == without, "its model is not configured"


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("mm", {"url": "http://c:1"}, UnknownInstance, "There is no model 'mm'; did you mean m?"),
        ("zzz", {"url": "http://c:1"}, UnknownInstance, "There is no model 'zzz'."),
        ("m", {"url": "http://a:1"}, InstanceTaken, "m/a:1 is an instance of m already."),
        ("m", {"url": "c:1"}, BadInstance, "url: 'c:1' has no scheme (write http:// or https:// in front)"),
        ("m", {"url": "http://c:1", "bearer": "${env:NO}"}, BadInstance, "bearer: '${env:NO}' needs the environment variable NO"),
        ("m", {"url": "http://127.0.0.1:8080"}, BadInstance, "http://127.0.0.1:8080 is the gate itself"),
    ],
)
def test_what_cannot_be_added(
    opened: Open, store: SqlStore, model: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        opened().add(model, options, "ann")
    assert str(caught.value).startswith(message)
    assert store.instances.all() == [] and store.audit(9) == []


def test_added_once_only(opened: Open) -> None:
    roster = opened()
    roster.add("m", {"url": "http://c:1"}, "ann")
    with pytest.raises(InstanceTaken):
        roster.add("m", {"url": "http://c:1"}, "ann")
    assert roster.add("n", {"url": "http://c:1"}, "ann") == "n/c:1"


@pytest.mark.parametrize("change", ["drain", "enable", "remove"])
def test_one_that_is_not_there(opened: Open, change: str) -> None:
    with pytest.raises(UnknownInstance, match="There is no instance 'm/a:2'; did you mean m/a:1"):
        getattr(opened(), change)("m/a:2", "ann")


def test_those_of_the_file_are_not_removed(opened: Open) -> None:
    roster = opened()
    for _ in range(2):
        with pytest.raises(InstanceOfFile, match=r"m/a:1 stands in the configuration: drain it .* or take that out of the file"):
            roster.remove("m/a:1", "ann")
        roster.drain("m/a:1", "ann")


def test_one_that_cannot_be_used_any_more(opened: Open, said: list[str], store: SqlStore) -> None:
    opened().add("m", {"url": "http://c:1", "bearer": "${env:KEY}"}, "ann")
    roster = Roster(store.instances, said.append, {})
    assert said[1].startswith("the instance m/c:1, which was added at run time, cannot be used: bearer: '${env:KEY}' needs the")
    assert ids(roster.expand(CONFIG)) == ["m/a:1", "n/b:1"]
    roster.remove("m/c:1", "ann")
    assert store.instances.all() == []


def test_a_drain_ends_with_an_address_that_was_found(opened: Open, store: SqlStore) -> None:
    roster = opened()
    found = load_text('models: {m: {instances: [{dns: x.example, port: 1}, {url: "http://f:1"}]}}').unwrap()
    roster.discovered, roster.found_by = lambda _: found, {"m/f:1": "dns:x.example"}.get
    roster.config = lambda: roster.expand(CONFIG)
    assert roster.source("m", roster.config().models["m"].instances[1]) == "dns:x.example"
    with pytest.raises(InstanceOfFile, match=r"m/f:1 is there because of dns:x\.example in the configuration"):
        roster.remove("m/f:1", "ann")
    roster.drain("m/f:1", "ann")
    roster.add("m", {"url": "http://c:1"}, "ann")
    roster.drain("m/c:1", "ann")
    roster.gone(["m/f:1", "m/c:1", "m/other:1"])
    assert roster.drained == opened().drained == {"m/c:1"}, "what was added is not found, and stays as it is"
    assert (store.audit(1)[0].actor, store.audit(1)[0].action, store.audit(1)[0].target) == ("slmgate", "instance.gone", "m/f:1")


def test_a_drain_ends_with_its_address_while_the_ledger_is_away(
    opened: Open, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the address next is not drained; and the store hears of it later, unless it was drained anew."""
    roster = opened()
    for id in ("m/a:1", "n/b:1"):
        roster.drain(id, "ann")

    def away(*_: object) -> None:
        raise LedgerUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(SqlInstances, "remove", away)
        with pytest.raises(LedgerUnavailable):
            roster.gone(["m/a:1", "n/b:1"])
        with pytest.raises(LedgerUnavailable):
            roster.catch_up()
    assert roster.drained == frozenset() and opened().drained == {"m/a:1", "n/b:1"}
    roster.drain("n/b:1", "bob")  # the one that has the address now
    roster.catch_up()
    assert roster.drained == opened().drained == {"n/b:1"}
    assert (store.audit(1)[0].action, store.audit(1)[0].target) == ("instance.gone", "m/a:1")


def test_a_change_that_cannot_be_written_is_none(opened: Open, store: SqlStore, said: list[str]) -> None:
    roster = opened()

    class Broken:
        def all(self) -> list[InstanceRecord]:
            return []

        def save(self, record: InstanceRecord, audit: AuditRecord) -> None:
            raise OSError

        def remove(self, id: str, audit: AuditRecord) -> None:
            raise OSError

    roster = Roster(Broken())
    roster.config = lambda: CONFIG
    with pytest.raises(OSError):
        roster.drain("m/a:1", "ann")
    assert roster.drained == frozenset()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://169.254.169.254",
            "https://169.254.169.254:443",
            "http://[fe80::1]:80",
            "http://[fd00:ec2::254]",
            "http://[fd20:ce::254]",
        ),
        *("http://100.100.100.200", "http://168.63.129.16", "http://192.0.0.192"),
        *(
            "http://[::ffff:169.254.169.254]",
            "http://[::ffff:a9fe:a9fe]",
            "http://[64:ff9b::a9fe:a9fe]",
            "http://[2002:a9fe:a9fe::]",
        ),
        *(
            "http://2852039166",
            "http://0xa9fea9fe",
            "http://0xA9.0xFE.0xA9.0xFE",
            "http://0251.0376.0251.0376",
            "http://169.254.43518",
        ),
        *(
            "http://169.254.169.254.",
            "http://1",
            "http://0",
            "http://0.0.0.0:80",
            "http://[::]:80",
            "http://224.0.0.1",
            "http://255.255.255.255",
        ),
        *(
            "http://127.0.0.1:8081",
            "http://127.1",
            "http://2130706433",
            "http://0x7f000001",
            "http://017700000001",
            "http://[::1]:8081",
        ),
        *("http://[::ffff:127.0.0.1]:8081", "http://[0:0:0:0:0:ffff:7f00:1]"),
        *(
            "http://user:pass@10.0.0.5",
            "http://10.0.0.5@169.254.169.254",
            "http://169.254.169.254#@10.0.0.5",
            "http://10.0.0.5/../x",
        ),
        *(
            "http://10.0.0.5\\@169.254.169.254",
            "http://10.0.0.5%00.test",
            "http://10.0.0.5\r\nX-Secret: 1",
            "http://10.0.0.5:80\r\n",
        ),
        *(
            "http://10.0.0.5 .test",
            "http://10.0.0.5?x=1",
            "http://10.0.0.5:99999",
            "http://\uff11\uff16\uff19.254.169.254",
            "http://a\u3002test",
        ),
        *(
            "file:///etc/passwd",
            "gopher://10.0.0.5:70/_x",
            "ftp://10.0.0.5",
            "dict://10.0.0.5:11211",
            "unix:///run/x.sock",
            "//10.0.0.5",
            "",
        ),
        *(
            "//10.0.0.5",
            "http:10.0.0.5",
            "http:/10.0.0.5",
            "javascript:1",
            "http://",
            "https://:443",
            "http://[::1",
            "http://[v1.a]:80",
        ),
    ],
)
def test_where_no_instance_may_be(opened: Open, said: list[str], store: SqlStore, url: str) -> None:
    """In whatever spelling; it is refused before anything is kept, told or looked up."""
    with pytest.raises(BadInstance):
        opened().add("m", {"url": url}, "ann")
    assert said == [] and store.instances.all() == [] and store.audit(9) == []


def test_what_the_configuration_allows(store: SqlStore) -> None:
    text = 'models: {m: {instances: [{url: "http://a:1"}]}}\ndiscovery: {loopback: %s, networks: %s}'
    roster = Roster(store.instances)
    roster.config = lambda: roster.expand(load_text(text % ("true", "[10.1.0.0/16]")).unwrap())
    assert roster.add("m", {"url": "http://127.0.0.1:8000"}, "ann") == "m/127.0.0.1:8000"
    assert roster.add("m", {"url": "http://10.1.0.5:8000"}, "ann") == "m/10.1.0.5:8000"
    with pytest.raises(BadInstance, match=r"http://10.2.0.5:8000 is in none of discovery.networks; add its network there"):
        roster.add("m", {"url": "http://10.2.0.5:8000"}, "ann")
    with pytest.raises(BadInstance, match="is where no instance may be"):
        roster.add("m", {"url": "http://169.254.169.254"}, "ann")
    assert roster.add("m", {"url": "http://vllm.test:8000"}, "ann") == "m/vllm.test:8000"
    assert roster.added == {"m/127.0.0.1:8000", "m/10.1.0.5:8000", "m/vllm.test:8000"}
