"""Room for all workers of a run at once: a Ray placement group.

Promise: with `placement.rollout.group` a run's workers get their places together or not at all, and
a worker that is replaced gets the place of the one before; what a lost node had is reserved on
another by Ray. Not covered: a node that is being taken back keeps its places until it is gone, so
its workers' episodes go to the other workers meanwhile.
"""

from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from automem.errors import UsageError
from automem.rollout.spec import RolloutSpec

_LITTLE_CPU = 0.001
"""A bundle has to reserve something."""


class Reservation:
    """Places for `spec.workers` workers, one bundle each."""

    def __init__(self, spec: RolloutSpec) -> None:
        place = spec.placement
        bundle = {"CPU": spec.worker_cpus or _LITTLE_CPU, **place.resources}
        labels = [dict(place.labels)] * spec.workers if place.labels else None
        self._spec = spec
        self._group = placement_group(
            [dict(bundle) for _ in range(spec.workers)],
            strategy=place.group,
            bundle_label_selector=labels,
        )

    @property
    def strategy(self) -> Any:
        """How an actor is placed in it, wherever it has room."""
        return PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=-1)

    def wait(self) -> None:
        """Until there is room. UsageError where none comes in the time that a start may take."""
        place = self._spec.placement
        limit_s = max(place.wait_s, self._spec.watchdog.start_s)
        if not self._group.wait(limit_s):
            self.release()
            raise UsageError(
                f"the cluster has no room for {self._spec.workers} workers at once "
                f"(placement.rollout.group={place.group}, labels {place.labels or 'any'}) within "
                f"{limit_s:g} s; it has {ray.cluster_resources()}: lower rollout.workers, or set "
                "placement.rollout.group to nothing"
            )

    def release(self) -> None:
        """Give the room back; workers in it end."""
        remove_placement_group(self._group)
