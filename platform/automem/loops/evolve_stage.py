"""Several scaffolds at once on the same seeds: each a rollout of its own, on shared engines.

Promise: entrants differ in their scaffold and in nothing else; playing them again in the same
folders plays on what is missing. On Ray they play side by side, a pool of workers each and one
engine for all; without Ray one after the other. Not covered: stopping in order. Ctrl-C leaves the
rollouts where they stand, and their journals hold everything.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from automem.loops.stage import BASE, Arm, Played, Stage, differing
from automem.progress import RunProgress
from automem.rollout.engines import SharedEngines
from automem.rollout.progress import Progress
from automem.rollout.run import OnProgress
from automem.rollout.run_dir import read_run
from automem.rollout.spec import RolloutSpec


class Entrant(msgspec.Struct, frozen=True):
    """A scaffold, and where its games go."""

    name: str
    scaffold: Path
    folder: Path


class Arena:
    """See the module's docstring."""

    def __init__(
        self, template: RolloutSpec, engines: SharedEngines | None, is_shown: bool = True
    ) -> None:
        """`engines`: None where the template has no workers, and so no Ray."""
        self._template = template
        self._engines = engines
        self._is_shown = is_shown

    @property
    def world(self) -> str:
        """The world's name."""
        return self._template.world.name

    def differing_from(self, run_dir: Path) -> list[str]:
        """Settings in which this arena's games differ from those of a run that another played."""
        planned, template = read_run(run_dir).spec, self._template
        ours = msgspec.structs.replace(
            template,
            engines={BASE: template.engines[BASE]},
            memory=template.gameplay,  # the base plays both roles
            episodes=planned.episodes,
        )
        return differing(planned, ours)

    def play(
        self, entrants: Sequence[Entrant], seeds: Sequence[int], title: str, max_steps: int = 0
    ) -> list[Played]:
        """What each entrant reached on these seeds. `max_steps`: 0 for the template's own cap."""
        with RunProgress(title) if self._is_shown else nullcontext() as display:
            total = _Sum(len(entrants), display.update if display else None)
            works = [
                self._work(entrant, seeds, title, max_steps, total.part(number))
                for number, entrant in enumerate(entrants)
            ]
            if self._engines is None or len(works) == 1:
                return [work() for work in works]
            self._engines.lend(self._template)  # started once, before several ask for it
            return _side_by_side(works)

    def _work(
        self,
        entrant: Entrant,
        seeds: Sequence[int],
        title: str,
        max_steps: int,
        on_progress: OnProgress,
    ) -> Callable[[], Played]:
        template = msgspec.structs.replace(
            self._template,
            scaffold=str(entrant.scaffold),
            max_steps=max_steps or self._template.max_steps,
        )
        stage = Stage(template, self._engines, is_shown=False)
        return lambda: stage.play(entrant.folder, Arm(), None, seeds, title, on_progress)


def _side_by_side(works: Sequence[Callable[[], Played]]) -> list[Played]:
    """All of them at the same time; the first error once all have come to an end."""
    results: list[Played | BaseException | None] = [None] * len(works)

    def carry_out(number: int) -> None:
        try:
            results[number] = works[number]()
        except BaseException as error:  # noqa: BLE001 - raised again below, by who asked
            results[number] = error

    # Daemons, so that Ctrl-C ends the command at once: nothing is lost by that.
    threads = [
        threading.Thread(target=carry_out, args=(number,), daemon=True)
        for number in range(len(works))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    played = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        assert result is not None
        played.append(result)
    return played


class _Sum:
    """One progress out of several."""

    def __init__(self, parts: int, on_progress: OnProgress | None) -> None:
        self._latest: list[Progress | None] = [None] * parts
        self._on_progress = on_progress
        self._lock = threading.Lock()

    def part(self, number: int) -> OnProgress:
        """Where one part tells how it stands."""

        def hear(progress: Progress) -> None:
            with self._lock:
                self._latest[number] = progress
                known = [part for part in self._latest if part is not None]
                if self._on_progress is not None:
                    self._on_progress(_added(known, len(self._latest)))

        return hear


def _added(known: Sequence[Progress], parts: int) -> Progress:
    done = sum(part.episodes_done for part in known)
    reached = sum((part.progression_so_far or 0.0) * part.episodes_done for part in known)
    return Progress(
        episodes_total=sum(part.episodes_total for part in known) * parts // len(known),
        episodes_done=done,
        running=sum(part.running for part in known),
        pending=sum(part.pending for part in known),
        failed=sum(part.failed for part in known),
        steps=sum(part.steps for part in known),
        tokens_in=sum(part.tokens_in for part in known),
        tokens_out=sum(part.tokens_out for part in known),
        progression_so_far=reached / done if done else None,
        steps_per_s=sum(part.steps_per_s for part in known),
        restarts=sum(part.restarts for part in known),
        stragglers=tuple(late for part in known for late in part.stragglers),
    )
