"""Ray's job API as the commands use it: submit, follow, stop, list; with the cluster's token.

Promise: following survives a dropped connection without repeating or losing a line; a job's exit
code is its driver's. Who has no token, or the wrong one, is refused by the cluster, and told here
where the token comes from. Not covered: jobs of a cluster that has ended; Ray forgets them.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from automem.errors import InfrastructureError, UsageError
from automem.suggest import no_such

ADDRESS = "http://127.0.0.1:8265"
FAILED = 1
POLL_S = 0.5
RECONNECT_S = 60.0
"""How long a cluster that does not answer is asked again."""
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class JobsError(InfrastructureError):
    """The cluster did not answer as it should; the job itself goes on."""

    boundary = "jobs"


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted job as the cluster tells it."""

    id: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    entrypoint: str
    exit_code: int | None
    """Its driver's, once that has ended by itself."""
    message: str
    metadata: Mapping[str, str]
    began: float
    """Seconds since the epoch; 0 before it has begun."""
    ended: float

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class _Shown:
    """How much of a log has been written: connections start it over."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._length = 0

    def take(self, text: str, place: int) -> None:
        """`text` stands in the log from character `place` on."""
        fresh = text[max(0, self._length - place) :]
        if fresh:
            self._write(fresh)
            self._length = place + len(text)


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str | None = None) -> None:
        """`address`: the head's dashboard, `http://host:8265`; without, RAY_API_SERVER_ADDRESS's,
        else this machine's. UsageError where nobody answers there or the token is refused."""
        self.address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or ADDRESS
        if not self.address.startswith(("http://", "https://")):
            raise UsageError(
                f"{self.address}: expected the address of a cluster's dashboard, such as {ADDRESS}"
            )
        if "RAY_AUTH_MODE" not in os.environ and _token_is_there():
            os.environ["RAY_AUTH_MODE"] = "token"
        from ray.job_submission import JobSubmissionClient

        # Ray lets these variables win over the argument; who gives an address means it.
        hidden = {
            name: os.environ.pop(name)
            for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
            if name in os.environ
        }
        try:
            with self._errors():
                self._client = JobSubmissionClient(self.address)
        finally:
            os.environ.update(hidden)

    def submit(
        self,
        entrypoint: str,
        job: str,
        working_dir: str | None,
        variables: Mapping[str, str],
        metadata: Mapping[str, str],
        cpus: float = 0.0,
    ) -> None:
        """Send a job. `working_dir`: a folder that the job runs in, sent along (what .gitignore and
        .rayignore name stays here); None runs what the cluster's image has."""
        runtime_env: dict[str, Any] = {"env_vars": dict(variables)}
        if working_dir is not None:
            runtime_env["working_dir"] = working_dir
        with self._errors():
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=job,
                runtime_env=runtime_env,
                metadata=dict(metadata),
                entrypoint_num_cpus=cpus or None,
            )

    def find(self, job: str) -> Job:
        """The job of this id; UsageError names the nearest one."""
        known = {each.id: each for each in self.all()}
        if job not in known:
            raise UsageError(no_such("job", job, known))
        return known[job]

    def all(self) -> list[Job]:
        """Every submitted job that the cluster remembers, oldest first."""
        with self._errors():
            details = self._client.list_jobs()
        jobs = [_job(each) for each in details if each.submission_id]
        return sorted(jobs, key=lambda job: job.began)

    def stop(self, job: str) -> bool:
        """Ask a job to end; whether it was running."""
        self.find(job)
        with self._errors():
            return bool(self._client.stop_job(job))

    def log(self, job: str) -> str:
        """What the job has written so far."""
        self.find(job)
        with self._errors():
            return str(self._client.get_job_logs(job))

    def follow(self, job: str, write: Callable[[str], None]) -> int:
        """Write the job's log as it grows until the job ends; its exit code."""
        shown = _Shown(write)
        heard_at = time.monotonic()
        while True:
            try:
                with suppress(OSError, RuntimeError, aiohttp.ClientError):  # the connection's end
                    asyncio.run(self._tail(job, shown))
                state = self.find(job)
                if state.has_ended:
                    shown.take(self.log(job), 0)
                    return exit_code(state)
                heard_at = time.monotonic()
            except JobsError:
                if time.monotonic() - heard_at > RECONNECT_S:
                    raise
            time.sleep(POLL_S)

    async def _tail(self, job: str, shown: "_Shown") -> None:
        """The log from its beginning, as it grows."""
        place = 0
        async for text in self._client.tail_job_logs(job):
            shown.take(text, place)
            place += len(text)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Ray's client raises what its transport raises: told here in terms of what to do."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise UsageError(
                f"{self.address} refuses: {_first_line(error)}\nIt wants its token: set "
                "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, a file; "
                "~/.ray/auth_token by itself)"
            ) from error
        except ConnectionError as error:
            raise UsageError(
                f"nobody answers at {self.address}: start a cluster (`ray start --head`), or give "
                "its dashboard with --address or RAY_API_SERVER_ADDRESS; on Kubernetes, first "
                "`kubectl port-forward service/NAME-head-svc 8265`"
            ) from error
        except (RuntimeError, OSError, ValueError) as error:
            raise JobsError(f"{self.address}: {error}") from error


def exit_code(job: Job) -> int:
    """0 only where the job succeeded; its driver's code where it has one."""
    if job.status == "SUCCEEDED":
        return 0
    return job.exit_code if job.exit_code is not None and job.exit_code > 0 else FAILED


def _job(details: Any) -> Job:
    return Job(
        id=details.submission_id,
        status=str(getattr(details.status, "value", details.status)),
        entrypoint=details.entrypoint,
        exit_code=details.driver_exit_code,
        message=details.message or "",
        metadata=details.metadata or {},
        began=(details.start_time or 0) / 1000,
        ended=(details.end_time or 0) / 1000,
    )


def _token_is_there() -> bool:
    """Whether this user has a token at all; then it is shown."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    return os.path.isfile(os.path.expanduser("~/.ray/auth_token"))


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
