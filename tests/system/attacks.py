"""The table of attacks on access decisions: what is sent, and the status and code that it gets.

Rows of the list of attacks in the reliability goals that concern who may do what: credentials, header spoofing, path and method,
model names and bodies, parameters under a role. `test_attacks.py` sends them to a real gate; this module opens no socket.
What `test_bad_input.py` and `test_headers.py` have is not repeated.
Length: one table, read as one; no function in it has more than a few lines.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any, NamedTuple

from tests.tools.gate import SECRET, digest
from tests.tools.wire import CHAT, chat, request

KEYS = {
    name: f"sk-attack-{name}-0123456789abcdef"
    for name in (
        "ruled",
        "net",
        "lan",
        "banned",
        "denier",
        "embed",
        "still",
        "small",
        "short",
        "roleless",
        "teamless",
        "member",
        "disabled",
        "expired",
        "never",
        "placed",
    )
}
ROLES: dict[str, Any] = {
    "all": {"models": ["tiny", "other"]},
    "ruled": {
        "models": ["tiny"],
        "parameters": {
            "max_tokens": {"max": 16},
            "n": {"max": 1},
            "best_of": {"max": 1},
            "logprobs": "deny",
            "prompt_logprobs": "deny",
            "tools": "deny",
            "response_format": {"allowed": ["text"]},
            "image_url": {"allowed": ["data:*"]},
            "file_url": "deny",
            "temperature": {"max": 1},
            "keep_alive": "deny",
            "chat_template_kwargs": "deny",
        },
    },
    "net": {"models": ["tiny"], "networks": ["203.0.113.0/24"]},
    "lan": {"models": ["tiny"], "networks": ["127.0.0.1"]},
    "banned": {"models": ["other"], "deny_networks": ["127.0.0.0/8"]},
    "denier": {"models": ["other"], "deny_models": ["tiny"], "deny_endpoints": ["embeddings"]},
    "embed": {"models": ["*"], "endpoints": ["embeddings"]},
    "still": {"models": ["tiny"], "stream": False},
    "small": {"models": ["tiny"], "max_body": 200},
    "short": {"models": ["tiny"], "max_context": 30},
    "never": {"models": ["tiny"], "hours": "Mon 00:00-00:01 Pacific/Kiritimati"},
}
HELD = {"denier": ["all", "denier"], "banned": ["all", "banned"], "roleless": [], "teamless": [], "member": []}
"""Roles of the keys that do not have just the one of their name."""


def declared() -> list[dict[str, Any]]:
    """The keys of the configuration: `main` may use two of the three models."""
    keys: list[dict[str, Any]] = [{"name": "main", "hash": digest(SECRET), "roles": ["all"]}]
    for name, secret in KEYS.items():
        own = HELD.get(name, [name] if name in ROLES else ["all"])
        keys.append({"name": name, "hash": digest(secret), "roles": own})
    by_name = {key["name"]: key for key in keys}
    by_name["disabled"] |= {"disabled": True}
    by_name["expired"] |= {"expires": "2020-01-01"}
    by_name["placed"] |= {"networks": ["203.0.113.0/24"]}
    by_name["member"] |= {"team": "acme"}
    return keys


TEAMS = {"acme": {"roles": ["ruled"]}}


class Attack(NamedTuple):
    """`code` "" where the answer is no fault of the table; `fast`: it must be refused within 50 ms."""

    name: str
    data: bytes
    status: int
    code: str
    fast: bool = False


BAD_KEY = (401, "invalid_api_key")
FORBIDDEN = (403, "permission_denied")
UNKNOWN = (404, "model_not_found")
MEDIA = (415, "unsupported_media_type")
NO_PATH = (404, "not_found")
INVALID = (400, "invalid_request")
PARAMETER = (400, "parameter_not_allowed")
BODY = chat()


def post(path: str, fields: Any, key: str = "ruled", headers: tuple[str, ...] = ()) -> bytes:
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return request(body, path=path, secret=KEYS[key], headers=("Content-Type: application/json", *headers))


# --- credentials -----------------------------------------------------------------------------------------------------------


def shown(*headers: str) -> bytes:
    return request(BODY, headers=headers)


def raw_credential(secret: bytes) -> bytes:
    head = b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: gate.test\r\nAuthorization: Bearer " + secret
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


LOOKALIKES = {
    "cyrillic-a": SECRET.replace("a", "\N{CYRILLIC SMALL LETTER A}").encode(),
    "full-width": SECRET.replace("s", "\N{FULLWIDTH LATIN SMALL LETTER S}").encode(),
    "combining": (SECRET + "\N{COMBINING ACUTE ACCENT}").encode(),
    "no-break-space": (SECRET + "\N{NO-BREAK SPACE}").encode(),
    "zero-width": (SECRET[:5] + "\N{ZERO WIDTH SPACE}" + SECRET[5:]).encode(),
    "byte-order-mark": b"\xef\xbb\xbf" + SECRET.encode(),
    "invalid-utf-8": SECRET.encode() + b"\xff",
}
CREDENTIALS = [
    *(Attack(f"look-alike-{name}", raw_credential(secret), *BAD_KEY) for name, secret in LOOKALIKES.items()),
    Attack("nul", raw_credential(SECRET.encode() + b"\0"), *INVALID),
    Attack("vertical-tab", raw_credential(SECRET.encode() + b"\x0b"), *INVALID),
    Attack("quoted", shown(f'Authorization: Bearer "{SECRET}"'), *BAD_KEY),
    Attack("comma", shown(f"Authorization: Bearer {SECRET},"), *BAD_KEY),
    Attack("scheme-tab", shown(f"Authorization: Bearer\t{SECRET}"), *BAD_KEY),
    Attack("scheme-colon", shown(f"Authorization: Bearer: {SECRET}"), *BAD_KEY),
    Attack("scheme-twice", shown(f"Authorization: Bearer Bearer {SECRET}"), *BAD_KEY),
    Attack("token-scheme", shown(f"Authorization: Token {SECRET}"), *BAD_KEY),
    Attack("digest-of-it", shown(f"Authorization: Bearer {digest(SECRET)}"), *BAD_KEY),
    Attack("percent-coded", shown(f"Authorization: Bearer {SECRET.replace('-', '%2d')}"), *BAD_KEY),
    Attack("proxy-authorization", shown(f"Proxy-Authorization: Bearer {SECRET}"), *BAD_KEY),
    Attack("empty-beside-good", shown(f"Authorization: Bearer {SECRET}", "x-api-key:"), *BAD_KEY),
    Attack("bad-beside-good", shown(f"Authorization: Basic x, Bearer {SECRET}"), *BAD_KEY),
    Attack("good-beside-bad-scheme", shown("Authorization: Basic eDp5", f"x-api-key: {SECRET}"), *BAD_KEY),
    Attack("two-in-one-name", shown(f"x-api-key: {SECRET}", f"x-api-key: {KEYS['ruled']}"), *BAD_KEY),
    Attack("in-the-query", request(BODY, path=f"{CHAT}?key={SECRET}&api_key={SECRET}&access_token={SECRET}"), *BAD_KEY),
    Attack("in-the-body", request(json.dumps({**json.loads(BODY), "api_key": SECRET}).encode()), *BAD_KEY),
    Attack("in-a-form", request(b"access_token=" + SECRET.encode()), *BAD_KEY),
    Attack("in-the-host", request(BODY).replace(b"Host: gate.test", b"Host: " + SECRET.encode()), *BAD_KEY),
    Attack("in-userinfo", request(BODY, path=f"http://x:{SECRET}@gate.test{CHAT}"), *INVALID),
    Attack("a-mebibyte", shown(f"Authorization: Bearer {'a' * 1_048_576}"), 431, "headers_too_large"),
    Attack("513-bytes", shown(f"Authorization: Bearer {'a' * 513}"), *BAD_KEY),
    Attack("disabled", post(CHAT, BODY, "disabled"), *BAD_KEY),
    Attack("expired", post(CHAT, BODY, "expired"), *BAD_KEY),
    Attack("of-the-digest-s-case", shown(f"Authorization: Bearer {SECRET.swapcase()}"), *BAD_KEY),
]

# --- headers that speak for somebody else ----------------------------------------------------------------------------------

FORWARDED = (
    "X-Forwarded-For: 203.0.113.9",
    "x_forwarded_for: 203.0.113.9",
    "X-Forwarded-For: 127.0.0.1, 203.0.113.9",
    "Forwarded: for=203.0.113.9",
    "X-Real-IP: 203.0.113.9",
    "X-Client-IP: 203.0.113.9",
    "True-Client-IP: 203.0.113.9",
    "CF-Connecting-IP: 203.0.113.9",
    "X-Cluster-Client-IP: 203.0.113.9",
    "Via: 1.1 203.0.113.9",
    "X-Forwarded-Host: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-User: main",
    "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 203.0.113.9",
    "Connection: x-forwarded-for\r\nX-Forwarded-For: 203.0.113.9",
    "X-Remote-User: main",
    "X-Roles: all",
    "X-SLMGate-Role: all",
)
SPOOFED = [
    *(
        Attack(f"network-{header.partition(':')[0]}-{n}", post(CHAT, BODY, "net", (header,)), *FORBIDDEN)
        for n, header in enumerate(FORWARDED)
    ),
    Attack("network-of-the-key", post(CHAT, BODY, "placed", (FORWARDED[0],)), *FORBIDDEN),
    Attack("network-of-the-key-list", request(None, method="GET", path="/v1/models", secret=KEYS["placed"]), *FORBIDDEN),
    Attack("denied-network", post(CHAT, BODY, "banned", (FORWARDED[0],)), *FORBIDDEN),
    Attack("original-url", post("/", BODY, "ruled", (f"X-Original-URL: {CHAT}", f"X-Rewrite-URL: {CHAT}")), *NO_PATH),
    Attack("original-url-allowed", post("/api/pull", BODY, "ruled", (f"X-Original-URL: {CHAT}",)), *NO_PATH),
    Attack("proxy-protocol", b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n" + post(CHAT, BODY, "net"), *INVALID),
    Attack("endpoint-header", post(CHAT, BODY, "embed", ("X-Original-URL: /v1/embeddings",)), *FORBIDDEN),
]

# --- path and method -------------------------------------------------------------------------------------------------------

PATHS = {
    "double-slash": "//v1/chat/completions",
    "inner-double-slash": "/v1//chat/completions",
    "dot": "/v1/./chat/completions",
    "dot-dot": "/v1/x/../chat/completions",
    "coded-dot": "/v1/%2e/chat/completions",
    "coded-dot-dot": "/v1/%2e%2e/v1/chat/completions",
    "coded-slash": "/v1%2fchat/completions",
    "coded-twice": "/v1%252fchat/completions",
    "coded-dots-twice": "/v1/%252e%252e/v1/chat/completions",
    "coded-letter": "/v1/ch%61t/completions",
    "dot-dot-semicolon": "/v1/..;/v1/chat/completions",
    "parameter": "/v1/chat/completions;x=1",
    "inner-parameter": "/v1;x/chat/completions",
    "backslash": "/v1\\chat\\completions",
    "coded-nul": "/v1/chat/completions%00",
    "coded-line-end": "/v1/chat/completions%0d%0aX-A:1",
    "coded-question": "/v1/chat/completions%3fa=b",
    "upper-case": "/V1/CHAT/COMPLETIONS",
    "title-case": "/v1/chat/Completions",
    "trailing-slash": "/v1/chat/completions/",
    "trailing-dot": "/v1/chat/completions.",
    "suffix": "/v1/chat/completions.json",
    "prefix": "/openai/v1/chat/completions",
    "no-version": "/chat/completions",
    "overlong": "/v1%c0%afchat/completions",
    "engine-sleep": "/sleep",
    "engine-lora": "/v1/load_lora_adapter",
    "engine-slots": "/slots/0?action=erase",
    "engine-pull": "/api/pull",
    "engine-metrics": "/metrics",
    "engine-props": "/props",
    "admin-api": "/api/v1/keys",
    "admin-document": "/api/openapi.json",
}
LINE = f"POST {CHAT} HTTP/1.1".encode()


def with_line(line: str) -> bytes:
    return request(BODY, secret=SECRET).replace(LINE, line.encode())


def with_line_bytes(path: bytes) -> bytes:
    return request(BODY, secret=SECRET).replace(CHAT.encode(), path, 1)


RAW_PATHS = {
    "overlong-slash": b"/v1\xc0\xafchat/completions",
    "full-width": "/v1/\N{FULLWIDTH LATIN SMALL LETTER C}hat/completions".encode(),
    "nul": b"/v1/chat/completions\0",
    "tab": b"/v1/chat/completions\t",
    "delete": b"/v1/chat/completions\x7f",
    "escape": b"/v1/chat/completions\x1b[2J",
    "high-byte": b"/v1/chat/completions\xff",
}
ROUTES = [
    *(Attack(f"path-{name}", request(BODY, path=path, secret=SECRET), *NO_PATH) for name, path in PATHS.items()),
    *(Attack(f"raw-{name}", with_line_bytes(path), *INVALID) for name, path in RAW_PATHS.items()),
    Attack("delete", with_line(f"DELETE {CHAT} HTTP/1.1"), 405, "method_not_allowed"),
    Attack("fragment", request(BODY, path=f"{CHAT}#x", secret=SECRET), *NO_PATH),
    Attack("absolute-other-host", request(BODY, path=f"http://evil.test{CHAT}", secret=SECRET), *INVALID),
    Attack("absolute-other-scheme", request(BODY, path=f"https://gate.test{CHAT}", secret=SECRET), *INVALID),
    Attack("absolute-admin", request(BODY, path="http://gate.test/api/v1/keys", secret=SECRET), *NO_PATH),
    Attack("asterisk", request(BODY, path="*", secret=SECRET), *NO_PATH),
    Attack("no-slash", request(BODY, path="v1/chat/completions", secret=SECRET), *INVALID),
    Attack("get", with_line(f"GET {CHAT} HTTP/1.1"), 405, "method_not_allowed"),
    Attack("put", with_line(f"PUT {CHAT} HTTP/1.1"), 405, "method_not_allowed"),
    Attack("trace", with_line(f"TRACE {CHAT} HTTP/1.1"), 405, "method_not_allowed"),
    Attack("lower-case", with_line(f"post {CHAT} HTTP/1.1"), *INVALID),
    Attack("unknown", with_line(f"POSTX {CHAT} HTTP/1.1"), *INVALID),
    Attack("connect", with_line("CONNECT gate.test:80 HTTP/1.1"), *INVALID),
    Attack(
        "override",
        request(BODY, method="GET", path=CHAT, secret=SECRET, headers=("X-HTTP-Method-Override: POST", "X-HTTP-Method: POST")),
        405,
        "method_not_allowed",
    ),
    Attack(
        "override-in-query", request(BODY, method="GET", path=f"{CHAT}?_method=POST", secret=SECRET), 405, "method_not_allowed"
    ),
]

# --- model names and bodies ------------------------------------------------------------------------------------------------


def named(model: Any) -> bytes:
    return request(json.dumps({**json.loads(BODY), "model": model}).encode(), secret=SECRET)


def body(data: bytes, *headers: str) -> bytes:
    return request(data, secret=SECRET, headers=headers or ("Content-Type: application/json",))


def form(*parts: bytes, boundary: str = "b0undary") -> bytes:
    mark = f"--{boundary}".encode()
    data = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    headers = (f"Content-Type: multipart/form-data; boundary={boundary}",)
    return request(data, path="/v1/audio/transcriptions", secret=SECRET, headers=headers)


def field(name: str, value: str, extra: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{extra}\r\n\r\n{value}'.encode()


NESTED = b'Content-Disposition: form-data; name="f"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--'
ENCODED = b'Content-Disposition: form-data; name="f"\r\nContent-Transfer-Encoding: base64\r\n\r\nbQ=='
SOUND = field("file", "RIFF", '; filename="a.wav"')
INNER = b'"messages":[{"role":"user","content":"hi"}]'
MODELS = [
    *(
        Attack(f"model-{name}", named(model), *UNKNOWN)
        for name, model in {
            "hidden": "hidden",
            "absent": "absent",
            "title": "Tiny",
            "dot": "tiny.",
            "slash": "tiny/",
            "coded": "tin%79",
            "path": "../tiny",
            "revision": "tiny:latest",
            "wildcard": "tin*",
            "full-width": "\N{FULLWIDTH LATIN SMALL LETTER T}iny",
            "combining": "tiny\N{COMBINING ACUTE ACCENT}",
            "cyrillic": "tin\N{CYRILLIC SMALL LETTER U}",
        }.items()
    ),
    *(
        Attack(f"model-{name}", named(model), *INVALID, True)
        for name, model in {
            "newline": "tiny\n",
            "tab-before": "\ttiny",
            "no-break-space": "tiny\N{NO-BREAK SPACE}",
            "zero-width": "tiny\N{ZERO WIDTH SPACE}",
            "right-to-left": "\N{RIGHT-TO-LEFT OVERRIDE}ynit",
            "object": {"name": "tiny"},
            "true": True,
            "float": 1.5,
            "long": "t" * 257,
        }.items()
    ),
    Attack("model-nested", body(b'{"request":{"model":"tiny"},%b}' % INNER), *INVALID, True),
    Attack("model-in-query-alone", request(b"{%b}" % INNER, path=f"{CHAT}?model=tiny", secret=SECRET), *INVALID),
    Attack("model-hidden-in-body", request(chat(model="hidden"), path=f"{CHAT}?model=tiny", secret=SECRET), *UNKNOWN),
    Attack("key-in-capitals", body(b'{"Model":"tiny",%b}' % INNER), *INVALID, True),
    Attack("key-in-capitals-beside", body(b'{"model":"tiny","MODEL":"hidden",%b}' % INNER), *INVALID, True),
    Attack("key-twice-deep", body(b'{"model":"tiny","options":{"a":1,"a":2},%b}' % INNER), *INVALID, True),
    Attack("utf-32", body(BODY.decode().encode("utf-32")), *INVALID, True),
    Attack("utf-16-big", body(BODY.decode().encode("utf-16-be")), *INVALID, True),
    Attack("nul-byte", body(BODY[:-1] + b"\0}"), *INVALID, True),
    Attack("comment", body(b"{/**/" + BODY[1:]), *INVALID, True),
    Attack("trailing-comma", body(BODY[:-1] + b",}"), *INVALID, True),
    Attack("single-quotes", body(BODY.replace(b'"', b"'")), *INVALID, True),
    Attack("too-large-a-number", body(b'{"model":"tiny","seed":1e400,%b}' % INNER), *INVALID, True),
    Attack("infinity", body(b'{"model":"tiny","seed":Infinity,%b}' % INNER), *INVALID, True),
    Attack("megabyte-number", body(b'{"model":"tiny","seed":%b,%b}' % (b"9" * 1_000_000, INNER)), *INVALID, True),
    Attack("ten-megabyte-number", body(b'{"model":"tiny","seed":%b,%b}' % (b"9" * 10_000_000, INNER)), *INVALID),
    Attack("deep", body(b'{"model":"tiny","a":%b}' % (b"[" * 1_000_000)), *INVALID, True),
    Attack(
        "a-million-keys",
        body(b'{"model":"tiny",%b,%b}' % (b",".join(b'"%x":1' % n for n in range(1_000_000)), INNER)),
        *INVALID,
        True,
    ),
    Attack("lone-surrogate", body(b'{"model":"tiny","user":"\\udfff",%b}' % INNER), *INVALID, True),
    Attack("surrogate-key", body(b'{"model":"tiny","\\ud800":1,%b}' % INNER), *INVALID, True),
    Attack("two-lines", body(BODY + b"\n" + BODY), *INVALID, True),
    *(
        Attack(f"type-{name}", body(BODY, f"Content-Type: {kind}"), 415, "unsupported_media_type", True)
        for name, kind in {
            "plain": "text/plain",
            "form": "application/x-www-form-urlencoded",
            "multipart": "multipart/form-data; boundary=x",
            "utf-16": "application/json; charset=utf-16",
            "utf-7": "application/json; charset=utf-7",
            "two-charsets": "application/json; charset=utf-8; charset=utf-16",
            "two-types": "application/json, text/plain",
            "xml": "application/xml",
        }.items()
    ),
    Attack("coded", body(BODY, "Content-Encoding: identity"), 415, "unsupported_media_type"),
    Attack("form-model-twice", form(field("model", "tiny"), field("model", "hidden"), SOUND), *INVALID, True),
    Attack("form-model-twice-in-case", form(field("model", "tiny"), field("Model", "hidden"), SOUND), *INVALID, True),
    Attack("form-model-after-file", form(SOUND, field("model", "hidden")), *UNKNOWN),
    Attack(
        "form-model-in-file-name", form(field("file", "RIFF", '; filename="a"; name="model"'), field("model", "tiny")), *INVALID
    ),
    Attack("form-model-is-a-file", form(field("model", "tiny", '; filename="m"'), SOUND), *INVALID),
    Attack("form-model-extended", form(field("model", "tiny", "; name*=UTF-8''hidden"), SOUND), *INVALID),
    Attack("form-model-missing", form(SOUND), *INVALID),
    Attack("form-no-end", form(field("model", "tiny"), SOUND).replace(b"--b0undary--\r\n", b"-" * 14), *INVALID),
    Attack(
        "form-ten-thousand-parts", form(field("model", "tiny"), *(field(f"p{n}", "x") for n in range(10_000))), *INVALID, True
    ),
    Attack("form-header-bomb", form(b"X-A: " + b"a" * 100_000 + b"\r\n\r\nx"), *INVALID, True),
    Attack("form-long-boundary", form(field("model", "tiny"), boundary="b" * 73), *INVALID),
    Attack("form-file-name-extended", form(field("model", "tiny"), field("file", "R", "; filename*=UTF-8''a")), *INVALID),
    Attack("form-nested", form(field("model", "tiny"), NESTED), *INVALID),
    Attack("form-coded", form(field("model", "tiny"), ENCODED), *INVALID),
    Attack("form-charset", form(field("_charset_", "utf-16"), field("model", "tiny")), *INVALID),
    Attack("form-line-end-in-a-header", form(b'Content-Disposition: \nform-data; name="model"\r\n\r\ntiny'), *INVALID),
    Attack("form-blank-behind-a-header", form(b'Content-Disposition: form-data; name="model"\r\r\n\r\ntiny'), *INVALID),
    Attack("form-glued", form(field("model", "tiny") + b"\r\n--b0undary--\r\n" + field("model", "hidden")), *INVALID),
    Attack("form-two-boundaries", body(BODY, "Content-Type: multipart/form-data; boundary=a; boundary=b"), *MEDIA),
]

# --- compressed bodies -----------------------------------------------------------------------------------------------------

BOMB = gzip.compress(b"{" + b" " * 10_000_000 + BODY[1:])
"""A good body to who inflates it: a thousand times as large."""
COMPRESSED = [
    *(
        Attack(coding.replace(", ", "-").replace("\t", "tab"), body(data, f"Content-Encoding: {coding}"), *MEDIA, True)
        for coding, data in {
            "gzip": BOMB,
            "GZIP": BOMB,
            "x-gzip": BOMB,
            "deflate": zlib.compress(BODY),
            "br": BODY,
            "zstd": BODY,
            "compress": BODY,
            "gzip, gzip": gzip.compress(BOMB),
            "identity, gzip": BOMB,
            "aws-chunked": BODY,
            "\tgzip": BOMB,
            "": BODY,
        }.items()
    ),
    Attack("without-a-word", body(BOMB), *INVALID, True),
    Attack("as-a-transfer-coding", body(BOMB, "Transfer-Encoding: gzip"), *INVALID),
]

# --- parameters that a role rules ------------------------------------------------------------------------------------------

MESSAGES = [{"role": "user", "content": "hi"}]
DIALECTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "chat": (CHAT, {"model": "tiny", "messages": MESSAGES}, ""),
    "completions": ("/v1/completions", {"model": "tiny", "prompt": "hi"}, ""),
    "responses": ("/v1/responses", {"model": "tiny", "input": "hi"}, ""),
    "anthropic": ("/v1/messages", {"model": "tiny", "messages": MESSAGES, "max_tokens": 5}, ""),
    "ollama": ("/api/chat", {"model": "tiny", "messages": MESSAGES, "stream": False}, "options"),
    "llamacpp": ("/completion", {"model": "tiny", "prompt": "hi"}, ""),
    "tgi": ("/generate", {"model": "tiny", "inputs": "hi"}, "parameters"),
}
"""API -> path, a body that the role `ruled` admits, and where the API keeps parameters if not at the top."""


def picture(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


RULED: dict[str, dict[str, Any]] = {
    "max-tokens": {"max_tokens": 17},
    "max-tokens-huge": {"max_tokens": 1_000_000_000},
    "max-completion-tokens": {"max_completion_tokens": 17},
    "max-output-tokens": {"max_output_tokens": 17},
    "n-predict": {"n_predict": 17},
    "max-new-tokens": {"max_new_tokens": 17},
    "small-and-large": {"max_tokens": 1, "n_predict": 17},
    "num-predict-outside": {"num_predict": 17},
    "n": {"n": 2},
    "n-text": {"n": "2"},
    "n-float": {"n": 2.0},
    "n-case": {"N_cmpl": 2},
    "n-cmpl": {"n_cmpl": 2},
    "best-of": {"best_of": 2},
    "best-of-case": {"Best_Of": 2},
    "temperature": {"temperature": 1.01},
    "temperature-text": {"temperature": "2"},
    "temperature-case": {"Temperature": 2},
    "logprobs": {"logprobs": True},
    "logprobs-0": {"logprobs": 0},
    "logprobs-all": {"logprobs": -1},
    "top-logprobs": {"top_logprobs": 5},
    "n-probs": {"n_probs": 5},
    "prompt-logprobs": {"prompt_logprobs": 0},
    "decoder-details": {"decoder_input_details": True},
    "tools": {"tools": [{"type": "function"}]},
    "functions": {"functions": [{"name": "f"}]},
    "json": {"response_format": {"type": "json_object"}},
    "schema": {"json_schema": {"type": "object"}},
    "grammar": {"grammar": 'root ::= "x"'},
    "guided": {"guided_regex": "(a+)+"},
    "structured": {"structured_outputs": {"regex": "(a+)+"}},
    "ebnf": {"ebnf": "root ::= x"},
    "format-case": {"Format": {"type": "object"}},
    "format-long-s": {"re\N{LATIN SMALL LETTER LONG S}ponse_format": {"type": "json_object"}},
    "keep-alive-0": {"keep_alive": 0},
    "keep-alive-for-ever": {"keep_alive": -1},
    "template": {"chat_template": "{{ x }}"},
    "template-kwargs": {"chat_template_kwargs": {"type": "", "x": 1}},
    "picture": {"messages": picture("http://169.254.169.254/")},
    "picture-file": {"messages": picture("file:///etc/passwd")},
    "picture-without-type": {"messages": [{"role": "user", "content": [{"image_url": "http://127.0.0.1/"}]}]},
    "video": {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "http://x/"}}]}]},
    "input-picture": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/"}]}]},
    "input-file": {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://x/"}]}]},
    "source": {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x/"}}]}]},
}
MISSPELT = ("best-of-case", "format-long-s")
"""At the top of a body these are refused before any role is asked: such names are never written otherwise."""
# Names of the length that an API reads itself are held to its own rules first.
NO_NUMBERS: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"max_tokens": 16.5}),
    ("chat", {"max_tokens": "5"}),
    ("chat", {"max_tokens": -3}),
    ("chat", {"max_tokens": [5]}),
    ("chat", {"max_tokens": True}),
    ("chat", {"max_tokens": None, "max_completion_tokens": "5"}),
    ("responses", {"max_output_tokens": "5"}),
    ("anthropic", {"max_tokens": "5"}),
    ("ollama", {"options": {"num_predict": "5"}}),
    ("ollama", {"options": [1]}),
    ("llamacpp", {"n_predict": "5"}),
    ("tgi", {"parameters": {"max_new_tokens": -1}}),
    ("chat", {"Max_Tokens": 5}),
    ("ollama", {"Options": {"num_predict": 5}}),
]
OWN: list[tuple[str, dict[str, Any]]] = [
    ("ollama", {"options": {"num_predict": 17}}),
    ("ollama", {"options": {"num_predict": -1}}),
    ("ollama", {"options": {"num_predict": -2}}),
    ("ollama", {"options": {"num_predict": 0}}),  # no bound, in Ollama's runner
    ("ollama", {"options": {"temperature": 2}}),
    ("ollama", {"format": "json"}),
    ("tgi", {"parameters": {"max_new_tokens": 17}}),
    ("tgi", {"parameters": {"best_of": 2}}),
    ("tgi", {"parameters": {"top_n_tokens": 5}}),
    ("tgi", {"parameters": {"grammar": {"type": "regex", "value": "(a+)+"}}}),
    ("tgi", {"inputs": "![](http://169.254.169.254/)"}),
    ("chat", {"max_tokens": -1}),
    ("chat", {"max_tokens": 0}),
    ("chat", {"max_tokens": 5, "n_predict": -1}),
    ("llamacpp", {"n_predict": -2}),
    ("responses", {"text": {"format": {"type": "json_schema"}}}),
]


def ruled(dialect: str, changes: dict[str, Any], key: str = "ruled") -> bytes:
    path, fields, _ = DIALECTS[dialect]
    return post(path, {**fields, **changes}, key)


PARAMETERS = [
    *(
        Attack(f"{dialect}-{name}", ruled(dialect, changes), *(INVALID if name in MISSPELT else PARAMETER))
        for dialect in DIALECTS
        for name, changes in RULED.items()
    ),
    *(Attack(f"{dialect}-own-{n}", ruled(dialect, changes), *PARAMETER) for n, (dialect, changes) in enumerate(OWN)),
    *(Attack(f"{dialect}-none-{n}", ruled(dialect, changes), *INVALID) for n, (dialect, changes) in enumerate(NO_NUMBERS)),
    *(
        Attack(f"{dialect}-inside-{name}", ruled(dialect, {place: changes}), *PARAMETER)
        for dialect, (_, _, place) in DIALECTS.items()
        if place
        for name, changes in RULED.items()
        if not {"messages", "input"} & set(changes) and not (dialect == "tgi" and name == "max-new-tokens")
    ),
    Attack("member-of-a-team", ruled("chat", {"n": 2}, "member"), *PARAMETER),
]

# --- roles -----------------------------------------------------------------------------------------------------------------

GRANTS = [
    Attack("no-role", post(CHAT, BODY, "roleless"), *FORBIDDEN),
    Attack("no-role-unreadable", post(CHAT, b"{", "roleless"), *FORBIDDEN),
    Attack("no-role-list", request(None, method="GET", path="/v1/models", secret=KEYS["roleless"]), *FORBIDDEN),
    Attack("network", post(CHAT, BODY, "net"), *FORBIDDEN),
    Attack("network-list", request(None, method="GET", path="/v1/models", secret=KEYS["net"]), *FORBIDDEN),
    Attack("denied-by-a-second-role", post(CHAT, BODY, "denier"), *UNKNOWN),
    Attack("endpoint-denied-by-a-second-role", post("/v1/embeddings", {"model": "other", "input": "x"}, "denier"), *FORBIDDEN),
    Attack("endpoint-denied-in-another-api", post("/api/embed", {"model": "other", "input": "x"}, "denier"), *FORBIDDEN),
    Attack("network-denied-by-a-second-role", post(CHAT, chat(model="other"), "banned"), *FORBIDDEN),
    Attack("endpoint", post(CHAT, BODY, "embed"), *FORBIDDEN),
    Attack(
        "endpoint-of-anthropic", post("/v1/messages", {"model": "tiny", "messages": [], "max_tokens": 1}, "embed"), *FORBIDDEN
    ),
    Attack("endpoint-of-ollama", post("/api/generate", {"model": "tiny", "prompt": "x"}, "embed"), *FORBIDDEN),
    Attack("endpoint-list", request(None, method="GET", path="/api/tags", secret=KEYS["embed"]), *FORBIDDEN),
    Attack("stream", post(CHAT, {**json.loads(BODY), "stream": True}, "still"), *PARAMETER),
    Attack("stream-by-default", post("/api/chat", {"model": "tiny", "messages": MESSAGES}, "still"), *PARAMETER),
    Attack("stream-by-path", post("/generate_stream", {"model": "tiny", "inputs": "x"}, "still"), *PARAMETER),
    Attack(
        "stream-of-speech-as-events", post("/v1/audio/speech", {"model": "tiny", "stream_format": "sse"}, "still"), *PARAMETER
    ),
    Attack("stream-in-capitals", post(CHAT, {**json.loads(BODY), "Stream": True}, "still"), *INVALID),
    Attack("stream-text", post(CHAT, {**json.loads(BODY), "stream": "true"}, "still"), *INVALID),
    Attack("body", post(CHAT, BODY[:-1] + b" " * 200 + b"}", "small"), 413, "request_too_large"),
    Attack("context", post(CHAT, {**json.loads(BODY), "max_tokens": 31}, "short"), 413, "request_too_large"),
    Attack("context-by-another-name", post(CHAT, {**json.loads(BODY), "num_predict": 31}, "short"), 413, "request_too_large"),
    Attack("context-without-bound", post(CHAT, {**json.loads(BODY), "max_tokens": -1}, "short"), 413, "request_too_large"),
    Attack("context-of-the-prompt", post(CHAT, {**json.loads(BODY), "user": "x" * 200}, "short"), 413, "request_too_large"),
]
ATTACKS: dict[str, list[Attack]] = {
    "credentials": CREDENTIALS,
    "spoofed": SPOOFED,
    "routes": ROUTES,
    "models": MODELS,
    "compressed": COMPRESSED,
    "parameters": PARAMETERS,
    "grants": GRANTS,
}
