"""What the chart decides, setting by setting, and what it refuses to decide."""

import json
import re
from math import ceil

import pytest
from support.chart_settings import API_SERVER, GPUS, RUN, SERVICE, TOGGLES
from support.rendered_chart import (
    CHART,
    NAMESPACE,
    RELEASE,
    Object,
    Refused,
    check_schema,
    cluster_specs,
    default_values,
    example_values,
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
        "automem-main-learner",
        "automem-service-head",
    }
    for budget in budgets:
        chosen = budget["spec"]["selector"]["matchLabels"]
        assert sum(chosen.items() <= one.items() for one in labels) == 1


def budgets_of(values: Object) -> dict[str, Object]:
    """What every disruption budget says, by its name's end."""
    return {
        one["metadata"]["name"].removeprefix(f"{RELEASE}-main-"): {
            key: value for key, value in one["spec"].items() if key != "selector"
        }
        for one in of_kind(render(values), "PodDisruptionBudget")
    }


def test_budgets_are_whole_numbers_of_pods_that_stay() -> None:
    learners = {"enabled": True, "replicas": 2, "maxReplicas": 3}
    engines = {"enabled": True, "replicas": 4, "maxReplicas": 4, "minAvailable": 3}
    assert budgets_of({"groups": {"learner": learners, "engine": engines}}) == {
        "head": {"minAvailable": 1},
        "engine": {"minAvailable": 3},
        "learner": {"minAvailable": 3},  # none of them, however many there are
    }
    assert budgets_of({"head": {"minAvailable": None}}) == {}


def kubernetes_auth(**account: object) -> list[Object]:
    return render(
        {"auth": {"kubernetes": True}, "network": API_SERVER, "serviceAccount": dict(account)}
    )


@pytest.mark.parametrize("account", [{}, {"create": False, "name": "mine"}])
def test_rays_account_may_ask_kubernetes_about_tokens_and_enter_its_own_cluster(
    account: Object,
) -> None:
    objects = kubernetes_auth(**account)
    rules = {
        kind: [rule for one in of_kind(objects, kind) for rule in one["rules"]]
        for kind in ("ClusterRole", "Role")
    }
    assert rules["ClusterRole"] == [
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["tokenreviews"],
            "verbs": ["create"],
        },
        {
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["subjectaccessreviews"],
            "verbs": ["create"],
        },
    ]
    [cluster] = of_kind(objects, "RayCluster")
    assert rules["Role"] == [
        {
            "apiGroups": ["ray.io"],
            "resources": ["rayclusters"],
            "resourceNames": [cluster["metadata"]["name"]],
            "verbs": ["ray:write"],
        }
    ]
    roles = {
        (one["kind"], one["metadata"]["name"])
        for kind in ("ClusterRole", "Role")
        for one in of_kind(objects, kind)
    }
    bindings = of_kind(objects, "ClusterRoleBinding") + of_kind(objects, "RoleBinding")
    assert {(one["roleRef"]["kind"], one["roleRef"]["name"]) for one in bindings} == roles
    name = account.get("name", RELEASE)
    for binding in bindings:
        subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
        assert binding["subjects"] == [subject]
    for where, template in pod_templates(objects):
        assert template["spec"]["serviceAccountName"] == name, where
        assert template["spec"]["automountServiceAccountToken"] is True, where


def test_without_kubernetes_tokens_nobody_gets_rights_in_the_whole_cluster() -> None:
    objects = render({"autoscaler": {"enabled": True}, "network": API_SERVER})
    assert not of_kind(objects, "ClusterRole") + of_kind(objects, "ClusterRoleBinding")


