"""The registry: immutable policy versions, and the aliases that say which of them is served.

A policy version is a base model by name, a scaffold, and optionally an adapter and a memory gate.
Publishing copies the folders under their content's digest, so what a version means never changes;
names are never reused. An alias (`current`, `canary` with a share of new work) moves by
compare-and-swap and can be rolled back, step by step, to what it named before. Scaffolds may have
names of their own, too: each upload under a name is a record, and the newest is what the name means
for new work.

Promise: versions and moves are append-only records (`automem.loops.records`): a death leaves a
publication or a move whole or undone, and the record of moves, with who made them, is the audit
log. Not covered: removing old versions; the weights of the base model, which is named, not copied.
"""

import getpass
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

import msgspec

from automem.errors import StoreError, UsageError
from automem.loops.records import Records
from automem.seeds import derive
from automem.suggest import no_such

CURRENT, CANARY = "current", "canary"
ALIASES = (CURRENT, CANARY)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class AliasMovedError(UsageError):
    """The alias is not where the caller last saw it; look again, then decide again."""


class PolicyVersion(msgspec.Struct, frozen=True):
    """One line of `versions.jsonl`. Folders are relative to the registry's own."""

    name: str
    model: str
    """Name of the base model, as its engine calls it."""
    scaffold: str
    """`name@digest`, as `Scaffold.version`."""
    scaffold_folder: str
    adapter: str = ""
    """Name under which engines load the adapter: `adapter-` and its content's digest; empty: the
    memory role is the untouched base, too."""
    adapter_folder: str = ""
    gate: str = ""
    """`gate@` and a learned memory gate's digest; empty: every step has all its memory work."""
    gate_folder: str = ""
    created: float = 0.0
    note: str = ""

    @property
    def content(self) -> tuple[str, str, str, str]:
        """What makes two versions the same policy."""
        return (self.model, self.scaffold, self.adapter, self.gate)


class AliasMove(msgspec.Struct, frozen=True):
    """One line of `aliases.jsonl`: a move of an alias, or the undoing of one."""

    alias: str
    revision: int
    """Counts the moves of this alias from 1 on: what compare-and-swap compares."""
    version: str
    """Empty: the alias names nothing any more."""
    share: float = 1.0
    """Of new work, for `canary`."""
    undoes: int = 0
    """Revision that a rollback takes back; 0 for a promotion."""
    by: str = ""
    time: float = 0.0


class RegisteredScaffold(msgspec.Struct, frozen=True):
    """One line of `scaffolds.jsonl`: a scaffold put under a name."""

    name: str
    scaffold: str
    """`name@digest`, as `Scaffold.version`: the scaffold's own name."""
    folder: str
    """Relative to the registry's own."""
    by: str = ""
    time: float = 0.0


