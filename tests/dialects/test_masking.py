"""What is taken out of an answer, what must stay, and what is learnt from a stream's first event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.dialects.contract import Dialect
from slmgate.dialects.llamacpp import LlamaCpp
from slmgate.dialects.masking import LONGEST_NAME, Mask, Rough, Swap, edited, learnt, mask_of
from slmgate.dialects.ollama import Ollama
from slmgate.dialects.openai import ChunkScanner, OpenAI
from slmgate.dialects.sse import MAX_HELD
from slmgate.terms import Ask
from tests.tools.feeds import every_way, feed

MASK = Mask("pub")
INSIDE = "/srv/models/secret.gguf"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('{"model":"pub"}', '{"model":"pub"}'),
        ('{"model": "pub", "id": 1}', '{"model": "pub", "id": 1}'),
        ('{"model":"/srv/a.gguf","x":1}', '{"model":"pub","x":1}'),
        ('{"x":1, "model" : "in\\/side" }', '{"x":1, "model" : "pub" }'),
        ('{"model":"p\\u0075b"}', '{"model":"p\\u0075b"}'),  # the same name, written otherwise
        ('{"model":null}', '{"model":null}'),
        ('{"a":1,"system_fingerprint":"b0"}', '{"a":1}'),
        ('{"system_fingerprint":"b0"}', "{}"),
        ('{"a":1, "system_fingerprint" : "b0" , "b":2}', '{"a":1, "b":2}'),
        ('{"system_fingerprint":null,"b":2}', '{"b":2}'),
        ('{"kv_transfer_params":null,"model":"pub"}', '{"kv_transfer_params":null,"model":"pub"}'),
        ('{"kv_transfer_params":"10.0.0.5:8000","model":"pub"}', '{"kv_transfer_params":null,"model":"pub"}'),
        ('{"model":"pub","kv_transfer_params":{"remote_host":"10.0.0.5","a":[{}]},"z":1}', None),
        ('{"__verbose":{"model":"/srv/a","prompt":"<|im_start|>"},"model":"/srv/a"}', '{"__verbose":null,"model":"pub"}'),
        ('{"model":"pub","mod\\u0065l":"/srv/a","z":[{"model":1}]}', '{"model":"pub","mod\\u0065l":"pub","z":[{"model":1}]}'),
        ('{"z":1,"system_fingerprint":"a","system_fingerprint":"b"}', '{"z":1,"system_fingerprint":null}'),
        # where the APIs have a model of its own
        ('{"type":"response.created","response":{"model":"/srv/a","output":[]}}', None),
        ('{"type":"message_start","message":{"model":"/srv/a","content":[]}}', None),
        ('[{"model":"/srv/a","generation_settings":{"model":"/srv/a"}},{"model":"/srv/b"}]', None),
        # what the model or the client wrote: not the engine's
        ('{"model":"pub","content":[{"type":"tool_use","input":{"model":"T"}}]}', "same"),
        ('{"model":"/srv/a","content":[{"input":{"model":"T"}}]}', '{"model":"pub","content":[{"input":{"model":"T"}}]}'),
        ('{"metadata":{"model":"pub"},"model":"/srv/a"}', '{"metadata":{"model":"pub"},"model":"pub"}'),
        ('{"model":"/srv/a","metadata":{"model":"/srv/a"}}', '{"model":"pub","metadata":{"model":"/srv/a"}}'),
        ('{"text":"\\"model\\":\\"/srv/a\\" and \\"system_fingerprint\\":\\"x\\"","model":"pub"}', "same"),
        ('{"message":{"tool_calls":[{"function":{"arguments":{"model":"T"}}}]},"model":"pub"}', "same"),
        ("null", "null"),
        ("[1,2]", "[1,2]"),
        ("12", "12"),
        ("", ""),
    ],
)
def test_documents(said: str, shown: str | None) -> None:
    masked = MASK.document(said.encode()).decode()
    if shown is None:
        assert "/srv" not in masked
        assert "10.0.0.5" not in masked
        assert '"pub"' in masked
    else:
        assert masked == (said if shown == "same" else shown)
    if said:
        json.loads(masked)


def test_what_is_clean_is_the_very_object() -> None:
    body = b'{"model":"pub","choices":[]}'
    assert MASK.document(body) is body
    deep = b'{"model":"pub","content":[{"input":{"model":"T"}}]}'
    assert MASK.document(deep) is deep


@pytest.mark.parametrize(
    "said", [b'{"model":"/srv/a","x":', b'{"model":"/srv/a"} {', b'oops "model": "/srv/a" "system_fingerprint":"b1"']
)
def test_what_is_no_json_says_nothing_either(said: bytes) -> None:
    masked = MASK.document(said)
    assert b"/srv" not in masked
    assert b"b1" not in masked


def test_repr_and_memory() -> None:
    assert repr(MASK) == "<Mask 'pub'>"
    assert mask_of("a") is mask_of("a")
    assert edited(b"abc", []) == b"abc"


_LEAF = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", INSIDE, "pub", 'q"\\', '"model":', "model"])
_KEYS = st.sampled_from(["model", "system_fingerprint", "kv_transfer_params", "__verbose", "response", "message", "a", "b"])
_TREE = st.recursive(_LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=12)


def shown(tree: Any, level: int = 0) -> Any:
    """The same by plain recursion, for comparison."""
    if isinstance(tree, list):
        return [shown(one, 0) if level == 0 else one for one in tree]
    if not isinstance(tree, dict):
        return tree
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "system_fingerprint" and (isinstance(value, str) or value is None):
            continue
        if key in ("kv_transfer_params", "__verbose") and isinstance(value, (str, list, dict)):
            out[key] = None
        elif key == "model" and isinstance(value, str):
            out[key] = "pub"
        elif level == 0 and key in ("response", "message", "generation_settings") and isinstance(value, dict):
            out[key] = shown(value, 1)
        else:
            out[key] = value
    return out


def without_builds(tree: Any) -> Any:
    """A build that is null says nothing: it may stay or go."""
    if isinstance(tree, dict):
        return {key: without_builds(value) for key, value in tree.items() if (key, value) != ("system_fingerprint", None)}
    return [without_builds(one) for one in tree] if isinstance(tree, list) else tree


@given(_TREE, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]))
def test_any_document_as_by_plain_recursion(tree: Any, separators: tuple[str, str]) -> None:
    masked = MASK.document(json.dumps(tree, separators=separators).encode())
    assert without_builds(json.loads(masked)) == without_builds(shown(tree))


def test_an_answer_too_long_to_be_kept() -> None:
    body = b'{"model":"/srv/a","data":[%b],"system_fingerprint":"b1"}' % b",".join([b"0.1"] * 3000)
    for step in (1000, 4096, len(body)):
        rough = Rough(MASK)
        out = b"".join([rough.feed(body[at : at + step]) for at in range(0, len(body), step)]) + rough.close()
        assert json.loads(out) == {"model": "pub", "data": [0.1] * 3000, "system_fingerprint": None}
    assert LONGEST_NAME < 4096


# --- streams


def chunk(text: str, model: str = INSIDE, build: str = ',"system_fingerprint":"b0-unknown"') -> bytes:
    """An event as llama.cpp writes it: what names the inside stands behind the text."""
    delta = f'{{"content":{json.dumps(text)}}}'
    return f'data: {{"choices":[{{"delta":{delta}}}],"model":"{model}"{build},"object":"o"}}\n\n'.encode()


INNER = b'"model":"/srv/models/secret.gguf","system_fingerprint":"b0-unknown"'
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":null}}],%b}\n\n' % INNER
USAGE = b'data: {"choices":[],%b,"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n' % INNER
DONE = b"data: [DONE]\n\n"


def scanner(model: str = "pub", wants_usage: bool = True, dialect: Dialect | None = None, endpoint: str = "chat") -> Any:
    return (dialect or OpenAI()).scanner(endpoint, Ask(model, True, wants_usage, 1, None, {}), mask_of(model))


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("eol", [b"\n", b"\r\n", b"\r"])
def test_a_stream_in_which_all_is_masked(wants_usage: bool, eol: bytes) -> None:
    said = (ROLE + chunk("a") + chunk('say "model":"/x"') + chunk("b") + USAGE + DONE).replace(b"\n", eol)
    whole = every_way(lambda: scanner(wants_usage=wants_usage), said)
    assert whole.finished
    assert whole.tokens_seen == 3
    assert whole.usage is not None
    assert b"/srv" not in whole.sent
    assert b"b0-unknown" not in whole.sent
    assert whole.sent.count(b'"pub"') == (5 if wants_usage else 4)
    assert b'say \\"model\\":\\"/x\\"' in whole.sent


def test_a_stream_in_which_nothing_is_masked_pays_nothing_after_its_first_event_with_text() -> None:
    plain = [chunk(text, "pub", "") for text in "abc"]
    subject = scanner()
    assert not subject.at_rest
    assert subject.feed(plain[0]) == plain[0]
    assert subject.at_rest
    assert subject.swap is None
    assert subject.usual(plain[1]) == 1
    assert subject.feed(plain[1]) is plain[1]


def test_what_was_learnt_masks_by_the_very_bytes() -> None:
    subject = scanner()
    shown = subject.feed(ROLE + chunk("a"))
    assert subject.at_rest
    swap = subject.swap
    assert swap is not None
    for text in ("b", "", "system_fingerprint", '"', "\n\n"):
        said = chunk(text)
        told = swap.usual(said)
        other = scanner()
        other.feed(ROLE + chunk("a"))
        fed = other.feed(said)
        if told == -1:
            assert text in ("", "system_fingerprint")  # those are looked at
        else:
            assert told == -3
            assert swap.out == b"%x\r\n%b\r\n" % (len(fed), fed)
    assert b"/srv" not in shown
    other_build = chunk("c", build=',"system_fingerprint":"b2"')
    for odd in (chunk("c", "other"), chunk("c") + chunk("d"), other_build, ROLE, DONE, b"x", b""):
        assert swap.usual(odd) == -1


def test_a_build_that_is_said_late_is_left_out_all_the_same() -> None:
    subject = scanner()
    subject.feed(chunk("a", "pub", ""))
    late = chunk("b", "pub")
    assert subject.usual(late) == -1
    assert subject.feed(late) == chunk("b", "pub", "")


def test_what_is_not_simple_is_looked_at_each_time() -> None:
    usual = ChunkScanner.usual
    twice = b'{"model":"/srv/a","content":"x","m":{"model":"/srv/a"}}\n\n'
    assert learnt(MASK, twice, 0, usual, b"\n\n") is None
    assert learnt(MASK, b"{}\n\n", 0, usual, b"\n\n") is None
    assert Swap([(b"a", b"b")], usual, b"\n\n").apply(b"x") is None


def test_an_event_too_long_to_keep_is_masked_at_its_beginning() -> None:
    long = b'data: {"model":"/srv/a","choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * MAX_HELD)
    for step in (4096, 70_001, len(long)):
        fed = feed(scanner, [(long + chunk("a") + DONE)[at : at + step] for at in range(0, len(long) + 300, step)])
        assert fed.finished
        assert fed.sent == long.replace(b"/srv/a", b"pub") + chunk("a", "pub", "") + DONE


@pytest.mark.parametrize(
    ("dialect", "endpoint", "said", "names"),
    [
        (OpenAI(), "responses", b'event: x\ndata: {"type":"response.created","response":{"model":"/srv/a"}}\n\n', 1),
        (OpenAI(), "responses", b'data: {"type":"response.output_text.delta","delta":"x"}\n\n', 0),
        (OpenAI(), "responses", b'data: {"type":"response.completed","response":{"output":[],"model":"/srv/a"}}\n\n', 1),
        (OpenAI(), "transcriptions", b'data: {"model":"/srv/a","choices":[{"delta":{"content":"x"}}]}\n\n', 1),
        (LlamaCpp(), "completion", b'data: {"content":"","stop":true,"model":"/srv/a","generation_settings":{}}\n\n', 1),
        (Ollama(), "chat", b'{"model":"/srv/a","message":{"role":"assistant","content":"x"},"done":false}\n', 1),
        (Ollama(), "chat", b'{"model":"/srv/a","message":{"tool_calls":[{"arguments":{"model":"T"}}]},"done":false}\n', 1),
    ],
)
def test_every_dialect(dialect: Dialect, endpoint: str, said: bytes, names: int) -> None:
    before = {"responses": b'data: {"type":"response.output_text.delta","delta":"x"}\n\n'}.get(endpoint, b"")
    whole = every_way(lambda: scanner(dialect=dialect, endpoint=endpoint), before + said * 3)
    assert whole.sent == before + said.replace(b"/srv/a", b"pub") * 3
    assert whole.sent.count(b"pub") == 3 * names


def test_lines_are_masked_by_their_bytes_unless_a_tool_is_called() -> None:
    line = b'{"model":"/srv/a","message":{"role":"assistant","content":"x"},"done":false}\n'
    tool = b'{"model":"/srv/a","message":{"tool_calls":[{"function":{"arguments":{"model":"/srv/a"}}}]},"done":false}\n'
    subject = scanner(dialect=Ollama())
    assert subject.feed(line) == line.replace(b"/srv/a", b"pub")
    assert subject.swap is not None
    assert subject.swap.usual(line) == -3
    assert subject.swap.usual(tool) == -1
    assert subject.feed(tool) == tool.replace(b"/srv/a", b"pub", 1)
    assert subject.feed(line[:9]) == b""
    assert subject.feed(line[9:]) == line.replace(b"/srv/a", b"pub")


# --- failures in the middle of a stream


@pytest.mark.parametrize(
    ("dialect", "endpoint", "said"),
    [
        (OpenAI(), "chat", b'data: {"error":{"message":"Traceback at /srv/engine.py","code":500}}\n\n'),
        (OpenAI(), "chat", b'data: {"object":"error","error":"CUDA","model":"x"}\n\n'),
        (OpenAI(), "chat", b'error: {"code":500,"message":"/srv"}\n\n'),
        (OpenAI(), "responses", b'event: error\ndata: {"type":"error","message":"/srv"}\n\n'),
        (OpenAI(), "responses", b'data: {"type":"response.failed","response":{"error":{"message":"/srv"}}}\n\n'),
        (LlamaCpp(), "completion", b'data: {"error":{"code":500,"message":"/srv","type":"server_error"}}\n\n'),
        (Ollama(), "chat", b'{"error":"llama runner process has terminated: /srv"}\n'),
    ],
)
def test_failures(dialect: Dialect, endpoint: str, said: bytes) -> None:
    def make() -> Any:
        return scanner(dialect=dialect, endpoint=endpoint)

    whole = every_way(make, said + DONE)
    assert whole.sent == b""
    assert not whole.finished
    subject = make()
    subject.feed(said)
    assert b"srv" in subject.failed or b"CUDA" in subject.failed
    plain = dialect.scanner(endpoint, Ask("pub", True, True, 1, None, {}))  # without a mask: as it came, for who only counts
    assert plain.feed(said) == said
    assert plain.failed is None


@pytest.mark.parametrize(
    "said",
    [b'data: {"choices":[{"delta":{"content":"\\"error\\""}}],"error":null}\n\n', b": error\n\n", b'data: {"errors":1}\n\n'],
)
def test_what_is_no_failure(said: bytes) -> None:
    assert every_way(scanner, said).sent == said


@pytest.mark.parametrize("step", [9_999, 65_536, 10_000_000])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("dialect", [OpenAI(), Ollama()])
def test_the_end_of_an_event_too_long_to_be_kept(dialect: Dialect, step: int, ended: bool) -> None:
    """Its end says what its beginning does; what comes behind it is read as ever."""
    lines = isinstance(dialect, Ollama)
    head, end = (b"", b"\n") if lines else (b"data: ", b"\n\n")
    names = b'"model":"/srv/a","system_fingerprint":"b0"'
    long = b'%b{%b,"x":"%b",%b}' % (head, names, b"x" * 3 * MAX_HELD, names)
    said = long + end + head + b"{%b}" % names + end if ended else long
    subject = scanner(dialect=dialect)
    sent = b"".join([subject.feed(said[at : at + step]) for at in range(0, len(said), step)])
    assert subject.mid_event is not ended
    sent += subject.close()
    assert sent.count(b'"model":"pub"') == (3 if ended else 2)
    assert b"/srv" not in sent
    assert b"b0" not in sent
    assert sent.count(b"x") == 3 * MAX_HELD + 1
    assert sent.endswith(end) is ended
