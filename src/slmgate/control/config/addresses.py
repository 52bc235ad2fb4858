"""The kinds of network values: an address to listen on and the URL of an instance.

Hosts are checked for form only, never looked up. IP addresses come out in their canonical form and names in lower case,
so that equal places compare equal. This module opens no socket.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, ClassVar, NamedTuple

from slmgate.control.config.faults import BadValueError
from slmgate.control.config.kinds import Kind

_PRIVATE = tuple(
    ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""This machine itself, private networks (RFC 1918, 4193, 6598) and links (RFC 3927, 4291)."""
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_AUTHORITY = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?")


class Address(NamedTuple):
    """Where to listen. `host` is an IP address or a name, without brackets; empty: every address of the machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


class Origin(NamedTuple):
    """Where an instance is: the part of a URL that comes before the path."""

    host: str
    port: int
    tls: bool = False

    @property
    def location(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.location}"


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _may_hold_a_secret(text: str) -> bool:
    """Whether a text that is no URL might be one with a password or a key in it: then a fault does not quote it."""
    return "@" in text or "?" in text


def is_everywhere(host: str) -> bool:
    """Whether a host to listen on stands for every address of this machine."""
    return host in ("", "0.0.0.0", "::")  # noqa: S104  # compared with, not bound to


def is_loopback(host: str) -> bool:
    """Whether a host, as `Url` gives it, is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_public(host: str) -> bool:
    """Whether a host to listen on may be reached from outside of private networks; of a name nobody can say that it may not."""
    try:
        address = ip_address(host)
    except ValueError:
        return host != "localhost"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return not any(address in network for network in _PRIVATE)


class Listener(Kind, frozen=True, kw_only=True):
    """An address to listen on."""

    label: ClassVar[str] = "address"

    def read(self, text: str) -> Address:
        if re.fullmatch(r"[0-9]{1,5}", text):
            raise BadValueError("has no host", f"write 127.0.0.1:{text}, or :{text} for every address of this machine")
        if text.startswith("*:"):
            raise BadValueError("is not an address", f"write {text[1:]} for every address of this machine")
        if "/" in text:
            raise BadValueError("is not an address", "write host:port, without a scheme or a path")
        host, port = _authority(text, "write host:port, [::1]:port or :port")
        if port is None:
            raise BadValueError("has no port", "write host:port, [::1]:port or :port")
        return Address(host, port)

    def form(self, value: Address) -> str:
        return str(value)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):[0-9]{1,5}$"}

    def own_values(self) -> str:
        return "`host:port`, `[ipv6]:port` or `:port`"


class Url(Kind, frozen=True, kw_only=True):
    """The URL of an instance: scheme, host and port, nothing else."""

    label: ClassVar[str] = "URL"

    def read(self, text: str) -> Origin:
        scheme, separator, rest = text.partition("://")
        if not separator:
            raise BadValueError("has no scheme", "write http:// or https:// in front", private=_may_hold_a_secret(text))
        if scheme.lower() not in ("http", "https"):
            hint = "instances are reached over http:// or https://"
            raise BadValueError("has a scheme other than http and https", hint, private=_may_hold_a_secret(text))
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        tail = rest[len(authority) :]
        if "@" in authority:
            raise BadValueError("holds a user name or password", "give the instance's secret in `bearer`", private=True)
        if "?" in tail or "#" in tail:
            raise BadValueError(
                "has a query or a fragment", "end it after host and port; give a secret in `bearer`", private=True
            )
        host, port = _authority(authority, "write it like http://10.0.0.5:8000")
        if not host:
            raise BadValueError("has no host", "write it like http://10.0.0.5:8000")
        tls = scheme.lower() == "https"
        origin = Origin(host, port or (443 if tls else 80), tls)
        if tail not in ("", "/"):
            raise BadValueError("has a path", f"the gate adds the path itself: write {scheme.lower()}://{authority}")
        return origin

    def form(self, value: Origin) -> str:
        return str(value)

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[hH][tT][tT][pP][sS]?://[^/?#@]+/?$"}

    def own_values(self) -> str:
        return "`http://host:port` or `https://host:port`, without a path"


