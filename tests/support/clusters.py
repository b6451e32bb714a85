"""A real Ray cluster of several nodes on this machine: a raylet each, nothing shared but loopback.

With its own temporary folder and ports, so that other clusters on the machine neither see it nor
are seen. Imported before Ray is: token authentication has to be on by then.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_agent_register_timeout_ms", "200000")  # a busy machine needs longer
os.environ.setdefault("RAY_worker_register_timeout_seconds", "200")

STORE_BYTES = 80 * 1024 * 1024
"""The least that Ray takes for a node's object store, and a little more."""
TRIES = 4
ROLLOUT = {"automem/role": "rollout"}


class Nodes:
    """The cluster's nodes but the head, where the driver runs."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    def add(self, **labels: str) -> str:
        """Ray's id of a new node with these labels; the rollout nodes' where none are given."""
        settings = {
            "num_cpus": 2,
            "object_store_memory": STORE_BYTES,
            "labels": labels or ROLLOUT,
        }
        node = _started(lambda: self._cluster.add_node(**settings))
        return str(node.node_id)

    def ids(self) -> list[str]:
        return [str(node.node_id) for node in self._cluster.worker_nodes]

    def one(self) -> str:
        """A node to lose: one that is there, or a new one."""
        return next(iter(self.ids()), "") or self.add()

    def kill(self, node_id: str) -> None:
        """As a lost machine: every process at once, without a word."""
        [node] = [node for node in self._cluster.worker_nodes if node.node_id == node_id]
        self._cluster.remove_node(node, allow_graceful=False)


@contextmanager
def _light_nodes() -> Iterator[None]:
    """Nodes' agents without the parts of a dashboard that nobody looks at: they come up in a third
    of the time, which on a busy machine decides whether a node does within Ray's 30 s."""
    from ray._private import utils

    found = utils.get_dashboard_dependency_error
    utils.get_dashboard_dependency_error = lambda: ImportError("not wanted here")
    try:
        yield
    finally:
        utils.get_dashboard_dependency_error = found


def _started(start: Callable[[], Any]) -> Any:
    for _ in range(TRIES - 1):
        try:
            with _light_nodes():
                return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    with _light_nodes():
        return start()


@contextmanager
def cluster_of(nodes: int) -> Iterator[Nodes]:
    """A head, which plays too, and so many nodes more; this process is connected as a driver."""
    from automem.rollout.ray_local import _read_environment_again, _set_environment

    _set_environment()
    import ray
    from ray.cluster_utils import Cluster

    _read_environment_again()
    folder = tempfile.mkdtemp(prefix="rc", dir="/tmp")  # short: sockets' names are limited
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = folder
    os.mkdir(os.path.join(folder, "ray"))  # where Ray notes the cluster's address
    head = {
        "num_cpus": 2,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
        "temp_dir": folder,
        "labels": ROLLOUT,
    }
    cluster = None
    try:
        cluster = _started(lambda: Cluster(initialize_head=True, head_node_args=head))
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        found = Nodes(cluster)
        for _ in range(nodes):
            found.add()
        yield found
    finally:
        ray.shutdown()
        if cluster is not None:
            cluster.shutdown()
        if before is None:
            del os.environ["RAY_TMPDIR"]
        else:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
