"""Opening files beneath a directory descriptor, following no link on the way.

`openat2` with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS where the kernel has it (Linux 5.6; some
container profiles forbid it), else one `openat` with O_NOFOLLOW per path component. Both refuse a
folder that was swapped for a link after an earlier look. Not covered: mount points and hard links
(callers check the opened file), and names, which are the caller's to judge.
"""

import ctypes
import errno
import functools
import os
import platform
import shutil
import stat
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from automem.errors import SandboxError

_SYS_OPENAT2 = 437
"""The same number on x86-64, aarch64 and every other architecture: syscalls from 424 on agree."""

_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RENAME_EXCHANGE = 2
_RETRIES = 64
"""The kernel answers EAGAIN while something is renamed on the way; it never lasts."""

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class WalkMethod(StrEnum):
    """How a path is followed."""

    OPENAT2 = "openat2"
    """In one system call."""
    COMPONENTS = "components"
    """Component by component with O_NOFOLLOW."""


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _load_library() -> ctypes.CDLL | None:
    if platform.system() != "Linux":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    library.syscall.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(_OpenHow),
        ctypes.c_size_t,
    )
    if hasattr(library, "renameat2"):
        library.renameat2.restype = ctypes.c_int
        library.renameat2.argtypes = (
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_uint,
        )
    return library


_library = _load_library()


def open_root(path: Path) -> int:
    """A descriptor of a private folder, made where it is missing; SandboxError on failure."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        root = os.open(path, _FOLDER_FLAGS)
    except OSError as error:
        raise SandboxError(
            f"cannot open the memory folder {path}: {os.strerror(error.errno or 0)}; "
            "expected a folder (no link) that this user may write to"
        ) from error
    try:
        os.fchmod(root, 0o700)
    except OSError as error:
        os.close(root)
        raise SandboxError(
            f"cannot make the memory folder {path} private: {os.strerror(error.errno or 0)}; "
            "it must belong to this user"
        ) from error
    return root


def open_beneath(
    root: int, path: str, flags: int, mode: int = 0, method: WalkMethod | None = None
) -> int:
    """A descriptor of `path` beneath the folder `root`; OSError as `os.open` raises it.

    `path` is relative with plain components (no `.` or `..`); ELOOP, ENOTDIR or EXDEV say that a
    link stood in the way."""
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    if (method or default_method()) is WalkMethod.OPENAT2:
        return _openat2(root, path, flags, mode)
    return _walk(root, path, flags, mode)


def open_folder_beneath(root: int, path: str, method: WalkMethod | None = None) -> int:
    """A descriptor of the folder `path` beneath `root`; `""` is `root` itself, duplicated."""
    if not path:
        return os.dup(root)
    return open_beneath(root, path, _FOLDER_FLAGS, 0, method)


def _openat2(root: int, path: str, flags: int, mode: int) -> int:
    if _library is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    how = _OpenHow(flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)
    encoded = os.fsencode(path)
    number = errno.EAGAIN
    for _ in range(_RETRIES):
        result = _library.syscall(
            _SYS_OPENAT2, root, encoded, ctypes.byref(how), ctypes.sizeof(how)
        )
        if result >= 0:
            return int(result)
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


def _walk(root: int, path: str, flags: int, mode: int) -> int:
    *folders, name = path.split("/")
    here = root
    try:
        for folder in folders:
            there = os.open(folder, _FOLDER_FLAGS, dir_fd=here)
            if here != root:
                os.close(here)
            here = there
        return os.open(name, flags, mode, dir_fd=here)
    finally:
        if here != root:
            os.close(here)


@functools.cache
def default_method() -> WalkMethod:
    """What this kernel, in this container, offers; found out at the first use."""
    try:
        folder = os.open("/", _FOLDER_FLAGS)
        try:
            os.close(_openat2(folder, ".", _FOLDER_FLAGS, 0))
        finally:
            os.close(folder)
    except OSError:
        return WalkMethod.COMPONENTS
    return WalkMethod.OPENAT2


def exchange_names(folder: int, name: str, other_folder: int, other_name: str) -> bool:
    """Swap two existing entries of folders atomically; False where that is not offered.

    Replacing a file by plain rename makes ext4 write the new one out at once (five times the
    latency, and disk traffic for every operation); an exchange does not."""
    if _library is None or not hasattr(_library, "renameat2"):
        return False
    return (
        _library.renameat2(
            folder, os.fsencode(name), other_folder, os.fsencode(other_name), _RENAME_EXCHANGE
        )
        == 0
    )


def is_folder(folder: int, name: str) -> bool:
    """Whether the entry `name` of `folder` is a folder, and no link to one."""
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def remove_entry(folder: int, name: str) -> None:
    """Remove whatever `name` is, a folder with all in it; links are removed, not followed."""
    if is_folder(folder, name):
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
