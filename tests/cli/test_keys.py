"""`slmgate keys`, over the store itself: what is printed where, and how it ends."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from slmgate.cli import keys
from tests.tools.command import run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_secret_is_alone_on_stdout() -> None:
    made = run("keys", "create", "--name", "bot", "--team", "acme", "--expires", "30d")
    assert made.exit_code == 0
    assert made.stdout.count("\n") == 1
    assert made.stdout.startswith("sk-slm-")
    assert "bot" in made.stderr
    assert made.stdout.strip() not in made.stderr


def test_a_keys_life() -> None:
    issued = json.loads(run("keys", "create", "--name", "a/b", "--json").stdout)
    id = issued["key"]["id"]
    assert "a/b" in run("keys", "list").stdout
    assert json.loads(run("keys", "list", "--json").stdout)["keys"] == [issued["key"]]
    assert "never" in run("keys", "show", "a/b").stdout
    assert run("keys", "rotate", "a/b", "--overlap", "24h").stdout.startswith(f"sk-slm-{id}-")
    old, new = json.loads(run("keys", "show", id, "--json").stdout)["secrets"]
    assert old["created"] <= new["created"] < old["until"]
    assert new["until"] is None
    assert "until 20" in run("keys", "show", id).stdout
    assert "disabled" in run("keys", "disable", "a/b").stdout
    assert "active" in run("keys", "enable", id).stdout
    assert "revoked" in run("keys", "revoke", "a/b").stdout
    assert issued["secret"] not in run("keys", "list", "--json").stdout


def test_an_edit() -> None:
    run("keys", "create", "--name", "bot", "--owner", "jane", "--role", "a", "--role", "b", "--tag", "t", "--network", "::1")
    shown = run("keys", "show", "bot").stdout
    for line in ("owner    jane", "roles    a, b", "tags     t", "networks ::1/128", "used     never"):
        assert line in shown
    edited = run(
        "keys", "edit", "bot", "--team", "acme", "--role", "c", "--clear", "owner", "--clear", "networks", "--expires", "3d"
    )
    assert edited.exit_code == 0
    for line in ("owner    -", "team     acme", "roles    c", "tags     t", "networks anywhere", "expires  20"):
        assert line in edited.stdout
    assert "expires  never" in run("keys", "edit", "bot", "--clear", "expires").stdout
    assert json.loads(run("keys", "edit", "bot", "--tag", "u", "--json").stdout)["tags"] == ["u"]


RAISED = "{limit: 4 concurrent, raised: {to: 8 concurrent, until: 2030-01-01T00:00:00Z}}"


def test_limits() -> None:
    made = run("keys", "create", "--name", "bot", "--limit", "60/minute", "--limit", RAISED, "--json")
    assert json.loads(made.stdout)["key"]["limits"] == ["60 requests/minute", RAISED]
    assert f"limits   60 requests/minute; {RAISED}" in run("keys", "show", "bot").stdout
    assert json.loads(run("keys", "list", "--json").stdout)["keys"][0]["limits"] == ["60 requests/minute", RAISED]
    assert "limits   60 requests/minute; {" in run("keys", "edit", "bot", "--owner", "jane").stdout
    assert "limits   2M tokens/month\n" in run("keys", "edit", "bot", "--limit", "2M tokens/month").stdout
    assert "limits   -" in run("keys", "edit", "bot", "--clear", "limits").stdout
    for command in (("create", "--name", "x"), ("edit", "bot")):
        refused = run("keys", *command, "--limit", "60 per minute")
        assert (refused.exit_code, "write 60 requests/minute" in refused.stderr) == (2, True)
    assert len(json.loads(run("keys", "list", "--json").stdout)["keys"]) == 1


def test_lists() -> None:
    for number in range(3):
        run("keys", "create", "--name", f"bot-{number}", "--owner", f"o{number % 2}", "--tag", f"t{number}")
    run("keys", "disable", "bot-2")
    assert [word for word in ("bot-0", "bot-1", "bot-2") if word in run("keys", "list", "--owner", "o0").stdout] == [
        "bot-0",
        "bot-2",
    ]
    assert [word for word in ("bot-0", "bot-1", "bot-2") if word in run("keys", "list", "--state", "disabled").stdout] == [
        "bot-2"
    ]
    assert [word for word in ("bot-0", "bot-1", "bot-2") if word in run("keys", "list", "--tag", "t1").stdout] == ["bot-1"]
    assert [word for word in ("bot-0", "bot-1", "bot-2") if word in run("keys", "list", "--search", "BOT-1").stdout] == ["bot-1"]
    first = run("keys", "list", "--limit", "2")
    assert ("bot-1" in first.stdout, "bot-2" in first.stdout, "--after" in first.stderr) == (True, False, True)
    page = json.loads(run("keys", "list", "--limit", "2", "--json").stdout)
    rest = run("keys", "list", "--after", page["next"])
    assert ("bot-1" in rest.stdout, "bot-2" in rest.stdout, rest.stderr) == (False, True, "")


def test_a_list_of_several_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "PAGE", 2)
    for number in range(5):
        run("keys", "create", "--name", f"k{number}")
    assert [key["name"] for key in json.loads(run("keys", "list", "--json").stdout)["keys"]] == ["k0", "k1", "k2", "k3", "k4"]
    lines = run("keys", "export").stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["k0", "k1", "k2", "k3", "k4"]


@pytest.mark.parametrize("form", [(), ("--csv",)])
def test_out_and_in_again(form: tuple[str, ...], tmp_path: Path) -> None:
    limits = ("--limit", "60/minute", "--limit", RAISED)
    secret = run("keys", "create", "--name", "=bot", "--role", "a", "--role", "b", *limits).stdout.strip()
    run("keys", "create", "--name", "gone")
    run("keys", "revoke", "gone")
    file = tmp_path / "keys"
    file.write_text(run("keys", "export", *form).stdout)
    assert secret not in file.read_text()
    assert "gone" not in file.read_text()
    again = run("keys", "import", str(file))
    assert (again.exit_code, "is the key" in again.stderr) == (2, True)
    (tmp_path / "slmgate-data").rename(tmp_path / "old")
    done = run("keys", "import", str(file))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "1 keys imported\n")
    assert "roles    a, b" in run("keys", "show", "=bot").stdout
    assert run("keys", "export", *form).stdout == file.read_text()


def test_an_import_that_makes_secrets(tmp_path: Path) -> None:
    file = tmp_path / "keys.csv"
    file.write_text(f"name,hash\nold,sha256:{'0a' * 32}\nnew,\nother,\n")
    tried = run("keys", "import", str(file), "--dry-run")
    assert (tried.exit_code, tried.stdout, "3 keys could be imported" in tried.stderr) == (0, "", True)
    assert "old" not in run("keys", "list").stdout
    done = run("keys", "import", str(file))
    assert "2 with new secrets" in done.stderr
    head, *lines = done.stdout.splitlines()
    assert head == "id,name,secret"
    assert [line.split(",")[1] for line in lines] == ["new", "other"]
    id, _, secret = lines[0].split(",")
    assert secret.startswith(f"sk-slm-{id}-")
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert f'"sha256:{digest}"' in run("keys", "export").stdout


def test_secrets_go_to_a_file(tmp_path: Path) -> None:
    file, out = tmp_path / "keys.csv", tmp_path / "secrets.csv"
    file.write_text("name\nnew\n")
    done = run("keys", "import", str(file), "--secrets", str(out))
    assert (done.exit_code, done.stdout) == (0, "")
    assert out.read_text().startswith("id,name,secret\n")
    assert out.stat().st_mode & 0o777 == 0o600
    again = run("keys", "import", str(file), "--secrets", str(out))
    assert (again.exit_code, "give a new file" in again.stderr) == (2, True)
    other = tmp_path / "other.csv"
    assert run("keys", "import", str(file), "--secrets", str(other)).exit_code == 2  # the name is taken
    assert not other.exists()
    file.write_text("name\nnewer\n")
    told = json.loads(run("keys", "import", str(file), "--json").stdout)
    assert (told["count"], [made["name"] for made in told["secrets"]]) == (1, ["newer"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "none"), 1, "keys list"),
        (("revoke", "none"), 1, "keys list"),
        (("create", "--name", "bot"), 1, "choose another"),
        (("create", "--name", " "), 2, "space"),
        (("create", "--name", "x", "--expires", "soon"), 2, "not a time"),
        (("create",), 2, "--name"),
        (("create", "--name", "x", "--network", "10.0.0.1/8"), 2, "prefix"),
        (("create", "--name", "x", "--tag", "a b"), 2, "tag"),
        (("edit", "bot"), 2, "nothing to change"),
        (("edit", "bot", "--owner", "x", "--clear", "owner"), 2, "which is it"),
        (("edit", "bot", "--clear", "name"), 2, "--clear"),
        (("edit", "none", "--owner", "x"), 1, "keys list"),
        (("edit", "gone", "--owner", "x"), 1, "cannot be undone"),
        (("list", "--state", "junk"), 2, "active"),
        (("import", "none.csv"), 2, "cannot be read"),
        (("import", "binary"), 2, "UTF-8"),
        (("import", "bad.csv"), 2, "line 1"),
        (("rotate", "bot", "--overlap", "1"), 2, "not a duration"),
        (("enable", "gone"), 1, "cannot be undone"),
        (("rotate", "gone"), 1, "cannot be undone"),
    ],
)
def test_refusals(words: tuple[str, ...], code: int, message: str) -> None:
    Path("binary").write_bytes(b"\xff")
    Path("bad.csv").write_text("nme\n")
    run("keys", "create", "--name", "bot")
    run("keys", "create", "--name", "gone")
    run("keys", "revoke", "gone")
    ended = run("keys", *words)
    assert ended.exit_code == code
    assert message in ended.stderr
    assert ended.stdout == ""
