"""The lineage: every version of a scaffold that a structure loop had, as an append-only tree.

A node is a scaffold's files with the diff to its parent, the reviewer's reasons, the numbers it
was judged by and the verdict. The files lie beside the records, one immutable folder per content.

Promise: kill-safe (`records.py`): the files are whole before their node is on record, a node grows
once for each slot of the loop's plan, a comparison is noted once, a verdict never changes; so a
loop that is killed anywhere and goes on neither loses nor doubles a node. Revisions that do not
load are nodes too, with their error. Not covered: what to try next, and whether it is better.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from automem.agent.scaffold import load_scaffold
from automem.agent.scaffold_files import diff_files, files_digest, read_files, write_files
from automem.errors import ScaffoldError, UsageError
from automem.loops.gate import Comparison, Rule, Verdict
from automem.loops.records import Records

LINEAGE = "lineage.jsonl"
ROOT = "n0"
FINAL = frozenset({Verdict.ACCEPTED, Verdict.REJECTED, Verdict.ELIMINATED})
"""Verdicts that end a node's trial."""


class Declared(msgspec.Struct, frozen=True, tag="declared", kw_only=True):
    """What the loop declared before its first look; a continuation must declare the same."""

    rule: Rule
    world: str
    reviewer: str
    revisions: int = 5
    attempts: int = 3
    """Fresh attempts per revision."""
    continuations: int = 1
    """Attempts that are shown their own failed result."""


class Grown(msgspec.Struct, frozen=True, tag="grown", kw_only=True):
    """A scaffold came to be."""

    parent: str
    """Empty for the root."""
    slot: str
    """What in the loop's plan it fills, such as `revision 2, attempt 1`: one node per slot."""
    content: str
    """Hash of its files, and the name of their folder."""
    version: str
    """`name@digest`; empty where it does not load."""
    diff: str = ""
    reasons: str = ""
    reviewer: str = ""
    continues: str = ""
    """The node whose failed result the reviewer was shown."""
    knowledge: tuple[str, ...] = ()
    """Added lines that were declared to be knowledge of the task, not structure of memory."""
    error: str = ""
    """Why it does not load, or breaks a constraint: it is not played."""
    spent: dict[str, float] = {}
    """What the answer cost: seconds, tokens, money."""


class Lapsed(msgspec.Struct, frozen=True, tag="lapsed", kw_only=True):
    """A slot of the plan that stays empty: the reviewer had no revision for it."""

    slot: str
    reason: str
    spent: dict[str, float] = {}


class Measured(msgspec.Struct, frozen=True, tag="measured", kw_only=True):
    """A comparison with the parent, with the numbers it rests on."""

    label: str
    """`race 8`, `confirm`: one of each per node."""
    comparison: Comparison
    pairs: dict[str, tuple[tuple[int, float, float], ...]] = {}
    """Task to (seed, this node's progression, its parent's)."""


class Judged(msgspec.Struct, frozen=True, tag="judged"):
    """The end of a node's trial."""

    verdict: Verdict
    reason: str


class Entry(msgspec.Struct, frozen=True):
    """One line of the file."""

    node: str
    """Empty for what holds for the whole tree."""
    at: float
    """Seconds since 1970."""
    what: Declared | Grown | Lapsed | Measured | Judged


class Node(msgspec.Struct, frozen=True):
    """A version and all that is known of it."""

    id: str
    grown: Grown
    measured: tuple[Measured, ...] = ()
    judged: Judged | None = None
    at: float = 0.0

    @property
    def is_accepted(self) -> bool:
        """Whether it was, or is, the champion; the root is one from the beginning."""
        if self.judged is None:
            return not self.grown.parent
        return self.judged.verdict is Verdict.ACCEPTED

    @property
    def gain(self) -> float | None:
        """Mean paired difference to the parent in the last comparison."""
        return self.measured[-1].comparison.difference.mean if self.measured else None


Kind = TypeVar("Kind", Measured, Judged)


