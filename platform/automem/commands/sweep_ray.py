"""The points of a sweep as Ray tasks: some at a time, each in a process of its own.

Ctrl-C asks the points under way to stop where they stand, as it does a single run; a second one
leaves them. What a point's process leaves when it dies is a run that `automem resume` finishes.
"""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import cloudpickle

from automem.cli import INTERRUPTED, PENDING
from automem.rollout.interrupt import StopRequest, stop_on_signal
from automem.rollout.ray_local import connected

if TYPE_CHECKING:
    from automem.commands.sweep import Outcome, Playable

_POLL_S = 0.2
"""How long a wait for points lasts before a request to stop is looked at."""


def launch(
    jobs: "Sequence[tuple[Playable, Path, str]]", parallel: int, cpus: float
) -> "Iterator[tuple[int, Outcome]]":
    """The place and outcome of each job as it ends."""
    with connected():
        yield from _Tasks(jobs, parallel, cpus).play()


def _play(packed: bytes, run_dir: str, name: str, import_path: Sequence[str]) -> tuple[int, str]:
    """Play a point in another process, from what travels."""
    sys.path.extend(path for path in import_path if path not in sys.path)
    point: Playable = cloudpickle.loads(packed)
    code, note = point.play(Path(run_dir), name, is_shown=False)
    return code, note


class _Tasks:
    """Tasks under way and those that wait."""

    def __init__(
        self, jobs: "Sequence[tuple[Playable, Path, str]]", parallel: int, cpus: float
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        task: Any = ray.remote(_play)
        self._task = task.options(num_cpus=cpus, max_retries=0, scheduling_strategy=here)
        self._jobs = jobs
        self._parallel = parallel
        self._waiting = deque(range(len(jobs)))
        self._running: dict[Any, int] = {}

    def play(self) -> "Iterator[tuple[int, Outcome]]":
        import ray

        stop = StopRequest()
        with stop_on_signal(stop):
            while self._waiting or self._running:
                if stop():
                    yield from self._stop()
                    return
                self._start()
                ready, _ = ray.wait(list(self._running), num_returns=1, timeout=_POLL_S)
                for reference in ready:
                    place = self._running.pop(reference)
                    yield place, self._outcome(reference, place)

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._parallel:
            place = self._waiting.popleft()
            point, run_dir, name = self._jobs[place]
            print(
                f"[{place + 1}/{len(self._jobs)}] {name or 'the same'} → {run_dir}",
                file=sys.stderr,
            )
            reference = self._task.remote(cloudpickle.dumps(point), str(run_dir), name, sys.path)
            self._running[reference] = place

    def _outcome(self, reference: Any, place: int) -> "Outcome":
        import ray
        from ray.exceptions import RayError

        from automem.commands.sweep import Outcome

        try:
            return Outcome(*ray.get(reference))
        except RayError as error:
            why = str(error).strip().splitlines()[0]
            point, run_dir, _ = self._jobs[place]
            line = point.again(run_dir)
            return Outcome(PENDING, f"its process died: {why}; play on with: {line}")

    def _stop(self) -> "Iterator[tuple[int, Outcome]]":
        """Ask what is under way to stop, and hear how it stands; the others were not begun."""
        import ray

        from automem.commands.sweep import Outcome

        for reference in self._running:
            ray.cancel(reference)
        for reference, place in self._running.items():
            outcome = self._outcome(reference, place)
            yield place, Outcome(INTERRUPTED, outcome.note)
        for place in self._waiting:
            yield place, Outcome(INTERRUPTED, "not started")
