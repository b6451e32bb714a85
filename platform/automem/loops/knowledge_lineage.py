"""What the revisions of a lineage added, classed, and kept beside it for whoever shows the lineage.

Promise: every revision that is a scaffold is classed against its parent, in words that the starting
scaffold has not. `passages.json` is written whole, from the lineage and the world's words alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from automem.errors import ScaffoldError
from automem.loops.knowledge import Classed, classify
from automem.loops.lineage import Lineage
from automem.rollout.durably import replace_file

PASSAGES = "passages.json"


class ClassedText(msgspec.Struct, frozen=True):
    """A passage that a revision added."""

    where: str
    text: str
    kind: str
    """`structure`, `declared`, `undeclared`."""
    words: tuple[str, ...]
    """The world's own words in it."""

    @classmethod
    def of(cls, classed: Classed) -> "ClassedText":
        passage = classed.passage
        return cls(passage.where, passage.text, str(classed.kind), classed.words)

    @property
    def told(self) -> str:
        """`undeclared, plan.j2: an owl is no match (match, owl)`."""
        words = f" ({', '.join(self.words)})" if self.words else ""
        return f"{self.kind}, {self.where}: {self.text}{words}"


def classed_nodes(lineage: Lineage, world_words: frozenset[str]) -> dict[str, list[Classed]]:
    """Node to what it added; nodes that added nothing, or are no scaffold, are left out."""
    nodes = {node.id: node for node in lineage.nodes()}
    found = {}
    for node in nodes.values():
        if not node.grown.parent:
            start = lineage.files(node)
            continue
        before = lineage.files(nodes[node.grown.parent])
        try:
            new = lineage.files(node)
            classed = classify(before, new, node.grown.knowledge, world_words, start)
        except ScaffoldError:
            continue
        if classed:
            found[node.id] = classed
    return found


def keep_passages(folder: Path, found: Mapping[str, Sequence[Classed]]) -> None:
    """Write them into the loop's folder."""
    texts = {node: [ClassedText.of(each) for each in classed] for node, classed in found.items()}
    replace_file(
        folder / PASSAGES, msgspec.json.format(msgspec.json.encode(texts)) + b"\n", fsync=False
    )


def kept_passages(folder: Path) -> dict[str, list[ClassedText]]:
    """What is kept there; empty where the loop has not come to its end."""
    path = folder / PASSAGES
    if not path.is_file():
        return {}
    return msgspec.json.decode(path.read_bytes(), type=dict[str, list[ClassedText]])
