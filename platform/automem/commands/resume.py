"""`automem resume`: finish a run that was stopped, killed, or left with pending episodes."""

from pathlib import Path

from automem.commands.arguments import Parser, run_folder
from automem.commands.plan import RUNS
from automem.commands.play import broken_off, close, cut_short, play_on
from automem.errors import InfrastructureError, UsageError
from automem.rollout.run_dir import RUN_FILE
from automem.rollout.stored_run import StoredRun


def fetched(url: str) -> Path:
    """A folder of this machine for a stored run: what has been played is brought as it goes on."""
    stored = StoredRun(url if "://" in url else str(Path(url).expanduser().resolve()))
    run_dir = RUNS / stored.url.rpartition("/")[2]
    stored.get_run(run_dir)
    return run_dir.resolve()


def _is_stored(run: str) -> bool:
    """Whether this is a place in a store, which may be a folder, too."""
    place = Path(run).expanduser()
    return "://" in run or ((place / RUN_FILE).exists() and not (place / "episodes").exists())


def main(argv: list[str]) -> int:
    """Play on from each episode's last record; finished episodes are left alone."""
    parser = Parser(
        "resume",
        "Finish a run: every episode goes on from its last record, in a fresh world.",
        [
            "automem resume runs/20260701-120000-crafter-scripted",
            "automem resume RUN --workers 4",
            "automem resume s3://bucket/automem/runs/NAME-1a2b3c    # begun on another machine",
        ],
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder, or where it is stored")
    parser.add_argument("--workers", type=int, help="worker processes, if not as before")
    options = parser.parse_args(argv)
    if options.workers is not None and options.workers < 0:
        raise UsageError(f"--workers must be a whole number of at least 0, got {options.workers}")
    run_dir = fetched(options.run) if _is_stored(options.run) else run_folder(options.run)
    try:
        return close(play_on(run_dir, options.workers), run_dir)
    except InfrastructureError as error:
        return broken_off(error, run_dir)
    except KeyboardInterrupt:
        return cut_short(run_dir)
