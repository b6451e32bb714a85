"""The `command` reviewer: any local agent program, handed one folder and writing into another.

    reviewer=command reviewer.command='[my-agent, --print, "Follow {input}/INSTRUCTIONS.md"]'

Promise: the program gets its words as they are (no shell), a process group of its own, an
environment of a few harmless variables and those named, and a deadline, after which the whole group
is killed; what it prints is kept up to a bound; what it wrote is treated as hostile (`folder.py`).
Not covered: isolation. It runs with this user's rights and can do what this user can; a process
that leaves its group outlives it, and where the loop itself is killed without warning, the program
runs on. Name only programs that you trust with that.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from automem.errors import ScaffoldError, UsageError
from automem.loops.reviewers.folder import Output, prepare, read_output
from automem.loops.reviewers.interface import ReviewError, ReviewRequest, Revision, Spent, Toolbox
from automem.loops.reviewers.ranges import check_least

_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "TERM")
_MOST_PRINTED = 1_000_000
_SHOWN_BYTES = 600
_GRACE_S = 5.0


class CommandReviewer:
    """See the module's docstring."""

    name = "command"

    def __init__(
        self,
        command: Sequence[str],
        deadline_s: float = 1_800.0,
        environment: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`command`: words; `{input}` and `{output}` in them are the folders. `environment`: names
        of variables of ours that it needs, such as its key. `variables`: further ones."""
        if isinstance(command, str) or not command:
            raise UsageError(
                "reviewer.command must be a list of words, such as [my-agent, --print, ...]: there "
                f"is no shell to split it; got {command!r}"
            )
        self._command = [str(word) for word in command]
        program = shutil.which(self._command[0])
        if program is None:
            raise UsageError(f"reviewer.command: there is no program {self._command[0]!r}")
        self._program = os.path.abspath(program)  # it is started in another folder than ours
        missing = [name for name in environment if name not in os.environ]
        if missing:
            raise UsageError(f"reviewer.environment: not set here: {', '.join(missing)}")
        check_least("deadline_s", deadline_s, 0.01)
        self._deadline_s = deadline_s
        self._environment = {name: os.environ[name] for name in (*_KEPT, *environment)
                             if name in os.environ}  # fmt: skip
        self._environment |= {k: str(v) for k, v in (variables or {}).items()}

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        """See `Reviewer`. The program has the tables themselves in the place of the toolbox."""
        began = time.monotonic()
        place = request.workspace / "command"
        await asyncio.to_thread(shutil.rmtree, place, True)
        try:
            given, output = await asyncio.to_thread(prepare, request, place, True)
        except OSError as error:
            raise ReviewError(
                f"{self.name}: {place} cannot be prepared ({error}): remove it",
                is_retryable=True,
            ) from error
        failure = await self._run(given, output, request.workspace / "printed.txt")
        spent = Spent(seconds=time.monotonic() - began)
        if failure:
            raise ReviewError(f"{self.name}: {failure}", is_retryable=False, spent=spent)
        try:
            left: Output = await asyncio.to_thread(read_output, output)
        except ScaffoldError as error:
            raise ReviewError(
                f"{self.name}: what the program wrote cannot be used: {error}",
                is_retryable=False,
                spent=spent,
            ) from error
        return Revision(
            files=left.files,
            reasons=left.reasons,
            knowledge=left.knowledge,
            reviewer=self.name,
            spent=spent,
        )

    async def _run(self, given: Path, output: Path, printed: Path) -> str:
        """Run the program to its end; what went wrong, or nothing."""
        home = given.parent / "home"
        home.mkdir(exist_ok=True)
        words = [
            word.replace("{input}", str(given)).replace("{output}", str(output))
            for word in self._command[1:]
        ]
        try:
            process = await asyncio.create_subprocess_exec(
                self._program,
                *words,
                cwd=output,
                env={"HOME": str(home), "TMPDIR": str(home), **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return (
                f"{self._program} could not be started ({error.strerror}); a script needs a first "
                "line such as #!/bin/sh"
            )
        last = bytearray()
        reader = asyncio.create_task(_keep(process, printed, last))
        try:
            async with asyncio.timeout(self._deadline_s):
                await process.wait()
        except TimeoutError:
            return f"the program was not done after {self._deadline_s:g} s and was killed"
        finally:
            await _end(process, reader)
        if process.returncode:
            told = last.decode(errors="replace").strip()
            return f"the program ended with status {process.returncode}: {told}"
        return ""


async def _keep(process: asyncio.subprocess.Process, path: Path, last: bytearray) -> None:
    """Write down what it prints, up to a bound, and read on so that it never waits. `last` has the
    end of it, whatever becomes of the file."""
    assert process.stdout is not None
    room = _MOST_PRINTED
    with path.open("wb") as file:
        while data := await process.stdout.read(65_536):
            file.write(data[:room])
            file.flush()
            room -= min(room, len(data))
            last += data
            del last[:-_SHOWN_BYTES]


async def _end(process: asyncio.subprocess.Process, reader: "asyncio.Task[None]") -> None:
    """Nothing of its group is left, whatever it started."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await process.wait()
    _signal(process.pid, signal.SIGKILL)
    await process.wait()
    _, unread = await asyncio.wait([reader], timeout=_GRACE_S)
    for task in unread:  # someone who left the group still holds the pipe
        task.cancel()


def _signal(group: int, what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, what)
