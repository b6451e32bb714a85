"""`automem jobs`: what was submitted to a cluster: follow, read the log, stop, fetch the runs."""

import time
from pathlib import Path

from rich import box
from rich.table import Table

from automem.commands.arguments import Parser
from automem.commands.plan import RUNS
from automem.commands.submit import STORAGE, follow
from automem.commands.table import wide_console
from automem.errors import UsageError
from automem.loops.stored_loop import fetch_loop, is_loop
from automem.ray_jobs import Job, Jobs
from automem.rollout.stored_run import fetch, runs_of_job

EXAMPLES = [
    "automem jobs                        # all of them",
    "automem jobs follow ID              # its log until it ends; its exit code",
    "automem jobs log ID",
    "automem jobs stop ID                # its episodes stay resumable",
    "automem jobs fetch ID               # the runs that it has stored, into runs/",
]
ACTIONS = ("list", "follow", "log", "stop", "fetch")


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser("jobs", "Jobs on a Ray cluster that `automem submit` sent.", EXAMPLES)
    parser.add_argument("action", nargs="?", default="list", metavar="|".join(ACTIONS))
    parser.add_argument("id", nargs="?", metavar="ID", help="the job, as `automem submit` named it")
    parser.add_argument(
        "--address", metavar="URL", help="the cluster's dashboard, http://host:8265"
    )
    parser.add_argument(
        "--into", metavar="DIR", type=Path, default=RUNS, help="where fetched runs go"
    )
    options = parser.parse_args(argv)
    if options.action not in ACTIONS:
        raise UsageError(f"automem jobs {options.action}: expected one of {', '.join(ACTIONS)}")
    if options.action != "list" and not options.id:
        raise UsageError(
            f"automem jobs {options.action} needs a job's ID; `automem jobs` lists them"
        )
    jobs = Jobs(options.address)
    if options.action == "list":
        return _list(jobs)
    if options.action == "follow":
        return follow(jobs, options.id)
    if options.action == "log":
        print(jobs.log(options.id), end="")
        return 0
    if options.action == "stop":
        was_running = jobs.stop(options.id)
        print(f"{options.id}: {'asked to stop' if was_running else 'it had ended already'}")
        return 0
    return _fetch(jobs.find(options.id), options.into)


def _list(jobs: Jobs) -> int:
    found = jobs.all()
    if not found:
        print(f"no jobs at {jobs.address}: automem submit rollout experiment=embedded")
        return 0
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("job", "status", "began", "seconds", "command"):
        table.add_column(column, no_wrap=column != "command")
    for job in found:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.began)) if job.began else "–"
        took = f"{(job.ended or time.time()) - job.began:,.0f}" if job.began else "–"
        code = f" ({job.exit_code})" if job.exit_code else ""
        table.add_row(job.id, job.status.lower() + code, began, took, job.entrypoint)
    wide_console().print(table)
    return 0


def _fetch(job: Job, into: Path) -> int:
    place = job.metadata.get(STORAGE)
    if not place:
        raise UsageError(
            f"{job.id} was submitted without storage.url, so its runs are in its folder on the "
            "cluster alone: submit it again with storage.url=s3://bucket/folder"
        )
    urls = runs_of_job(place, job.id)
    if not urls:
        raise UsageError(f"{job.id} has stored no run under {place} yet ({job.status.lower()})")
    loops = [url for url in urls if is_loop(url)]
    for url in loops:  # its rollouts come with it, each in its place
        folder = into / url.rpartition("/")[2]
        print(f"fetched: {folder} ({fetch_loop(url, folder)} rollouts)")
    if loops:
        return 0
    for url in urls:
        run_dir = into / url.rpartition("/")[2]
        finished = fetch(url, run_dir)
        print(f"fetched: {run_dir} ({len(finished)} finished episodes)")
    print(f"next:    automem report {into / urls[0].rpartition('/')[2]}")
    return 0
