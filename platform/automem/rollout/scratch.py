"""Where a worker plays when nothing is shared: a folder of its node, emptied as it goes.

`AUTOMEM_SCRATCH` says where (a local disk; the system's temporary folder otherwise). Below it there
is a folder for each node, so several nodes on one machine, as in tests, share nothing either.

Beside the runs' folders there is one for each worker's temporary files, which its pool removes: nle
keeps a folder there for each game, and a worker that is killed cannot clear up.
"""

import hashlib
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

from automem.trace.tables import TABLES


def node_name() -> str:
    """Ray's id of this node; without Ray the host's name."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.get_runtime_context().get_node_id())
    return socket.gethostname()


def scratch_root() -> Path:
    """Where this user's workers play on this machine."""
    named = os.environ.get("AUTOMEM_SCRATCH")
    return Path(named) if named else Path(tempfile.gettempdir()) / f"automem-{os.getuid()}"


def use_temporary_folder(name: str) -> None:
    """Temporary files of this process, which is a worker's own, go where its pool finds them."""
    folder = scratch_root() / node_name()[:16] / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["AUTOMEM_SCRATCH"] = str(scratch_root())
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def forget_temporary_folder(name: str, wait_s: float = 0.5) -> None:
    """A worker was killed: remove its temporary files, where it was on this machine. It may take a
    moment to die, and make another."""
    deadline = time.monotonic() + wait_s
    for folder in scratch_root().glob(f"*/{name}"):
        shutil.rmtree(folder, ignore_errors=True)
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
            shutil.rmtree(folder, ignore_errors=True)


def scratch_dir(url: str) -> Path:
    """This node's folder for the run that is stored under `url`."""
    folder = scratch_root() / node_name()[:16] / _folder_name(url)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def scratch_dirs(url: str) -> list[Path]:
    """The run's folders of every node that this machine has been."""
    found = (node / _folder_name(url) for node in sorted(scratch_root().glob("*")))
    return [folder for folder in found if folder.is_dir()]


def _folder_name(url: str) -> str:
    digest = hashlib.blake2b(url.encode(), digest_size=4).hexdigest()
    return f"{url.rstrip('/').rpartition('/')[2]}-{digest}"


def forget_episode(folder: Path, episode: str) -> None:
    """It is stored: free its place."""
    shutil.rmtree(folder / "episodes" / episode, ignore_errors=True)
    for table in TABLES:
        (folder / "tables" / table / f"{episode}.parquet").unlink(missing_ok=True)
