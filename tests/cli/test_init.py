"""`slmgate init`: the file that it writes, what it refuses, and the first admin key.

The probe is replaced by its answers; its own tests are `tests/control/test_probe.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from slmgate.cli import init
from slmgate.control.config import Config, load, load_text
from slmgate.control.probe import Probe, ProbeError
from tests.tools.authority import Authority

URL = "http://10.0.0.5:8000"
ONE = Probe(URL, "vllm", ("HuggingFaceTB/SmolLM2-135M-Instruct",), "0.11.0", "its model list is vLLM's")
TWO = Probe(URL, "ollama", ("llama3.2:latest", "gemma3:1b"), "0.12.6", "it says so")
PATH = Probe(URL, "llamacpp", ("/models/SmolLM2.Q4_1.gguf",), None, "its model list says llama.cpp")
NONE = Probe(URL, "vllm", (), "0.11.0", "/version is vLLM's")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own and a stand-in for the maker of admin keys."""
    monkeypatch.chdir(tmp_path)
    operators = ModuleType("slmgate.control.operators")

    def create_first_admin_key(state_dir: Path) -> str | None:
        path = state_dir / "admin.key"
        state_dir.mkdir(exist_ok=True)
        if path.exists():
            return None
        path.write_text("the-admin-secret")
        return "the-admin-secret"

    operators.create_first_admin_key = create_first_admin_key  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "slmgate.control.operators", operators)
    return tmp_path


def answer(monkeypatch: pytest.MonkeyPatch, *answers: Probe | ProbeError) -> None:
    queue = list(answers)

    async def probe(url: str, within: float, ca: str = "") -> Probe:
        found = queue.pop(0)
        if isinstance(found, ProbeError):
            raise found
        return found

    monkeypatch.setattr(init, "probe", probe)


def run(*arguments: str) -> Result:
    app = typer.Typer()
    init.register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["init", *arguments])


def written() -> Config:
    return load(Path("slmgate.yaml")).unwrap()


def test_the_file_and_the_key(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    answer(monkeypatch, ONE)
    result = run("--upstream", URL)
    assert result.exit_code == 0, result.output
    config = written()
    (instance,) = config.models["HuggingFaceTB/SmolLM2-135M-Instruct"].instances
    assert (str(instance.url), instance.engine, instance.upstream_model) == (URL, "vllm", None)
    assert (home / "slmgate-data" / "admin.key").is_file()
    assert "the-admin-secret" not in result.output
    assert "vllm 0.11.0 at http://10.0.0.5:8000: its model list is vLLM's" in result.stderr
    assert result.stdout.endswith("next:\n  slmgate serve\n  slmgate keys create --name me\n")
    assert all(len(line) < 120 for line in Path("slmgate.yaml").read_text().splitlines())


def test_an_authority_of_ones_own(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """It is written for the models that are reached over TLS; a file that is none is refused before anybody is asked."""
    authority = Authority(home / "it's")
    answer(monkeypatch, msgspec.structs.replace(ONE, url="https://10.0.0.5:8000"), PATH)
    result = run("--upstream", "https://10.0.0.5:8000", "--upstream", URL, "--ca", "it's/ca.pem")
    assert result.exit_code == 0, result.output
    secure, plain = written().models.values()
    assert secure.tls is not None and secure.tls.ca == authority.file
    assert plain.tls is None
    Path("slmgate.yaml").unlink()
    Path("text").write_text("no certificate")
    result = run("--upstream", URL, "--ca", "text")
    assert (result.exit_code, "text holds no certificate" in result.stderr, Path("slmgate.yaml").exists()) == (2, True, False)


def test_a_path_as_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, PATH)
    assert run("--upstream", URL).exit_code == 0
    assert written().models["SmolLM2.Q4_1"].instances[0].upstream_model == "/models/SmolLM2.Q4_1.gguf"


def test_all_models_of_several_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Probe("http://10.0.0.6:8000", "ollama", ("gemma3:1b",), None, "it says so")
    answer(monkeypatch, TWO, other)
    assert run("--upstream", URL, "--upstream", other.url).exit_code == 0
    assert {name: len(model.instances) for name, model in written().models.items()} == {"llama3.2:latest": 1, "gemma3:1b": 2}


@pytest.mark.parametrize(
    ("found", "model", "own"),
    [
        (TWO, "gemma3:1b", None),
        (ONE, "smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        (PATH, "SmolLM2.Q4_1", "/models/SmolLM2.Q4_1.gguf"),
        (NONE, "smollm2", None),
    ],
)
def test_one_model(monkeypatch: pytest.MonkeyPatch, found: Probe, model: str, own: str | None) -> None:
    answer(monkeypatch, found)
    assert run("--upstream", URL, "--model", model).exit_code == 0
    assert {name: each.instances[0].upstream_model for name, each in written().models.items()} == {model: own}


def test_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, TWO)
    result = run("--upstream", URL, "--model", "gpt")
    assert result.exit_code == 1
    assert "it has llama3.2:latest, gemma3:1b" in result.stderr
    answer(monkeypatch, NONE)
    assert run("--upstream", URL).exit_code == 1
    assert not Path("slmgate.yaml").exists()


def test_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, ProbeError("nothing answers at http://10.0.0.5:8000: is the server running?"))
    result = run("--upstream", URL)
    assert result.exit_code == 3
    assert "is the server running?" in result.stderr
    assert not Path("slmgate.yaml").exists()