class Registry:
    """The registry in one folder; any number of processes may use it at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = Records(folder / "versions.jsonl", PolicyVersion)
        self._moves = Records(folder / "aliases.jsonl", AliasMove)
        self._scaffolds = Records(folder / "scaffolds.jsonl", RegisteredScaffold)

    # Versions

    def versions(self) -> dict[str, PolicyVersion]:
        """Every version by name, oldest first."""
        return {version.name: version for version in self._versions.all()}

    def version(self, name: str) -> PolicyVersion:
        """The version of this name; UsageError names the nearest one."""
        known = self.versions()
        if name not in known:
            raise UsageError(no_such("policy version", name, known))
        return known[name]

    def publish(
        self,
        model: str,
        scaffold_folder: Path,
        adapter_folder: Path | None = None,
        name: str | None = None,
        note: str = "",
        gate_folder: Path | None = None,
    ) -> PolicyVersion:
        """Make a version; the existing one where all its parts are already published as one.

        `name`: None takes the next of v1, v2, ... UsageError where it stands for another policy."""
        scaffold, scaffold_path = self.keep_scaffold(scaffold_folder)
        adapter, adapter_path = self.keep_adapter(adapter_folder) if adapter_folder else ("", "")
        gate, gate_path = self.keep_gate(gate_folder) if gate_folder else ("", "")
        made = PolicyVersion(
            name="",
            model=model,
            scaffold=scaffold,
            scaffold_folder=scaffold_path,
            adapter=adapter,
            adapter_folder=adapter_path,
            gate=gate,
            gate_folder=gate_path,
            created=time.time(),
            note=note,
        )

        def choose(known: list[PolicyVersion]) -> PolicyVersion:
            same = [old for old in known if old.content == made.content]
            if same and name in (None, same[0].name):
                return same[0]
            names = {old.name for old in known}
            chosen = _free_name(names) if name is None else _checked_name(name, names)
            return msgspec.structs.replace(made, name=chosen)

        return self._versions.append_after(choose)

    def register_scaffold(
        self, name: str, source: Path, by: str | None = None
    ) -> RegisteredScaffold:
        """Put a scaffold under a name; UsageError where it may not be called so, ScaffoldError
        where it cannot be used. The same content again changes nothing."""
        if _NAME.fullmatch(name) is None:
            raise UsageError(
                f"a scaffold cannot be called {name!r}: lower-case letters, digits and . _ - (64 "
                "at most)"
            )
        scaffold, folder = self.keep_scaffold(source)
        made = RegisteredScaffold(name, scaffold, folder, by or _me(), time.time())

        def choose(known: list[RegisteredScaffold]) -> RegisteredScaffold:
            newest = {record.name: record for record in known}.get(name)
            return newest if newest and newest.scaffold == scaffold else made

        return self._scaffolds.append_after(choose)

    def scaffolds(self) -> dict[str, RegisteredScaffold]:
        """What each registered name means now."""
        return {record.name: record for record in self._scaffolds.all()}

    def keep_scaffold(self, source: Path) -> tuple[str, str]:
        """A copy of a scaffold under its digest: (`name@digest`, folder in the registry)."""
        from automem.agent.scaffold import load_scaffold

        loaded = load_scaffold(source)
        folder = f"scaffolds/{loaded.schema.name}@{loaded.digest}"
        self._keep(source, folder)
        return loaded.version, folder

    def keep_adapter(self, source: Path) -> tuple[str, str]:
        """A copy of a PEFT folder under its digest: (engine's name of it, folder)."""
        if not (source / "adapter_config.json").is_file():
            raise UsageError(
                f"{source} is no adapter: expected a PEFT folder with adapter_config.json"
            )
        name = f"adapter-{_digest(source)}"
        self._keep(source, f"adapters/{name}")
        return name, f"adapters/{name}"

    def keep_gate(self, source: Path) -> tuple[str, str]:
        """A copy of a memory gate (`automem metamemory`): (its name, folder). UsageError where it
        is none."""
        from automem.agent.gating.exported import ExportedGate

        name = ExportedGate(source).name
        self._keep(source, f"gates/{name}")
        return name, f"gates/{name}"

    def path(self, folder: str) -> Path:
        """Where a version's folder is now."""
        return self.folder / folder

    def _keep(self, source: Path, folder: str) -> None:
        """Copy `source`, whole or not at all; the same content is copied once."""
        target = self.folder / folder
        if target.is_dir():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=target.parent, prefix=".making-"))
        try:
            shutil.copytree(source, making, dirs_exist_ok=True)
            os.replace(making, target)
        except (OSError, shutil.Error) as error:
            if not target.is_dir():  # else another process has put the same content there first
                raise StoreError(f"{source} cannot be copied into the registry: {error}") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    # Aliases

    def moves(self) -> list[AliasMove]:
        """Every move so far, oldest first: the audit log."""
        return self._moves.all()

    def aliases(self) -> dict[str, AliasMove]:
        """Where each alias stands: its newest move. An alias that names nothing is left out."""
        newest = {move.alias: move for move in self._moves.all()}
        return {alias: move for alias, move in newest.items() if move.version}

    def promote(
        self,
        version: str,
        alias: str = CURRENT,
        share: float = 1.0,
        expected_revision: int | None = None,
        by: str | None = None,
    ) -> AliasMove:
        """Let `alias` name `version`. AliasMovedError where it is not at `expected_revision` (0:
        it never moved; None: wherever it is)."""
        _check_alias(alias, share)
        self.version(version)

        def move(known: list[AliasMove]) -> AliasMove:
            revision = _revision(known, alias)
            if expected_revision is not None and revision != expected_revision:
                raise AliasMovedError(_moved(known, alias, expected_revision))
            return AliasMove(alias, revision + 1, version, share, by=by or _me(), time=time.time())

        return self._moves.append_after(move)

    def rollback(
        self,
        alias: str = CURRENT,
        expected_revision: int | None = None,
        by: str | None = None,
    ) -> AliasMove:
        """Undo the newest promotion that is not undone. UsageError where there is none before."""
        _check_alias(alias, 1.0)

        def move(known: list[AliasMove]) -> AliasMove:
            revision = _revision(known, alias)
            if expected_revision is not None and revision != expected_revision:
                raise AliasMovedError(_moved(known, alias, expected_revision))
            standing = _standing(known, alias)
            if not standing or (alias == CURRENT and len(standing) < 2):
                raise UsageError(f"{alias} names nothing older to go back to")
            undone, before = standing[-1], standing[-2] if len(standing) > 1 else None
            return AliasMove(
                alias,
                revision + 1,
                version=before.version if before else "",
                share=before.share if before else 0.0,
                undoes=undone.revision,
                by=by or _me(),
                time=time.time(),
            )

        return self._moves.append_after(move)


