"""What the chart tells AutoMem: every command line composes with AutoMem's own configuration, and
reaches it as it was written."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.chart_settings import GPUS, RUN, SERVICE
from support.rendered_chart import CHART, EXAMPLES, ROOT, Object, of_kind, render

from automem.cli import COMMANDS
from automem.config import compose
from automem.errors import UsageError
from automem_serving.cluster import Arguments

RUNNER = ROOT / "k8s" / "automem-run"
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
RUN_COMMANDS = SCHEMA["properties"]["runs"]["items"]["properties"]["command"]["enum"]
ROOTS = {"rollout": "config"}
"""Roots of the configuration tree that are not called as their command."""


def command_lines(objects: list[Object]) -> dict[str, list[str]]:
    """Every run's words, by its name."""
    [config] = [
        one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"].endswith("-runs")
    ]
    return {name: text.splitlines() for name, text in (config["data"] or {}).items()}


def composed(words: list[str]) -> Any:
    command, *overrides = words
    return compose(ROOTS.get(command, command), overrides)


def serve_arguments(objects: list[Object]) -> Object:
    [service] = of_kind(objects, "RayService")
    [application] = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    arguments: Object = application["args"]
    return arguments


@pytest.mark.parametrize("example", [path.stem for path in EXAMPLES])
def test_every_run_of_an_example_composes(example: str) -> None:
    lines = command_lines(render(example=example))
    assert lines
    for name, words in lines.items():
        config = composed(words)
        assert config.run.dir == f"/data/runs/{name}"
        assert config.agent.hooks == "off"


def test_runs_on_object_storage_compose_and_say_where_it_is() -> None:
    values = {
        "storage": {"kind": "object", "object": {"url": "s3://bucket/automem/"}},
        "network": {"internet": True},
        "runs": [RUN],
    }
    [words] = command_lines(render(values)).values()
    assert composed(words).storage.url == "s3://bucket/automem"


def test_training_on_object_storage_keeps_its_checkpoints_there_and_goes_to_its_nodes() -> None:
    values = {
        "storage": {"kind": "object", "object": {"url": "s3://bucket/automem/"}},
        "network": {"internet": True},
        "groups": GPUS,
        "runs": [{**RUN, "command": "proficiency", "config": ["learner=gpu"]}],
    }
    [words] = command_lines(render(values)).values()
    scaling = composed(words).trainer.scaling
    assert scaling.storage_url == "s3://bucket/automem"
    assert scaling.labels == {"automem/role": "learner"}


ENGINES = {"engine": {"enabled": True}}
PLACED: dict[str, tuple[Object, bool]] = {
    "both groups": ({"groups": ENGINES}, True),
    "engines alone": ({"groups": {**ENGINES, "rollout": {"enabled": False}}}, False),
    "rollouts alone": ({}, False),
    "an own cluster with both": (
        {"groups": ENGINES, "runs": [{**RUN, "ownCluster": True, "groups": ["rollout", "engine"]}]},
        True,
    ),
    "an own cluster with all": ({"groups": ENGINES, "runs": [{**RUN, "ownCluster": True}]}, True),
    "an own cluster of engines": (
        {"groups": ENGINES, "runs": [{**RUN, "ownCluster": True, "groups": ["engine"]}]},
        False,
    ),
    "an own cluster of rollouts": (
        {"groups": ENGINES, "runs": [{**RUN, "ownCluster": True, "groups": ["rollout"]}]},
        False,
    ),
}


@pytest.mark.parametrize("case", PLACED)
def test_parts_go_to_their_nodes_where_there_are_nodes_for_each(case: str) -> None:
    values, is_placed = PLACED[case]
    [words] = command_lines(render({"runs": [RUN], **values})).values()
    assert ("placement=cluster" in words) is is_placed
    config = composed(words)
    assert (config.placement.name == "cluster") is is_placed
    assert config.engine.get("num_cpus", 0) == (0 if is_placed else 0.5)


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_every_command_that_a_run_may_name_is_there_and_takes_the_charts_keys(command: str) -> None:
    assert command in COMMANDS
    [words] = command_lines(render({"runs": [{**RUN, "command": command}]})).values()
    assert words[0] == command
    assert composed(words).run.dir == "/data/runs/crafter"


