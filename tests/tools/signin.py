"""What the tests of sign-in start beside a gate: the system's Chromium, and a certified OpenID provider on Node.js.

Both are real and on the loopback; each is ended by its own handle. It knows no test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.tools.gate import free_port
from tests.tools.parent import die_with_parent

HERE = Path(__file__).resolve().parents[1] / "system" / "signin"
CLIENT, SECRET = "slmgate-admin", "s3cret/with+signs"
PUBLIC_CLIENT = "slmgate-public"


@contextmanager
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "Chromium is missing: install the Debian package chromium"
    # no name is looked up: a test that needed the internet would fail without it
    arguments = ["--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
    if os.geteuid() == 0:  # root, as in containers, may not have Chromium's own sandbox
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


def packages(here: Path = HERE) -> Path:
    """The directory with what stands in `here` and its pinned packages, installed once into the user's cache."""
    npm = shutil.which("npm")
    assert npm, "npm is missing: install the Debian packages nodejs and npm"
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "slmgate-tests" / here.name
    cache.mkdir(parents=True, exist_ok=True)
    stamp, wanted = cache / "node_modules" / ".installed", (here / "package.json").read_text()
    for each in here.iterdir():
        shutil.copy(each, cache)
    if not stamp.exists() or stamp.read_text() != wanted:
        command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, f"npm install failed, is a registry configured?\n{done.stderr[-2000:]}"
        stamp.write_text(wanted)
    return cache


@contextmanager
def provider(gate_origin: str) -> Iterator[str]:
    """A provider for the gate at this origin; its issuer."""
    port = free_port()
    command = ["node", "signin_provider.mjs", str(port), gate_origin]
    home = packages()
    with (home / f"provider-{port}.log").open("w+") as log:
        process = subprocess.Popen(
            command, cwd=home, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, preexec_fn=die_with_parent
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready", Path(log.name).read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
            Path(log.name).unlink(missing_ok=True)
