"""What `rollout`, `resume` and `tour` share: play with a display and a tracker, then say what came.

Promise: however a run ends, its summary and report stand beside its traces, and where episodes are
left it says how to resume them.
"""

import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from automem.cli import INTERRUPTED, PENDING, say_error
from automem.commands.table import Row, print_table, print_tasks
from automem.errors import InfrastructureError, StoreError, UsageError
from automem.progress import RunProgress
from automem.report import write_report
from automem.rollout.progress import Progress, RunResult
from automem.rollout.run import OnProgress, resume_run, run_rollout
from automem.rollout.run_dir import CONFIG_FILE as CONFIG_FILE
from automem.rollout.run_dir import RUN_FILE, read_run
from automem.rollout.spec import RolloutSpec
from automem.rollout.stored_run import StoredRun
from automem.trace.summary import write_summary
from automem.tracker import NoTracker, Tracker, open_tracker, sync_command

OnBegun = Callable[[], None]
Start = Callable[[OnProgress, OnBegun], RunResult]


def play_new(
    spec: RolloutSpec, run_dir: Path, config: DictConfig, title: str = "", is_shown: bool = True
) -> RunResult:
    """Begin a run in a folder that holds none; without a display if not `is_shown`."""
    if (run_dir / RUN_FILE).exists():
        raise UsageError(
            f"{run_dir} already holds a run: continue it with `{resume_line(run_dir)}`, or choose "
            "another run.dir"
        )
    name = title or f"{config.env.name}, {config.engine.name}"

    def start(on_progress: OnProgress, on_begun: OnBegun) -> RunResult:
        def begun() -> None:
            OmegaConf.save(config, run_dir / CONFIG_FILE)
            on_begun()

        return run_rollout(spec, run_dir, on_progress, on_begun=begun)

    return _play(
        start,
        run_dir,
        config,
        RunProgress(name) if is_shown else None,
    )


def play_on(run_dir: Path, workers: int | None = None) -> RunResult:
    """Finish a run that was begun."""
    config = _kept(run_dir / CONFIG_FILE)
    return _play(
        lambda on_progress, on_begun: resume_run(
            run_dir, on_progress, workers=workers, on_begun=on_begun
        ),
        run_dir,
        config,
        RunProgress(run_dir.name),
    )


def _kept(path: Path) -> DictConfig:
    """The configuration that a run was begun with; StoreError where it is damaged."""
    try:
        config = OmegaConf.load(path) if path.exists() else OmegaConf.create({})
    except (YAMLError, OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}; remove it to go on without") from error
    if not isinstance(config, DictConfig):
        raise StoreError(f"{path} is no configuration; remove it to go on without")
    return config


def _play(
    start: Start, run_dir: Path, config: DictConfig, display: RunProgress | None
) -> RunResult:
    settings = _mapping(config.get("tracker") or {})
    tracker: Tracker = NoTracker()

    def begun() -> None:
        """The folder is ours: nothing is written to it before."""
        nonlocal tracker
        tracker = open_tracker(settings, run_dir, _mapping(config))

    with display or nullcontext():

        def follow(progress: Progress) -> None:
            if display:
                display.update(progress)
            tracker.log(_metrics(progress), step=progress.steps)

        try:
            result = start(follow, begun)
        except InfrastructureError:
            _write_outcome(run_dir, tracker)
            raise
    _write_outcome(run_dir, tracker)
    return result


def _write_outcome(run_dir: Path, tracker: Tracker) -> None:
    summary = write_summary(run_dir)
    tracker.finish(summary)
    write_report(run_dir)
    if url := _stored_at(run_dir):
        StoredRun(url).put_outcome(run_dir)


def _stored_at(run_dir: Path) -> str:
    """Where the run is stored; nothing where it is not, or did not come to begin."""
    return read_run(run_dir).spec.storage_url if (run_dir / RUN_FILE).exists() else ""


def _metrics(progress: Progress) -> dict[str, float]:
    """What a tracker follows over time."""
    values = {
        "episodes_done": progress.episodes_done,
        "failed": progress.failed,
        "pending": progress.pending,
        "tokens_in": progress.tokens_in,
        "tokens_out": progress.tokens_out,
        "steps_per_s": progress.steps_per_s,
        "workers_replaced": progress.restarts,
    }
    if progress.progression_so_far is not None:
        values["progression"] = progress.progression_so_far
    return values


def close(result: RunResult, run_dir: Path) -> int:
    """One table, what was written, what to try next; the exit code."""
    summary = write_summary(run_dir)
    print_table([Row(run_dir.name, summary)])
    print_tasks(summary)
    here = shlex.quote(str(shortest(run_dir)))
    print(f"written: {here}/summary.json, {here}/report.html")
    if url := _stored_at(run_dir):
        print(f"stored:  {url}")
    print_tracker(run_dir)
    code = exit_code(result, run_dir)
    if code == 0 and result.episodes:
        episode = result.episodes[0].episode
        print(f"next:    automem show {here} {episode}")
        print(f'         automem query {here} "select * from episodes"')
    return code


def print_tracker(run_dir: Path) -> None:
    """How to send what a tracker keeps in the folder, where it keeps anything."""
    if command := sync_command(run_dir, shortest(run_dir)):
        print(f"tracker: {command}")


def exit_code(result: RunResult, run_dir: Path) -> int:
    """0 where every episode has its end; otherwise says how to go on."""
    if result.is_complete:
        return 0
    left = len(result.pending)
    reasons = {episode.reason for episode in result.pending if episode.reason}
    why = f" ({'; '.join(sorted(reasons)[:3])})" if reasons else ""
    say_error(
        f"{left} of {len(result.episodes)} episodes are not finished{why}; nothing is lost. "
        f"Play on with: {resume_line(run_dir)}"
    )
    return INTERRUPTED if result.interrupted else PENDING


def broken_off(error: InfrastructureError, run_dir: Path) -> int:
    """Something that every episode needs did not come up, or broke."""
    say_error(f"{error}\nNothing is lost. Mend it, then play on with: {resume_line(run_dir)}")
    return PENDING


def cut_short(run_dir: Path) -> int:
    """After a second Ctrl-C: nothing was awaited, and still nothing is lost."""
    say_error(f"stopped at once; nothing is lost. Play on with: {resume_line(run_dir)}")
    return INTERRUPTED


def resume_line(run_dir: Path) -> str:
    """The command that plays a run on."""
    return f"automem resume {shlex.quote(str(shortest(run_dir)))}"


def shortest(path: Path) -> Path:
    """Relative to where the person is, if it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _mapping(node: Any) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
