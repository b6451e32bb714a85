"""Settings under which the chart is rendered in tests: each toggle once, by a name that says it."""

from typing import Any

RUN: dict[str, Any] = {"name": "crafter", "command": "rollout", "config": ["env=crafter"]}
SERVICE: dict[str, Any] = {"enabled": True}
API_SERVER: dict[str, Any] = {"apiServer": {"cidrs": ["10.0.0.1/32"]}}
GPUS: dict[str, Any] = {"engine": {"enabled": True}, "learner": {"enabled": True}}

TOGGLES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "a run on the cluster": {"runs": [RUN]},
    "a run with a cluster of its own": {
        "runs": [{**RUN, "ownCluster": True, "groups": ["rollout"], "retries": 2}]
    },
    "runs without a cluster": {"cluster": {"enabled": False}, "runs": [RUN]},
    "the served policy alone": {"cluster": {"enabled": False}, "service": SERVICE},
    "cluster, run and policy": {"runs": [RUN], "service": SERVICE},
    "the served policy on GPUs": {
        "groups": GPUS,
        "service": {"enabled": True, "groups": ["engine"], "gpusPerReplica": 1},
    },
    "every group": {"groups": GPUS},
    "autoscaler": {"autoscaler": {"enabled": True}, "network": API_SERVER, "groups": GPUS},
    "object storage": {
        "storage": {"kind": "object", "object": {"url": "s3://bucket/automem/"}},
        "network": {"storage": {"cidrs": ["10.1.0.0/16"], "ports": [443, 9000]}},
        "runs": [RUN],
    },
    "an existing volume": {"storage": {"pvc": {"existingClaim": "data"}}},
    "base models on a volume": {"models": {"existingClaim": "models"}},
    "secrets and environment": {
        "secrets": [{"env": "WANDB_API_KEY", "secret": "wandb", "key": "api-key"}],
        "env": {"WANDB_PROJECT": "automem"},
        "runs": [RUN],
    },
    "own token": {"auth": {"secretName": "ray-token"}},
    "Kubernetes decides who may": {"auth": {"kubernetes": True}, "network": API_SERVER},
    "no token": {"auth": {"mode": "disabled"}, "runs": [RUN]},
    "TLS": {"tls": True},
    "no network policies": {"network": {"enabled": False}, "service": SERVICE},
    "the internet": {"network": {"internet": True}},
    "more ways out": {
        "network": {
            "extraEgress": [
                {
                    "to": [{"podSelector": {"matchLabels": {"app": "vllm"}}}],
                    "ports": [{"protocol": "TCP", "port": 8000}],
                }
            ]
        }
    },
    "few may ask": {
        "service": SERVICE,
        "network": {"served": [{"podSelector": {"matchLabels": {"app": "client"}}}]},
    },
    "a head that comes back, Redis": {
        "gcsFaultTolerance": {
            "enabled": True,
            "redis": {"address": "redis:6380", "passwordSecret": {"name": "redis", "key": "pw"}},
        }
    },
    "a head that comes back, RocksDB": {
        "gcsFaultTolerance": {"enabled": True, "backend": "rocksdb"}
    },
    "Kueue": {"kueue": {"queue": "gpus"}, "runs": [{**RUN, "ownCluster": True}]},
    "monitoring": {"monitoring": {"enabled": True, "labels": {"release": "p"}}, "service": SERVICE},
    "monitoring without a dashboard": {"monitoring": {"enabled": True, "dashboard": False}},
    "no service account": {"serviceAccount": {"create": False}},
    "where and how important": {
        "head": {"priorityClassName": "high", "nodeSelector": {"pool": "a"}},
        "groups": {
            "rollout": {
                "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
                "rayStartParams": {"object-store-memory": "1000000000"},
                "minAvailable": 1,
            }
        },
        "image": {"pullSecrets": ["registry"]},
    },
    "hooks are tried": {"hooks": "isolated", "runs": [RUN]},
}
