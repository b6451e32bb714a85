"""What the chart decides, setting by setting, and what it refuses to decide."""

import json
import re

import pytest
from support.chart_settings import API_SERVER, GPUS, RUN, SERVICE, TOGGLES
from support.rendered_chart import (
    CHART,
    RELEASE,
    Object,
    Refused,
    cluster_specs,
    default_values,
    notes,
    of_kind,
    pod_templates,
    policy,
    ports_of,
    render,
)


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
    "a loop without a folder that stays": (
        {
            "storage": {"kind": "object", "object": {"url": "s3://b/a"}},
            "network": {"internet": True},
            "runs": [{**RUN, "command": "evolve"}],
        },
        "keeps its ledger",
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
    "less time to end than to drain": (
        {"groups": {"rollout": {"drainSeconds": 60}}},
        "terminationGracePeriodSeconds",
    ),
    "GPUs where there are none": ({"service": {"enabled": True, "gpusPerReplica": 1}}, "GPUs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_values_are_refused_with_a_reason(case: str) -> None:
    values, reason = REFUSED[case]
    with pytest.raises(Refused, match=re.escape(reason)):
        render(values)


TEMPLATES = "\n".join(path.read_text() for path in (CHART / "templates").iterdir())


def test_every_value_that_a_template_asks_for_is_there() -> None:
    asked = set(re.findall(r"(?:\.Values|\$values)\.([A-Za-z][A-Za-z.]*[A-Za-z])", TEMPLATES))
    assert len(asked) > 50
    for path in asked:
        node = default_values()
        for part in path.split("."):
            if not isinstance(node, dict):
                break
            assert part in node, path
            node = node[part]


def test_every_value_is_asked_for_by_some_template() -> None:
    def names(node: Object) -> set[str]:
        inner = [names(value) for value in node.values() if isinstance(value, dict)]
        return set(node).union(*inner)

    free = {"matchLabels", "cpu", "memory", "kubernetes.io/metadata.name", "k8s-app"}
    passed_on_whole = {"resources", "requests", "limits", "operator", "peer", "dashboardLabels"}
    values = default_values()
    ranged = set(values["groups"])  # templates go over all of them
    known = {name for name in names(values) if name not in free | passed_on_whole | ranged}
    unused = {name for name in known if not re.search(rf"\b{re.escape(name)}\b", TEMPLATES)}
    assert unused <= {"ephemeral-storage", "nvidia.com/gpu", "app.kubernetes.io/component"} | {
        "grafana_dashboard"
    }


def test_every_key_of_the_values_is_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(default_values()) == set(schema["properties"]) - {"global"}
