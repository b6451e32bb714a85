"""The chart as Kubernetes and KubeRay would read it: every example, every toggle."""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import jsonschema
import pytest
from support.chart_settings import API_SERVER, GPUS, RUN, SERVICE, TOGGLES
from support.rendered_chart import (
    CHART,
    EXAMPLES,
    RELEASE,
    ROOT,
    Object,
    Refused,
    cluster_specs,
    default_values,
    notes,
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
    for where, spec in cluster_specs(rendered(setting)):
        wanted = "disabled" if setting == "no token" else "token"
        assert spec["authOptions"]["mode"] == wanted, where


# Network


def ports_of(rules: list[Object]) -> set[tuple[int, int]]:
    return {
        (port["port"], port.get("endPort", port["port"]))
        for rule in rules
        for port in rule.get("ports", [])
    }


def policy(objects: list[Object], suffix: str) -> Object:
    [found] = [
        one
        for one in of_kind(objects, "NetworkPolicy")
        if one["metadata"]["name"] == f"{RELEASE}-{suffix}"
    ]
    spec: Object = found["spec"]
    return spec


def test_the_ports_that_ray_is_started_with_are_those_that_the_policies_open() -> None:
    objects = render({"groups": GPUS})
    [(_, spec)] = cluster_specs(objects)
    opened = ports_of(policy(objects, "main")["ingress"][:1])
    singles = {first for first, last in opened if first == last}
    ranges = {(first, last) for first, last in opened if first < last}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        params = group["rayStartParams"]
        numbers = {int(value) for key, value in params.items() if key.endswith("port")}
        assert len(numbers) == sum(key.endswith("port") for key in params), "each has its own"
        assert {int(params["min-worker-port"]), int(params["max-worker-port"])} <= numbers
        workers = (int(params["min-worker-port"]), int(params["max-worker-port"]))
        assert workers in ranges
        assert numbers - set(workers) <= singles
        for port in group["template"]["spec"]["containers"][0]["ports"]:
            assert port["containerPort"] in singles
    assert (
        policy(objects, "main")["egress"][0]["ports"]
        == policy(objects, "main")["ingress"][0]["ports"]
    )


def test_ports_do_not_overlap() -> None:
    ports = default_values()["ports"]
    ranges = sorted(
        (value["min"], value["max"]) if isinstance(value, dict) else (value, value)
        for value in ports.values()
    )
    for (_, last), (first, _) in pairwise(ranges):
        assert last < first


def test_what_training_takes_for_itself_comes_from_the_range_that_is_open() -> None:
    objects = render()
    opened = ports_of(policy(objects, "main")["ingress"][:1])
    for _, template in pod_templates(objects):
        [sysctl] = template["spec"]["securityContext"]["sysctls"]
        assert sysctl["name"] == "net.ipv4.ip_local_port_range"
        assert tuple(map(int, sysctl["value"].split())) in opened


def test_without_a_served_policy_only_kuberay_and_the_cluster_get_in() -> None:
    objects = render({"runs": [RUN]})
    own = {"app.kubernetes.io/instance": RELEASE, "automem-scope": "main"}
    for one in of_kind(objects, "NetworkPolicy"):
        assert one["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert own.items() <= one["spec"]["podSelector"]["matchLabels"].items()
        for rule in one["spec"]["ingress"]:
            for peer in rule["from"]:
                if "namespaceSelector" in peer:
                    assert peer == default_values()["network"]["operator"]
                    assert ports_of([rule]) == {(8265, 8265)}
                else:
                    assert own.items() <= peer["podSelector"]["matchLabels"].items()


def test_out_go_dns_and_the_own_cluster_and_nothing_else() -> None:
    objects = render({"runs": [RUN]})
    for one in of_kind(objects, "NetworkPolicy"):
        for rule in one["spec"]["egress"]:
            assert rule["to"]
            for peer in rule["to"]:
                assert "ipBlock" not in peer
                labels = peer["podSelector"]["matchLabels"]
                assert labels == {"k8s-app": "kube-dns"} or labels["automem-scope"] == "main"


def test_each_cluster_of_a_release_is_closed_to_the_others() -> None:
    objects = render({"service": SERVICE, "runs": [{**RUN, "ownCluster": True}]})
    scopes = {"main", "service", "run-crafter"}
    seen = {
        template["metadata"]["labels"]["automem-scope"] for _, template in pod_templates(objects)
    }
    assert seen == scopes
    for scope in scopes:
        inside = policy(objects, scope)["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
        assert inside["automem-scope"] == scope


def test_everybody_may_ask_the_policy_or_only_whom_one_names() -> None:
    anybody = policy(render({"service": SERVICE}), "service")["ingress"]
    assert [rule for rule in anybody if "from" not in rule] == [
        {"ports": [{"protocol": "TCP", "port": 8000}]}
    ]
    peers = [{"podSelector": {"matchLabels": {"app": "client"}}}]
    named = policy(render({"service": SERVICE, "network": {"served": peers}}), "service")["ingress"]
    assert all("from" in rule for rule in named)
    assert any(rule["from"] == peers and ports_of([rule]) == {(8000, 8000)} for rule in named)


def test_the_internet_is_public_addresses_by_https_only() -> None:
    rules = policy(render({"network": {"internet": True}}), "main")["egress"]
    [rule] = [rule for rule in rules if "ipBlock" in rule["to"][0]]
    assert ports_of([rule]) == {(443, 443)}
    assert "10.0.0.0/8" in rule["to"][0]["ipBlock"]["except"]
    assert "169.254.0.0/16" in rule["to"][0]["ipBlock"]["except"], "cloud metadata"


def test_the_autoscaler_alone_speaks_to_the_kubernetes_api() -> None:
    objects = render({"autoscaler": {"enabled": True}, "network": API_SERVER})
    blocks = {
        one["metadata"]["name"]
        for one in of_kind(objects, "NetworkPolicy")
        for rule in one["spec"]["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    }
    assert blocks == {f"{RELEASE}-main-head"}
    for where, template in pod_templates(objects):
        is_head = where.endswith("/head")
        assert template["spec"]["automountServiceAccountToken"] is is_head, where
    [role] = of_kind(objects, "Role")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {
        "get",
        "list",
        "watch",
        "patch",
    }


# Runs, groups, budgets


def test_budgets_select_the_pods_that_they_are_for() -> None:
    objects = render({"groups": GPUS, "service": {"enabled": True, "groups": ["engine"]}})
    labels = [template["metadata"]["labels"] for _, template in pod_templates(objects)]
    budgets = of_kind(objects, "PodDisruptionBudget")
    assert {one["metadata"]["name"] for one in budgets} == {
        "automem-main-head",
        "automem-main-engine",
        "automem-main-learner",
        "automem-service-head",
        "automem-service-engine",
    }
    for budget in budgets:
        chosen = budget["spec"]["selector"]["matchLabels"]
        assert sum(chosen.items() <= one.items() for one in labels) == 1


def test_drivers_run_on_the_head_and_workers_elsewhere() -> None:
    for _, spec in cluster_specs(render({"groups": GPUS})):
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in spec["workerGroupSpecs"]:
            assert "num-cpus" not in group["rayStartParams"]
            assert group["labels"] == {"automem/role": group["groupName"]}


def test_a_run_uses_the_cluster_that_stays_unless_it_wants_its_own() -> None:
    [shared] = of_kind(render({"runs": [RUN]}), "RayJob")
    assert shared["spec"]["clusterSelector"] == {"ray.io/cluster": RELEASE}
    assert "rayClusterSpec" not in shared["spec"]
    [own] = of_kind(render({"runs": [{**RUN, "ownCluster": True, "retries": 2}]}), "RayJob")
    assert own["spec"]["shutdownAfterJobFinishes"] is True
    assert own["spec"]["backoffLimit"] == 2
    assert "clusterSelector" not in own["spec"]


def test_kueue_lets_runs_go() -> None:
    [job] = of_kind(
        render({"kueue": {"queue": "gpus"}, "runs": [{**RUN, "ownCluster": True}]}), "RayJob"
    )
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"


def test_shared_memory_is_a_share_of_the_pods_memory() -> None:
    memory = {"resources": {"cpu": "1", "memory": "10Gi"}}
    objects = render({"sharedMemory": 0.25, "groups": {"rollout": memory}})
    templates = dict(pod_templates(objects))
    [shm] = [
        v for v in templates["RayCluster/automem/rollout"]["spec"]["volumes"] if v["name"] == "shm"
    ]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "2560Mi"}


def test_a_head_that_comes_back_reaches_its_redis_by_reference() -> None:
    objects = render(TOGGLES["a head that comes back, Redis"])
    [(_, spec)] = cluster_specs(objects)
    options = spec["gcsFaultToleranceOptions"]
    assert options["redisPassword"] == {
        "valueFrom": {"secretKeyRef": {"name": "redis", "key": "pw"}}
    }
    assert (6380, 6380) in ports_of(policy(objects, "main-head")["egress"])


def test_the_workers_of_a_served_policy_are_ready_when_their_proxy_is() -> None:
    for where, template in pod_templates(
        render({"service": SERVICE, "cluster": {"enabled": False}})
    ):
        [container] = template["spec"]["containers"]
        command = container["readinessProbe"]["exec"]["command"]
        assert command[0] == "automem-health"
        assert any(url.endswith(":8000/-/healthz") for url in command) == where.endswith("rollout")


def test_the_notes_name_what_was_made() -> None:
    text = notes({"runs": [RUN], "service": SERVICE})
    for name in (
        "raycluster automem",
        "rayjob automem-crafter",
        "rayservice automem",
        "automem-serve",
    ):
        assert name in text
    assert "hooks are off" in text
    assert "<no value>" not in text


# What is refused


REFUSED: dict[str, tuple[Object, str]] = {
    "an unknown key": ({"sevice": {"enabled": True}}, "sevice"),
    "a word for a number": (
        {"groups": {"rollout": {"replicas": "two"}}},
        "groups.rollout.replicas",
    ),
    "root": ({"podSecurity": {"user": 0}}, "podSecurity.user"),
    "a secret in plain values": ({"env": {"WANDB_API_KEY": "abc"}}, "WANDB_API_KEY"),
    "a secret given instead of named": (
        {"secrets": [{"env": "WANDB_API_KEY", "value": "abc"}]},
        "secrets.0",
    ),
    "a tag that moves": ({"image": {"tag": "latest"}}, "image.tag"),
    "a bare off": ({"hooks": False}, "hooks"),
    "two words in one override": ({"runs": [{**RUN, "config": ["a=1\nb=2"]}]}, "runs.0.config.0"),
    "a shell in a folder": ({"runs": [{**RUN, "folder": "../x"}]}, "runs.0.folder"),
    "another address for the policy": (
        {"service": {"config": ["serving.auth=none"]}},
        "service.config.0",
    ),
    "no workers": ({"groups": {"rollout": {"enabled": False}}}, "enable a group"),
    "a group that is off": (
        {"service": {"enabled": True, "groups": ["engine"]}},
        "groups.engine.enabled=true",
    ),
    "no token and no policies": (
        {"auth": {"mode": "disabled"}, "network": {"enabled": False}},
        "keep one of the two",
    ),
    "an autoscaler that reaches nothing": ({"autoscaler": {"enabled": True}}, "apiServer.cidrs"),
    "a policy without a shared folder": (
        {
            "service": SERVICE,
            "storage": {"kind": "object", "object": {"url": "s3://b/a"}},
            "network": {"internet": True},
        },
        "storage.kind=pvc",
    ),
    "object storage nowhere": ({"storage": {"kind": "object"}}, "storage.object.url"),
    "object storage out of reach": (
        {"storage": {"kind": "object", "object": {"url": "s3://b/a"}}},
        "network.storage.cidrs",
    ),
    "Kubernetes' tokens for a run": ({"auth": {"kubernetes": True}, "runs": [RUN]}, "RayJob"),
    "Kueue with an autoscaler": (
        {"kueue": {"queue": "q"}, "autoscaler": {"enabled": True}, "network": API_SERVER},
        "fixed size",
    ),
    "two runs of one name": ({"runs": [RUN, RUN]}, "two runs"),
    "a name that is too long": ({"runs": [{**RUN, "name": "a" * 45}]}, "47 characters"),
    "fewer replicas than the fewest": (
        {"groups": {"rollout": {"replicas": 1, "minReplicas": 2}}},
        "between minReplicas and maxReplicas",
    ),
    "GPUs where there are none": ({"service": {"enabled": True, "gpusPerReplica": 1}}, "GPUs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_values_are_refused_with_a_reason(case: str) -> None:
    values, reason = REFUSED[case]
    with pytest.raises(Refused, match=re.escape(reason)):
        render(values)


def test_every_key_of_the_values_is_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(default_values()) == set(schema["properties"]) - {"global"}