def takes_canary(share: float, key: str) -> bool:
    """Whether the work named `key` goes to the canary: the same answer for the same key."""
    return derive("canary", key) % 1_000_000 < share * 1_000_000


def _standing(moves: list[AliasMove], alias: str) -> list[AliasMove]:
    """Promotions of the alias that no rollback has undone, oldest first."""
    standing: list[AliasMove] = []
    for move in moves:
        if move.alias != alias:
            continue
        if move.undoes:
            standing = [kept for kept in standing if kept.revision != move.undoes]
        else:
            standing.append(move)
    return standing


def _revision(moves: list[AliasMove], alias: str) -> int:
    return max((move.revision for move in moves if move.alias == alias), default=0)


def _moved(moves: list[AliasMove], alias: str, expected: int) -> str:
    newest = [move for move in moves if move.alias == alias][-1:]
    where = f"revision {newest[0].revision} ({newest[0].version})" if newest else "never set"
    return f"{alias} was expected at revision {expected}, and is at {where}: look, then decide anew"


def _check_alias(alias: str, share: float) -> None:
    if alias not in ALIASES:
        raise UsageError(no_such("alias", alias, ALIASES))
    if not 0.0 < share <= 1.0 or (alias == CURRENT and share != 1.0):
        raise UsageError(
            f"{alias} cannot have a share of {share:g}: canary takes more than 0 and at most 1, "
            "current takes what is left"
        )


def _free_name(names: set[str]) -> str:
    return next(name for n in range(1, len(names) + 2) if (name := f"v{n}") not in names)


def _checked_name(name: str, names: set[str]) -> str:
    if _NAME.fullmatch(name) is None or name in ALIASES:
        raise UsageError(
            f"a version cannot be called {name!r}: lower-case letters, digits and . _ - (64 at "
            f"most), and not {' or '.join(ALIASES)}"
        )
    if name in names:
        raise UsageError(f"version {name} is published already; versions never change: use another")
    return name


def _digest(folder: Path) -> str:
    """Content hash of a folder (16 hex digits): names and bytes of its files."""
    total = hashlib.blake2b(digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = hashlib.blake2b()
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                content.update(part)
        total.update(path.relative_to(folder).as_posix().encode() + b"\0" + content.digest())
    return total.hexdigest()


def _me() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"uid {os.getuid()}"