def test_a_misspelt_key_of_a_run_is_found_by_the_same_check_as_on_the_command_line() -> None:
    [words] = command_lines(render({"runs": [{**RUN, "config": ["rollout.worker=2"]}]})).values()
    with pytest.raises(UsageError, match=r"rollout\.workers"):
        composed(words)


@pytest.mark.parametrize("example", ["", "four-nodes-32-gpus"])
def test_the_served_policy_composes(example: str) -> None:
    arguments = Arguments(**serve_arguments(render({"service": SERVICE}, example)))
    config = compose("serve", arguments.overrides)
    assert config.serving.auth == "tokens"
    assert config.serving.host == "0.0.0.0"
    assert config.serving.dir == "/data/serving"
    assert config.agent.hooks == "off"


def test_the_served_policy_is_built_from_what_the_chart_renders(tmp_path: Path) -> None:
    values = {"service": {**SERVICE, "config": ["worlds=[concentration]"]}}
    arguments = serve_arguments(render(values))
    arguments["overrides"] += [f"serving.dir={tmp_path}/s", f"serving.registry={tmp_path}/r"]
    code = (
        "import json, os, sys; os.environ['RAY_AUTH_MODE'] = 'token';"
        "from automem_serving.cluster import Arguments, application;"
        "from ray.serve.deployment import Application;"
        "app = application(Arguments(**json.load(sys.stdin)));"
        "deployment = app._bound_deployment;"
        "print(isinstance(app, Application), deployment.name, deployment.ray_actor_options)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True replica")
    assert "'num_cpus': 1" in done.stdout


def test_the_import_path_of_the_policy_is_there() -> None:
    [service] = of_kind(render({"service": SERVICE}), "RayService")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    module, _, name = config["applications"][0]["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


# automem-run


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A folder with `automem` that prints its words, one a line."""
    program = tmp_path / "bin" / "automem"
    program.parent.mkdir()
    program.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "runs").mkdir()
    return tmp_path


def environment(stage: Path, wait_s: int) -> dict[str, str]:
    return {
        **os.environ,
        "AUTOMEM_RUNS": str(stage / "runs"),
        "AUTOMEM_RUNS_WAIT_S": str(wait_s),
        "PATH": f"{stage / 'bin'}:{os.environ['PATH']}",
    }


def start(stage: Path, name: str, wait_s: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(RUNNER), name],
        env=environment(stage, wait_s),
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_words_reach_automem_as_they_were_written(stage: Path) -> None:
    odd = ["rollout", "env=crafter", "a='x y'", "b=$(id)", "c={d: [1, 2]}", "e=*", 'f="q;r"']
    (stage / "runs" / "odd").write_text("\n".join(odd) + "\n")
    assert start(stage, "odd").stdout.splitlines() == odd


def test_odd_words_survive_the_chart_too(stage: Path) -> None:
    odd = [
        "env=crafter",
        "+a='x: y'",
        "+b=$(id)",
        "+c={d: [1, 2]}",
        "+e=#x",
        '+f="q;r"',
        "+g={{h}}",
    ]
    [words] = command_lines(render({"runs": [{**RUN, "config": odd}]})).values()
    assert words[-len(odd) :] == odd


def test_a_rollout_that_was_begun_is_resumed(stage: Path) -> None:
    folder = stage / "data"
    folder.mkdir()
    (stage / "runs" / "mine").write_text(f"rollout\nrun.dir={folder}\nenv=crafter\n")
    assert start(stage, "mine").stdout.splitlines()[0] == "rollout"
    (folder / "run.json").write_text("{}")
    assert start(stage, "mine").stdout.splitlines() == ["resume", str(folder)]


def test_a_run_that_is_not_there_is_an_error_in_words(stage: Path) -> None:
    done = start(stage, "missing", wait_s=1)
    assert done.returncode == 2
    assert re.search("waiting for it, up to 1 s\n.*there is no run at .*missing", done.stderr)


def test_a_run_that_reaches_the_head_late_is_waited_for(stage: Path) -> None:
    with subprocess.Popen(
        ["bash", str(RUNNER), "late"],
        env=environment(stage, wait_s=60),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        whole = stage / "whole"  # kubelet shows a file whole or not at all
        whole.write_text("rollout\nenv=crafter\n")
        whole.rename(stage / "runs" / "late")
        printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "late is not there yet" in said
    assert printed.splitlines() == ["rollout", "env=crafter"]
