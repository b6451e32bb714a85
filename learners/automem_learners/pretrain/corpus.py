"""Training data: games played through the real session by many kinds of player, every prompt
labelled with what the teacher would say there.

Who plays decides which prompts are seen (good memory, bad memory, none; small boards and large; any
scaffold); the teacher alone decides what is learned. So prompts that only a better note-taker
reaches are in the data, with the teacher's habits on them, and its acting.
"""

import asyncio
import multiprocessing
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec
from transformers import PreTrainedTokenizerFast

from automem.agent.prompt_view import read_prompt
from automem.agent.roles import RoleBinding, Roles
from automem.agent.scaffold import Scaffold
from automem.engine.protocol import Capabilities, Completion, GenerateRequest, Message
from automem.engine.render import ApproximateCounter
from automem.engine.scripted import ScriptedEngine
from automem.seeds import derive, seeds_from
from automem.trace.events import Routine
from automem.world import World
from automem_learners.pretrain.play import Game, play_all
from automem_learners.pretrain.tokenizer import ASSISTANT, TURN_END, build_tokenizer, vocabulary
from automem_learners.pretrain.trees import Answer, Conversation, ConversationTree
from automem_learners.pretrain.variants import random_scaffold

KINDS = ("log", "consult", "commit")
"""What a turn is: `target_kinds` are indexes into this."""


class Choice(Protocol):
    """One thing a teacher may say."""

    @property
    def text(self) -> str: ...
    @property
    def probability(self) -> float: ...
    @property
    def habit(self) -> str: ...


class Teacher(Protocol):
    """A scripted player that can tell its whole distribution."""

    def reply(self, request: GenerateRequest) -> str:
        """One draw, by the request's seed."""
        ...

    def options(self, request: GenerateRequest) -> Sequence[Choice]:
        """Everything it may answer, with probabilities that sum to 1."""
        ...


class CorpusPlan(msgspec.Struct, frozen=True):
    """What is played for the corpus."""

    games: int
    shipped_share: float = 0.4
    """Share of games on the shipped scaffold; the others each have a variant of their own."""
    is_held_out: bool = False
    shown_share: float = 0.5
    """Share of variants whose PLAN shows the last lines of the file of cards."""
    kept_share: float = 0.3
    """Share of routines kept: neighbours in a game are much alike. From the first result on, which
    is what acting on memory is learned from, a PLAN is always kept."""
    recall_weight: float = 4.0
    """Importance of PLAN turns that have lines of memory in view: they are the few that matter."""
    shown_weight: float = 4.0
    """Importance of actions that one of several lines in view tells: to find it among them is
    learned from nothing else, since a search's result is already sifted."""
    commit_weight: float = 2.0
    """Importance of commits that have none: they must be legal."""
    sizes: tuple[int, ...] = (40, 40, 40, 32, 24, 16, 12, 8)
    """Cards in a deck."""


class Encoder:
    """Ids of messages and answers, as the chat template and the tokenizer give them."""

    def __init__(self, own: PreTrainedTokenizerFast | None = None) -> None:
        """`own`: another game's tokenizer; the special tokens are the same in all."""
        tokenizer = (build_tokenizer() if own is None else own).backend_tokenizer
        ids = vocabulary()

        @lru_cache(maxsize=100_000)
        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

        self._encode = encode
        self._roles = {name: ids[f"<|{name}|>"] for name in ("system", "user", "assistant")}
        self._end, self._assistant = ids[TURN_END], ids[ASSISTANT]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that `ChatRenderer.start` gives, without its detour over a template."""
        ids: list[int] = []
        for message in messages:
            ids.append(self._roles.get(message.role, self._roles["user"]))
            ids.extend(self._encode(message.content))
            ids.append(self._end)
        return [*ids, self._assistant]

    def answer(self, text: str) -> tuple[int, ...]:
        """A completion's ids, with the token that closes the turn."""
        return (*self._encode(text), self._end)


@lru_cache(maxsize=1)
def shared_encoder() -> Encoder:
    """The process's encoder, with what it remembers."""
    return Encoder()


