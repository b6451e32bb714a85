"""Both loops together: an evolved scaffold, training on it and on the start, and one table.

The structure loop comes first. Then specialists are trained, once per training seed, on the start
and on the champion it came to. Then every arm plays the same `report` decks: the start, each
accepted version, the start and the champion with training (the 2 x 2), rivals of the files, and,
where revisions brought knowledge of the task, the start with that knowledge and the champion
without it.

Promise: whatever ends the process, calling `run` again goes on where it stood; what is there is not
played or trained again. All loops draw from one seed book, so no seed serves two purposes. Arms
differ in what they are named for and in nothing else. Not covered: deciding anything. The gates of
the loops did that on other seeds; the table reports.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from automem.agent.scaffold_files import files_digest, read_files, write_files
from automem.errors import ScaffoldError, UsageError
from automem.loops.arm_results import arm_result, check_games, check_training_seeds, slug
from automem.loops.experiment import commit
from automem.loops.knowledge import Classed, as_text
from automem.loops.knowledge_lineage import ClassedText, classed_nodes, keep_passages
from automem.loops.knowledge_words import words_of_runs
from automem.loops.lineage import Lineage, Node
from automem.loops.passages import passages, without
from automem.loops.proficiency import Unfinished
from automem.loops.recipes import Specialist
from automem.loops.run_results import START, RunResults, square_of, write_results
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Arm, Played, Stage
from automem.rollout.run_dir import RUN_FILE, read_run
from automem.seeds import SeedRange, seeds_from

EVOLVED = "evolved"
TRAINED = " + trained"
KNOWING = f"{START} + the same knowledge"
UNKNOWING = f"{EVOLVED} without its knowledge"
_OWN_PLACES = re.compile(rf"{EVOLVED}-n\d+$|({START}|{EVOLVED})-trained-")
"""Folders of arms whose names are known only later: accepted versions, and single trainings."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared at the end."""

    training_seeds: tuple[int, ...]
    """Empty: nothing is trained."""
    games: int
    train_start: bool = True
    rivals: dict[str, Arm] = {}
    """Arms on the starting scaffold with the base in both roles."""
    knowledge: str = ""
    """What every arm is given (`agent.knowledge`)."""

    def __post_init__(self) -> None:
        check_training_seeds(self.training_seeds)
        check_games(self.games, 2, "games")
        own = (START, EVOLVED, START + TRAINED, EVOLVED + TRAINED, KNOWING, UNKNOWING)
        places = {slug(name): f"the arm {name!r}" for name in own}
        for name in self.rivals:
            if not slug(name) or slug(name) in places or _OWN_PLACES.match(slug(name)):
                raise UsageError(
                    f"rivals {name!r} would share a folder with {places.get(slug(name), 'others')}:"
                    " letters and digits have to tell arms apart"
                )
            places[slug(name)] = repr(name)


class PartOfBook(SeedBook):
    """The run's seed book as one of its loops uses it: its purposes are told from the others'."""

    def __init__(self, path: Path, part: str) -> None:
        super().__init__(path)
        self._part = part

    def take(self, range_name: SeedRange, count: int, purpose: str) -> list[int]:
        return super().take(range_name, count, f"{self._part}, {purpose}")


