"""TLS in front of a mock instance: what decrypts for it, with whichever certificate and demands a test gives, and counts.

Each connection is two threads of the test's own process: blocking handshakes, so that what a TLS server says when it refuses one
(its alert) is really sent. `plain` answers with HTTP whatever it hears, `silent` takes connections and never answers. What is
said over TLS it does not know.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Literal, Self

Way = ssl.SSLContext | Literal["plain", "silent"]


class TlsFront:
    """One listening port; what it decrypts goes to `target`, a port of 127.0.0.1. `way` may change at any time."""

    def __init__(self, target: int, way: Way, host: str = "127.0.0.1") -> None:
        self.target, self.way = target, way
        self.handshakes = 0  # that came to a good end
        self.failed = 0
        self.accepted = 0
        self.received = b""  # what came decrypted, of all connections
        self.names: list[str | None] = []  # that were asked for (SNI)
        self.versions: list[str] = []  # of TLS that were spoken
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((host, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[:1]:
            thread.join(5)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(5)

    def drop(self) -> None:
        """End every connection, below TLS, whose end nobody is told."""
        for one in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def clear(self) -> None:
        self.received = b""

    def _run(self, what: Callable[..., None], *arguments: object) -> None:
        self._threads = [one for one in self._threads if one.is_alive()]
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._run(self._serve, one, self.way)

    def _serve(self, raw: socket.socket, way: Way) -> None:
        """One connection, from its handshake to its end."""
        one = raw
        if isinstance(way, ssl.SSLContext):
            way.sni_callback = lambda _socket, name, _context: self.names.append(name)
            raw.settimeout(10)
            one = way.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        self._open.append(one)
        try:
            with one, contextlib.suppress(OSError, ValueError):
                self._talk(one, way)
        finally:
            self._open.remove(one)

    def _talk(self, one: socket.socket, way: Way) -> None:
        if way == "silent":
            while one.recv(65536):
                pass
            return
        if way == "plain":
            one.recv(65536)
            one.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self._part(one)
            return
        if isinstance(one, ssl.SSLSocket):
            try:
                one.do_handshake()
            except OSError:
                self.failed += 1
                self._part(one)
                return
            self.versions.append(one.version() or "")
        one.settimeout(None)
        self.handshakes += 1
        with socket.create_connection(("127.0.0.1", self.target)) as inner:
            back = threading.Thread(target=self._pump, args=(inner, one), daemon=True)
            back.start()
            self._pump(one, inner, count=True)
            back.join(5)

    def _part(self, one: socket.socket) -> None:
        """Close so that the last words arrive: with bytes unread, the kernel would take them back."""
        one.shutdown(socket.SHUT_WR)
        one.settimeout(2)
        while one.recv(65536):
            pass

    def _pump(self, source: socket.socket, sink: socket.socket, count: bool = False) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(65536):
                if count:
                    self.received += data
                sink.sendall(data)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sink, socket.SHUT_RDWR)
