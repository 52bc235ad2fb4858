"""Addresses and URLs: a table of accepted and refused inputs for each.

Whether something listens there is nobody's question here.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slmgate.control.config.addresses import (
    Address,
    HostName,
    Listener,
    Origin,
    Url,
    WebUrl,
    host_of,
    is_everywhere,
    is_loopback,
    is_public,
)
from slmgate.control.config.faults import BadValueError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (":8080", Address("", 8080)),
        ("[::1]:1", Address("::1", 1)),
        ("[2001:DB8:0:0::1]:65535", Address("2001:db8::1", 65535)),
        ("Localhost:80", Address("localhost", 80)),
        ("a_b.c-d:80", Address("a_b.c-d", 80)),
    ],
)
def test_listener_accepted(text: str, address: Address) -> None:
    assert Listener().take(text, "quoted") == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":0",
        ":65536",
        ":080000",
        "8080",
        "*:80",
        "a",
        "::1:80",
        "[::1]",
        "[]:80",
        "[127.0.0.1]:80",
        "127.1:80",
        "1.2.3.4.:80",
        "a b:80",
        "http://a:80",
        "unix:/run/x",
        "a:80\n",
        "-a:80",
        "a..b:80",
        "a:٨٠",
        "x" * 64 + ":80",
        "a:b:80",
    ],
)
def test_listener_refused(text: str) -> None:
    with pytest.raises(BadValueError):
        Listener().take(text, "quoted")


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:8000", Origin("127.0.0.1", 8000)),
        ("HTTP://Host", Origin("host", 80)),
        ("http://0x7f000001", Origin("0x7f000001", 80)),  # a name, as it is not digits and dots alone
        ("https://host/", Origin("host", 443, True)),
        ("http://[::1]", Origin("::1", 80)),
        ("https://[::1]:8443/", Origin("::1", 8443, True)),
    ],
)
def test_url_accepted(text: str, origin: Origin) -> None:
    assert Url().take(text, "quoted") == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "http:///",
        "http://:80",
        "host:80",
        "ftp://h",
        "file:///etc/passwd",
        "gopher://h",
        "//h",
        "http:/h",
        "http:h",
        "http://h/v1",
        "http://h//",
        "http://h?x",
        "http://h#x",
        "http://h/?x",
        "http://u@h",
        "http://u:p@h",
        "http://h:",
        "http://h:x",
        "http://h:0",
        "http://h:65536",
        "http://h\r\n",
        "http://h /",
        "http://[::1",
        "http://::1",
        "http://[::1%25lo]x",
        "http://h\\x",
        "http://2130706433",
        "http://0177.0.0.1",
        "http://1.2.3",
        "http:// h",
        " http://h",
        "http://h@",
        "http://\uff48",
    ],
)
def test_url_refused(text: str) -> None:
    with pytest.raises(BadValueError):
        Url().take(text, "quoted")


def test_user_and_query_may_be_secrets() -> None:
    for text in ("http://u:p@h", "http://h?key=x", "http://h#x", "htp://u:p@h", "u:p@h", "h?key=x"):
        with pytest.raises(BadValueError) as caught:
            Url().take(text, "quoted")
        assert caught.value.private


@pytest.mark.parametrize("text", ["u:p@h", "htp://u:p@h", "h?key=x"])
def test_what_is_no_url_may_hold_a_secret_as_well(text: str) -> None:
    with pytest.raises(BadValueError) as caught:
        WebUrl().take(text, "quoted")
    assert caught.value.private


def test_a_path_is_told_what_to_write() -> None:
    with pytest.raises(BadValueError) as caught:
        Url().take("HTTP://Host:8000/v1", "quoted")
    assert caught.value.hint == "the gate adds the path itself: write http://Host:8000"


def test_text_forms() -> None:
    assert str(Address("", 80)) == ":80"
    assert str(Address("::1", 80)) == "[::1]:80"
    assert str(Origin("::1", 80)) == "http://[::1]:80"
    assert Origin("h", 443, True).location == "h:443"
    assert Url().write(Origin("h", 443, True)) == "https://h:443"
    assert Listener().write(Address("h", 1)) == "h:1"
    assert Url().accepts()
    assert Listener().accepts()


@given(st.text(alphabet="ab:/[]@?#.0189- \n", max_size=30))
def test_what_is_accepted_reads_the_same_again(text: str) -> None:
    for kind in (Url(), Listener()):
        try:
            value = kind.take(text, "quoted")
        except BadValueError:
            continue
        assert kind.take(str(value), "quoted") == value


@pytest.mark.parametrize(
    ("text", "path", "plain"),
    [
        ("https://login.example.com", False, False),
        ("https://login.example.com/", True, False),
        ("https://login.example.com/realms/a%20b", True, False),
        ("https://[2001:db8::1]:8443", False, False),
        ("http://127.0.0.1:8080/x", True, False),
        ("http://localhost", False, False),
        ("http://[::1]:1", False, False),
        ("http://gate.lan:8081", False, True),
    ],
)
def test_web_urls_stay_as_they_were_written(text: str, path: bool, plain: bool) -> None:
    kind = WebUrl(path=path, plain=plain)
    assert kind.form(kind.take(text, "plain")) == text
    assert re.fullmatch(kind.own_schema()["pattern"], text)


@pytest.mark.parametrize(
    "text",
    [
        "", "login.example.com", "ftp://a.example", "HTTPS://a.example", "https://", "https:///x", "https://u:p@a.example",
        "https://a.example?x", "https://a.example#x", "https://a.example\\x", "https://a.exa mple", "https://é.example",
        "https://a.example:0", "https://a.example:99999", "http://a.example", "http://127.0.0.1.example", "http://10.0.0.5",
        "https://a.example/../x", "https://a.example/./x", "https://a.example/x\n",
    ],
)  # fmt: skip
def test_web_urls_that_cannot_be(text: str) -> None:
    with pytest.raises(BadValueError) as raised:
        WebUrl(path=True).take(text, "quoted")
    assert "u:p" not in str(raised.value)


def test_a_web_url_without_a_path() -> None:
    with pytest.raises(BadValueError, match="path"):
        WebUrl().take("https://a.example/", "quoted")
    assert "http://" in WebUrl(plain=True).own_values()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("a.example", False),
        ("::", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Login.Example.com/realms/a", "login.example.com"),
        ("https://[::1]:9000/", "::1"),
        ("http://10.0.0.5:80", "10.0.0.5"),
    ],
)
def test_the_host_of_a_web_url(url: str, host: str) -> None:
    assert host_of(url) == host


@pytest.mark.parametrize(
    ("text", "name"), [("vllm.models.svc", "vllm.models.svc"), ("VLLM", "vllm"), ("a-b_c.d.", "a-b_c.d."), ("1a.x", "1a.x")]
)
def test_host_names(text: str, name: str) -> None:
    assert HostName().take(text, "quoted") == name
    assert re.search(HostName().own_schema()["pattern"], text)


@pytest.mark.parametrize(
    "text", ["", "a:80", "http://a", "10.0.0.1", "1.2", "a b", "a..b", "-a", "[::1]", "::1", "a\n", "x" * 64, "é"]
)
def test_what_is_no_host_name(text: str) -> None:
    with pytest.raises(BadValueError):
        HostName().take(text, "quoted")


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("", True),
        ("0.0.0.0", True),
        ("::", True),
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("::1", False),
        ("localhost", False),
        ("gate.example", True),
        ("10.1.2.3", False),
        ("172.15.255.255", True),
        ("172.16.0.0", False),
        ("172.31.255.255", False),
        ("172.32.0.0", True),
        ("192.168.0.1", False),
        ("192.169.0.1", True),
        ("100.64.0.1", False),
        ("100.128.0.1", True),
        ("169.254.1.1", False),
        ("192.0.2.1", True),
        ("8.8.8.8", True),
        ("fd00::1", False),
        ("fe80::1", False),
        ("fec0::1", True),
        ("2001:db8::1", True),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
    ],
)
def test_what_may_be_reached_from_outside(host: str, public: bool) -> None:
    assert is_public(host) is public


@pytest.mark.parametrize(
    ("host", "everywhere"),
    [("", True), ("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("::1", False), ("0.0.0.1", False), ("localhost", False)],
)
def test_what_stands_for_every_address(host: str, everywhere: bool) -> None:
    assert is_everywhere(host) is everywhere
