"""Files that appear whole, and, where a run asks for it (`rollout.fsync`), survive a power cut.

A file is durable once it and the folder that names it were synced, in this order.
"""

import os
from pathlib import Path


def replace_file(path: Path, data: bytes, fsync: bool) -> None:
    """The file with this content, or as it was. OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    if fsync:
        sync(temporary)
    os.replace(temporary, path)
    if fsync:
        sync(path.parent)


def sync(path: Path) -> None:
    """A file's content, or a folder's names, to the disk. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
