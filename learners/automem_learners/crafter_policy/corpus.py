"""Training data of the Crafter policy: real episodes in which every prompt kept is labelled with
the teacher's whole distribution.

As with the embedded model, who plays decides which prompts are seen (careful, forgetful, slipping,
without notes; lines shown or not), the teacher alone decides what is learned. Crafter's episodes
are long and its steps alike, so most routines are left out: LOGs at which nothing is worth a line
are all the same, PLANs are drawn at random.
"""

import asyncio
import multiprocessing
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from automem.agent.prompt_view import read_prompt
from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import Scaffold
from automem.engine.protocol import Capabilities, Completion, GenerateRequest
from automem.engine.render import ApproximateCounter
from automem.engine.scripted import ScriptedEngine
from automem.seeds import derive, seeds_from
from automem.trace.events import Routine
from automem.world import World
from automem_learners.crafter_policy.tokenizer import crafter_tokenizer
from automem_learners.pretrain.corpus import Choice, Encoder, Teacher
from automem_learners.pretrain.play import Game, play_all
from automem_learners.pretrain.trees import Answer, Conversation, ConversationTree

_RARE = ("<|ACTION|>Make", "<|ACTION|>Place", "<|ACTION|>Sleep")
_HELD_OUT_OFFSET = 5_000_000
"""Seeds of games never trained on begin so far into the range `train`."""


class CrafterCorpusPlan(msgspec.Struct, frozen=True):
    """What is played for the corpus."""

    games: int
    max_steps: int = 400
    """Cap on a game's steps."""
    plan_share: float = 0.5
    """Share of PLANs kept."""
    quiet_log_share: float = 0.08
    """Share kept of LOGs at which nothing is worth a line; of the others, all are."""
    rare_weight: float = 3.0
    """Importance of turns at which the teacher makes, places or sleeps: few of them decide much."""
    without_memory: float = 0.1
    """Share of games without memory, whose prompts name no files."""
    shown_share: float = 0.3
    """Share of games whose scaffold shows the last lines of a file in every prompt."""
    is_held_out: bool = False


class CorpusSource(msgspec.Struct, frozen=True):
    """Everything that a process needs to play for the corpus (plain data and constructors)."""

    make_world: Callable[..., World]
    teacher: Teacher
    players: tuple[tuple[float, Teacher], ...]
    """(weight, player): who plays."""
    scaffold: Scaffold
    plan: CrafterCorpusPlan
    seed: int


class LabellingEngine(ScriptedEngine):
    """Plays as one player, and labels what is kept with another's distribution."""

    def __init__(
        self, player: Teacher, teacher: Teacher, seed: int, plan: CrafterCorpusPlan
    ) -> None:
        super().__init__(player)
        self._teacher = teacher
        self._chooser = random.Random(seed)
        self._plan = plan
        self._trees: dict[tuple[str, Routine], ConversationTree | None] = {}

    async def capabilities(self) -> Capabilities:
        return Capabilities(model="labelling", batch_invariant=True)

    async def generate(self, request: GenerateRequest) -> Completion:
        completion = await super().generate(request)
        view = read_prompt(request.messages)
        choices = self._teacher.options(request)
        key = (request.id.rpartition("/")[0], view.routine)
        if key not in self._trees:
            share = self._plan.plan_share
            if view.routine is Routine.LOG:
                is_quiet = all(choice.habit in ("nothing", "chatter") for choice in choices)
                share = self._plan.quiet_log_share if is_quiet else 1.0
            self._trees[key] = ConversationTree() if self._chooser.random() < share else None
        tree = self._trees[key]
        if tree is not None:
            kind = 0 if view.routine is Routine.LOG else 2 if view.wants_commit else 1
            self._add(tree, request, completion.text, choices, kind)
        return completion

    def _add(
        self,
        tree: ConversationTree,
        request: GenerateRequest,
        said: str,
        choices: Sequence[Choice],
        kind: int,
    ) -> None:
        encoder = shared_encoder()
        answers = [Answer(encoder.answer(one.text), one.probability) for one in choices]
        by_habit: dict[str, list[str]] = {}
        for choice in choices:
            by_habit.setdefault(choice.habit, []).append(choice.text)
        branches = {encoder.answer(self._chooser.choice(texts)) for texts in by_habit.values()}
        # What else was said leads to prompts of its own; it is no example of anything.
        if any(said == choice.text for choice in choices):
            branches.add(encoder.answer(said))
        is_rare = any(choice.text.startswith(_RARE) for choice in choices)
        importance = self._plan.rare_weight if is_rare else 1.0
        prompt = encoder.prompt(request.messages)
        tree.add_turn(prompt, answers, sorted(branches), kind, importance)

    def conversations(self) -> list[Conversation]:
        """What was kept."""
        return [tree.finish() for tree in self._trees.values() if tree is not None]


@lru_cache(maxsize=1)
def shared_encoder() -> Encoder:
    """The process's encoder, with what it remembers."""
    return Encoder(crafter_tokenizer())


def make_corpus(source: CorpusSource, processes: int) -> list[Conversation]:
    """Play `plan.games` games; the same conversations for any number of processes."""
    indexes = list(range(source.plan.games))
    chunks = [indexes[start : start + 4] for start in range(0, len(indexes), 4)]
    if processes <= 1:
        parts = [_play_chunk(source, chunk) for chunk in chunks]
    else:
        context: Any = multiprocessing.get_context("fork")
        with context.Pool(processes, initializer=_adopt, initargs=(source,)) as pool:
            parts = pool.map(_play_adopted, chunks, chunksize=1)
    return [conversation for part in parts for conversation in part]


_adopted: list[CorpusSource] = []


def _adopt(source: CorpusSource) -> None:
    _adopted[:] = [source]


def _play_adopted(chunk: list[int]) -> list[Conversation]:
    return _play_chunk(_adopted[0], chunk)


def _play_chunk(source: CorpusSource, indexes: Sequence[int]) -> list[Conversation]:
    plan = source.plan
    engines, games = [], []
    offset = _HELD_OUT_OFFSET if plan.is_held_out else 0
    first_seed = seeds_from("train", 1, offset)[0]
    for index in indexes:
        chooser = random.Random(derive(source.seed, "crafter", plan.is_held_out, index))
        weights = [weight for weight, _ in source.players]
        player = chooser.choices(source.players, weights=weights)[0][1]
        engine = LabellingEngine(player, source.teacher, chooser.getrandbits(62), plan)
        binding = RoleBinding(engine=engine, counter=ApproximateCounter())
        engines.append(engine)
        has_memory = chooser.random() >= plan.without_memory
        games.append(
            Game(
                world=source.make_world(max_steps=plan.max_steps),
                seed=first_seed + index,
                replicate=0,
                scaffold=_variant(source.scaffold, chooser, plan.shown_share),
                roles=Roles(memory=binding, gameplay=binding),
                run_seed=source.seed,
                options=AgentOptions(memory="files" if has_memory else "none"),
            )
        )
    asyncio.run(play_all(games, concurrency=4))
    return [conversation for engine in engines for conversation in engine.conversations()]


def _variant(scaffold: Scaffold, chooser: random.Random, shown_share: float) -> Scaffold:
    """The scaffold itself, or one that shows lines of its files: what the structure loop may do."""
    if chooser.random() >= shown_share:
        return scaffold
    last = chooser.choice((4, 8, 20))
    files = tuple(
        msgspec.structs.replace(file, show_last=last if chooser.random() < 0.7 else 0)
        for file in scaffold.schema.files
    )
    schema = msgspec.structs.replace(scaffold.schema, name="variant", files=files)
    return Scaffold(schema, scaffold.sources)
