"""Real proxies before a gate: nginx and HAProxy on the loopback, configured with the samples of docs/security.md.

Each is ended by its own handle. It knows where samples stand and what of them belongs to one machine, and no test.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.tools.gate import ROOT, eventually
from tests.tools.parent import die_with_parent

AROUND_NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log nginx.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{sample}
}}
"""


def sample(language: str, changes: Mapping[str, str]) -> str:
    """The sample of docs/security.md in this language; each of `changes`, a text of it and what stands there here, is made."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
    for old, new in changes.items():
        assert old in text, f"the {language} sample of docs/security.md has no {old!r} any more"
        text = text.replace(old, new)
    return str(text)


@contextmanager
def nginx(home: Path, port: int, changes: Mapping[str, str]) -> Iterator[None]:
    """nginx with the sample, which with these changes has to listen on `port`."""
    home.mkdir()
    (home / "nginx.conf").write_text(AROUND_NGINX.format(sample=sample("nginx", changes)))
    with _running("nginx", ["-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"], home, port):
        yield


@contextmanager
def haproxy(home: Path, port: int, text: str) -> Iterator[None]:
    """HAProxy with this configuration, which has to listen on `port`."""
    home.mkdir()
    (home / "haproxy.cfg").write_text(text)
    with _running("haproxy", ["-db", "-f", str(home / "haproxy.cfg")], home, port):
        yield


@contextmanager
def _running(name: str, arguments: list[str], home: Path, port: int) -> Iterator[None]:
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    assert program, f"{name} is missing: install the Debian package"
    with (home / "said").open("wb") as said:
        made = subprocess.Popen(
            [program, *arguments], cwd=home, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=die_with_parent
        )
    try:

        def listens() -> bool:
            assert made.poll() is None, f"{name} ended with {made.returncode}:\n{(home / 'said').read_text()}"
            with socket.socket() as one:
                one.settimeout(2)
                return one.connect_ex(("127.0.0.1", port)) == 0

        eventually(listens, 20, f"{name} listens")
        yield
    finally:
        made.terminate()
        try:
            made.wait(10)
        except subprocess.TimeoutExpired:
            made.kill()
            made.wait(5)
