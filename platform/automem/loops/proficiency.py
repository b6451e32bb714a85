"""The proficiency loop: from episodes to a memory specialist that plays better, unattended.

Each round: a decider chooses a recipe; the champion plays training seeds; turns are selected from
its traces; one or two contenders are trained; a race on `select` seeds eliminates; the survivor
meets the champion once on fresh `confirm` seeds; the gate keeps it or drops it. In the
asynchronous mode (`collection`) a thread plays the next rounds' episodes meanwhile.

Promise: whatever ends the process, calling `run` again with the same settings goes on where it
stood: decisions are read from the ledger, episodes played on, trainings continued, and nothing is
decided twice. Training, select and confirm seeds come from disjoint ranges through one book, so no
seed serves two purposes. A pending episode leaves its comparison, and the loop, undecided: `run`
raises `Unfinished` and can be called again. Ray and its engines are the caller's.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from automem.errors import AutoMemError, UsageError
from automem.loops.collection import Collection, Gathered, staleness
from automem.loops.deciders import Decider
from automem.loops.episodes import Episodes
from automem.loops.following import Following
from automem.loops.gate import Comparison, Rule, Verdict, confirm, race
from automem.loops.ledger import Chosen, Closed, Compared, Declared, Ledger, Picked, Trained
from automem.loops.recipes import Recipe, Selected, Specialist, Trainer, Weighed
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Arm, Played, Stage
from automem.seeds import SeedRange
from automem.tracker import NoTracker, Tracker


class Unfinished(AutoMemError):
    """Episodes are pending: something broke that is not the players'. Call the loop again."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a loop."""

    rounds: int
    rule: Rule
    seed: int
    """The training seed: of selection, initial adapter and order of data."""
    base: str
    scaffold: str
    """Version of the scaffold, for the record."""
    collection: Collection = Collection()
    """When episodes are collected; the gate knows nothing of it."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UsageError(f"rounds must be at least 1, got {self.rounds}")
        if self.rounds > self.rule.confirmations:
            raise UsageError(
                f"{self.rounds} rounds may ask for as many confirmations, but the gate declares "
                f"{self.rule.confirmations}: raise gate.confirmations (each then has to be clearer)"
            )


class Outcome(msgspec.Struct, frozen=True):
    """Where a loop ended."""

    champion: Specialist | None
    """None: the base was never beaten by the rule."""
    rounds: tuple[Closed, ...]


class Loop:
    """See the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        book: SeedBook,
        stage: Stage,
        trainer: Trainer,
        decider: Decider,
        say: Callable[[str], None],
        tracker: Tracker | None = None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        """`keep`: stores the loop's folder; called before anything is made of an entry."""
        self._settings = settings
        self._folder = folder
        self._stage = stage
        self._trainer = trainer
        self._decider = decider
        self._say = say
        self.ledger = Ledger(folder, keep)
        self._tracker = Following(tracker or NoTracker(), self.ledger)
        self._book = book
        self.episodes = Episodes(
            settings.collection, settings.rounds, settings.seed, folder, book, stage, self.ledger,
            self._finished, say,
        )  # fmt: skip

    def run(self) -> Outcome:
        """All rounds that are not closed yet."""
        settings = self._settings
        self.ledger.declare(
            Declared(settings.rule, settings.base, self._stage.world, settings.scaffold)
        )
        left = [n for n in range(1, settings.rounds + 1) if self.ledger.find(n, Closed) is None]
        with self.episodes.played_ahead() if left else nullcontext():
            for number in left:
                self._round(number)
        closed = [self.ledger.find(n, Closed) for n in range(1, settings.rounds + 1)]
        return Outcome(self.ledger.champion(), tuple(round for round in closed if round))

    def _round(self, number: int) -> None:
        champion = self.ledger.champion()
        recipe = self._choose(number)
        runs = self._collect(number, recipe, champion)
        selected = self._select(number, recipe, runs)
        self._weigh(number, selected)
        if not selected.turns:
            self._close(number, None, f"nothing to learn from: {selected.verdict}", None, None)
            return
        contenders = self._train(number, recipe, selected, champion)
        survivor, looks = self._race(number, contenders, champion)
        if survivor is None:
            best = max(range(len(contenders)), key=lambda n: looks[n].difference.mean or 0.0)
            comparison = looks[best]
            self._close(number, Verdict.ELIMINATED, comparison.reason, contenders[best], comparison)
            return
        comparison = self._confirm(number, survivor, contenders[survivor], champion)
        verdict, reason = comparison.verdict, comparison.reason
        self._close(number, verdict, reason, contenders[survivor], comparison)

    # The parts of a round

    def _choose(self, number: int) -> Recipe:
        chosen = self.ledger.find(number, Chosen)
        if chosen is None:
            decision = self._decider.choose(self.ledger.trials(), self._check)
            chosen = Chosen(decision.recipe, self._decider.name, decision.reason)
            self.ledger.add(number, chosen)
        data = chosen.recipe.data
        self._say(
            f"round {number}: {data.selector} on {data.source} episodes, "
            f"{len(chosen.recipe.trainings)} training(s) ({chosen.decider}: {chosen.reason})"
        )
        return chosen.recipe

    def _check(self, recipe: Recipe) -> None:
        """UsageError for a recipe that this loop could not carry out now."""
        if len(recipe.trainings) > 1 and not self._settings.rule.race:
            raise UsageError("two trainings need a race to choose between them: set gate.race")
        champion = self.ledger.champion()
        self._trainer.check(recipe, champion if recipe.start == "champion" else None)

    def _collect(self, number: int, recipe: Recipe, champion: Specialist | None) -> list[Path]:
        """The runs that turns are selected from."""
        runs = self.episodes.collect(number, recipe, champion)
        gathered = self.ledger.find(number, Gathered)
        if gathered is not None:
            self._say(f"  gathered {staleness(gathered).told()}")
        return runs

    def _select(self, number: int, recipe: Recipe, runs: Sequence[Path]) -> Selected:
        picked = self.ledger.find(number, Picked)
        if picked is None:
            folder = self._folder / f"round-{number}" / "selection"
            selected = self._trainer.select(runs, recipe.data, folder, self._settings.seed)
            episodes = sum(1 for run in runs for _ in run.glob("episodes/*"))
            picked = Picked(selected, episodes)
            self.ledger.add(number, picked)
        selected = picked.selected
        self._say(f"  selected {selected.turns} of {selected.considered} turns: {selected.verdict}")
        return selected

    def _weigh(self, number: int, selected: Selected) -> None:
        """Importance weights for the stale turns among the selected ones, once, and the figures."""
        gathered = self.ledger.find(number, Gathered)
        if gathered is None:
            return
        weighed = self.ledger.find(number, Weighed)
        if weighed is None:
            weighed = self.weigh(number, selected)
            if weighed is not None:
                self.ledger.add(number, weighed)
                self._say(f"  {weighed.turns} stale turns weighted, mean {weighed.mean:.2f}")
        self._tracker.log_values(staleness(gathered, weighed).metrics())

    def weigh(self, number: int, selected: Selected) -> Weighed | None:
        """Give the stale turns of a selection from round `number`'s episodes their weights; None
        where none is weighted."""
        lags, champion = self.episodes.stale_runs(number), self.ledger.champion(before=number)
        if champion is None or not lags or not selected.turns:
            return None
        return self._trainer.weigh(selected, lags, champion, self._settings.collection.truncation)

    def _train(
        self, number: int, recipe: Recipe, selected: Selected, champion: Specialist | None
    ) -> list[Specialist]:
        known = {t.contender: t.specialist for t in self.ledger.find_all(number, Trained)}
        start = champion if recipe.start == "champion" else None
        contenders = []
        for index, training in enumerate(recipe.trainings):
            if index not in known:
                folder = self._folder / f"round-{number}" / f"specialist-{index + 1}"
                specialist = self._trainer.train(
                    selected, training, folder, self._settings.seed, start, self._tracker.training()
                )
                self.ledger.add(number, Trained(index, specialist))
                known[index] = specialist
            made = known[index]
            contenders.append(made)
            self._say(
                f"  trained {made.name}: {made.conversations} conversations, {made.steps} steps, "
                f"loss {made.last_loss:.3f}, {made.seconds:.0f} s at {made.tokens_per_s:,.0f} "
                "tokens/s"
            )
        return contenders

    def _race(
        self, number: int, contenders: Sequence[Specialist], champion: Specialist | None
    ) -> tuple[int | None, list[Comparison]]:
        """The best survivor, and the last look at each contender."""
        rule = self._settings.rule
        alive = list(range(len(contenders)))
        looks: dict[int, Comparison] = {}
        pairs: dict[int, list[tuple[int, float, float]]] = {n: [] for n in alive}
        seeds = self._take(SeedRange.SELECT, rule.race[-1], number, "race") if rule.race else []
        done = 0
        for goal in rule.race:
            part = seeds[done:goal]
            ours = self._meet(number, f"race/{done + 1}-{goal}", champion, part, "champion")
            for index in list(alive):
                theirs = self._meet(
                    number, f"race/{done + 1}-{goal}", contenders[index], part, f"{index + 1}"
                )
                pairs[index] += [(s, theirs[s], ours[s]) for s in part]
                looks[index] = race(rule, self._pairs(pairs[index]), self._settings.seed)
                self._note(number, index, "race", looks[index], pairs[index])
                if looks[index].verdict is Verdict.ELIMINATED:
                    alive.remove(index)
            done = goal
            if not alive:
                return None, [looks[n] for n in range(len(contenders))]
        means = {n: looks[n].difference.mean or 0.0 for n in alive} if looks else {0: 0.0}
        return max(means, key=lambda n: means[n]), [looks[n] for n in sorted(looks)]

    def _confirm(
        self, number: int, index: int, contender: Specialist, champion: Specialist | None
    ) -> Comparison:
        rule = self._settings.rule
        seeds = self._take(SeedRange.CONFIRM, rule.pairs, number, "confirmation")
        ours = self._meet(number, "confirm", champion, seeds, "champion")
        theirs = self._meet(number, "confirm", contender, seeds, f"{index + 1}")
        pairs = [(seed, theirs[seed], ours[seed]) for seed in seeds]
        comparison = confirm(rule, self._pairs(pairs), self._settings.seed)
        self._note(number, index, "confirm", comparison, pairs)
        return comparison

    def _take(self, range_name: SeedRange, count: int, number: int, use: str) -> list[int]:
        purpose = f"training seed {self._settings.seed}, round {number}: {use}"
        return self._book.take(range_name, count, purpose)

    def _meet(
        self, number: int, part: str, specialist: Specialist | None, seeds: Sequence[int], name: str
    ) -> dict[int, float]:
        """Progression by seed; all of them."""
        folder = self._folder / f"round-{number}" / part / f"contender-{name}"
        if name == "champion":
            folder = folder.with_name(name)
        title = f"round {number}: {part.partition('/')[0]}, {name if specialist else 'base'}"
        played = self._stage.play(folder, Arm(), specialist, seeds, title)
        self._finished(played)
        return played.progressions

    def _finished(self, played: Played) -> None:
        """Nothing is decided as long as anything is pending."""
        left = played.summary["pending"]
        if left:
            why = f" ({played.reason})" if played.reason else ""
            raise Unfinished(
                f"{left} episodes of {played.run_dir} are pending{why}: nothing is lost, run the "
                "same command again to go on"
            )

    def _pairs(
        self, pairs: Sequence[tuple[int, float, float]]
    ) -> dict[str, list[tuple[float, float] | None]]:
        return {self._stage.world: [(theirs, ours) for _, theirs, ours in pairs]}

    def _note(
        self,
        number: int,
        index: int,
        kind: str,
        comparison: Comparison,
        pairs: Sequence[tuple[int, float, float]],
    ) -> None:
        """Into the ledger, unless an earlier life of the loop has put it there."""
        entry = Compared(index, kind, comparison, tuple(pairs))
        if entry not in self.ledger.find_all(number, Compared):
            self.ledger.add(number, entry)
        difference = comparison.difference
        low, high = difference.ci95 or (0.0, 0.0)
        p = "" if comparison.p is None else f", p = {comparison.p:.5f}"
        self._say(
            f"  {kind} of contender {index + 1}, {len(pairs)} seeds: {difference.mean or 0:+.3f} "
            f"[{low:+.3f}, {high:+.3f}]{p}: {comparison.verdict}"
        )

    def _close(
        self,
        number: int,
        verdict: Verdict | None,
        reason: str,
        contender: Specialist | None,
        comparison: Comparison | None,
    ) -> None:
        champion = self.ledger.champion()
        if verdict is Verdict.ACCEPTED:
            champion = contender
        gain = comparison.difference.mean if comparison else None
        self.ledger.add(number, Closed(verdict, reason, contender, champion, gain))
        name = champion.name if champion else "the base"
        self._say(f"  {verdict or 'nothing trained'}: {reason}; champion: {name}")
        self._tracker.log_round(number, gain, verdict)
