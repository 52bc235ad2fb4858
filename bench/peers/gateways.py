"""The AI gateways and engine routers: vllm-router, sglang-router, Portkey and LiteLLM, each with one worker.

Each runs as its own documents say, on loopback, with logging turned down where it has a switch. Where a target has an
API key check of its own it is on. LiteLLM and Portkey decode and rewrite the body; the routers pass it on.
"""

from __future__ import annotations

import json
from functools import partial

from bench.peers import install
from bench.peers.contract import HERE, LOOPBACK, Place, Start, Target
from bench.wire import MODEL, SECRET

# Tokio starts a thread per core; one worker is what all targets get.
_ONE_THREAD = {"TOKIO_WORKER_THREADS": "1", "RAYON_NUM_THREADS": "1"}


def _router(place: Place, name: str, launch: list[str]) -> Start:
    home = install.pip(name, False)
    command = [str(home / "bin" / name), *launch, "--host", LOOPBACK, "--port", str(place.port)]
    command += ["--worker-urls", f"http://{LOOPBACK}:{place.upstream}", "--policy", "round_robin"]
    command += ["--prometheus-host", LOOPBACK, "--prometheus-port", str(place.spare)]
    return Start(command, dict(_ONE_THREAD))


def _have_pip(name: str, wanted: bool) -> str:
    install.pip(name, wanted)
    return install.pinned(name, name)


def _vllm(place: Place) -> Start:
    return _router(place, "vllm-router", ["--log-level", "warning"])


def _sglang(place: Place) -> Start:
    more = ["--log-level", "warn"]
    return _router(place, "sglang-router", ["launch", *more])


def _portkey(place: Place) -> Start:
    home = install.npm("portkey", False)
    script = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    command = [str(install.find("node")), "--require", str(HERE / "portkey/loopback.cjs"), str(script)]
    command += [f"--port={place.port}", "--headless"]
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://{LOOPBACK}:{place.upstream}/v1"}
    return Start(command, {"NODE_ENV": "production"}, headers)


def _have_portkey(wanted: bool) -> str:
    install.npm("portkey", wanted)
    package = json.loads((HERE / "portkey/package.json").read_text())
    return str(package["dependencies"]["@portkey-ai/gateway"])


def _litellm(place: Place) -> Start:
    config = {
        "model_list": [
            {
                "model_name": MODEL,
                "litellm_params": {
                    "model": f"openai/{MODEL}",
                    "api_base": f"http://{LOOPBACK}:{place.upstream}/v1",
                    "api_key": "sk-upstream",
                },
            }
        ],
        "general_settings": {"master_key": SECRET},
        "litellm_settings": {"set_verbose": False, "telemetry": False},
    }
    path = place.write("litellm.yaml", json.dumps(config, indent=1))  # JSON is YAML
    home = install.pip("litellm", False)
    command = [str(home / "bin/litellm"), "--config", str(path), "--num_workers", "1"]
    command += ["--host", LOOPBACK, "--port", str(place.port)]
    # production settings of its documents; the price table from the wheel instead of the internet
    env = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True"}
    return Start(command, env)


TARGETS = [
    Target("vllm-router", "balancing", False, partial(_have_pip, "vllm-router"), _vllm, 60),
    Target("sglang-router", "balancing", False, partial(_have_pip, "sglang-router"), _sglang, 60),
    Target("portkey", "provider rewrite", False, _have_portkey, _portkey, 30),
    Target("litellm", "one master key, model table, rewrite", True, partial(_have_pip, "litellm"), _litellm, 90),
]