def test_without_asking() -> None:
    assert run("--upstream", URL, "--engine", "tgi", "--model", "m").exit_code == 0
    assert written().models["m"].instances[0].engine == "tgi"


def test_another_engine_than_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, ONE)
    assert run("--upstream", URL, "--engine", "openai").exit_code == 0
    assert next(iter(written().models.values())).instances[0].engine == "openai"


def test_a_file_is_never_overwritten_unless_told() -> None:
    flags = ("--upstream", URL, "--engine", "tgi", "--model", "m")
    Path("slmgate.yaml").write_text("mine")
    result = run(*flags)
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert Path("slmgate.yaml").read_text() == "mine"
    assert run(*flags, "--force").exit_code == 0
    assert written()
    assert sorted(path.name for path in Path().iterdir()) == ["slmgate-data", "slmgate.yaml"]


def test_elsewhere(home: Path) -> None:
    (home / "etc").mkdir()
    words = ("--upstream", URL, "--engine", "tgi", "--model", "m", "--output", "etc/gate.yaml", "--listen", ":9000")
    refused = run(*words)
    assert refused.exit_code == 2 and "plain_http: true" in refused.stderr
    result = run(*words, "--plain-http")
    assert result.exit_code == 0
    assert "slmgate serve -c etc/gate.yaml" in result.stdout
    config = load(Path("etc/gate.yaml")).unwrap()
    assert str(config.listen[0].address) == ":9000"
    assert config.state_dir == home / "etc" / "slmgate-data"
    missing = run("--upstream", URL, "--engine", "tgi", "--model", "m", "--output", "none/gate.yaml")
    assert missing.exit_code == 2
    assert "cannot be written" in missing.stderr


def test_a_folder_that_may_not_be_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    def exists(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", exists)
    result = run("--upstream", URL, "--engine", "tgi", "--model", "m", "--output", "/else/gate.yaml")
    assert (result.exit_code, result.stderr) == (
        2, "/else/gate.yaml cannot be looked at: Permission denied; name another --output\n",
    )  # fmt: skip


def test_the_key_that_is_there_stays() -> None:
    flags = ("--upstream", URL, "--engine", "tgi", "--model", "m", "--force")
    assert "wrote" in run(*flags).stdout.splitlines()[1]
    assert run(*flags).stdout.splitlines()[1].startswith("kept")


def test_a_key_that_cannot_be_written(home: Path) -> None:
    (home / "slmgate-data").write_text("in the way")
    result = run("--upstream", URL, "--engine", "tgi", "--model", "m")
    assert result.exit_code == 1
    assert "admin.key cannot be written: File exists" in result.stderr


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--upstream", URL, "--engine", "gpt"),
        ("--upstream", "h:1", "--engine", "tgi", "--model", "m"),
        ("--upstream", URL, "--engine", "tgi", "--model", "a b"),
        ("--upstream", URL, "--engine", "tgi", "--model", "m", "--listen", "nowhere"),
        ("--upstream", URL, "--engine", "tgi", "--model", "m", "--listen", "127.0.0.1:8081"),
    ],
)
def test_wrong_flags_write_nothing(flags: tuple[str, ...]) -> None:
    assert run(*flags).exit_code == 2
    assert list(Path().iterdir()) == []


def test_asks_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def prompt(text: str, default: str) -> str:
        asked.append(text)
        return URL

    monkeypatch.setattr(init, "on_terminal", lambda: True)
    monkeypatch.setattr(typer, "prompt", prompt)
    assert run("--engine", "tgi", "--model", "m").exit_code == 0
    assert asked == ["URL of the running model server"]


@pytest.mark.parametrize("name", ["1.5", "true", "on", "a:b", "x", "null", "1e3", "0x1"])
def test_names_that_yaml_would_take_for_something_else(name: str) -> None:
    config = load_text(init.render(init.choose(Probe(URL, "vllm", (name,), None, ""), None), "127.0.0.1:1")).unwrap()
    assert list(config.models) == [name]


def test_a_server_cannot_reach_into_the_environment_by_its_models_names() -> None:
    evil = ('${env:HOME}"', "a\\nb: c", "x # y", "{a: b}", "- é", "'")
    text = init.render(init.choose(Probe(URL, "vllm", evil, None, ""), None), "127.0.0.1:1")
    config = load_text(text, env={"HOME": "canary"}).unwrap()
    names = [model.instances[0].upstream_model or name for name, model in config.models.items()]
    assert names == list(evil)