def test_the_autoscaled_workers_of_the_example_need_more_than_what_is_there() -> None:
    """Ray's autoscaler counts reservations: workers that reserve nothing add no nodes."""
    values = example_values("four-nodes-32-gpus")
    group = values["groups"]["rollout"]
    [run] = values["runs"]
    given = dict(one.split("=", 1) for one in run["config"])
    workers, cpus = int(given["rollout.workers"]), float(given["rollout.worker_cpus"])
    per_pod = int(group["resources"]["cpu"])
    assert values["autoscaler"]["enabled"]
    assert workers * cpus > group["replicas"] * per_pod >= group["minReplicas"] * per_pod
    assert workers <= group["maxReplicas"] * (per_pod // cpus)
    text = (CHART / "examples" / "four-nodes-32-gpus.yaml").read_text()
    assert f"# {workers} workers of {cpus:g} CPUs take five pods of {per_pod}, and two" in text
    assert (ceil(workers / (per_pod // cpus)), group["replicas"]) == (5, 2)


def test_the_smallest_example_serves_nothing_and_says_so() -> None:
    assert not of_kind(render(example="laptop"), "RayService")
    assert "served policy is off" in (CHART / "examples" / "laptop.yaml").read_text()


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


def test_the_notes_name_the_namespace_in_every_command() -> None:
    shared = notes({"runs": [RUN], "service": SERVICE})
    own = notes({"auth": {"kubernetes": True}, "network": API_SERVER})
    assert shared.count("kubectl ") > own.count("kubectl ") > 2
    for text in (shared, own):
        assert text.count("kubectl ") == text.count(f"kubectl -n {NAMESPACE} ")


def test_the_notes_say_where_a_token_comes_from() -> None:
    assert "get secret automem" in notes()
    own = notes({"auth": {"kubernetes": True}, "network": API_SERVER})
    assert "get secret" not in own, "KubeRay makes none then"
    assert "create token" in own


# What is refused

REFUSED: dict[str, tuple[Object, str]] = {
    "an unknown key": ({"sevice": {"enabled": True}}, "sevice"),
    "a word for a number": (
        {"groups": {"rollout": {"replicas": "two"}}},
        "groups.rollout.replicas",
    ),
    "root": ({"podSecurity": {"user": 0}}, "podSecurity.user"),
    "a secret in plain values": ({"env": {"WANDB_API_KEY": "abc"}}, "WANDB_API_KEY"),
    "a password in plain values": ({"env": {"DB_PASS": "abc"}}, "DB_PASS"),
    "a credential in plain values": ({"env": {"OPENAI_AUTH": "abc"}}, "OPENAI_AUTH"),
    "a key in the store's address": (
        {"storage": {"object": {"url": "s3://key:secret@bucket/a"}}},
        "storage.object.url",
    ),
    "a share of pods that stay": (
        {"groups": {"rollout": {"minAvailable": "50%"}}},
        "groups.rollout.minAvailable",
    ),
    "more pods that stay than there are": (
        {"groups": {"rollout": {"minAvailable": 5}}},
        "say all",
    ),
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
    "Kubernetes' tokens that nobody can check": ({"auth": {"kubernetes": True}}, "apiServer.cidrs"),
    "Kubernetes' tokens and a shared one": (
        {"auth": {"kubernetes": True, "secretName": "mine"}, "network": API_SERVER},
        "auth.secretName",
    ),
    "Kubernetes' tokens for every pod there is": (
        {
            "auth": {"kubernetes": True},
            "network": API_SERVER,
            "serviceAccount": {"create": False},
        },
        "account for Ray's pods alone",
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


@pytest.mark.parametrize("name", ["AUTHOR", "PASSES", "BYPASS", "RAY_AUTH_MODE", "OAUTHLIB"])
def test_names_that_only_look_like_secrets_are_taken(name: str) -> None:
    check_schema({"env": {name: "x"}})


@pytest.mark.parametrize(
    "url", ["", "s3://bucket", "s3://bucket/a@b/c", "gs://b/a", "file:///data"]
)
def test_addresses_of_stores_are_taken(url: str) -> None:
    check_schema({"storage": {"object": {"url": url}}})


def test_patterns_are_such_as_helms_own_engine_reads() -> None:
    """Go's regular expressions know no looking ahead or behind."""
    text = (CHART / "values.schema.json").read_text()
    assert not re.search(r"\(\?(=|!|<=|<!)", text)


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