class LabellingEngine(ScriptedEngine):
    """Plays as one player, and labels every prompt with another's distribution."""

    def __init__(self, player: Teacher, teacher: Teacher, seed: int, plan: CorpusPlan) -> None:
        super().__init__(player)
        self._teacher = teacher
        self._encoder = shared_encoder()
        self._chooser = random.Random(seed)
        self._plan = plan
        self._trees: dict[tuple[str, Routine], ConversationTree | None] = {}

    async def capabilities(self) -> Capabilities:
        return Capabilities(model="labelling", batch_invariant=True)

    async def generate(self, request: GenerateRequest) -> Completion:
        completion = await super().generate(request)
        view = read_prompt(request.messages)
        key = (request.id.rpartition("/")[0], view.routine)
        if key not in self._trees:
            is_kept = self._chooser.random() < self._plan.kept_share
            self._trees[key] = ConversationTree() if is_kept else None
        is_recall = view.routine is Routine.PLAN and (
            any(view.shown.values()) or any(result.lines for result in view.results)
        )
        if self._trees[key] is None and is_recall:
            self._trees[key] = ConversationTree()
        tree = self._trees[key]
        if tree is None:
            return completion
        kind = 0 if view.routine is Routine.LOG else 2 if view.wants_commit else 1
        choices = self._teacher.options(request)
        answers = [Answer(self._encoder.answer(c.text), c.probability) for c in choices]
        # What was said, and one example of each habit: its spelling is learned even where the
        # player did something else.
        branches = {self._encoder.answer(completion.text)}
        by_habit: dict[str, list[str]] = {}
        for choice in choices:
            by_habit.setdefault(choice.habit, []).append(choice.text)
        for texts in by_habit.values():
            branches.add(self._encoder.answer(self._chooser.choice(texts)))
        plan = self._plan
        others = plan.commit_weight if view.wants_commit else 1.0
        importance = plan.recall_weight if is_recall else others
        in_view = sum(map(len, view.shown.values())) + sum(len(r.lines) for r in view.results)
        if is_recall and in_view > 2 and len(choices) <= 2 and choices[0].habit == "act":
            importance = plan.shown_weight
        prompt = self._encoder.prompt(request.messages)
        tree.add_turn(prompt, answers, sorted(branches), kind, importance)
        return completion

    def conversations(self) -> list[Conversation]:
        """What was kept."""
        return [tree.finish() for tree in self._trees.values() if tree is not None]


class CorpusSource(msgspec.Struct, frozen=True):
    """Everything that a process needs to play for the corpus (plain data and constructors)."""

    make_world: Callable[..., World]
    teacher: Teacher
    players: tuple[tuple[float, Teacher], ...]
    """(weight, player): who plays."""
    scaffold: Scaffold
    plan: CorpusPlan
    seed: int


def make_corpus(source: CorpusSource, processes: int) -> list[Conversation]:
    """Play `plan.games` games; the same conversations for any number of processes."""
    indexes = list(range(source.plan.games))
    chunks = [indexes[start : start + 16] for start in range(0, len(indexes), 16)]
    if processes <= 1:
        parts = [_play_chunk(source, chunk) for chunk in chunks]
    else:
        context: Any = multiprocessing.get_context("fork")
        with context.Pool(processes, initializer=_adopt, initargs=(source,)) as pool:
            parts = pool.map(_play_adopted, chunks)
    return [conversation for part in parts for conversation in part]


_adopted: list[CorpusSource] = []


def _adopt(source: CorpusSource) -> None:
    _adopted[:] = [source]


def _play_adopted(chunk: list[int]) -> list[Conversation]:
    return _play_chunk(_adopted[0], chunk)


def _play_chunk(source: CorpusSource, indexes: Sequence[int]) -> list[Conversation]:
    engines, games = [], []
    offset = 5_000_000 if source.plan.is_held_out else 0
    seeds = seeds_from("train", 1, offset)[0]
    for index in indexes:
        chooser = random.Random(derive(source.seed, "corpus", source.plan.is_held_out, index))
        weights = [weight for weight, _ in source.players]
        player = chooser.choices(source.players, weights=weights)[0][1]
        is_shipped = chooser.random() < source.plan.shipped_share
        scaffold = (
            source.scaffold
            if is_shipped
            else random_scaffold(chooser, source.plan.is_held_out, source.plan.shown_share)
        )
        engine = LabellingEngine(player, source.teacher, chooser.getrandbits(62), source.plan)
        binding = RoleBinding(engine=engine, counter=ApproximateCounter())
        engines.append(engine)
        games.append(
            Game(
                world=source.make_world(cards=chooser.choice(source.plan.sizes)),
                seed=seeds + index,
                replicate=0,
                scaffold=scaffold,
                roles=Roles(memory=binding, gameplay=binding),
                run_seed=source.seed,
            )
        )
    asyncio.run(play_all(games, concurrency=4))
    return [conversation for engine in engines for conversation in engine.conversations()]
