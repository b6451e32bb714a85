"""Several Ray nodes that share no file system: rollouts spread, nodes die or are taken back, and
the traces stay those of an undisturbed run on one machine."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.clusters import ROLLOUT, Nodes, cluster_of
from support.drivers import assert_same_traces
from support.s3_server import s3_server
from support.tiny_base import build_base, random_dataset
from support.toy_world import toy_spec

from automem.errors import UsageError
from automem.rollout.progress import Progress
from automem.rollout.run import run_rollout
from automem.rollout.run_dir import read_run
from automem.rollout.spec import Placement, RolloutSpec, Watchdog
from automem.rollout.stored_run import fetch
from automem.storage.store import Store
from automem.tracker import NoTracker
from automem_learners.recipe import Lora, Recipe, Scaling
from automem_learners.sft import fit

pytestmark = pytest.mark.slow

SEEDS = range(8)
LEARNER = {"automem/role": "learner"}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("scratch")
    os.environ["AUTOMEM_SCRATCH"] = str(folder)
    os.environ["AUTOMEM_CACHE"] = str(folder / "cache")
    yield folder
    del os.environ["AUTOMEM_SCRATCH"], os.environ["AUTOMEM_CACHE"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module")
def nodes(bucket: str, scratch: Path) -> Iterator[Nodes]:
    with cluster_of(nodes=1) as found:
        yield found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert run_rollout(toy_spec(seeds=SEEDS), run_dir).is_complete
    return run_dir


def spec_for(bucket: str, **changes: Any) -> RolloutSpec:
    fields: dict[str, Any] = {
        "seeds": SEEDS,
        "workers": 2,
        "latency_s": 0.05,
        "storage_url": f"{bucket}/tests",
        "segment_steps": 2,
        "placement": Placement(labels=ROLLOUT, drain_s=0.5),
    }
    spec: RolloutSpec = toy_spec(**{**fields, **changes})
    return spec


def nodes_used(scratch: Path, run_name: str) -> set[str]:
    """The first digits of the nodes' ids on which workers of a run have played."""
    return {path.parent.name for path in scratch.glob(f"*/{run_name}-*")}


def once(act: Callable[[], None], steps: int) -> Callable[[Progress], None]:
    """Act when so many steps have been played."""
    acted: list[bool] = []

    def on_progress(progress: Progress) -> None:
        if not acted and progress.steps >= steps:
            acted.append(True)
            act()

    return on_progress


def test_a_node_dies_its_episodes_go_on_elsewhere_and_another_machine_fetches_them(
    nodes: Nodes, bucket: str, scratch: Path, undisturbed: Path, tmp_path: Path
) -> None:
    lost = nodes.one()
    result = run_rollout(
        spec_for(bucket), tmp_path / "killed", once(lambda: nodes.kill(lost), steps=30)
    )
    assert lost not in nodes.ids()
    assert result.is_complete
    assert result.restarts >= 1
    assert len(nodes_used(scratch, "killed")) == 2
    assert_same_traces(tmp_path / "killed", undisturbed)
    url = read_run(tmp_path / "killed").spec.storage_url
    assert len(fetch(url, tmp_path / "there")) == len(SEEDS)
    assert_same_traces(tmp_path / "there", undisturbed)


def test_a_reserved_run_has_its_workers_where_the_group_says(
    nodes: Nodes, bucket: str, scratch: Path, undisturbed: Path, tmp_path: Path
) -> None:
    nodes.one()
    place = Placement(labels=ROLLOUT, group="STRICT_PACK")  # by default they are spread
    result = run_rollout(spec_for(bucket, placement=place, latency_s=0.0), tmp_path / "reserved")
    assert result.is_complete
    assert len(nodes_used(scratch, "reserved")) == 1
    assert_same_traces(tmp_path / "reserved", undisturbed)


def test_a_node_that_is_taken_back_hands_its_episodes_over(
    nodes: Nodes, bucket: str, scratch: Path, undisturbed: Path, tmp_path: Path
) -> None:
    leaving = nodes.one()
    result = run_rollout(
        spec_for(bucket, segment_steps=1000, segment_s=1e9),
        tmp_path / "drained",
        once(lambda: _take_back(leaving), steps=30),
    )
    assert result.is_complete
    assert leaving[:16] in nodes_used(scratch, "drained")
    assert_same_traces(tmp_path / "drained", undisturbed)
    # Nothing was played twice, though segments were stored at the end of an attempt only. (A worker
    # that Ray still placed on the leaving node may have been lost before it began.)
    assert result.stats.steps == len(SEEDS) * 12


def test_a_run_that_finds_no_room_for_all_its_workers_says_so(
    nodes: Nodes, bucket: str, tmp_path: Path
) -> None:
    place = Placement(labels={"automem/role": "nowhere"}, group="PACK")
    spec = spec_for(bucket, placement=place, watchdog=Watchdog(start_s=1.0))
    with pytest.raises(UsageError, match=r"no room for 2 workers at once .*placement\.rollout"):
        run_rollout(spec, tmp_path / "nowhere")


@pytest.mark.timeout(600)
def test_training_runs_on_the_learners_nodes_and_keeps_its_checkpoints_in_the_store(
    nodes: Nodes, bucket: str, tmp_path: Path
) -> None:
    """One worker of DeepSpeed; what it leaves is in the driver's folder, the store is empty again;
    without such a node it says so at once."""
    base = build_base(tmp_path / "base")
    dataset = random_dataset(tmp_path / "data", base)
    scaling = Scaling(
        backend="deepspeed", labels=LEARNER, zero_stage=2, checkpoint_every=1,
        storage_url=f"{bucket}/learning",
    )  # fmt: skip
    recipe = Recipe(lora=Lora(rank=2, alpha=4), max_steps=3, precision="fp32")
    with pytest.raises(UsageError, match=r"nodes labelled .*learner.* have 0: ask for fewer"):
        fit(dataset, recipe, base, tmp_path / "out", scaling)
    learner = nodes.add(**LEARNER)
    seen: set[str] = set()
    stored: set[int] = set()

    class Watching(NoTracker):
        def log(self, metrics: Mapping[str, float], step: int) -> None:
            seen.update(_nodes_of("RayTrainWorker"))
            stored.add(len(Store(f"{bucket}/learning").tree()))

    version = fit(dataset, recipe, base, tmp_path / "out", scaling, Watching())
    assert seen == {learner}
    assert max(stored) > 0
    assert version.steps == 3
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()
    assert Store(f"{bucket}/learning").tree() == []


def _nodes_of(kind: str) -> set[str]:
    """Where living actors of a class are."""
    import ray._private.state as state

    return {
        str(actor["Address"]["NodeID"])
        for actor in state.actors().values()
        if actor["State"] == "ALIVE" and kind in actor["ActorClassName"]
    }


def _take_back(node_id: str) -> None:
    """As an autoscaler or `ray drain-node` does it."""
    import ray
    from ray._raylet import GcsClient
    from ray.core.generated import autoscaler_pb2

    address = ray.get_runtime_context().gcs_address
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why = GcsClient(address=address).drain_node(node_id, reason, "spot", 2**62)
    assert accepted, why
