"""One episode's private folder of text files, reached only beneath its directory descriptor.

Promise: no name, link or special file planted in the folder leads outside it or blocks; a write is
a temporary file put in place by one rename (`replacing.py`), so a reader (or a kill) finds the old
text or the new; on a full disk the old text stays. Files are UTF-8; one that is not is refused
alone. Modes are 0700 and 0600. No message names a path of the host.

The folder is a cache: the journal is the truth and `rebuild` makes the folder from it. Not covered:
processes of the same user that edit files in place while an operation runs, and power cuts without
`fsync` (recovery rebuilds the folder). One session uses a sandbox at a time.
"""

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from automem.errors import SandboxError, StoreError
from automem.memory.beneath import (
    WalkMethod,
    is_folder,
    open_beneath,
    open_folder_beneath,
    open_root,
    remove_entry,
)
from automem.memory.contents import ContentCache, Signature, signature_of
from automem.memory.edits import Part, edited_parts
from automem.memory.lines import count_lines
from automem.memory.names import MAX_DEPTH, OpRefused, check_name, is_valid_part
from automem.memory.ops import Edit
from automem.memory.replacing import TEMPORARY, Replacer

_READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
"""O_NONBLOCK: opening a FIFO nobody writes to would wait for ever."""

_LINK_ERRORS = frozenset(
    {errno.ELOOP, errno.ENOTDIR, errno.EXDEV, errno.ENXIO, errno.ENODEV, errno.EAGAIN}
)
"""What opening answers where a link, a socket or a file used as a folder stands in the way, or
(EAGAIN) where names on the way are swapped faster than the kernel can follow."""


class Quota(msgspec.Struct, frozen=True):
    """What one memory folder may hold. Checked when a change is planned, not when it is applied."""

    files: int = 64
    file_bytes: int = 1_000_000
    """Also the size above which a planted file is not read."""
    total_bytes: int = 8_000_000


class FileInfo(msgspec.Struct, frozen=True):
    """A memory file in the index."""

    name: str
    lines: int
    """0 for a file larger than the quota: it is not read."""
    bytes: int


