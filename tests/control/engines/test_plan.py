"""What a configuration says of engines, ready to be run but for the port."""

from __future__ import annotations

from pathlib import Path

from slmgate.control.config import instance_id, load_text
from slmgate.control.engines.plan import STOP_WITHIN, Plan, plans

ENV = {"PATH": "/bin:/usr/bin", "HOME": "/home/x", "LC_ALL": "C", "API_SECRET": "hush", "HF_TOKEN": "hush"}


def the_plan(instance: str, more: str = "") -> Plan:
    config = load_text(f"models: {{m: {{instances: [{instance}]{more}}}}}", base_dir=Path("/srv"), env=ENV).unwrap()
    ((id, plan),) = plans(config, Path("/srv"), ENV).items()
    assert id == plan.id == instance_id("m", config.models["m"].instances[0])
    return plan


def test_the_defaults() -> None:
    plan = the_plan('{command: [sh, -p, "{port}"], engine: llamacpp}')
    assert plan.id.startswith("m/sh-") and len(plan.id) == len("m/sh-") + 8
    assert (plan.model, plan.port, plan.always, plan.idle, plan.output) == ("m", None, False, None, "start")
    assert (plan.start_within, plan.stop_within, plan.directory) == (120.0, STOP_WITHIN, "/srv")
    assert plan.command(8001) == ["/bin/sh", "-p", "8001"]
    assert plan.environment(8001) == {"PATH": "/bin:/usr/bin", "HOME": "/home/x", "LC_ALL": "C"}
    target = plan.checked_at(8001)
    assert (target.url, target.path, target.strict) == ("http://127.0.0.1:8001", "/health", False)


def test_all_options() -> None:
    plan = the_plan(
        '{command: [sh, "a{port}b", "{PORT}"], port: 9, environment: {HOST: "h:{port}", HOME: /h}, directory: /tmp, '
        "start: always, start_within: 5s, stop_within: 6s, idle: 7s, output: all, bearer: abcdefgh}",
        ", health: {path: /ready}",
    )
    assert plan.command(9) == ["/bin/sh", "a9b", "{PORT}"]
    assert {"HOST": "h:9", "HOME": "/h"}.items() <= plan.environment(9).items()
    assert (plan.port, plan.always, plan.directory) == (9, True, "/tmp")
    assert (plan.start_within, plan.stop_within, plan.idle, plan.output) == (5.0, 6.0, 7.0, "all")
    target = plan.checked_at(9)
    assert (target.path, target.strict, target.bearer) == ("/ready", True, "abcdefgh")


def test_what_makes_it_another_one() -> None:
    one = the_plan('{command: [sh, "{port}"]}')
    assert the_plan('{command: [sh, "{port}"], idle: 1h, output: all, weight: 3}').id == one.id
    others = {
        the_plan('{command: [sh, "{port}", x]}').id,
        the_plan('{command: [sh, "{port}"], environment: {GPU: "0"}}').id,
        the_plan('{command: [sh, "{port}"], environment: {GPU: "1"}}').id,
        the_plan('{command: [sh, "{port}"], directory: /tmp}').id,
        the_plan('{command: [sh, "{port}"], port: 9}').id,
    }
    assert len(others) == 5 and one.id not in others


def test_others_have_none() -> None:
    config = load_text('models: {m: {instances: [{url: "http://a:1"}, {dns: a.example, port: 1}]}}').unwrap()
    assert plans(config, Path("/"), ENV) == {}
