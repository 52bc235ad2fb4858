"""What OpenSSL can and Python's `ssl` has no word for: one key of session tickets for all workers, the groups, no session cache.

The library that `ssl` itself is linked with is called, on the context that an `SSLContext` holds. Where the interpreter is not
built as this module expects, that is noticed and nothing is touched: tickets are then each worker's own. It knows no listener.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
from functools import cache
from typing import Any

from slmgate.link.tls import TICKET_KEY_BYTES

GROUPS = b"X25519:P-256:P-384"

# of openssl/ssl.h and tls1.h
_SET_SESS_CACHE_MODE = 44
_SET_MAX_CERT_LIST = 51
_SET_TICKET_KEYS = 59
_SET_GROUPS_LIST = 92
_GET_MIN_VERSION = 130
_CACHE_OFF = 0


@cache
def _library() -> Any:
    """OpenSSL as `ssl` uses it; None where its functions are not to be had."""
    try:
        import _ssl

        library = ctypes.CDLL(_ssl.__file__)
        library.SSL_CTX_ctrl.restype = ctypes.c_long
        library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
    except (ImportError, AttributeError, OSError):  # another interpreter, or OpenSSL inside of it
        return None
    return library


def _address(context: ssl.SSLContext) -> int:
    """Where OpenSSL's own context should be: behind the object's head (Modules/_ssl.c, PySSLContext)."""
    return ctypes.c_size_t.from_address(id(context) + object.__basicsize__).value


def _is_mapped(address: int) -> bool:
    """Whether there is writable memory at an address: asked before anything there is looked at."""
    try:
        with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
            for line in maps:
                span, rights = line.split(None, 2)[:2]
                start, end = (int(part, 16) for part in span.split("-"))
                if start <= address and address + 64 <= end:
                    return rights.startswith("rw")
    except (OSError, ValueError):
        pass
    return False


@cache
def can_reach() -> bool:
    """Whether OpenSSL's context can be reached from Python's: tried once, on one of which three properties are known."""
    library = _library()
    if library is None or sys.implementation.name != "cpython":
        return False
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    probe.minimum_version = ssl.TLSVersion.TLSv1_3
    probe.options |= ssl.OP_NO_RENEGOTIATION
    address = _address(probe)
    return bool(
        address
        and address % 8 == 0
        and _is_mapped(address)
        and library.SSL_CTX_get_options(address) == int(probe.options)
        and library.SSL_CTX_ctrl(address, _GET_MIN_VERSION, 0, None) == int(probe.minimum_version)
        and library.SSL_CTX_ctrl(address, _SET_TICKET_KEYS, 0, None) == TICKET_KEY_BYTES  # so it says what length it wants
    )


def _control(context: ssl.SSLContext, command: int, number: int, data: bytes | None) -> bool:
    return can_reach() and _library().SSL_CTX_ctrl(_address(context), command, number, data) == 1


def set_groups(context: ssl.SSLContext) -> bool:
    """Agree on keys by `GROUPS` only. False: by OpenSSL's own, which are more."""
    return _control(context, _SET_GROUPS_LIST, 0, GROUPS)


def set_ticket_key(context: ssl.SSLContext, key: bytes) -> bool:
    """Seal session tickets with this key, and open those that were. False: they stay the context's own."""
    return len(key) == TICKET_KEY_BYTES and _control(context, _SET_TICKET_KEYS, TICKET_KEY_BYTES, key)


def keep_no_sessions(context: ssl.SSLContext) -> bool:
    """Remember no session of TLS 1.2: a client's ticket holds all of it. False: OpenSSL remembers."""
    if can_reach():
        _library().SSL_CTX_ctrl(_address(context), _SET_SESS_CACHE_MODE, _CACHE_OFF, None)  # returns what it was before
    return can_reach()


def take_certificates_of(context: ssl.SSLContext, most: int) -> bool:
    """Take no client's chain of certificates that is longer than so many bytes. False: OpenSSL takes 100 KiB."""
    if can_reach():
        _library().SSL_CTX_ctrl(_address(context), _SET_MAX_CERT_LIST, most, None)  # returns what it was before
    return can_reach()
