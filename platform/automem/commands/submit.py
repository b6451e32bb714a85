"""`automem submit`: run a command of AutoMem as a job on a Ray cluster.

Promise: what can be checked here is checked before anything is sent; the job's log is followed and
its exit code becomes this command's; Ctrl-C stops following, not the job. The folder that the
command is given in travels along, so the job runs this checkout's code and configuration, not the
image's.
"""

import os
import shlex
import sys
import uuid
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from automem.checkout import is_checkout
from automem.cli import INTERRUPTED, load, say_error
from automem.commands.arguments import Parser
from automem.errors import UsageError
from automem.ray_jobs import Jobs
from automem.rollout.stored_run import JOB_VARIABLE, STORAGE_VARIABLE

EXAMPLES = [
    "automem submit rollout experiment=embedded storage.url=s3://bucket/automem",
    "automem submit --address http://head:8265 --no-wait proficiency experiment=embedded",
    "automem submit --env WANDB_API_KEY rollout experiment=crafter_scripted tracker=wandb",
    "automem jobs                        # what runs; automem jobs fetch ID brings its runs here",
]
STORAGE = "automem_storage"
"""Metadata of a job: where its runs are stored."""


COMPOSED = ("proficiency", "evolve", "run", "metamemory", "audit")
"""Commands whose `--show` composes the configuration and plays nothing."""
IN_ITS_FOLDER = ("evolve", "run", "metamemory", "audit")


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser("submit", "Run a command as a job on a Ray cluster; follow its log.", EXAMPLES)
    parser.add_argument(
        "--address", metavar="URL", help="the cluster's dashboard, http://host:8265"
    )
    parser.add_argument("--no-wait", action="store_true", help="do not follow the log")
    parser.add_argument("--id", metavar="ID", help="the job's name; a new one if not given")
    parser.add_argument(
        "--working-dir", metavar="DIR", default=".", help='sent along; "" runs the image\'s code'
    )
    parser.add_argument("--cpus", type=float, default=0.0, help="CPUs reserved for the driver")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME[=VALUE]", help="variable for the job"
    )
    parser.add_argument("command", help="rollout, proficiency, resume, ...")
    parser.add_argument("arguments", nargs="...", metavar="key=value", help="as for the command")
    options = parser.parse_args(argv)
    arguments = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
    _check(options.command, arguments)
    variables = _variables(options.env)
    place = _storage(options.command, arguments, variables)
    job = options.id or f"automem-{options.command}-{uuid.uuid4().hex[:8]}"
    folder = _working_dir(options.working_dir)
    jobs = Jobs(options.address)
    jobs.submit(
        entrypoint=shlex.join(["automem", options.command, *arguments]),
        job=job,
        working_dir=folder,
        variables={**variables, JOB_VARIABLE: job},
        metadata={STORAGE: place} if place else {},
        cpus=options.cpus,
    )
    print(f"job:     {job} at {jobs.address}", file=sys.stderr)
    if options.command in IN_ITS_FOLDER:
        say_error(
            f"automem {options.command} keeps everything in its folder on the cluster, and only "
            "its games in a store: give it a run.dir on a volume, or it goes with the job"
        )
    elif not place and options.command in ("rollout", "proficiency", "resume"):
        say_error(
            "storage.url is not set: what the job writes stays in its folder on the cluster, and "
            "goes with it"
        )
    if options.no_wait:
        print(f"next:    automem jobs follow {job}    (or: stop, log, fetch)", file=sys.stderr)
        return 0
    return follow(jobs, job)


def follow(jobs: Jobs, job: str) -> int:
    """The job's log until its end; its exit code."""
    try:
        code = jobs.follow(job, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        say_error(
            f"not following any more; {job} goes on. Again: automem jobs follow {job}; to end it: "
            f"automem jobs stop {job}"
        )
        return INTERRUPTED
    state = jobs.find(job)
    if code:
        say_error(f"{job} {state.status.lower()} with exit code {code}: {state.message}")
    elif state.metadata.get(STORAGE):
        print(f"next:    automem jobs fetch {job}", file=sys.stderr)
    return code


def _check(command: str, arguments: list[str]) -> None:
    """The command exists, and says no to what it can refuse without playing."""
    call = load(command)
    if {"-h", "--help"} & set(arguments):
        return
    if command == "rollout":
        from automem.commands.rollout import points_of

        points_of(arguments)
    elif command in COMPOSED:
        with redirect_stdout(StringIO()):
            call([*arguments, "--show"])


def _variables(given: list[str]) -> dict[str, str]:
    """Variables for the job: named ones are taken from here, so that no secret is typed."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name}: it is not set here; give it as {name}=VALUE")
        found[name] = value if equals else os.environ[name]
    if STORAGE_VARIABLE in os.environ:
        found.setdefault(STORAGE_VARIABLE, os.environ[STORAGE_VARIABLE])
    return found


def _storage(command: str, arguments: list[str], variables: dict[str, str]) -> str:
    """Where the job will store its runs, as far as its arguments tell."""
    if command == "resume":
        for word in arguments:
            place, runs, _ = word.rpartition("/runs/")
            if "://" in word and runs:
                return place
    for word in reversed(arguments):
        if word.startswith("storage.url="):
            return word.partition("=")[2].strip("'\"")
    return variables.get(STORAGE_VARIABLE, "")


def _working_dir(named: str) -> str | None:
    if not named:
        return None
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"--working-dir {named}: there is no such folder")
    if folder in (Path.home(), Path("/")):
        raise UsageError(
            f"--working-dir {named} would send all of {folder}: go to the project's folder, or "
            'give --working-dir "" to run the code of the cluster\'s image'
        )
    if not is_checkout(folder):
        print(f"sending: {folder} (no checkout of AutoMem: the image's code runs)", file=sys.stderr)
    return str(folder)
