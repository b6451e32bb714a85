"""Training conversations: all turns of one routine as one tree of tokens, with soft targets.

The turns of a routine share most of their prompt, so they are merged where they agree: each token
stands once, attends to its ancestors only and has its depth as position. A turn's target is not one
sampled completion but the teacher's whole distribution over the next token, given what precedes:
the same expectation that cloning samples has, without its noise.

Every supervised token weighs by how likely the teacher gets there (with a floor, so that rare
continuations are still spelled correctly). A weight that depends on what *precedes* a token leaves
the optimum where it is; one that depends on the answer's length (a mean over each answer) would
not: it would favour short answers, "do nothing" first of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

REACH_FLOOR = 0.25
"""Least weight of a supervised token."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing the teacher may say: token ids (the closing token included) and probability."""

    ids: tuple[int, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """One routine. Arrays of one tree: `tokens`, `parents` (-1: root), shape [nodes]; targets in
    rows: `target_nodes`, `target_weights`, `target_kinds` [rows], row r holding the entries
    `starts[r]:starts[r + 1]` of `ids` and `shares`."""

    tokens: NDArray[np.int16]
    parents: NDArray[np.int16]
    target_nodes: NDArray[np.int16]
    target_weights: NDArray[np.float32]
    target_kinds: NDArray[np.int8]
    starts: NDArray[np.int32]
    ids: NDArray[np.int16]
    shares: NDArray[np.float32]

    def ancestors(self) -> NDArray[np.bool_]:
        """Who attends to whom, shape [nodes, nodes]: each token to its ancestors and itself."""
        size = len(self.tokens)
        mask = np.zeros((size, size), dtype=np.bool_)
        for node, parent in enumerate(self.parents.tolist()):
            if parent >= 0:
                mask[node] = mask[parent]
            mask[node, node] = True
        return mask

    def depths(self) -> NDArray[np.int64]:
        """Positions, shape [nodes]."""
        depths = np.zeros(len(self.tokens), dtype=np.int64)
        for node, parent in enumerate(self.parents.tolist()):
            depths[node] = depths[parent] + 1 if parent >= 0 else 0
        return depths


@dataclass(slots=True)
class _Target:
    weight: float
    kind: int
    shares: dict[int, float]


@dataclass(slots=True)
class ConversationTree:
    """Grows a `Conversation` turn by turn."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict)
    _targets: dict[int, _Target] = field(default_factory=dict)

    def add_turn(
        self,
        prompt: Sequence[int],
        answers: Sequence[Answer],
        branches: Sequence[tuple[int, ...]],
        kind: int,
        importance: float = 1.0,
    ) -> None:
        """Supervise a turn: along each branch (ids of an answer, or of what was said instead), the
        teacher's distribution over the next token, for as long as it might have said the same.

        `importance` multiplies the turn's weights; it may depend on the prompt, never on what is
        answered."""
        root = self._insert(-1, prompt)[-1]
        for branch in branches:
            nodes = [root, *self._insert(root, branch[:-1])]
            rest = list(answers)
            for depth, token in enumerate(branch):
                total = sum(answer.probability for answer in rest)
                if total <= 0:
                    break
                shares: dict[int, float] = {}
                for answer in rest:
                    following = answer.ids[depth]
                    shares[following] = shares.get(following, 0.0) + answer.probability / total
                self._targets[nodes[depth]] = _Target(
                    max(total, REACH_FLOOR) * importance, kind, shares
                )
                rest = [
                    answer
                    for answer in rest
                    if answer.ids[depth] == token and len(answer.ids) > depth + 1
                ]

    def _insert(self, parent: int, ids: Sequence[int]) -> list[int]:
        nodes = []
        for token in ids:
            node = self._children.get((parent, token))
            if node is None:
                node = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(parent)
                self._children[parent, token] = node
            nodes.append(node)
            parent = node
        return nodes

    def finish(self) -> Conversation:
        """The arrays."""
        size = max(self._targets) + 1 if self._targets else 0
        rows = sorted(self._targets.items())
        lengths = [len(target.shares) for _, target in rows]
        return Conversation(
            tokens=np.array(self.tokens[:size], dtype=np.int16),
            parents=np.array(self.parents[:size], dtype=np.int16),
            target_nodes=np.array([node for node, _ in rows], dtype=np.int16),
            target_weights=np.array([target.weight for _, target in rows], dtype=np.float32),
            target_kinds=np.array([target.kind for _, target in rows], dtype=np.int8),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            ids=np.array([i for _, t in rows for i in t.shares], dtype=np.int16),
            shares=np.array([s for _, t in rows for s in t.shares.values()], dtype=np.float32),
        )
