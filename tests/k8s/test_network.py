"""The network policies: Ray's own ports inside a cluster, and what is named; nothing else."""

import json
import os
import subprocess
import sys
from itertools import pairwise

from support.chart_settings import API_SERVER, GPUS, RUN, SERVICE
from support.rendered_chart import (
    RELEASE,
    cluster_specs,
    default_values,
    of_kind,
    pod_templates,
    policy,
    ports_of,
    render,
)


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
    peers = []
    for one in of_kind(objects, "NetworkPolicy"):
        assert one["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert own.items() <= one["spec"]["podSelector"]["matchLabels"].items()
        for rule in one["spec"]["ingress"]:
            for peer in rule["from"]:
                peers.append(peer)
                if "namespaceSelector" in peer:
                    assert peer == default_values()["network"]["operator"]
                    assert ports_of([rule]) == {(8265, 8265)}
                else:
                    assert own.items() <= peer["podSelector"]["matchLabels"].items()
    assert default_values()["network"]["operator"] in peers


def test_out_go_dns_and_the_own_cluster_and_nothing_else() -> None:
    objects = render({"runs": [RUN]})
    seen = []
    for one in of_kind(objects, "NetworkPolicy"):
        for rule in one["spec"]["egress"]:
            assert rule["to"]
            for peer in rule["to"]:
                assert "ipBlock" not in peer
                labels = peer["podSelector"]["matchLabels"]
                assert labels == {"k8s-app": "kube-dns"} or labels["automem-scope"] == "main"
                seen.append(labels)
    assert {"k8s-app": "kube-dns"} in seen


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


def test_with_kubernetes_tokens_every_pod_of_ray_reaches_the_kubernetes_api() -> None:
    values = {"auth": {"kubernetes": True}, "network": API_SERVER}
    wanted = {
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
        "ports": [{"protocol": "TCP", "port": 6443}],
    }
    everyone = policy(render(values), "main")  # the policy of all pods but the submitter
    assert "app.kubernetes.io/component" not in everyone["podSelector"]["matchLabels"]
    assert wanted in everyone["egress"]
    assert wanted not in policy(render(), "main")["egress"]


OPTIONS = """
import json
from ray.scripts.scripts import drain_node, start
commands = {"start": start, "drain-node": drain_node}
print(json.dumps({n: [o for p in c.params for o in p.opts] for n, c in commands.items()}))
"""


def test_ray_knows_every_option_that_the_chart_gives_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPTIONS],
        env={**os.environ, "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    known = json.loads(done.stdout.splitlines()[-1])
    for _, spec in cluster_specs(render({"groups": GPUS})):
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            assert {f"--{name}" for name in group["rayStartParams"]} <= set(known["start"])
            [container] = group["template"]["spec"]["containers"]
            if "lifecycle" in container:
                *_, line = container["lifecycle"]["preStop"]["exec"]["command"]
                words = line.split()
                assert words[:2] == ["ray", "drain-node"]
                named = {word for word in words if word.startswith("--")}
                assert named <= set(known["drain-node"])
