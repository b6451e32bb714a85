"""The Helm chart, rendered by `helm` where there is one, else by Helm's template engine (Go's
text/template with sprig) in `tests/k8s/render/`, compiled once.

Values are checked against the chart's schema first, as `helm` does. Skips, with the command that
installs it, where there is neither.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "k8s" / "chart" / "automem"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
RENDERER = ROOT / "tests" / "k8s" / "render" / "main.go"
GOPATH = Path("/usr/share/gocode")
INSTALL = (
    "apt-get install golang-go golang-github-masterminds-sprig-dev golang-k8s-sigs-yaml-dev "
    "(or install helm)"
)
RELEASE, NAMESPACE = "automem", "research"

Object = dict[str, Any]


class Refused(Exception):
    """The chart does not render with these values; the message is what a user sees."""


def render(values: Object | None = None, example: str = "") -> list[Object]:
    """Every object of the chart, with `values` laid over an example's (by its file's stem)."""
    given = example_values(example) if example else {}
    given = merged(given, values or {})
    check_schema(given)
    texts = _with_helm(given) if shutil.which("helm") else _with_go(given)
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def notes(values: Object | None = None) -> str:
    """What `helm install` prints at its end. Without `helm` only."""
    return _documents(values or {})["templates/NOTES.txt"]


def example_values(name: str) -> Object:
    """An example's own values."""
    values: Object = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    return values


def default_values() -> Object:
    """The chart's values.yaml."""
    values: Object = yaml.safe_load((CHART / "values.yaml").read_text())
    return values


def check_schema(values: Object) -> None:
    """Refused, naming the key, where the merged values do not fit values.schema.json."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    errors = sorted(validator.iter_errors(merged(default_values(), values)), key=str)
    if errors:
        lines = [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]
        raise Refused("\n".join(lines))


def merged(base: Object, over: Object) -> Object:
    """Values laid over values as Helm does: mappings merge, null removes."""
    result = deepcopy(base)
    for key, value in over.items():
        if value is None and key in result:
            del result[key]
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = deepcopy(value)
    return result


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [one for one in objects if one["kind"] == kind]


def cluster_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every RayClusterSpec, under the name of what it belongs to."""
    for one in objects:
        where = {"RayCluster": one.get("spec")}
        if one["kind"] == "RayJob":
            where["RayJob"] = one["spec"].get("rayClusterSpec")
        if one["kind"] == "RayService":
            where["RayService"] = one["spec"]["rayClusterConfig"]
        spec = where.get(one["kind"])
        if spec:
            yield f"{one['kind']}/{one['metadata']['name']}", spec


def pod_templates(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod template of the chart's objects."""
    for name, spec in cluster_specs(objects):
        yield f"{name}/head", spec["headGroupSpec"]["template"]
        for group in spec["workerGroupSpecs"]:
            yield f"{name}/{group['groupName']}", group["template"]
    for job in of_kind(objects, "RayJob"):
        yield f"RayJob/{job['metadata']['name']}/submitter", job["spec"]["submitterPodTemplate"]


def ports_of(rules: list[Object]) -> set[tuple[int, int]]:
    """First and last of every range of ports in the rules of a NetworkPolicy."""
    return {
        (port["port"], port.get("endPort", port["port"]))
        for rule in rules
        for port in rule.get("ports", [])
    }


def policy(objects: list[Object], suffix: str) -> Object:
    """The spec of the NetworkPolicy with this end of its name."""
    [found] = [
        one
        for one in of_kind(objects, "NetworkPolicy")
        if one["metadata"]["name"] == f"{RELEASE}-{suffix}"
    ]
    spec: Object = found["spec"]
    return spec


def _with_helm(values: Object) -> list[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values, file)
        file.flush()
        command = ["helm", "template", RELEASE, str(CHART), "-n", NAMESPACE, "-f", file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return [done.stdout]


def _with_go(values: Object) -> list[str]:
    documents = _documents(values)
    return [text for name, text in sorted(documents.items()) if name.endswith(".yaml")]


def _documents(values: Object) -> dict[str, str]:
    asked = {"chart": str(CHART), "values": values, "release": RELEASE, "namespace": NAMESPACE}
    done = subprocess.run(
        [str(_renderer())], input=json.dumps(asked), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise Refused(answer["error"])
    documents: dict[str, str] = answer["documents"]
    return documents


def _renderer() -> Path:
    """The compiled renderer; compiled anew when its source changes, by one process at a time."""
    go = shutil.which("go")
    if go is None or not (GOPATH / "src/github.com/Masterminds/sprig").exists():
        pytest.skip(f"nothing here renders Helm charts: {INSTALL}")
    source = RENDERER.read_bytes()
    cache = Path(tempfile.gettempdir()) / f"automem-render-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    program = cache / hashlib.sha256(source).hexdigest()[:16]
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _compile(go, program)
    return program


def _compile(go: str, program: Path) -> None:
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": ""}
    environment.setdefault("HOME", tempfile.gettempdir())
    part = program.with_suffix(".part")
    done = subprocess.run(
        [go, "build", "-o", str(part), str(RENDERER)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    part.rename(program)