class BothLoops:
    """See the module's docstring."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        evolve: Callable[[], Lineage],
        train: Callable[[Node, Path, int, Path], Specialist | None],
        stage_with: Callable[[Path], Stage],
        say: Callable[[str], None],
        world_words: frozenset[str] = frozenset(),
    ) -> None:
        """`evolve`: carries the structure loop out; `train`: a whole proficiency loop on a node's
        scaffold (node, its scaffold, training seed, folder), None where the gate accepted nothing;
        `stage_with`: where a scaffold is played; `world_words`: what the world says of itself."""
        self._plan = plan
        self._folder = folder
        self._evolve = evolve
        self._train = train
        self._stage_with = stage_with
        self._say = say
        self._world_words = world_words

    def run(self, base: str) -> RunResults:
        """Loops, arms, results (`results.json`)."""
        began = time.monotonic()
        lineage = self._evolve()
        versions = lineage.path(lineage.champion().id)
        names = _names_of(versions)
        played: dict[str, dict[int, Played]] = {}
        for node in versions:
            played[names[node.id]] = {-1: self._play(names[node.id], lineage.folder(node), Arm())}
        for node in self._trained_on(versions):
            name = START + TRAINED if node is versions[0] else EVOLVED + TRAINED
            played[name] = self._play_trained(name, names[node.id], node, lineage.folder(node))
        start = lineage.folder(versions[0])
        for name, arm in self._plan.rivals.items():
            played[name] = {-1: self._play(name, start, arm)}
        words = self._world_words | words_of_runs([played[START][-1].run_dir])
        classed = classed_nodes(lineage, words)
        keep_passages(self._folder, classed)
        on_path = [each for node in versions for each in classed.get(node.id, ())]
        played |= self._play_knowledge(lineage, versions, on_path)
        seeds = self._seeds()
        results = RunResults(
            commit=commit(),
            created=time.time(),
            seconds=time.monotonic() - began,
            world=self._stage_with(start).world,
            base=base,
            versions={names[node.id]: node.grown.version for node in versions},
            nodes={names[node.id]: node.id for node in versions},
            report_seeds=(seeds[0], seeds[-1]),
            training_seeds=self._plan.training_seeds,
            arms=[arm_result(name, played, self._folder, START) for name in played],
            square=square_of(played, (START, EVOLVED, START + TRAINED, EVOLVED + TRAINED)),
            knowledge={
                node: [ClassedText.of(each) for each in found] for node, found in classed.items()
            },
        )
        write_results(self._folder, results)
        return results

    # Arms

    def _trained_on(self, versions: Sequence[Node]) -> list[Node]:
        """The scaffolds that are trained on: the champion, and the start where it is another."""
        if not self._plan.training_seeds:
            return []
        start, champion = versions[0], versions[-1]
        wants_start = self._plan.train_start or champion is start
        return [*([start] if wants_start else []), *([champion] if champion is not start else [])]

    def _play_trained(
        self, name: str, version: str, node: Node, scaffold: Path
    ) -> dict[int, Played]:
        played = {}
        for seed in self._plan.training_seeds:
            place = self._folder / "trained" / slug(version) / f"seed-{seed}"
            self._say(f"{name}: training seed {seed}")
            specialist = self._train(node, scaffold, seed, place)
            if specialist is None:
                self._say(f"{name}: the gate accepted nothing; the base keeps memory")
                base = self._play(version, scaffold, Arm())
                played[seed] = msgspec.structs.replace(base, fell_back=True)
            else:
                played[seed] = self._play(f"{name} {seed} {specialist.name}", scaffold, Arm(),
                                          specialist)  # fmt: skip
        return played

    def _play_knowledge(
        self, lineage: Lineage, versions: Sequence[Node], classed: Sequence[Classed]
    ) -> dict[str, dict[int, Played]]:
        """The arms that part structure from knowledge; none where the champion has no knowledge
        added. `classed`: what the `versions` on the way to it added."""
        *before, files = (lineage.files(node) for node in versions)
        known = [each for each in classed if each.is_knowledge]
        there = set(passages(files))
        text = as_text(each for each in known if each.passage in there)
        if not text:
            return {}
        played = {}
        arm = Arm(agent={"knowledge": "\n".join(filter(None, (self._plan.knowledge, text)))})
        start = lineage.folder(versions[0])
        place = self._place_of_knowledge(arm)
        played[KNOWING] = {-1: self._play(KNOWING, start, arm, place=place)}
        try:
            rest = without(files, [each.passage for each in known], before[::-1])
        except ScaffoldError as error:
            self._say(f"{UNKNOWING}: structure and knowledge cannot be parted: {error}")
            return played
        folder = self._folder / "scaffolds-without-knowledge" / versions[-1].id
        place = UNKNOWING
        if folder.exists() and read_files(folder) != rest:  # an earlier version parted otherwise
            folder = folder.with_name(f"{versions[-1].id}-{files_digest(rest)}")
            place = f"{UNKNOWING} {files_digest(rest)}"
        write_files(rest, folder)
        played[UNKNOWING] = {-1: self._play(UNKNOWING, folder, Arm(), place=place)}
        return played

    def _place_of_knowledge(self, arm: Arm) -> str:
        """Where the start with this knowledge plays: elsewhere than with what an earlier version
        took for knowledge."""
        there = self._folder / "arms" / slug(KNOWING)
        text = arm.agent["knowledge"]
        if not (there / RUN_FILE).exists() or read_run(there).spec.agent.get("knowledge") == text:
            return KNOWING
        return f"{KNOWING} {files_digest({KNOWING: text})}"

    def _play(
        self,
        name: str,
        scaffold: Path,
        arm: Arm,
        specialist: Specialist | None = None,
        place: str = "",
    ) -> Played:
        """`place`: what its folder is named for, where that is not the arm's name."""
        folder = self._folder / "arms" / slug(place or name)
        seeds = self._seeds()
        played = self._stage_with(scaffold).play(folder, arm, specialist, seeds, f"report: {name}")
        if played.summary["pending"]:
            raise Unfinished(
                f"{played.summary['pending']} episodes of {folder} are pending ({played.reason}): "
                "nothing is lost, run the same command again to go on"
            )
        self._say(f"{name}: {sum(played.progressions.values()) / len(seeds):.3f}")
        return played

    def _seeds(self) -> list[int]:
        return seeds_from(SeedRange.REPORT, self._plan.games)


def _names_of(versions: Sequence[Node]) -> Mapping[str, str]:
    """Node to the name of its arm: the start, versions on the way, the champion."""
    names = {node.id: f"{EVOLVED}, {node.id}" for node in versions}
    names[versions[-1].id] = EVOLVED
    names[versions[0].id] = START
    return names
