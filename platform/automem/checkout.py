"""Which code a Ray job runs: that of the folder it was submitted with, if that is a checkout.

`ray job submit --working-dir . -- automem ...` finds `automem` of the cluster's image. Where the
working directory holds this project's packages, the command starts itself again with these first on
Python's path, and workers get the same. Outside of Ray's jobs nothing of this happens.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("platform", "envs", "learners", "serving")
"""Folders of a checkout that hold a package each."""
RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets this in the environment of a submitted job."""


def is_checkout(folder: Path) -> bool:
    """Whether the folder is this project's repository."""
    return (folder / "platform/automem/cli.py").is_file()


def runs_checkout() -> bool:
    """Whether this process is a Ray job that runs its working directory's code."""
    here = Path.cwd().resolve()
    return RAY_JOB in os.environ and Path(__file__).resolve().is_relative_to(here / "platform")


def prefer_checkout(argv: Sequence[str]) -> None:
    """Start again with the working directory's code, in a Ray job that has one and does not run it
    yet."""
    here = Path.cwd()
    if RAY_JOB not in os.environ or not is_checkout(here) or runs_checkout():
        return
    paths = [str(here / name) for name in PACKAGES]
    if known := os.environ.get("PYTHONPATH"):
        paths.append(known)
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "automem.cli", *argv])


def worker_environment() -> dict[str, str]:
    """What workers of such a job need, as variables of their runtime environment: their own copy of
    the working directory is where they start, so its folders are named from there."""
    return {"PYTHONPATH": os.pathsep.join(PACKAGES)} if runs_checkout() else {}
