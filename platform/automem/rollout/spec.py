"""What a rollout is, as plain data: small, picklable, kept in `run.json` so that a resume needs
nothing else.

Parts are named by a `_target_` and its arguments, as in the configuration tree; workers build them
locally. Nothing in here is ever a live object.
"""

from typing import Any, Literal

import msgspec


class WorldSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The world that every episode of the run plays."""

    name: str
    target: dict[str, Any]
    """`_target_` of an `automem.world.World` and its arguments."""


class EngineSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An engine, by target and by where it lives."""

    target: dict[str, Any]
    """`_target_` of an `automem.engine.protocol.Engine` and its arguments."""
    placement: Literal["worker", "actor"] = "actor"
    """`worker`: each worker builds its own (clients, scripts); `actor`: one, shared by all."""
    num_cpus: float = 0.0
    """Ray resources that the actor reserves; 0 since a local run has nobody to share with."""
    num_gpus: float = 0.0
    resources: dict[str, float] = {}
    """Custom Ray resources that the actor reserves."""
    labels: dict[str, str] = {}
    """Labels of the nodes that the actor may run on (Ray's label selectors)."""
    replicas: int = 1
    """Actors with this engine; an episode's calls go to one of them."""
    bundles: tuple[dict[str, float], ...] = ()
    """What a replica's own workers reserve beside its actor, each, in one placement group."""
    strategy: Literal["PACK", "STRICT_PACK", "SPREAD", "STRICT_SPREAD"] = "PACK"
    """Over which machines a replica's placement group is spread."""
    adapters: dict[str, str] = {}
    """Adapter versions to load: name to folder, or to its URL in object storage."""


class RoleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who answers in one role."""

    engine: str
    """Key of `RolloutSpec.engines`."""
    adapter: str | None = None
    sampling: dict[str, Any] = {}
    """Fields of `Sampling`."""


class EpisodeKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One episode of the run."""

    seed: int
    replicate: int = 0


class Deadlines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long anything may take before it counts as broken."""

    call_s: float = 120.0
    """One model call, retries inside the engine included."""
    step_s: float = 900.0
    """One step: every model call of its LOG and PLAN."""
    patience_s: float = 300.0
    """An episode that keeps failing without a new step is given up as pending after this."""
    world_attempts: int = 3
    """Fresh worlds that a step may break before the episode is given up as pending."""


class Watchdog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a worker is taken for dead."""

    silent_s: float = 60.0
    """Without a sign of life for so long it is killed: some world hangs in it."""
    start_s: float = 180.0
    """The same while it starts (imports; models, where workers have their own)."""
    strikes: int = 2
    """Losses of a worker that an episode may be under suspicion for before it plays alone."""
    straggler_s: float = 60.0
    """An episode without a new step for so long is reported."""


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where Ray puts the workers. A node that is being taken back gets none."""

    labels: dict[str, str] = {}
    """Labels that a node must have, for example `automem/role: rollout`; empty: any node."""
    resources: dict[str, float] = {}
    """Custom resources that each worker reserves."""
    spread: bool = True
    """Over the nodes, as evenly as Ray can; else as few nodes as hold them."""
    group: Literal["", "PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = ""
    """Reserve room for all workers at once, in a placement group spread like this; empty: each
    worker starts where and when there is room."""
    drain_s: float = 5.0
    """Seconds between looks for nodes that are being taken back; 0: never."""
    wait_s: float = 0.0
    """How long a worker may wait for a node that does not exist yet (an autoscaler's); at least
    `Watchdog.start_s`."""


class RolloutSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the module's docstring."""

    world: WorldSpec
    engines: dict[str, EngineSpec]
    memory: RoleSpec
    gameplay: RoleSpec
    scaffold: str
    """Path of the scaffold's folder."""
    episodes: tuple[EpisodeKey, ...]
    agent: dict[str, Any] = {}
    """Fields of `AgentOptions`."""
    policy: str = ""
    """Name of the policy version; empty: model, scaffold and adapter."""
    run_seed: int = 0
    max_steps: int = 0
    """Cap on game actions; 0: the world's own."""
    workers: int = 1
    """Worker processes; 0 plays in this process, without Ray (tests, tiny runs)."""
    sessions_per_worker: int = 256
    worker_cpus: float = 0.01
    """CPUs that Ray reserves per worker: small, since a worker mostly waits for its engine."""
    deadlines: Deadlines = Deadlines()
    watchdog: Watchdog = Watchdog()
    fsync: bool = False
    """Survive power cuts, not only kills."""
    placement: Placement = Placement()
    storage_url: str = ""
    """fsspec URL under which the run is stored, so that no node needs to see another's disk; empty:
    every worker sees the run's folder. `create_run` makes it the run's own."""
    segments_url: str = ""
    """fsspec URL under which journals are copied as they grow; empty: in the run's `storage_url`
    where it has one, else only on the local disk."""
    segment_steps: int = 50
    """A segment is stored after so many steps of an episode, or ..."""
    segment_s: float = 30.0
    """... after so many seconds: what the loss of a node costs at most."""

    def episode_id(self, key: EpisodeKey) -> str:
        """`<world>-<seed>-<replicate>`: names the episode's folder and tables."""
        return f"{self.world.name}-{key.seed}-{key.replicate}"
