"""A helper process that may misbehave: one line out, one line back, within a deadline and a size.

Promise: `ask` returns the answering line or raises ChildFailure, never later than the deadline and
never with more than `max_bytes` read; after a failure the process and its whole group are dead.
Not covered: what the process may do meanwhile; whoever starts it limits that.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence


class ChildFailure(Exception):
    """The process gave no usable answer; the message says in a few words why."""


class Child:
    """One process; killed when it fails and when it is closed."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=dict(environment or {}),
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                cwd="/",
            )
        except OSError as error:
            raise ChildFailure(f"could not be started: {os.strerror(error.errno or 0)}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: bytes, deadline_s: float, max_bytes: int) -> bytes:
        """Send a line, and give the line that answers it."""
        try:
            return self._exchange(memoryview(request + b"\n"), deadline_s, max_bytes)
        except ChildFailure:
            self.close()
            raise

    def close(self) -> None:
        """Kill whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _exchange(self, left: memoryview, deadline_s: float, max_bytes: int) -> bytes:
        end = time.monotonic() + deadline_s
        answer = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._in, selectors.EVENT_WRITE)
            selector.register(self._out, selectors.EVENT_READ)
            while True:
                remaining = end - time.monotonic()
                ready = selector.select(max(0.0, remaining)) if remaining > 0 else []
                if not ready:
                    raise ChildFailure(f"gave no answer within {deadline_s:g} s")
                for key, _ in ready:
                    if key.fd == self._in:
                        left = self._send(left)
                        if not left:
                            selector.unregister(self._in)
                    elif self._receive(answer, max_bytes):
                        return bytes(answer[: answer.index(b"\n")])

    def _send(self, left: memoryview) -> memoryview:
        try:
            return left[os.write(self._in, left) :]
        except BlockingIOError:
            return left
        except OSError:
            return left[:0]  # it died or closed its end; reading tells

    def _receive(self, answer: bytearray, max_bytes: int) -> bool:
        """Read what is there; whether the line is whole."""
        try:
            data = os.read(self._out, 65_536)
        except BlockingIOError:
            return False
        if not data:
            raise ChildFailure("died without an answer")
        answer += data
        if b"\n" in data:
            return True
        if len(answer) > max_bytes:
            raise ChildFailure(f"answered more than {max_bytes} bytes")
        return False
