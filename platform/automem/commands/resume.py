"""`automem resume`: finish a run that was stopped, killed, or left with pending episodes."""

from automem.commands.arguments import Parser, run_folder
from automem.commands.play import broken_off, close, cut_short, play_on
from automem.errors import InfrastructureError, UsageError


def main(argv: list[str]) -> int:
    """Play on from each episode's last record; finished episodes are left alone."""
    parser = Parser(
        "resume",
        "Finish a run: every episode goes on from its last record, in a fresh world.",
        ["automem resume runs/20260701-120000-crafter-scripted", "automem resume RUN --workers 4"],
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("--workers", type=int, help="worker processes, if not as before")
    options = parser.parse_args(argv)
    if options.workers is not None and options.workers < 0:
        raise UsageError(f"--workers must be a whole number of at least 0, got {options.workers}")
    run_dir = run_folder(options.run)
    try:
        return close(play_on(run_dir, options.workers), run_dir)
    except InfrastructureError as error:
        return broken_off(error, run_dir)
    except KeyboardInterrupt:
        return cut_short(run_dir)
