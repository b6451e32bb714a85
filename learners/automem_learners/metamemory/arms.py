"""Playing an arm: the same rollout with another gate, durable and resumable like any other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import InfrastructureError, UsageError
from automem.loops.stage import differing
from automem.progress import RunProgress
from automem.rollout.engines import SharedEngines
from automem.rollout.run import resume_run, run_rollout
from automem.rollout.run_dir import RUN_FILE, read_run
from automem.rollout.spec import EpisodeKey, RolloutSpec
from automem.trace.summary import write_summary
from automem_learners.metamemory.traces import GateTrace, read_traces


class Pending(InfrastructureError):
    """Episodes are pending: nothing is lost, the same command goes on."""

    boundary = "rollout"


class Played(msgspec.Struct, frozen=True):
    """What an arm reached on some seeds."""

    progression: list[float]
    """By seed, in the order asked for."""
    tokens_per_step: float
    """Everything: LOG, consulting, commit, the terminal LOG."""
    fallbacks: int
    """Episodes in which the gate failed and all memory work was done."""
    traces: list[GateTrace]


def play_arm(
    template: RolloutSpec,
    folder: Path,
    agent: Mapping[str, Any],
    seeds: Sequence[int],
    title: str,
    engines: SharedEngines | None = None,
) -> Played:
    """Play these seeds, or what is missing of them. Pending, KeyboardInterrupt, or UsageError where
    the folder holds another run."""
    spec = msgspec.structs.replace(
        template,
        agent={**template.agent, **agent},
        episodes=tuple(EpisodeKey(seed=seed) for seed in seeds),
    )
    with RunProgress(title) as display:
        if (folder / RUN_FILE).exists():
            planned = read_run(folder).spec
            if fields := differing(planned, spec):
                raise UsageError(
                    f"{folder} was begun with other settings ({', '.join(fields)}): choose another "
                    "run.dir, or go on with those that it was begun with"
                )
            result = resume_run(folder, display.update, engines=engines)
        else:
            result = run_rollout(spec, folder, display.update, engines)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.pending:
        raise Pending(f"{title}: {len(result.pending)} episodes ({result.pending[0].reason})")
    summary = write_summary(folder)
    tokens = summary["tokens"]
    failures = summary["failures"]
    traces = read_traces(folder)
    reached = {trace.episode: trace.progression for trace in traces}
    return Played(
        progression=[reached[spec.episode_id(key)] for key in spec.episodes],
        tokens_per_step=(tokens["in"] + tokens["out"]) / summary["steps"],
        fallbacks=len({each["episode"] for each in failures if each["boundary"] == "gate"}),
        traces=traces,
    )
