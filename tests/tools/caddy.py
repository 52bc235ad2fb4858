"""A real ACME server for tests: Caddy's, with an authority of its own, on loopback.

It asks names as the protocol says, on the ports 80 and 443, and looks them up in a hosts file that it alone sees (in a mount
namespace of its own). So each test takes loopback addresses of its own for its names, and no two meet. Needs root, or
namespaces that users may make. It knows no gate.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sysconfig
import urllib.request
from pathlib import Path

from cryptography import x509

from tests.tools.gate import eventually, free_port
from tests.tools.parent import die_with_parent

SHORTEST = "5m"
"""The shortest lifetime of a certificate that Caddy's authority gives."""


def own_address() -> str:
    """An address of this machine that no other test is likely to have."""
    pick = random.SystemRandom()
    return f"127.{pick.randrange(16, 240)}.{pick.randrange(1, 255)}.{pick.randrange(1, 255)}"


class Caddy:
    """`names` maps each name to its address. Use it in a `with`; it may be stopped and started again with what it knows."""

    def __init__(self, home: Path, names: dict[str, str], lifetime: str = SHORTEST) -> None:
        self.home = home
        self.port = free_port()
        self.root = home / "store" / "pki" / "authorities" / "local" / "root.crt"
        self.log = home / "caddy.log"
        home.mkdir(parents=True, exist_ok=True)
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in names.items())]
        (home / "hosts").write_text("\n".join(lines) + "\n")
        (home / "caddy.json").write_text(json.dumps(self._config(lifetime)))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def directory(self) -> str:
        return f"https://127.0.0.1:{self.port}/acme/local/directory"

    def __enter__(self) -> Caddy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        program = Path(sysconfig.get_path("scripts")) / "caddy"
        namespaces = "-m" if os.geteuid() == 0 else "-Urm"
        script = f'mount --bind "{self.home}/hosts" /etc/hosts && exec "{program}" run --config "{self.home}/caddy.json"'
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", namespaces, "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self.home), "PATH": os.environ["PATH"]},
                preexec_fn=die_with_parent,
            )
        try:
            eventually(self._answers, 20.0, "Caddy answers as an ACME server")
        except AssertionError:
            self.stop()
            raise AssertionError(f"no ACME server:\n{self.log.read_text(errors='replace')[-4000:]}") from None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(10.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def orders(self) -> int:
        """How many orders have been made here."""
        return sum(1 for line in self._requests() if line.endswith("/new-order"))

    def _requests(self) -> list[str]:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if '"handled request"' in line]
        return [str(json.loads(line)["request"]["uri"]) for line in lines]

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "Caddy has ended"
        if not self.root.exists():
            return False
        try:
            context = ssl.create_default_context(cafile=str(self.root))
            with urllib.request.urlopen(self.directory, timeout=2.0, context=context) as answer:
                return bool(answer.status == 200)
        except (OSError, ssl.SSLError):
            return False

    def _config(self, lifetime: str) -> dict[str, object]:
        acme = {"handler": "acme_server", "ca": "local", "lifetime": lifetime}
        server = {
            "listen": [f"127.0.0.1:{self.port}"],
            "automatic_https": {"disable_redirects": True},
            "tls_connection_policies": [{"default_sni": "127.0.0.1"}],
            "routes": [{"match": [{"host": ["127.0.0.1"]}], "handle": [acme]}],
            "logs": {},
        }
        issuer = {"subjects": ["127.0.0.1"], "issuers": [{"module": "internal"}]}
        return {
            "admin": {"disabled": True},
            "storage": {"module": "file_system", "root": str(self.home / "store")},
            "apps": {
                "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
                "tls": {"automation": {"policies": [issuer]}, "certificates": {"automate": ["127.0.0.1"]}},
                "http": {"grace_period": "1s", "http_port": free_port(), "https_port": self.port, "servers": {"acme": server}},
            },
        }


def shown(address: str, name: str, *offered: str, port: int = 443) -> tuple[str, int]:
    """Whose certificate is shown there for `name` (its issuer's name), and its serial number; whoever vouches for it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if offered:
        context.set_alpn_protocols(list(offered))
    with socket.create_connection((address, port), timeout=5.0) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    found = x509.load_der_x509_certificate(der)
    return found.issuer.rfc4514_string(), found.serial_number
