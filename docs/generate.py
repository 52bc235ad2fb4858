"""Writes what is made: pages of docs/ and examples/ (options, commands, tables of the APIs), and Grafana's dashboards in deploy/.

`python docs/generate.py` writes them, `--check` only compares and fails where one is out of date. It knows no option, no
command and no path: the option table, the application and the table of the dialects tell.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # `deploy` is beside the package, not in it
HEAD = """\
# Commands

<!-- Made from the commands themselves by `make docs`; change their help, not this page. -->

`slmgate serve` owns the state; the other commands talk to its admin API or, where they say so, open the files themselves.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | the answer is no, or it went wrong: the message says what |
| 2 | the command was misused |
| 3 | the gate cannot be reached |

"""


def _plain(text: str | None) -> str:
    return " ".join((text or "").split())


def _blocks(command: Any, path: str) -> Iterator[str]:
    """The section of one command, and those of its own commands. `command` is a command of click, as Typer makes them."""
    own = getattr(command, "commands", None)
    if own:
        if path != "slmgate":
            yield f"## `{path}`\n\n{_plain(command.help)}\n\n"
        for name, inner in own.items():
            yield from _blocks(inner, f"{path} {name}")
        return
    yield f"{'##' if path.count(' ') == 1 else '###'} `{path}`\n\n{_plain(command.help)}\n\n"
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        if parameter.param_type_name == "argument":
            rows.append(f"| `{parameter.name.upper()}` | {_plain(getattr(parameter, 'help', ''))} |")
        else:
            flags = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
            rows.append(f"| {flags} | {_plain(parameter.help)} |")
    if rows:
        yield "| | |\n| --- | --- |\n" + "\n".join(rows) + "\n\n"


def commands_page() -> str:
    """The text of `docs/commands.md`."""
    from typer.main import get_command

    from slmgate.cli import app

    return HEAD + "".join(_blocks(get_command(app.build(["--help"])), "slmgate")).rstrip() + "\n"


API_NAMES = {"openai": "OpenAI", "anthropic": "Anthropic", "ollama": "Ollama", "llamacpp": "llama.cpp", "tgi": "TGI"}
IN_ANSWER = "in the answer"
NONE = "none: nothing is read or written by the model"
# Where the figures of a receipt come from: (dialect, endpoint) -> unstreamed answers, streams ("": it never streams).
FIGURES = {
    ("openai", "chat"): (IN_ANSWER, "asked for with `stream_options`, and taken out again unless the client asked"),
    ("openai", "completions"): (IN_ANSWER, "as for chat"),
    ("openai", "embeddings"): (IN_ANSWER, ""),
    ("openai", "responses"): (IN_ANSWER, "in the last event"),
    ("openai", "rerank"): (IN_ANSWER, ""),
    ("openai", "transcriptions"): (
        "in a JSON answer, if the engine puts them there; else estimated",
        "in the last event, if it is there",
    ),
    ("openai", "translations"): ("as for transcriptions", "as for transcriptions"),
    ("openai", "speech"): ("estimated", "in the last event of `stream_format: sse`"),
    ("openai", "models"): ("the gate answers", ""),
    ("anthropic", "messages"): (IN_ANSWER, "in `message_start` and `message_delta`"),
    ("anthropic", "count_tokens"): (NONE, ""),
    ("ollama", "chat"): (IN_ANSWER, "in the last object"),
    ("ollama", "generate"): (IN_ANSWER, "in the last object"),
    ("ollama", "embed"): (IN_ANSWER, ""),
    ("ollama", "embeddings"): ("estimated: the engine says none", ""),
    ("ollama", "models"): ("the gate answers", ""),
    ("llamacpp", "completion"): (IN_ANSWER, "in the last event of each completion"),
    ("llamacpp", "infill"): (IN_ANSWER, "in the last event"),
    ("llamacpp", "tokenize"): (NONE, ""),
    ("llamacpp", "detokenize"): (NONE, ""),
    ("tgi", "generate"): ("in `details`, if asked for, the prompt's with `decoder_input_details`; else estimated", ""),
    ("tgi", "generate_stream"): ("", "in `details`, asked for and taken out again unless the client asked"),
}


def _routes_table() -> str:
    from slmgate.dialects import TABLE

    lines = [
        "| API | method and path | in roles | body | figures, unstreamed | figures, streamed |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for route in TABLE.values():
        api = API_NAMES[route.dialect.name]
        body = {"json": "JSON", "multipart": "form", "list": "none"}[route.kind]
        whole, streamed = FIGURES[route.dialect.name, route.endpoint]
        asked = f"`{route.method} {route.path}` | `{route.access}`"
        lines.append(f"| {api} | {asked} | {body} | {whole or '-'} | {streamed or '-'} |")
    return "\n".join(lines)


def _headers_table() -> str:
    from slmgate.http1.heads import ANSWER_FIELDS_PASSED, REQUEST_FIELDS_PASSED

    def names(fields: tuple[bytes, ...]) -> str:
        return ", ".join(f"`{name.decode()}`" for name in sorted(fields))

    return (
        "| direction | passes as it came | written by the gate |\n| --- | --- | --- |\n"
        f"| client to instance | {names(REQUEST_FIELDS_PASSED)} | `host`, `content-type`, `content-length`, "
        "`accept-encoding` (`identity`), `x-request-id`, `authorization` (the instance's own `bearer`, if it has one) |\n"
        f"| instance to client | {names(ANSWER_FIELDS_PASSED)} | `date`, `content-length` or `transfer-encoding`, `connection`, "
        "`x-request-id`, `server-timing`, `idempotent-replayed`, `x-slmgate-model` |"
    )


def _parameters_table() -> str:
    from slmgate.dialects.parameters import NAMES

    lines = ["| in roles | in requests |", "| --- | --- |"]
    lines += [f"| `{shared}` | {', '.join(f'`{name}`' for name in names)} |" for shared, names in NAMES.items()]
    lines.append("| `image_url` | the URL of every picture, video or sound in a message, one by one |")
    lines.append("| `file_url` | the URL of every file in a message, one by one |")
    return "\n".join(lines)


def _bounds_list() -> str:
    from slmgate.dialects import body, multipart

    return (
        f"- A number has fewer than {body.MAX_DIGITS:,} digits in a row, and does not overflow.\n"
        f"- A model's name has 1 to {body.MAX_MODEL} printable characters, and no blank at either end.\n"
        f"- A form has at most {multipart.MAX_PARTS} parts, each with at most {multipart.MAX_HEAD} bytes of headers."
    )


def apis_page() -> str:
    """The text of `docs/apis.md`: the page as it is, what stands between `<!-- made: NAME -->` and `<!-- end -->` made anew."""
    made = {"routes": _routes_table, "headers": _headers_table, "parameters": _parameters_table, "bounds": _bounds_list}
    page = (ROOT / "docs" / "apis.md").read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- made: (\w+) -->\n).*?(?=<!-- end -->)", lambda found: f"{found[1]}\n{made[found[2]]()}\n\n", page, flags=re.DOTALL
    )


def access_log_page() -> str:
    """The text of `docs/access-log.md`: the page as it is, its table of fields made anew."""
    from slmgate.control.access.fields import table

    page = (ROOT / "docs" / "access-log.md").read_text(encoding="utf-8")
    head, mark, rest = page.partition("<!-- made: fields -->\n")
    return f"{head}{mark}\n{table()}\n\n{rest[rest.index('<!-- end -->') :]}"


def write(root: Path) -> None:
    """Write every generated file below `root`."""
    from deploy.grafana import dashboards
    from slmgate.control.config import docs
    from slmgate.control.metrics.page import metrics_page

    (root / "docs").mkdir(parents=True, exist_ok=True)
    docs.write(root)
    (root / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")
    (root / "docs" / "access-log.md").write_text(access_log_page(), encoding="utf-8")
    (root / "docs" / "metrics.md").write_text(metrics_page(), encoding="utf-8")
    (root / "docs" / "apis.md").write_text(apis_page(), encoding="utf-8")
    dashboards.write(root / "deploy" / "grafana" / "dashboards")


def stale(root: Path) -> list[str]:
    """Generated files whose copy below `root` is missing or different."""
    with tempfile.TemporaryDirectory() as fresh:
        write(Path(fresh))
        made = [path.relative_to(fresh) for path in sorted(Path(fresh).rglob("*")) if path.is_file()]
        return [
            path.as_posix()
            for path in made
            if not (root / path).exists() or (root / path).read_bytes() != (Path(fresh) / path).read_bytes()
        ]


def main() -> int:
    os.environ["COLUMNS"] = "100"  # no page depends on the width of somebody's terminal
    if "--check" not in sys.argv[1:]:
        write(ROOT)
        return 0
    found = stale(ROOT)
    for path in found:
        print(f"{path} is out of date: run `make docs`")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
