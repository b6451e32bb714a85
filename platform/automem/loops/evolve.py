"""The structure loop: a reviewer revises the scaffold, and only real improvements stay.

The champion plays `train` seeds; a reviewer studies the whole episodes and proposes revisions; each
is checked, tried for a few steps, raced against the champion on `select` seeds, and the best of a
wave meets it once on fresh `confirm` seeds, where the gate accepts or rejects. Where every fresh
attempt of a revision has failed, a continuation shows the reviewer what became of one: a candidate
that did not run rather than one that lost.

Promise: whatever ends the process, calling `run` again with the same plan goes on where it stood:
the lineage, the seed book and the rollouts hold all there is, no finished episode is played again,
no node is lost or doubled, and the reviewer is asked again only where its answer had not been
written down. A pending episode or an absent reviewer leaves its question open (`Unfinished`). Not
covered: changing the plan in the middle. Ray and its engines are the caller's.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from automem.loops.evolve_plan import Plan, Wave
from automem.loops.evolve_results import title_of
from automem.loops.evolve_review import (
    CONFIRM,
    SMOKE,
    cost,
    failures_of,
    kept,
    repetition,
    shown_failure,
)
from automem.loops.evolve_stage import Arena, Entrant
from automem.loops.gate import Comparison, Verdict, confirm, race
from automem.loops.lineage import Declared, Lineage, Measured, Node
from automem.loops.proficiency import Unfinished
from automem.loops.reviewers.constraints import check_revision, explain
from automem.loops.reviewers.interface import (
    Reviewer,
    ReviewError,
    ReviewRequest,
    Revision,
    Rules,
    Toolbox,
)
from automem.loops.reviewers.plain_text import printable
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Played
from automem.seeds import SeedRange, derive
from automem.tracker import NoTracker, Tracker

SEEDS = "seeds.jsonl"
Pair = tuple[int, float, float]
"""(seed, the contender's progression, the champion's)."""


class Evolution:
    """See the module's docstring."""

    def __init__(
        self,
        plan: Plan,
        start: Mapping[str, str],
        folder: Path,
        arena: Arena,
        reviewer: Reviewer,
        toolbox_over: Callable[[Sequence[Path]], Toolbox],
        say: Callable[[str], None],
        tracker: Tracker | None = None,
    ) -> None:
        """`start`: the starting scaffold by file name; `toolbox_over`: tools over runs."""
        self._plan = plan
        self._start = start
        self._folder = folder
        self._arena = arena
        self._reviewer = reviewer
        self._toolbox_over = toolbox_over
        self._say = say
        self._tracker = tracker or NoTracker()
        self._book = SeedBook(folder / SEEDS)
        self._studied: set[Path] = set()
        self.lineage = Lineage(folder)

    def run(self) -> Node:
        """Every revision that is not over yet; the champion."""
        plan = self._plan
        declared = Declared(
            rule=plan.rule,
            world=self._arena.world,
            reviewer=self._reviewer.name,
            revisions=plan.revisions,
            attempts=plan.attempts,
            continuations=plan.continuations,
        )
        self.lineage.declare(declared)
        self.lineage.plant(self._start)
        for number in range(1, plan.revisions + 1):
            if not self._revision(number):
                break
        return self.lineage.champion()

    def confirmations_used(self) -> int:
        """Of the K that were declared."""
        labels = [each.label for node in self.lineage.nodes() for each in node.measured]
        return labels.count(CONFIRM)

    # A revision

    def _revision(self, number: int) -> bool:
        """Carry it out, or what is left of it; whether the loop may go on."""
        for wave in self._plan.waves(number):
            if self._accepted_in(number):
                return True
            if self._is_used_up(wave):
                self._say(
                    f"{wave.title}: all {self._plan.rule.confirmations} confirmations are used; "
                    "the loop is over"
                )
                return False
            failed = self._to_continue(number) if wave.is_continuation else None
            if wave.is_continuation and failed is None:
                continue
            self._wave(wave, failed)
        return True

    def _accepted_in(self, number: int) -> bool:
        return any(node.is_accepted for node in self._nodes_of(number))

    def _nodes_of(self, number: int) -> list[Node]:
        return [n for n in self.lineage.nodes() if n.grown.slot.startswith(f"revision {number},")]

    def _is_used_up(self, wave: Wave) -> bool:
        """No confirmation is left for a wave that has not begun."""
        begun = [node for slot in wave.slots if (node := self.lineage.in_slot(slot))]
        return not begun and self.confirmations_used() >= self._plan.rule.confirmations

    def _to_continue(self, number: int) -> Node | None:
        """The failed attempt that a continuation is shown: the last one, if that is a continuation
        itself; else one that did not run; else the one that did best."""
        nodes = self._nodes_of(number)
        if not nodes:
            return None
        if nodes[-1].grown.continues:
            return nodes[-1]
        broken = [node for node in nodes if not node.measured]
        if broken:
            return broken[0]
        return max(nodes, key=lambda node: (len(node.measured), node.gain or 0.0))

    def _wave(self, wave: Wave, failed: Node | None) -> None:
        nodes = [self._propose(wave, slot, failed) for slot in wave.slots]
        alive = [node for node in nodes if node is not None and node.judged is None]
        alive = self._that_run(wave, alive)
        best = self._race(wave, alive)
        if best is not None:
            self._confirm(wave, best)

    # Proposing

    def _propose(self, wave: Wave, slot: str, failed: Node | None) -> Node | None:
        """The node of a slot; None where the reviewer had none for it."""
        known = self.lineage.in_slot(slot)
        if known is not None:
            return known
        if any(lapsed.slot == slot for lapsed in self.lineage.lapses()):
            return None
        champion = self.lineage.champion()
        request = self._request(slot, champion, failed)
        self._say(f"{slot}: {self._reviewer.name} studies {champion.id}")
        more = request.failed.runs if request.failed else ()
        toolbox = self._toolbox_over([*request.runs, *more])
        try:
            revision = asyncio.run(self._reviewer.review(request, toolbox))
        except ReviewError as error:
            why = printable(str(error))
            if error.is_retryable:
                raise Unfinished(
                    f"{slot}: the reviewer gave no revision ({why}): nothing is lost, run the "
                    "same command again to go on"
                ) from error
            self.lineage.lapse(slot, why, cost(error.spent))
            self._say(f"  no revision: {why}")
            return None
        return self._grow(slot, champion, revision, failed)

    def _request(self, slot: str, champion: Node, failed: Node | None) -> ReviewRequest:
        shown = shown_failure(self._folder, self.lineage, failed) if failed else None
        workspace = self._folder / "reviews" / slot.replace(", ", "-").replace(" ", "-")
        workspace.mkdir(parents=True, exist_ok=True)
        return ReviewRequest(
            parent=champion.id,
            files=self.lineage.files(champion),
            folder=self.lineage.folder(champion),
            runs=(self._study(champion),),
            history=tuple(self.lineage.nodes()),
            failed=shown,
            seed=derive("review", self._plan.seed, slot),
            workspace=workspace,
            rules=Rules(allow_hooks=self._plan.allow_hooks),
        )

    def _study(self, champion: Node) -> Path:
        """Where the champion's episodes for the reviewer are."""
        folder = self._folder / "studies" / champion.id
        if folder in self._studied:
            return folder
        seeds = self._take(SeedRange.TRAIN, self._plan.study, f"{champion.id}: study")
        [played] = self._play([champion], lambda _: folder, seeds, f"{champion.id} plays to learn")
        mean = sum(played.progressions.values()) / len(seeds)
        self._say(f"{champion.id}: progression {mean:.3f} over {len(seeds)} episodes for review")
        self._studied.add(folder)
        return folder

    def _grow(self, slot: str, champion: Node, revision: Revision, failed: Node | None) -> Node:
        files = kept(revision.files)
        rules = Rules(allow_hooks=self._plan.allow_hooks)
        error = explain(check_revision(self.lineage.files(champion), revision.files, rules))
        node = self.lineage.grow(
            slot,
            champion.id,
            files,
            reasons=printable(revision.reasons),
            reviewer=printable(revision.reviewer),
            continues=failed.id if failed else "",
            knowledge=[printable(line) for line in revision.knowledge],
            error=printable(error) or repetition(self.lineage, files, champion),
            spent=cost(revision.spent),
        )
        self._say(f"  {node.id}: {title_of(node)}")
        return node

    # Playing

    def _that_run(self, wave: Wave, nodes: list[Node]) -> list[Node]:
        """Those that do not crash in their first episodes."""
        smoke = self._plan.smoke
        for node in nodes:
            if node.grown.error:
                self._judge(node, Verdict.ELIMINATED, f"not played: {node.grown.error}")
        nodes = [node for node in nodes if not node.grown.error]
        if not nodes or not smoke.episodes:
            return nodes
        place = self._place(wave) / SMOKE
        seeds = self._take(SeedRange.TRAIN, smoke.episodes, f"{wave.title}: first episodes")
        title = f"{wave.title}: first episodes"
        played = self._play(nodes, lambda n: place / n.id, seeds, title, smoke.steps)
        running = []
        for node, result in zip(nodes, played, strict=True):
            if 2 * result.summary["failed"] >= len(seeds):
                why = f"crashed in its first episodes: {failures_of(result)}"
                self._judge(node, Verdict.ELIMINATED, why)
            else:
                running.append(node)
        return running

    def _race(self, wave: Wave, nodes: list[Node]) -> Node | None:
        """The best that is left on `select` seeds; the others are out."""
        rule, alive, done = self._plan.rule, list(nodes), 0
        pairs: dict[str, list[Pair]] = {node.id: [] for node in nodes}
        if not alive:
            return None
        seeds = (
            self._take(SeedRange.SELECT, rule.race[-1], f"{wave.title}: race") if rule.race else []
        )
        for goal in rule.race:
            place = self._place(wave) / "race" / f"{done + 1}-{goal}"
            reached = self._meet(place, alive, seeds[done:goal], f"{wave.title}: race to {goal}")
            done = goal
            for node in list(alive):
                pairs[node.id] += reached[node.id]
                look = race(rule, self._by_task(pairs[node.id]), self._plan.seed)
                self._measure(node, f"race {goal}", look, pairs[node.id])
                if look.verdict is Verdict.ELIMINATED:
                    self._judge(node, Verdict.ELIMINATED, look.reason)
                    alive.remove(node)
            if not alive:
                return None
        gains = {node.id: _mean_gain(pairs[node.id]) for node in alive}
        best = max(alive, key=lambda node: gains[node.id])
        for node in alive:
            if node is not best:
                told = f"{gains[node.id]:+.4f} in the race, {best.id} {gains[best.id]:+.4f}"
                self._judge(node, Verdict.ELIMINATED, f"one of a wave is confirmed: {told}")
        return best

    def _confirm(self, wave: Wave, node: Node) -> None:
        rule = self._plan.rule
        seeds = self._take(SeedRange.CONFIRM, rule.pairs, f"{node.id}: confirmation")
        place = self._place(wave) / CONFIRM
        pairs = self._meet(place, [node], seeds, f"{wave.title}: confirmation of {node.id}")[
            node.id
        ]
        comparison = confirm(rule, self._by_task(pairs), self._plan.seed)
        self._measure(node, CONFIRM, comparison, pairs)
        self._judge(node, comparison.verdict, comparison.reason)

    def _meet(
        self, place: Path, nodes: Sequence[Node], seeds: Sequence[int], title: str
    ) -> dict[str, list[Pair]]:
        """Each node's pairs with the champion, both freshly run."""
        champion = self.lineage.champion()

        def folder(node: Node) -> Path:
            return place / ("champion" if node.id == champion.id else node.id)

        ours, *theirs = self._play([champion, *nodes], folder, seeds, title)
        return {
            node.id: [(s, played.progressions[s], ours.progressions[s]) for s in seeds]
            for node, played in zip(nodes, theirs, strict=True)
        }

    def _play(
        self,
        nodes: Sequence[Node],
        folder: Callable[[Node], Path],
        seeds: Sequence[int],
        title: str,
        max_steps: int = 0,
    ) -> list[Played]:
        """All of it: nothing is decided as long as anything is pending."""
        entrants = [Entrant(n.id, self.lineage.folder(n), folder(n)) for n in nodes]
        played = self._arena.play(entrants, seeds, title, max_steps)
        left = {str(p.run_dir): p for p in played if p.summary["pending"]}
        if left:
            count = sum(p.summary["pending"] for p in left.values())
            why = "; ".join(sorted({p.reason for p in left.values() if p.reason}))
            raise Unfinished(
                f"{count} episodes of {', '.join(left)} are pending ({why}): nothing is lost, run "
                "the same command again to go on"
            )
        return played

    # Noting

    def _take(self, name: SeedRange, count: int, purpose: str) -> list[int]:
        return self._book.take(name, count, purpose)

    def _place(self, wave: Wave) -> Path:
        return self._folder / f"revision-{wave.revision}" / wave.name

    def _by_task(self, pairs: Sequence[Pair]) -> dict[str, list[tuple[float, float] | None]]:
        return {self._arena.world: [(theirs, ours) for _, theirs, ours in pairs]}

    def _measure(
        self, node: Node, label: str, comparison: Comparison, pairs: Sequence[Pair]
    ) -> None:
        tasks = {self._arena.world: tuple(pairs)}
        self.lineage.measure(node.id, Measured(label=label, comparison=comparison, pairs=tasks))
        low, high = comparison.difference.ci95 or (0.0, 0.0)
        p = "" if comparison.p is None else f", p = {comparison.p:.5f}"
        self._say(
            f"  {node.id}, {label}: {comparison.difference.mean or 0:+.3f} [{low:+.3f}, "
            f"{high:+.3f}]{p}: {comparison.verdict}"
        )

    def _judge(self, node: Node, verdict: Verdict, reason: str) -> Node:
        judged = self.lineage.judge(node.id, verdict, reason)
        self._say(f"  {node.id} {verdict}: {reason.partition(chr(10))[0]}")
        number = len([each for each in self.lineage.nodes() if each.judged])
        values = {"accepted": float(verdict is Verdict.ACCEPTED)}
        if judged.gain is not None:
            values["gain"] = judged.gain
        self._tracker.log(values, step=number)
        return judged


def _mean_gain(pairs: Sequence[Pair]) -> float:
    return sum(theirs - ours for _, theirs, ours in pairs) / len(pairs) if pairs else 0.0
