"""The chart as Kubernetes and KubeRay would read it: every example, every toggle."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest
from support.chart_settings import TOGGLES
from support.rendered_chart import (
    EXAMPLES,
    RELEASE,
    ROOT,
    Object,
    cluster_specs,
    of_kind,
    pod_templates,
    render,
)

KUBERAY = ROOT.parent / "shared" / "schemas"
KUBERNETES = "1.31"
FOREIGN = ("ray.io", "monitoring.coreos.com")
SETTINGS = [f"example {path.stem}" for path in EXAMPLES] + list(TOGGLES)
SECRET_WORDS = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


@cache
def rendered(setting: str) -> list[Object]:
    if setting.startswith("example "):
        return render(example=setting.removeprefix("example "))
    return render(TOGGLES[setting])


@cache
def kuberay_validator(kind: str) -> jsonschema.Draft7Validator:
    """KubeRay's own schema, made strict: a field that it does not know is an error."""
    path = KUBERAY / f"kuberay-1.7.0-{kind}.json"
    if not path.is_file():
        pytest.skip(f"KubeRay's schemas are not there: {path}")
    schema = json.loads(path.read_text())
    _close(schema)
    return jsonschema.Draft7Validator(schema)


def _close(node: Any) -> None:
    if isinstance(node, list):
        for inner in node:
            _close(inner)
    elif isinstance(node, dict):
        is_open = node.get("x-kubernetes-preserve-unknown-fields") or "status" in node
        if isinstance(node.get("properties"), dict) and not is_open:
            node.setdefault("additionalProperties", False)
        for inner in node.values():
            _close(inner)


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for where, template in pod_templates(objects):
        for container in template["spec"]["containers"]:
            yield f"{where}/{container['name']}", container


# Every example and every toggle


@pytest.mark.parametrize("setting", SETTINGS)
def test_kuberay_takes_its_objects(setting: str) -> None:
    for one in rendered(setting):
        if one["apiVersion"] == "ray.io/v1":
            errors = list(kuberay_validator(one["kind"]).iter_errors(one))
            assert not errors, [(list(error.absolute_path), error.message) for error in errors]


@pytest.mark.parametrize("setting", SETTINGS)
def test_kubernetes_takes_the_rest_and_every_pod(setting: str) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason="pip install -e '.[dev]' installs kubernetes-validate"
    )
    objects = [one for one in rendered(setting) if one["apiVersion"].split("/")[0] not in FOREIGN]
    for where, template in pod_templates(rendered(setting)):
        metadata = {**template["metadata"], "name": where.lower().replace("/", "-")}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        objects.append(pod)
    for one in objects:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.mark.parametrize("setting", SETTINGS)
def test_names_are_unique_and_labelled(setting: str) -> None:
    objects = rendered(setting)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(set(names)) == len(names)
    for one in objects:
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE
    for kind, name in names:
        if kind in ("RayCluster", "RayJob", "RayService"):
            assert len(name) <= 47


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_container_is_root_or_may_change_its_image_or_gain_rights(setting: str) -> None:
    objects = rendered(setting)
    for where, template in pod_templates(objects):
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, where
        assert security["runAsUser"] > 0, where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert "hostNetwork" not in template["spec"], where
        assert "hostPID" not in template["spec"], where
        assert not any("hostPath" in volume for volume in template["spec"]["volumes"]), where
    scalers = [
        (where, spec["autoscalerOptions"])
        for where, spec in cluster_specs(objects)
        if "autoscalerOptions" in spec
    ]
    for where, container in [*containers(objects), *scalers]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True, where
        assert security["allowPrivilegeEscalation"] is False, where
        assert security["capabilities"] == {"drop": ["ALL"]}, where


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_container_asks_for_what_it_takes(setting: str) -> None:
    objects = rendered(setting)
    asking = [*containers(objects)]
    asking += [
        (where, spec["autoscalerOptions"])
        for where, spec in cluster_specs(objects)
        if "autoscalerOptions" in spec
    ]
    for where, container in asking:
        for part in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][part].keys(), where


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_container_writes_to_is_mounted(setting: str) -> None:
    for where, template in pod_templates(rendered(setting)):
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert "/tmp" in mounts, where
            home = next(one["value"] for one in container["env"] if one["name"] == "HOME")
            assert home in mounts, where
            assert set(mounts.values()) <= volumes, where


@pytest.mark.parametrize("setting", SETTINGS)
def test_secrets_are_references_and_images_have_fixed_tags(setting: str) -> None:
    objects = rendered(setting)
    assert not of_kind(objects, "Secret")
    for where, container in containers(objects):
        for variable in container.get("env", []):
            if SECRET_WORDS.search(variable["name"]):
                assert "value" not in variable, f"{where}: {variable['name']}"
                assert variable["valueFrom"]["secretKeyRef"]["name"], where
        tag = container["image"].rpartition(":")[2]
        assert re.fullmatch(r"\d+\.\d+\.\d+-(cpu|gpu)", tag), where
        has_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
        assert tag.endswith("gpu") == has_gpu, where


@pytest.mark.parametrize("setting", SETTINGS)
def test_ray_asks_for_its_token_unless_told_otherwise(setting: str) -> None:
    objects = rendered(setting)
    wanted = "disabled" if setting == "no token" else "token"
    for where, spec in cluster_specs(objects):
        assert spec["authOptions"]["mode"] == wanted, where
    for where, container in containers(objects):
        told = {one["name"]: one.get("value") for one in container["env"]}
        assert told.get("RAY_AUTH_MODE", "token") == wanted, where  # the image says token
