"""Published training data: single routines by the paper's rules, on texts, tokenised anew.

FACTS.md, Loop 2: LOG up to `DONE`, PLAN with the commit stripped; what follows the last operation
is cut; items with no operation left or with a code fence left are dropped. Each rule is a pure
function below. The tokens are not those that were sampled (off-policy), so such data are barred
from RL; traces of chat engines, which give no token ids, can be used.

One conversation per routine of the memory role; every assistant turn of it is trained.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from automem.engine.protocol import Message
from automem.engine.render import ChatRenderer, load_tokenizer
from automem.memory.dialects.base import Commit, Dialect, Done, Item
from automem.memory.ops import Op
from automem.trace.events import Event, Role, Routine
from automem_learners.dataset import Conversation, digest_ids
from automem_learners.turns import NOTHING, SeenTurn, by_step, is_forgotten, started

CODE_FENCE = "```"


def up_to_done(text: str, items: Sequence[Item]) -> str:
    """LOG: nothing after the first `DONE`."""
    return next((text[: item.end] for item in items if isinstance(item.value, Done)), text)


def without_commit(text: str, items: Sequence[Item]) -> str:
    """PLAN: nothing from the first commit on."""
    return next((text[: item.start] for item in items if isinstance(item.value, Commit)), text)


def cut_after_last_op(text: str, items: Sequence[Item]) -> str:
    """Nothing after the last operation, but a `DONE` that follows it stays."""
    ends = [item.end for item in items if isinstance(item.value, Op)]
    if not ends:
        return ""
    done = [i.end for i in items if isinstance(i.value, Done) and i.start >= ends[-1]]
    return text[: done[0] if done else ends[-1]]


def has_code_fence(text: str) -> bool:
    """Whether a code fence is left."""
    return CODE_FENCE in text


def trained_text(text: str, routine: Routine, dialect: Dialect) -> str:
    """What the cutting rules leave of one assistant turn; empty where no operation is left."""
    shorten = up_to_done if routine is Routine.LOG else without_commit
    text = shorten(text, dialect.parse(text))
    return cut_after_last_op(text, dialect.parse(text))


class PublishedReader:
    """Reads published conversations off traces of any engine."""

    def __init__(self, base_model: str, dialect: Dialect) -> None:
        self._renderer = ChatRenderer(base_model)
        self._tokenizer = load_tokenizer(base_model)
        self._dialect = dialect

    def conversations(
        self,
        events: Sequence[Event],
        selected: Collection[tuple[int, int]] | None = None,
        forgotten: Mapping[int, int] = NOTHING,
    ) -> Iterator[Conversation]:
        """The routines of one episode that hold a selected (step, turn), or all of them; those that
        the rules drop, and those of which a turn is `forgotten` (see `ExactReader`), are missing.
        """
        episode = started(events)
        for turns in by_step(events):
            for routine in Routine:
                talk = _memory_turns(turns, routine)
                if not talk or not _is_selected(talk, selected):
                    continue
                if any(is_forgotten(seen.turn.step, seen.turn.turn, forgotten) for seen in talk):
                    continue
                conversation = self._conversation(episode.episode, episode.seed, talk)
                if conversation is not None:
                    yield conversation

    def _conversation(
        self, episode: str, seed: int, talk: Sequence[SeenTurn]
    ) -> Conversation | None:
        routine = talk[0].turn.routine
        texts = [trained_text(seen.text, routine, self._dialect) for seen in talk]
        while texts and not texts[-1]:  # a last turn without operations only ended the routine
            texts = texts[:-1]
        if not texts or not all(texts) or any(has_code_fence(text) for text in texts):
            return None
        messages = _joined(talk[: len(texts)], texts)
        ids, weights = self._tokenise(messages)
        last = talk[len(texts) - 1].turn
        return Conversation(
            token_ids=np.asarray(ids, np.int32),
            weights=np.asarray(weights, np.float32),
            messages=tuple(messages),
            kind=routine.value,
            episode=episode,
            step=last.step,
            turn=last.turn,
            seed=seed,
            adapter=last.adapter,
            completion_digest=digest_ids([i for i, w in zip(ids, weights, strict=True) if w]),
        )

    def _tokenise(self, messages: Sequence[tuple[str, str]]) -> tuple[list[int], list[float]]:
        """Ids of the chat, and weight 1 for what the assistant says, its turn's end included."""
        end = self._renderer.turn_end
        chat = [Message(role, text) for role, text in messages]
        says = [i for i, message in enumerate(chat) if message.role == "assistant"]
        ids = self._renderer.start(chat[: says[0]])
        weights = [0.0] * len(ids)
        for at, following in zip(says, [*says[1:], len(chat)], strict=True):
            said = self._tokenizer.encode(chat[at].content, add_special_tokens=False)
            said += [] if end is None else [end]
            weights += [1.0] * len(said)
            if following == len(chat):
                ids = [*ids, *said]
            else:
                ids = self._renderer.extend(ids, said, chat[at + 1 : following])
            weights += [0.0] * (len(ids) - len(weights))
        return ids, weights


def _memory_turns(turns: Sequence[SeenTurn], routine: Routine) -> list[SeenTurn]:
    return [
        seen for seen in turns if seen.turn.routine is routine and seen.turn.role is Role.MEMORY
    ]


def _is_selected(talk: Sequence[SeenTurn], selected: Collection[tuple[int, int]] | None) -> bool:
    return selected is None or any((seen.turn.step, seen.turn.turn) in selected for seen in talk)


def _joined(talk: Sequence[SeenTurn], texts: Sequence[str]) -> list[tuple[str, str]]:
    """The routine's messages up to its last trained turn, assistant turns as trained."""
    messages = list(talk[len(texts) - 1].messages)
    says = [i for i, (role, _) in enumerate(messages) if role == "assistant"]
    for at, text in zip(says, texts, strict=False):
        messages[at] = ("assistant", text)
    return [*messages, ("assistant", texts[-1])]