class Sandbox:
    """See the module's docstring; `Sandbox.open` makes one."""

    def __init__(
        self, root: int, path: Path, quota: Quota, fsync: bool, method: WalkMethod | None
    ) -> None:
        self._root = root
        self._path = path
        self.quota = quota
        self._replacer = Replacer(fsync)
        self._method = method
        self._sizes: dict[str, int] = {}
        self._seen: dict[str, tuple[Signature, FileInfo]] = {}
        self._contents = ContentCache()

    @classmethod
    def open(
        cls,
        path: Path,
        quota: Quota | None = None,
        fsync: bool = False,
        method: WalkMethod | None = None,
    ) -> "Sandbox":
        """Open the folder, making it where it is missing; leftovers of a killed write are removed.

        Only the folder itself and what is beneath is guarded: `path` up to it is the caller's."""
        root = open_root(path)
        sandbox = cls(root, path.absolute(), quota or Quota(), fsync, method)
        try:
            sandbox._remove_leftovers()
            sandbox._sizes = {name: status.st_size for name, status in sandbox._scan()}
        except OSError as error:
            sandbox.close()
            raise _failure("open", "the memory folder", error) from error
        return sandbox

    def close(self) -> None:
        """Give the descriptor back; later calls fail."""
        root, self._root = self._root, -1
        if root >= 0:
            self._replacer.drop_spare(root)
            os.close(root)

    # Reading

    def read_bytes(self, name: str) -> bytes | None:
        """Content of a file, known to be UTF-8; None where there is no such file.

        OpRefused where it is no plain readable text file within the quota."""
        data = self._read_raw(check_name(name))
        if data is not None and not data.isascii():
            _decode(name, data)
        return data

    def find_text(self, name: str) -> str | None:
        """Text of a file, None where there is no such file; OpRefused as `read_bytes`."""
        data = self._read_raw(check_name(name))
        return None if data is None else _decode(name, data)

    def read_text(self, name: str) -> str:
        """Text of a file; OpRefused where it is missing or as `read_bytes`."""
        text = self.find_text(name)
        if text is None:
            raise OpRefused(f"there is no {name}")
        return text

    def listing(self) -> list[FileInfo]:
        """Every memory file, by name. Unchanged files (by their stat) are not read again."""
        found: dict[str, tuple[Signature, FileInfo]] = {}
        for name, status in self._scan():
            signature = signature_of(status)
            known = self._seen.get(name)
            if known is None or known[0] != signature:
                known = (signature, self._inspect(name, status))
            found[name] = known
        self._seen = found
        return [found[name][1] for name in sorted(found)]

    def read_every(self) -> Iterator[tuple[str, bytes | None]]:
        """Name and content of every memory file, as `read_bytes`; None where that refuses.

        What is known of a file that the listing finds unchanged is not opened again."""
        for info in self.listing():
            data = self._contents.get(info.name, self._seen[info.name][0])
            if data is None:
                with suppress(OpRefused):
                    data = self.read_bytes(info.name) or b""
            elif not _is_text(data):
                data = None
            yield info.name, data

    def sizes(self) -> dict[str, int]:
        """Bytes per file, for the quota: what was here when the folder was opened and what was
        written since, not what others put in it."""
        return dict(self._sizes)

    def exists(self, name: str) -> bool:
        """Whether a plain file of that name is here; OpRefused where something else is."""
        opened = self._open_file(check_name(name))
        if opened is None:
            return False
        os.close(opened[0])
        return True

    # Writing

    def apply(self, edit: Edit) -> None:
        """Carry out a planned edit; StoreError on a full disk or where it does not fit the file."""
        name = check_name(edit.file)
        if edit.deletes:
            self._delete(name)
            return
        parts = edited_parts(self._read_raw(name, is_planned=True), edit)
        if parts is not None:
            self._write(name, parts)

    def rebuild(self, files: Mapping[str, str]) -> None:
        """Make the folder hold exactly `files` (name to text), whatever lies in it now.

        The folder itself is replaced too, so that a stalled process that still holds the old one
        can no longer write into it. Names are checked before anything is removed."""
        for name in files:
            check_name(name)
        self._replacer.drop_spare(self._root)
        try:
            for entry in os.listdir(self._root):
                remove_entry(self._root, entry)
            self._replace_root()
        except OSError as error:
            raise _failure("empty", "the memory folder", error) from error
        self._seen, self._sizes = {}, {}
        for name, text in files.items():
            self._write(name, (text.encode(),))

    # Inside

    def _open_file(self, name: str) -> tuple[int, os.stat_result] | None:
        """Descriptor and status of a plain file; None where nothing has that name."""
        try:
            descriptor = open_beneath(self._root, name, _READ_FLAGS, 0, self._method)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failure("read", name, error) from error
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            return descriptor, status
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a plain file here"
        raise OpRefused(f"{name} is {kind}; use another name")

    def _read_raw(self, name: str, is_planned: bool = False) -> bytes | None:
        """Content of a file; `is_planned`: as it was read when the edit at hand was planned."""
        opened = self._open_file(name)
        if opened is None:
            return None
        descriptor, status = opened
        try:
            data = self._contents.get(name, signature_of(status), is_planned)
            if data is not None:
                return data
            if status.st_size > self.quota.file_bytes:
                raise OpRefused(
                    f"{name} is larger than the {self.quota.file_bytes} bytes allowed for a file; "
                    "DELETE it and write less"
                )
            data = os.read(descriptor, status.st_size)
            while len(data) < status.st_size and (more := os.read(descriptor, status.st_size)):
                data += more  # file systems over a network may read less than asked for
            self._contents.put(name, status, data)
            return data
        except OSError as error:
            raise _failure("read", name, error) from error
        finally:
            os.close(descriptor)

    def _scan(self, folder: str = "", depth: int = 1) -> Iterator[tuple[str, os.stat_result]]:
        """Plain files with valid names beneath `folder`; whatever else was planted is left out."""
        folders: list[str] = []
        try:
            with self._folder(folder) as descriptor, os.scandir(descriptor) as entries:
                for entry in entries:
                    if not is_valid_part(entry.name):
                        continue
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # removed since it was listed
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                        yield name, status
                    elif stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH:
                        folders.append(name)
        except OSError as error:
            # So may a folder be, or swapped for a link, or closed to everyone.
            if not folder or error.errno not in (errno.ENOENT, errno.EACCES, *_LINK_ERRORS):
                raise _failure("list", folder or "the memory folder", error) from error
        for name in folders:
            yield from self._scan(name, depth + 1)

    def _inspect(self, name: str, status: os.stat_result) -> FileInfo:
        """Index entry of a file, which is read to count its lines."""
        lines = 0
        if status.st_size <= self.quota.file_bytes:
            with suppress(OpRefused):
                lines = count_lines(self._read_raw(name) or b"")
        return FileInfo(name, lines, status.st_size)

    def _write(self, name: str, parts: Sequence[Part]) -> None:
        folder, _, file = name.rpartition("/")
        self._seen.pop(name, None)
        try:
            with self._made_folder(folder) as descriptor:
                size = self._replacer.replace(self._root, descriptor, file, parts)
        except OSError as error:
            raise _failure("write", name, error) from error
        self._contents.forget(name)
        self._sizes[name] = size

    def _delete(self, name: str) -> None:
        """Remove a file, and the folders that it leaves empty."""
        self._seen.pop(name, None)
        folder, _, part = name.rpartition("/")
        try:
            with self._folder(folder) as descriptor:
                os.unlink(part, dir_fd=descriptor)
            while folder:
                folder, _, part = folder.rpartition("/")
                with self._folder(folder) as descriptor:
                    os.rmdir(part, dir_fd=descriptor)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise _failure("delete", name, error) from error
        self._sizes.pop(name, None)

    @contextmanager
    def _folder(self, folder: str) -> Iterator[int]:
        """A descriptor of a folder; `""` is the root."""
        if not folder:
            yield self._root
            return
        descriptor = open_folder_beneath(self._root, folder, self._method)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _made_folder(self, folder: str) -> Iterator[int]:
        """`_folder`, made where it is missing."""
        made = ""
        for part in folder.split("/") if folder else ():
            with self._folder(made) as above, suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=above)
            made = f"{made}/{part}" if made else part
        with self._folder(folder) as descriptor:
            yield descriptor

    def _remove_leftovers(self, folder: str = "", depth: int = 1) -> None:
        """Remove what killed writes left behind."""
        with self._folder(folder) as descriptor:
            for name in os.listdir(descriptor):
                if name.startswith(TEMPORARY):
                    remove_entry(descriptor, name)
                elif depth < MAX_DEPTH and is_valid_part(name) and is_folder(descriptor, name):
                    self._remove_leftovers(f"{folder}/{name}" if folder else name, depth + 1)

    def _replace_root(self) -> None:
        """Put a new folder where the (emptied) old one is, unless it cannot be: a mount point."""
        if not os.path.samestat(os.fstat(self._root), os.lstat(self._path)):
            raise SandboxError("the memory folder was moved or replaced; resume the episode")
        try:
            os.rmdir(self._path)
        except OSError:
            return
        old, self._root = self._root, open_root(self._path)
        os.close(old)


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise OpRefused(
            f"{name} is not UTF-8 text and cannot be used; DELETE it and write it anew"
        ) from None


def _failure(verb: str, name: str, error: OSError) -> SandboxError | StoreError:
    """What an OSError means: something planted in the way (refused), or a broken disk."""
    if error.errno in _LINK_ERRORS:
        return OpRefused(f"{name} is not a plain file here; use another name")
    if verb == "read" and error.errno == errno.EACCES:
        return OpRefused(f"{name} may not be read; use another name")
    reason = os.strerror(error.errno or 0)
    return StoreError(f"memory: could not {verb} {name}: {reason}; what it held is unchanged")
