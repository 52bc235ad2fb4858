"""A certified OpenID provider (npm `oidc-provider`) as a real process: its tokens, its keys, what it was asked.

The package is installed once into the user's cache. It knows the provider's script and the standard endpoints, and nothing of
the gate.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.tools.gate import ROOT, eventually, free_port, get
from tests.tools.parent import die_with_parent

NODE = ROOT / "tests" / "system" / "node"
INSTALL = ("install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
CLIENT, CLIENT_SECRET = "slmgate", "secret-of-slmgate+/=-0123456789"


def node_packages(folder: Path = NODE) -> Path:
    """The directory with the scripts of `folder` and the pinned packages beside them."""
    npm = shutil.which("npm")
    assert npm, "npm is missing: install the Debian packages nodejs and npm"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "slmgate-tests" / folder.name
    cache.mkdir(parents=True, exist_ok=True)
    stamp = cache / "node_modules" / ".installed"
    wanted = (folder / "package.json").read_text()
    for each in folder.iterdir():
        shutil.copy(each, cache)
    if not stamp.exists() or stamp.read_text() != wanted:
        done = subprocess.run([npm, *INSTALL], cwd=cache, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"npm install failed, is a registry configured?\n{done.stderr[-2000:]}"
        stamp.write_text(wanted)
    return cache


class Provider:
    """One provider on loopback. `resource` of a token: jwt, short (4 s), opaque or elsewhere (another audience)."""

    def __init__(self, log: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._web = httpx.Client(base_url=self.issuer, timeout=10, trust_env=False)
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["node", "provider.mjs", str(self.port)],
                cwd=node_packages(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        eventually(lambda: get(self.port, "/test/asked") == 200, 20, "the provider listens")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)

    def token(self, resource: str = "jwt", client: str = "bot") -> str:
        """A fresh access token by client credentials (RFC 6749 section 4.4)."""
        form = {"grant_type": "client_credentials", "resource": f"urn:test:{resource}"}
        answer = self._web.post("/token", data=form, auth=(client, f"secret-of-{client}-0123456789"))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def revoke(self, token: str, client: str = "bot") -> None:
        """RFC 7009."""
        answer = self._web.post("/token/revocation", data={"token": token}, auth=(client, f"secret-of-{client}-0123456789"))
        assert answer.status_code == 200, answer.text

    def turn_keys(self, *names: str) -> None:
        """Publish these keys; the first one signs from now on."""
        assert self._web.post("/test/keys", json={"keys": names}).status_code == 200

    def asked(self) -> dict[str, Any]:
        """How often each path was asked for."""
        return dict(self._web.get("/test/asked").json())

    def close(self) -> None:
        self._web.close()
        self.kill()
