"""The asynchronous mode's other half: a thread that plays episodes while the loop trains.

Promise: which version plays a part is written to the ledger before its first episode, that it has
been played after its last, and what a round did with it before anything is made of it; so a loop
that was killed plays on the part it was at, with the same version and seeds, and neither begins
nor uses a part twice. Back-pressure is `collection.store_limit`. What goes wrong in the thread is
raised to the loop where it asks for episodes. How parts are played is the caller's.
"""

import threading
from collections.abc import Callable
from functools import partial

from automem.loops.collection import Collection, Gathered, PartBegun, PartPlayed, Use
from automem.loops.ledger import Ledger

Stop = Callable[[], bool]


class Collector:
    """Begins, plays and hands out parts; a context manager that ends the thread."""

    def __init__(
        self,
        collection: Collection,
        ledger: Ledger,
        play: Callable[[PartBegun, Stop], PartPlayed | None],
        count_turns: Callable[[PartBegun], int],
    ) -> None:
        """`play`: plays a part, or what is left of it; None where `Stop` ended it before.
        `count_turns`: turns in the finished episodes of a part that was given up."""
        self._collection = collection
        self._ledger = ledger
        self._play = play
        self._count_turns = count_turns
        self._changed = threading.Condition()
        self._begun: dict[int, PartBegun] = {}
        self._played: dict[int, PartPlayed] = {}
        self._gone: set[int] = set()
        """Parts that were used or dropped."""
        self._at: int | None = None
        """The part that is being played."""
        self._limit = self._round = 0
        self._is_closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="collector", daemon=True)

    def __enter__(self) -> "Collector":
        for entry in self._ledger.entries():
            match entry.what:
                case PartBegun() as begun:
                    self._begun[begun.part] = begun
                case PartPlayed() as played:
                    self._played[played.part] = played
                case Gathered(uses=uses):
                    self._gone.update(use.part for use in uses)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop where things stand: nothing is lost, the next call plays on."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def allow(self, round_number: int, episodes: int) -> None:
        """In this round, begin parts while fewer than so many episodes are in store."""
        with self._changed:
            self._round, self._limit = round_number, episodes
            self._changed.notify_all()

    def gather(self, round_number: int, version: int, want: int, then: int) -> Gathered:
        """At least `want` episodes for a round whose policy is of `version`: the oldest parts that
        are not too stale, waited for; the ledger has them when this returns, and from the moment
        on at which they are taken, fewer than `then` may be in store. Raises what went wrong in
        the thread."""
        dropped: list[Use] = []
        with self._changed:
            while True:
                dropped += self._drop_stale(version)
                kept = self._oldest(version, want)
                if kept:
                    break
                if self._error is not None:
                    raise self._error
                self._changed.wait()
            gathered = Gathered(version, (*dropped, *kept))
            self._ledger.add(round_number, gathered)
            # Until now they counted as in store: the thread has not begun others in their place.
            self._gone.update(use.part for use in kept)
            self._limit = then
            self._changed.notify_all()
        return gathered

    def _drop_stale(self, version: int) -> list[Use]:
        """What is in store and too stale, given up; its place is free at once."""
        uses = []
        for number in sorted(self._begun.keys() - self._gone):
            begun = self._begun[number]
            if self._collection.drops(version - begun.version):
                self._gone.add(number)  # ends its play
                while self._at == number:
                    self._changed.wait()
                played = self._played.get(number)
                turns = played.turns if played else self._count_turns(begun)
                uses.append(_use(begun, version, turns, is_dropped=True))
        if uses:
            self._changed.notify_all()
        return uses

    def _oldest(self, version: int, want: int) -> list[Use]:
        """The oldest parts in store with so many episodes, once all of them are played."""
        uses: list[Use] = []
        for number in sorted(self._begun.keys() - self._gone):
            if number not in self._played:
                break
            uses.append(_use(self._begun[number], version, self._played[number].turns))
            if sum(use.episodes for use in uses) >= want:
                return uses
        return []

    # In the thread

    def _work(self) -> None:
        try:
            while (part := self._next()) is not None:
                played = self._play(part, partial(self._is_over, part.part))
                with self._changed:
                    self._at = None
                    if played is not None:
                        self._ledger.add(self._round, played)
                        self._played[part.part] = played
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - it is the loop's to raise
            with self._changed:
                self._at, self._error = None, error
                self._changed.notify_all()

    def _next(self) -> PartBegun | None:
        """The part to play; None at the end. Waits while the store is full."""
        with self._changed:
            while not self._is_closing:
                store = self._begun.keys() - self._gone
                left = min(store - self._played.keys(), default=None)
                if left is None and sum(self._begun[n].episodes for n in store) < self._limit:
                    left = self._begin()
                if left is not None:
                    self._at = left
                    return self._begun[left]
                self._changed.wait()
        return None

    def _begin(self) -> int:
        version, player = self._ledger.version(), self._ledger.champion()
        number = max(self._begun, default=0) + 1
        begun = PartBegun(number, version, player, self._collection.part)
        self._ledger.add(self._round, begun)
        self._begun[number] = begun
        return number

    def _is_over(self, number: int) -> bool:
        return self._is_closing or number in self._gone


def _use(begun: PartBegun, version: int, turns: int, is_dropped: bool = False) -> Use:
    lag = version - begun.version
    return Use(begun.part, begun.version, lag, begun.episodes, turns, is_dropped)