class HostName(Kind, frozen=True, kw_only=True):
    """A name to look up."""

    label: ClassVar[str] = "host name"
    textual: ClassVar[bool] = True

    def read(self, text: str) -> str:
        hint = "write the name alone, like vllm.models.svc; the port is an option of its own"
        if not text or not re.fullmatch(r"[A-Za-z0-9._-]+", text):
            raise BadValueError("is not a host name", hint)
        if re.fullmatch(r"[0-9.]+", text):
            raise BadValueError("is an address, not a name", f"write url: http://{text}:8000 in its place")
        return _authority(text, hint)[0]

    def form(self, value: str) -> str:
        return value

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[A-Za-z0-9._-]+$"}

    def own_values(self) -> str:
        return "a host name"


class WebUrl(Kind, frozen=True, kw_only=True):
    """The URL of a site that browsers visit: `https`, or `http` where that stays on the machine or `plain` allows.

    Kept as it was written, since issuers are compared character for character (OpenID Connect Discovery 1.0, 4.3).
    """

    label: ClassVar[str] = "URL"
    path: bool = False
    plain: bool = False

    def read(self, text: str) -> str:
        scheme, separator, rest = text.partition("://")
        if not separator or scheme not in ("http", "https"):
            raise BadValueError("has no scheme", "write https:// in front", private=_may_hold_a_secret(text))
        authority, slash, path = rest.partition("/")
        if "@" in authority:
            raise BadValueError("holds a user name or password", "leave it out", private=True)
        if re.search(r"[?#]", rest):
            raise BadValueError("has a query or a fragment", "end it before that", private=True)
        if not re.fullmatch(r"[!-~]*", rest) or "\\" in rest:
            raise BadValueError("holds a character that no URL has", "write visible ASCII only")
        host, _ = _authority(authority, "write it like https://login.example.com")
        if not host:
            raise BadValueError("has no host", "write it like https://login.example.com")
        if scheme == "http" and not self.plain and not is_loopback(host):
            raise BadValueError("is not https", "only a server on this machine may do without: write https://")
        if slash and not self.path:
            raise BadValueError("has a path", f"write {scheme}://{authority}")
        if any(part in (".", "..") for part in path.split("/")):
            raise BadValueError("has a path with . or ..", "write the path that is meant")
        return text

    def form(self, value: str) -> str:
        return value

    def own_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^https?://[^?#@]+$" if self.path else r"^https?://[^/?#@]+$"}

    def own_values(self) -> str:
        return f"`https://`{' or `http://`' if self.plain else ''} URL{'' if self.path or not self.plain else ' without a path'}"


def host_of(url: str) -> str:
    """The host of a URL that `WebUrl` accepts: lower case, IPv6 without brackets."""
    return _authority(url.partition("://")[2].partition("/")[0], "")[0]


def _authority(text: str, hint: str) -> tuple[str, int | None]:
    """Host (lower case, IPv6 without brackets, empty where none is given) and port of `host:port`."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise BadValueError("is not host:port", "put an IPv6 address in brackets: [::1]:8080" if text.count(":") > 1 else hint)
    six, name, digits = found.groups()
    port = int(digits) if digits else None
    if port is not None and not 1 <= port <= 65535:
        raise BadValueError("has an impossible port", "ports go from 1 to 65535")
    try:
        if six is not None:
            return str(IPv6Address(six)), port
        if re.fullmatch(r"[0-9.]+", name):
            return str(IPv4Address(name)), port
    except ValueError:
        raise BadValueError("has an impossible IP address", hint) from None
    if name and (len(name) > 253 or not _HOST_NAME.fullmatch(name)):
        raise BadValueError("has a host name that cannot be", hint)
    return name.lower(), port
