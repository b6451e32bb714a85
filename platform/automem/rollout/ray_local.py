"""Ray for a rollout: the cluster that is there, else a small quiet one on this machine.

A Ray port is an open shell, so a local cluster gets token authentication, no dashboard, and a token
file that only its owner can read. A cluster named by `RAY_ADDRESS`, or one that the caller has
already connected to, is taken as it is.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automem.checkout import worker_environment

OBJECT_STORE_BYTES = 100_000_000
"""Only specs and pulses pass through it; Ray's own default is a third of the memory."""


@contextmanager
def connected() -> Iterator[None]:
    """Ray is up inside; what was started here ends with it."""
    _set_environment()
    import ray

    if ray.is_initialized():
        yield
        return
    _read_environment_again()
    _start()
    try:
        yield
    finally:
        ray.shutdown()


def _set_environment() -> None:
    """Token authentication where the cluster is ours; no word to anybody outside."""
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _read_environment_again() -> None:
    """Ray reads its variables when it is imported, which the caller may have done long ago.

    Without this a client that was imported first would knock without the token that its own cluster
    asks for, and give up after 20 seconds.
    """
    from ray import _raylet

    vars(_raylet)["Config"].initialize("")  # it is missing from Ray's own type stubs


def _start() -> None:
    """Connect to the cluster that the environment names, or start one."""
    from ray import init

    if os.environ.get("RAY_ADDRESS"):
        variables = worker_environment()
        init(
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": variables} if variables else None,
        )
        return
    token = Path.home() / ".ray" / "auth_token"
    token.parent.mkdir(mode=0o700, exist_ok=True)
    init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=OBJECT_STORE_BYTES,
    )
    if token.exists() and token.stat().st_mode & 0o077:
        token.chmod(0o600)
