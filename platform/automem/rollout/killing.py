"""How a worker is ended, and what is cleared away behind it."""

import os
import signal
import socket
from contextlib import suppress
from typing import Any

import ray

from automem.rollout.scratch import forget_temporary_folder
from automem.rollout.worker import Pulse


def kill(actor: Any, temporary: str) -> None:
    """End the actor; `temporary` is its folder of temporary files."""
    ray.kill(actor, no_restart=True)
    if temporary:
        forget_temporary_folder(temporary)


def kill_process(last: Pulse | None) -> None:
    """A stopped process does not read Ray's messages; on this machine there is a better way."""
    if last is not None and last.host == socket.gethostname():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(last.pid, signal.SIGKILL)
