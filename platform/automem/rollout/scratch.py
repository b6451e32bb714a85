"""Where a worker plays when nothing is shared: a folder of its node, emptied as it goes.

`AUTOMEM_SCRATCH` says where (a local disk; the system's temporary folder otherwise). Below it there
is a folder for each node, so several nodes on one machine, as in tests, share nothing either.
"""

import hashlib
import os
import shutil
import socket
import sys
import tempfile
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
