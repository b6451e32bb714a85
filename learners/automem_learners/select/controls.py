"""Selectors that ask for no provenance: by outcome, at random, everything.

What a method gains has to be measured against these, on the same traces and with as many turns.
"""

import bisect
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from automem.errors import UsageError
from automem.seeds import derive
from automem_learners.select.provenance import flaw
from automem_learners.select.selection import read_selection
from automem_learners.select.traces import Settings, Traces, Turn
from automem_learners.select.verdict import Kind, TurnKey, Verdict


class OutcomeSelector:
    """Sound turns of the episodes that went best in their world."""

    name = "outcome"
    is_thinned = True

    def __init__(self, top_share: float = 0.25) -> None:
        if not 0 < top_share <= 1:
            raise UsageError(f"selector.top_share must be above 0 and at most 1, got {top_share}")
        self._top_share = top_share
        self.settings = Settings()
        self.notes: dict[str, str] = {}

    def judge(self, traces: Traces) -> Iterator[tuple[Turn, Verdict]]:
        """See `Selector`."""
        cuts = dict(traces.rows(
            f"select world, quantile_disc(progression, {1 - self._top_share!r}) from episodes "
            "group by world"
        ))  # fmt: skip
        for world, cut in cuts.items():
            self.notes[f"top episodes of {world}"] = f"progression of at least {cut:.3f}"
        for turn in traces.turns():
            reached = turn.episode_progression
            if reason := flaw(turn):
                yield turn, Verdict(False, reason, value=0.0)
            elif reached >= cuts[turn.world]:
                yield turn, Verdict(True, "its episode went well", f"{reached:.3f}", reached)
            else:
                yield turn, Verdict(False, "its episode is not among the best", value=reached)


class AllSelector:
    """Every turn of the memory role, as it was played: the unfiltered control."""

    name = "all"
    is_thinned = False

    def __init__(self) -> None:
        self.settings = Settings()
        self.notes: dict[str, str] = {}

    def judge(self, traces: Traces) -> Iterator[tuple[Turn, Verdict]]:
        """See `Selector`."""
        for turn in traces.turns():
            yield turn, Verdict(True, "everything is taken")


class RandomSelector:
    """Turns drawn at random: `count` of them, or as many as another selection has, of the same
    kinds and of (nearly) the same lengths in tokens."""

    name = "random"
    is_thinned = False

    def __init__(self, count: int | None = None, match: str | None = None, seed: int = 0) -> None:
        if (count is None) == (match is None):
            raise UsageError(
                "the random selector needs one of selector.count=NUMBER and selector.match=FOLDER "
                "(of a selection that it is the control of)"
            )
        if count is not None and count < 1:
            raise UsageError(f"selector.count must be at least 1, got {count}")
        self._count = count
        self._match = Path(match).expanduser() if match else None
        self._seed = seed
        self.settings = Settings()
        self.notes: dict[str, str] = {}

    def judge(self, traces: Traces) -> Iterator[tuple[Turn, Verdict]]:
        """See `Selector`. Reads the traces twice."""
        pool = [
            (turn.kind, turn.tokens, turn.key)
            for turn in traces.turns()
            if not traces.is_forgotten(turn.key)
        ]
        random.Random(derive("select", self._seed)).shuffle(pool)
        chosen = self._draw(pool)
        for turn in traces.turns():
            if turn.key in chosen:
                yield turn, Verdict(True, "drawn at random")
            else:
                yield turn, Verdict(False, "not drawn", value=0.0)

    def _draw(self, pool: list[tuple[Kind, int, TurnKey]]) -> set[TurnKey]:
        if self._match is None:
            return {key for _, _, key in pool[: self._count]}
        by_kind: dict[Kind, list[tuple[int, int, TurnKey]]] = defaultdict(list)
        for order, (kind, tokens, key) in enumerate(pool):
            by_kind[kind].append((tokens, order, key))
        for turns in by_kind.values():
            turns.sort()
        asked = [(turn.kind, turn.tokens) for turn in read_selection(self._match).turns]
        random.Random(derive("select", self._seed, "order")).shuffle(asked)
        chosen, tokens, debt = set(), 0, 0
        for kind, length in asked:
            turns = by_kind[kind]
            if not turns:
                continue
            found = _nearest(turns, length + debt)
            chosen.add(found[2])
            tokens += found[0]
            debt += length - found[0]  # what is missing is made up for by the next ones
            turns.remove(found)
        total = sum(length for _, length in asked)
        self.notes["matched"] = (
            f"{len(chosen)} of {len(asked)} turns, {tokens} of {total} tokens of {self._match}"
        )
        return chosen


def _nearest(turns: list[tuple[int, int, TurnKey]], tokens: int) -> tuple[int, int, TurnKey]:
    """The first in (shuffled) order among those whose length is nearest; `turns` is sorted."""
    place = bisect.bisect_left(turns, (tokens, -1, TurnKey("", "", 0, 0)))
    if place == len(turns):
        length = turns[-1][0]
    elif place and tokens - turns[place - 1][0] < turns[place][0] - tokens:
        length = turns[place - 1][0]
    else:
        length = turns[place][0]
    return turns[bisect.bisect_left(turns, (length, -1, TurnKey("", "", 0, 0)))]