class Lineage:
    """See the module's docstring."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records = Records(folder / LINEAGE, Entry)

    # Writing

    def declare(self, declared: Declared) -> None:
        """Declare the loop, or check that a continuation declares the same (UsageError)."""

        def entry(entries: list[Entry]) -> Entry:
            for known in entries:
                if isinstance(known.what, Declared):
                    _check_same(known.what, declared)
                    return known
            return Entry("", time.time(), declared)

        self._records.append_after(entry)

    def plant(self, files: Mapping[str, str]) -> Node:
        """The starting scaffold, the root; a continuation must start from the same one."""
        node = self._grow("start", "", files, {})
        if node.grown.error:
            raise ScaffoldError(f"the starting scaffold does not load: {node.grown.error}")
        if node.grown.content != files_digest(files):
            raise UsageError(
                f"this lineage starts from {node.grown.version} and is continued with another "
                "scaffold: keep to it, or begin another lineage in a new folder"
            )
        return node

    def grow(
        self,
        slot: str,
        parent: str,
        files: Mapping[str, str],
        *,
        reasons: str,
        reviewer: str,
        continues: str = "",
        knowledge: Sequence[str] = (),
        error: str = "",
        spent: Mapping[str, float] | None = None,
    ) -> Node:
        """A revision of `parent`. A slot that is filled gives the node that fills it, whatever is
        offered now; `error` says why it may not be played, beyond its not loading."""
        for named in filter(None, (parent, continues)):
            self.node(named)
        told = {
            "reasons": reasons,
            "reviewer": reviewer,
            "continues": continues,
            "knowledge": tuple(knowledge),
            "error": error,
            "spent": dict(spent or {}),
        }
        return self._grow(slot, parent, files, told)

    def lapse(self, slot: str, reason: str, spent: Mapping[str, float] | None = None) -> None:
        """Leave a slot empty for good; one that is filled or lapsed already stays as it is."""
        lapsed = Lapsed(slot=slot, reason=reason, spent=dict(spent or {}))

        def entry(entries: list[Entry]) -> Entry:
            for known in entries:
                if isinstance(known.what, Grown | Lapsed) and known.what.slot == slot:
                    return known
            return Entry("", time.time(), lapsed)

        self._records.append_after(entry)

    def measure(self, node: str, measured: Measured) -> Node:
        """Note a comparison. One of the same label is on record only once; pending ones never."""
        if measured.comparison.verdict is Verdict.UNDECIDED:
            raise UsageError(f"{node}, {measured.label}: pairs are pending; nothing is noted yet")
        self._add(node, measured, lambda known: known.label == measured.label)
        return self.node(node)

    def judge(self, node: str, verdict: Verdict, reason: str) -> Node:
        """End a node's trial, once. UsageError where it would change a verdict, or crown a node
        that was compared with a champion of the past."""
        if verdict not in FINAL:
            raise UsageError(f"{verdict} ends no trial; expected {', '.join(sorted(FINAL))}")
        known = self._add(node, Judged(verdict, reason), lambda _: True)
        if known.verdict is not verdict:
            raise UsageError(
                f"{node} is {known.verdict} already ({known.reason}); it cannot become {verdict}"
            )
        return self.node(node)

    # Reading

    def declared(self) -> Declared | None:
        """What was declared; None before."""
        found = [e.what for e in self._records.all() if isinstance(e.what, Declared)]
        return found[0] if found else None

    def nodes(self) -> list[Node]:
        """Every node, oldest first."""
        return _fold(self._records.all())

    def node(self, name: str) -> Node:
        """UsageError where there is none of that name."""
        return _find(self.nodes(), name)

    def in_slot(self, slot: str) -> Node | None:
        """The node that fills a slot of the plan; None while it is empty."""
        return next((node for node in self.nodes() if node.grown.slot == slot), None)

    def lapses(self) -> list[Lapsed]:
        """The slots that stay empty, oldest first."""
        return [e.what for e in self._records.all() if isinstance(e.what, Lapsed)]

    def champion(self) -> Node:
        """The version to beat: the last that was accepted, else the root."""
        return _champion(self._records.all())

    def path(self, name: str) -> list[Node]:
        """From the root to a node."""
        nodes = {node.id: node for node in self.nodes()}
        found = [_find(list(nodes.values()), name)]
        while found[0].grown.parent:
            found.insert(0, nodes[found[0].grown.parent])
        return found

    def folder(self, node: Node) -> Path:
        """Where its files lie; not to be changed."""
        return self._folder_of(node.grown.content)

    def files(self, node: Node) -> dict[str, str]:
        """Its files by name."""
        return read_files(self.folder(node))

    # Inside

    def _folder_of(self, content: str) -> Path:
        return self._folder / "scaffolds" / content

    def _grow(
        self, slot: str, parent: str, files: Mapping[str, str], told: Mapping[str, object]
    ) -> Node:
        known = self.in_slot(slot)
        if known is not None:
            return known
        content = files_digest(files)
        folder = self._folder_of(content)
        write_files(files, folder)
        version, error = _version_of(folder)
        before = self.files(self.node(parent)) if parent else {}
        grown = Grown(parent=parent, slot=slot, content=content, version=version)
        grown = msgspec.structs.replace(
            grown,
            diff=diff_files(before, files) if parent else "",
            **{**told, "error": told.get("error") or error},
        )

        def entry(entries: list[Entry]) -> Entry:
            nodes = [each for each in entries if isinstance(each.what, Grown)]
            for each in nodes:
                if isinstance(each.what, Grown) and each.what.slot == slot:
                    return each
            return Entry(f"n{len(nodes)}", time.time(), grown)

        return self.node(self._records.append_after(entry).node)

    def _add(self, node: str, what: Kind, is_same: Callable[[Kind], bool]) -> Kind:
        """Add to a node unless the same is there, which is then returned."""

        def entry(entries: list[Entry]) -> Entry:
            target = _find(_fold(entries), node)
            for known in entries:
                if known.node == node and type(known.what) is type(what) and is_same(known.what):
                    return known
            if target.judged is not None:
                raise UsageError(f"{node} is {target.judged.verdict} already; its trial is over")
            if isinstance(what, Judged) and what.verdict is Verdict.ACCEPTED:
                _check_crowning(target, _champion(entries))
            return Entry(node, time.time(), what)

        found = self._records.append_after(entry).what
        assert isinstance(found, type(what))
        return found


def _fold(entries: Sequence[Entry]) -> list[Node]:
    nodes: dict[str, Node] = {}
    for entry in entries:
        match entry.what:
            case Grown() as grown:
                nodes[entry.node] = Node(entry.node, grown, at=entry.at)
            case Measured() as measured:
                before = nodes[entry.node]
                nodes[entry.node] = msgspec.structs.replace(
                    before, measured=(*before.measured, measured)
                )
            case Judged() as judged:
                nodes[entry.node] = msgspec.structs.replace(nodes[entry.node], judged=judged)
    return list(nodes.values())


def _find(nodes: Sequence[Node], name: str) -> Node:
    for node in nodes:
        if node.id == name:
            return node
    there = f"{ROOT} to {nodes[-1].id}" if nodes else "none yet"
    raise UsageError(f"the lineage has no node {name!r}; there are: {there}")


def _champion(entries: Sequence[Entry]) -> Node:
    nodes = {node.id: node for node in _fold(entries)}
    if ROOT not in nodes:
        raise UsageError("the lineage is empty: it begins with the starting scaffold")
    name = ROOT
    for entry in entries:
        if isinstance(entry.what, Judged) and entry.what.verdict is Verdict.ACCEPTED:
            name = entry.node
    return nodes[name]


def _check_crowning(node: Node, champion: Node) -> None:
    if node.grown.error:
        raise UsageError(f"{node.id} cannot be accepted: {node.grown.error}")
    if node.grown.parent != champion.id:
        raise UsageError(
            f"{node.id} was compared with {node.grown.parent or 'nothing'} and the champion is "
            f"{champion.id} by now: grow it anew from there"
        )


def _check_same(known: Declared, now: Declared) -> None:
    for field in Declared.__struct_fields__:
        if getattr(known, field) != getattr(now, field):
            raise UsageError(
                f"this lineage declared {field} = {getattr(known, field)} when it began and is "
                f"continued with {getattr(now, field)}: keep to it, or begin another elsewhere"
            )


def _version_of(folder: Path) -> tuple[str, str]:
    """The version of a scaffold, or why it does not load."""
    try:
        return load_scaffold(folder).version, ""
    except (ScaffoldError, UsageError) as error:
        return "", str(error).replace(f"{folder}/", "")
