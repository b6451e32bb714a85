"""Files in an object store, by name under one URL: S3-compatible, GCS, a shared folder.

Promise: what is written under a name is there whole or not at all; whatever a store's library
raises is a `StoreError` that names the object, and a URL that cannot be used is a `UsageError` that
says what to install or set. Credentials and endpoints come from the store's own environment
variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`), never from
the configuration. Not covered: exclusive creation (`rollout.segments` has it), and more than one
writer of a name: the last one wins.
"""

import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import fsspec

from automem.errors import StoreError, UsageError

PARALLEL = 8
"""Transfers under way at the same time: objects are small, so it is round trips that cost."""
_INSTALL = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
}


class Store:
    """Objects under a URL."""

    def __init__(self, url: str) -> None:
        """`url`: any that fsspec knows, for example `s3://bucket/automem`; a plain path is a
        folder. UsageError where its library is missing or the protocol is unknown."""
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            package = _INSTALL.get(protocol, "the fsspec package for it")
            raise UsageError(
                f"{url}: such storage needs another package: pip install {package} ({error})"
            ) from error
        except ValueError as error:
            raise UsageError(
                f"{url}: expected a URL such as s3://bucket/folder, gs://bucket/folder or a path "
                f"({error})"
            ) from error
        self._is_local = "file" in _protocols(self._fs)

    def read(self, name: str) -> bytes | None:
        """The object's bytes; None where there is none."""
        with self._errors(name):
            try:
                data: bytes = self._fs.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return data

    def write(self, name: str, data: bytes) -> None:
        """Replace the object."""
        path = self._path(name)
        with self._errors(name):
            if self._is_local:
                _replace_file(path, data)
            else:
                self._fs.pipe_file(path, data)

    def names(self, folder: str = "") -> list[str]:
        """Names right below a folder, sorted; folders among them end with nothing special."""
        with self._errors(folder):
            self._fs.invalidate_cache()
            try:
                paths = self._fs.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
            found = {str(path).rstrip("/").rpartition("/")[2] for path in paths}
            return sorted(name for name in found if not name.endswith(".tmp"))

    def tree(self, folder: str = "") -> list[str]:
        """Names of all objects below a folder, relative to it, sorted."""
        with self._errors(folder):
            self._fs.invalidate_cache()
            root = str(self._path(folder)).rstrip("/")
            try:
                paths = self._fs.find(root)
            except FileNotFoundError:
                return []
            start = len(self._fs._strip_protocol(root).rstrip("/")) + 1
            names = (str(path)[start:] for path in paths)
            return sorted(name for name in names if name and not name.endswith(".tmp"))

    def size(self, folder: str = "") -> int:
        """Bytes below a folder."""
        with self._errors(folder):
            self._fs.invalidate_cache()
            try:
                return int(self._fs.du(self._path(folder)))
            except FileNotFoundError:
                return 0

    def remove(self, folder: str) -> None:
        """Remove everything below a folder; nothing to do where there is nothing."""
        with self._errors(folder):
            try:
                self._fs.rm(self._path(folder), recursive=True)
            except FileNotFoundError:
                return

    def put_tree(self, local: Path, folder: str, skip: Collection[str] = ()) -> None:
        """Copy the files below `local`; `skip`: names of files and folders that stay here."""
        names = [
            str(path.relative_to(local))
            for path in sorted(local.rglob("*"))
            if path.is_file()
            and not path.is_symlink()
            and not set(path.relative_to(local).parts) & set(skip)
        ]
        _each(lambda name: self.write(f"{folder}/{name}", (local / name).read_bytes()), names)

    def get_tree(self, folder: str, local: Path) -> int:
        """Copy what is below a folder to `local`, file by file; how many files."""
        names = self.tree(folder)

        def get(name: str) -> None:
            data = self.read(f"{folder}/{name}")
            if data is not None:
                _replace_file(str(local / name), data)

        _each(get, names)
        return len(names)

    def below(self, folder: str) -> "Store":
        """The store of a folder."""
        return Store(f"{self.url}/{folder}")

    def _path(self, name: str) -> str:
        name = name.strip("/")
        return f"{self._root}/{name}" if name else str(self._root)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Whatever a store's library raises becomes a StoreError; they have no common base."""
        try:
            yield
        except (StoreError, UsageError):
            raise
        except Exception as error:
            raise StoreError(f"{self.url}/{name}: the store refused: {error}") from error


def local_copy(place: str, cache: Path | None = None) -> Path:
    """A folder on this machine: `place` itself where it is a path; what lies under it where it is
    a URL. Only for what never changes (adapters by their digest): it is copied once. UsageError
    where there is nothing."""
    if "://" not in place:
        return Path(place)
    root = cache or Path(os.environ.get("AUTOMEM_CACHE") or "~/.cache/automem").expanduser()
    folder = root / place.replace("://", "/").strip("/")
    if folder.is_dir():
        return folder
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        if Store(place).get_tree("", fresh) == 0:
            raise UsageError(f"{place}: there is nothing under this URL")
        try:
            fresh.rename(folder)
        except OSError:  # another process was quicker; what never changes is the same
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _each(work: Callable[[str], None], names: Collection[str]) -> None:
    """All of them, some at a time; the first error, once all have ended."""
    with ThreadPoolExecutor(max(1, min(PARALLEL, len(names)))) as pool:
        for done in [pool.submit(work, name) for name in names]:
            done.result()


def _replace_file(path: str, data: bytes) -> None:
    """A local file that appears whole."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        Path(temporary).write_bytes(data)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _protocols(filesystem: "fsspec.AbstractFileSystem") -> tuple[str, ...]:
    found = filesystem.protocol
    return (found,) if isinstance(found, str) else tuple(found)
