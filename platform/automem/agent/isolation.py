"""Where a stranger's Python may run: bubblewrap, as nobody, with nothing of this machine in view.

Inside there are the system's libraries, the interpreter and its environment, all read-only; no
/proc, no passwords, no home, no temporary folder, no network, no environment variables, no
privileges, a process tree of its own that dies with its parent. Started by root, it stops being
root first; where the interpreter lies in a folder that nobody else may enter, the mounts are made
by root and root is given up before Python starts.

Promise: `find_isolation` says yes only after a hook ran that way here and saw nothing it should
not. Limits on memory, processors and processes are `hook_child`'s, set before a hook is looked at.
Not covered: bugs of the kernel; what the hook computes.
"""

import itertools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from automem.agent.child import Child, ChildFailure

LIMITS = {"AS": 512_000_000, "NPROC": 0, "FSIZE": 0, "NOFILE": 32, "CORE": 0}
"""NPROC: no second process or thread; FSIZE: nothing can be written, in memory files neither."""

MAX_ANSWER_BYTES = 64_000
PROBE_S = 20.0
_FIRST_UID, _UIDS = 60_000, 5_000
"""Users that own nothing; one per hook, so that none can count or signal another."""

_SYSTEM = ("/lib", "/lib64", "/lib32", "/libx32", "/bin", "/sbin")
_LIBRARY_INDEX = "/etc/ld.so.cache"
"""Where the loader finds libraries in unusual folders: an interpreter's own, say."""

_SCRIPT = Path(__file__).with_name("hook_child.py")
_uids = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True)
class Isolation:
    """One way of starting Python; `python` is what runs inside."""

    name: str
    python: str
    drops: str = ""
    """When root is given up: `first`, `inside`, or (not being root) nothing to give up."""
    is_isolated: bool = True

    def ask(self, question: dict[str, object], deadline_s: float) -> bytes:
        """Start a fresh process, give it the question, take its answer; ChildFailure where none
        comes. Nothing of the process is left."""
        limits = {**LIMITS, "CPU": int(deadline_s) + 1}
        full = {**question, "limits": limits, "path": _library_folders()}
        child = Child(self.command(), _ENVIRONMENT)
        try:
            return child.ask(msgspec.json.encode(full), deadline_s, MAX_ANSWER_BYTES)
        finally:
            child.close()

    def command(self) -> list[str]:
        """The words that start it."""
        python = [self.python, "-I", "-S", "-B", "-c", _SCRIPT.read_text(encoding="utf-8")]
        if not self.is_isolated:
            return python
        uid = str(_FIRST_UID + next(_uids) % _UIDS)
        nobody = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        nobody += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        walls = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
        for name, value in _ENVIRONMENT.items():
            walls += ["--setenv", name, value]
        if self.drops == "inside":
            walls += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
            walls += ["--unshare-cgroup-try"]
            for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
                walls += ["--cap-add", capability]
        else:
            walls += ["--unshare-all", "--unshare-user", *_without_user_namespaces()]
        walls += [
            *_mounts(self.python, self.drops == "inside"),
            "--remount-ro",
            "/",
            "--chdir",
            "/",
            "--",
        ]
        if self.drops == "first":
            return [*nobody, *walls, *python]
        return [*walls, *(nobody if self.drops == "inside" else []), *python]


_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}

UNPROTECTED = Isolation("unprotected", os.path.realpath(sys.executable), is_isolated=False)
"""A process with limits and an empty environment, and with this user's rights: for own code."""


@cache
def find_isolation(python: str = "") -> Isolation | str:
    """The way that works here, tried for real; or why none does, in words for a person."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (on Debian: apt-get install bubblewrap)"
    python = os.path.realpath(python or sys.executable)
    reason = ""
    for drops in ("first", "inside") if os.geteuid() == 0 else ("",):
        if drops and shutil.which("setpriv") is None:
            return "setpriv is not installed (on Debian: apt-get install util-linux)"
        isolation = Isolation("bubblewrap", python, drops)
        reason = _probe(isolation)
        if not reason:
            return isolation
    return f"bubblewrap does not work here ({reason}); most pods and some kernels forbid it"


@cache
def _without_user_namespaces() -> tuple[str, ...]:
    """The option that closes much of the kernel to what runs inside; since bubblewrap 0.8."""
    said = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False)
    option = "--disable-userns"
    return (option,) if option in said.stdout + said.stderr else ()


_PROBE = """
import os
def notices(moment):
    seen = [path for path in ("/etc/passwd", "/proc/self", "/home", "/tmp") if os.path.exists(path)]
    try:
        os.fork()
        seen.append("fork")
    except OSError:
        pass
    return [f"{os.getuid()} {os.environ.get('AUTOMEM_PROBE', '')} {seen}"]
"""


def _probe(isolation: Isolation) -> str:
    """What is wrong with this way; empty where nothing is."""
    moment = {"observation": ""}
    try:
        line = isolation.ask({"source": _PROBE, "moment": moment}, PROBE_S)
        notices = msgspec.json.decode(line)["notices"]
    except ChildFailure as failure:
        return f"the probe {failure}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return "the probe answered nonsense"
    uid, _, seen = str(notices[0]).partition(" ")
    if uid == "0" or seen.strip() != "[]":
        return f"the probe ran as user {uid} and could use {seen.strip()}"
    return ""


def _mounts(python: str, made_by_root: bool) -> Iterator[str]:
    """Read-only: the system's libraries, the interpreter, the environment."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    is_ours = python == os.path.realpath(sys.executable)
    folders = dict.fromkeys((sys.base_prefix, sys.prefix) if is_ours else ())
    mounts = [folder for folder in folders if not Path(folder).is_relative_to("/usr")]
    if Path(_LIBRARY_INDEX).is_file():
        mounts.append(_LIBRARY_INDEX)
    for mount in mounts:
        for parent in reversed(Path(mount).parents[:-1]) if made_by_root else ():
            yield from ("--perms", "0755", "--dir", str(parent))  # else root's alone
        yield from ("--ro-bind", mount, mount)


def _library_folders() -> list[str]:
    """Where the environment's packages are: `-S` leaves them out, and `.pth` files with them."""
    return list(dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")))
