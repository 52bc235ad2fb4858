"""The ways to a configuration, and which changes wait for a restart.

Faults of content are in the golden files; here are those of files, and that no text makes loading raise.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from slmgate.control.config import ConfigError, client_name, client_names, from_upstream, load, load_text, restart_needed
from slmgate.control.config.document import MAX_BYTES
from slmgate.control.config.options import Config
from slmgate.control.config.table import walk

MINIMAL = "models:\n  m:\n    instances: [{url: 'http://h:1'}]\n"
NAMES = sorted({row.name for _, row in walk(Config)} | {"m", "tls", "<<"})


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "slmgate.yaml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content", [MINIMAL.encode(), b"\xef\xbb\xbf" + MINIMAL.encode(), MINIMAL.replace("\n", "\r\n").encode()]
)
def test_a_file(tmp_path: Path, content: bytes) -> None:
    loaded = load(write(tmp_path, content))
    assert loaded.faults == ()
    assert loaded.unwrap().state_dir == tmp_path / "slmgate-data"
    assert list(loaded.files) == [tmp_path / "slmgate.yaml"]


def test_files_to_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("secret")
    monkeypatch.setenv("SLMGATE_TEST_HOST", "h")
    instance = b'{url: "http://${env:SLMGATE_TEST_HOST}", bearer: "${file:key}", upstream_model: "${file:key}"}'
    write(tmp_path, b"models: {m: {instances: [%s]}}" % instance)
    assert set(load(tmp_path / "slmgate.yaml").files) == {tmp_path / "slmgate.yaml", tmp_path / "key"}


def test_a_file_that_is_missing_is_still_watched(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, b'models: {m: {instances: [{url: "http://h", bearer: "${file:key}"}]}}'))
    assert loaded.config is None
    assert tmp_path / "key" in loaded.files


@pytest.mark.parametrize(("content", "problem"), [(b"a: \xff\n", "0xff in line 1"), (b"\n" + "ä".encode("utf-16"), "in line 2")])
def test_not_utf_8(tmp_path: Path, content: bytes, problem: str) -> None:
    (fault,) = load(write(tmp_path, content)).faults
    assert problem in fault.problem
    assert fault.line == 0


@pytest.mark.parametrize(("size", "right"), [(0, False), (1, False), (MAX_BYTES, True), (MAX_BYTES + 1, False)])
def test_size(tmp_path: Path, size: int, right: bool) -> None:
    content = (MINIMAL.encode() + b"#").ljust(size, b"x") if size > 1 else b"#"[:size]
    assert (load(write(tmp_path, content)).config is not None) == right


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        (fault,) = load(path).faults
        assert "cannot be read" in fault.problem
        assert "slmgate init" in fault.hint


def test_faults_name_the_file_as_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, b"bogus: 1")
    monkeypatch.chdir(tmp_path)
    assert {fault.file for fault in load(Path("slmgate.yaml")).faults} == {"slmgate.yaml"}


YAML = st.recursive(
    st.sampled_from(["", "~", "1", "on", "1s", "http://h:1", ":80", "${env:A}", "${file:a}", "'x'", '"', "*a", "&a b", "!t x"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{name}: {value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=12,
)


@given(st.text() | YAML)
@example("\ufeff")
@example("models: {\ud800: 1}")
@example("? [a]\n: b")
def test_load_text_never_raises(text: str) -> None:
    loaded = load_text(text, env={"A": "s3cret"}, base_dir=Path("/nowhere"))
    assert (loaded.config is None) == bool(loaded.faults)
    for fault in loaded.faults:
        assert fault.problem
        assert "s3cret" not in str(fault) + fault.excerpt
        assert 0 <= fault.caret <= max(len(fault.excerpt), fault.column)


def test_from_upstream(tmp_path: Path) -> None:
    config = from_upstream("http://h:1", ["small", "/models/Big One.gguf"], "llamacpp", tmp_path)
    text = f"""
state_dir: {tmp_path}/slmgate-data
models:
  small: {{instances: [{{url: "http://h:1", engine: llamacpp}}]}}
  Big-One: {{instances: [{{url: "http://h:1", engine: llamacpp, upstream_model: /models/Big One.gguf}}]}}
"""
    assert config == load_text(text).unwrap()


@pytest.mark.parametrize(
    ("url", "models", "engine"),
    [("h:1", ["m"], "vllm"), ("http://h", [], "vllm"), ("http://h", ["a\nb"], "vllm"), ("http://h", ["m"], "gpt")],
)
def test_from_upstream_refuses(url: str, models: list[str], engine: str) -> None:
    with pytest.raises(ConfigError):
        from_upstream(url, models, engine)  # type: ignore[arg-type]  # a wrong engine is the case


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("smollm2", "smollm2"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("llama3.2:latest", "llama3.2:latest"),
        ("/models/SmolLM2.Q4_1.gguf", "SmolLM2.Q4_1"),
        ("C:\\models\\a b.gguf", "a-b"),
        ("/models/dir/", "dir"),
        ("...", "model"),
        ("x" * 200, "x" * 128),
    ],
)
def test_client_name(own: str, name: str) -> None:
    assert client_name(own) == name


def test_client_names_are_all_different() -> None:
    assert client_names(["/a/x.gguf", "/b/x.gguf", "/a/x.gguf", "/c/x.gguf", "x"]) == {
        "x": "/a/x.gguf",
        "x-2": "/b/x.gguf",
        "x-3": "/c/x.gguf",
        "x-4": "x",
    }


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ("", []),
        ("guard: {max_body: 2k}\ndrain_timeout: 1s\nkeys: [{name: a, hash: 'sha256:%s'}]" % ("00" * 32), []),
        ("listen: [{address: '127.0.0.1:9'}]", ["listen[0].address"]),
        ("listen: [{address: '127.0.0.1:8080', plain_http: false}]", []),
        ("listen: [{address: '127.0.0.1:8080'}, {address: '127.0.0.1:9'}]", ["listen"]),
        ("admin: {address: ':9', plain_http: true}", ["admin.address"]),
        ("admin: {auth: {oidc: {issuer: 'https://a.example', client_id: x, roles: {map: {a: owner}}}}}", []),
        (
            "on_ledger_loss: serve\njournal: {sync: never}\nworkers: 3\nstate_dir: /x",
            ["state_dir", "workers", "journal.sync", "on_ledger_loss"],
        ),
    ],
)
def test_restart_needed(change: str, needed: list[str]) -> None:
    old, new = load_text(MINIMAL).unwrap(), load_text(MINIMAL + change).unwrap()
    assert restart_needed(old, new) == needed
    assert restart_needed(new, old) == needed


def test_how_tls_is_spoken_needs_no_restart_but_whether_it_is_does() -> None:
    own = "certificates: [{cert: a.pem, key: a.key}]"
    texts = ["", f"tls: {{{own}}}", f"tls: {{{own}, min_version: '1.3'}}", "tls: {certificates: [{cert: b.pem, key: b.key}]}"]
    plain, *spoken = (
        load_text(f"{MINIMAL}listen: [{{address: '127.0.0.1:9', {text}}}]", tls_files=False).unwrap() for text in texts
    )
    assert [restart_needed(spoken[0], other) for other in spoken] == [[], [], []]
    assert restart_needed(plain, spoken[0]) == restart_needed(spoken[0], plain) == ["listen[0].tls"]
