"""Exact training data: the tokens that the model saw and generated, and no others.

The prompt of a turn is rendered again, append-only, by the session's own renderer and checked
against the digest in the trace; the generated tokens are those of the trace, cut where the turn's
use ended, and checked against its text. The one token that may be added is a turn's end after a
cut. Whatever does not agree to the last digit is a `UsageError`, never a training example.

One conversation per selected turn; its loss is on that turn alone, earlier turns are context. A
PLAN turn that consults nothing hands over by beginning a commit: of it the opening alone is
trained, which is the memory role's decision, and never the action, which is the gameplay role's. A
turn of which nothing generated would be left (an action behind reasoning) gives no conversation.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from automem.engine.protocol import Message
from automem.engine.render import ChatRenderer, decode, load_tokenizer
from automem.errors import UsageError
from automem.memory.dialects.base import Commit, Dialect, Done
from automem.trace.events import Event, Role, Routine, Turn
from automem_learners.dataset import HANDOVER, Conversation, Dataset, digest_ids
from automem_learners.turns import NOTHING, SeenTurn, by_step, is_forgotten, started


class ExactReader:
    """Reads exact conversations off traces that were played with one tokenizer and dialect."""

    def __init__(self, base_model: str, dialect: Dialect) -> None:
        self._renderer = ChatRenderer(base_model)
        self._tokenizer = load_tokenizer(base_model)
        self._dialect = dialect

    def conversations(
        self,
        events: Sequence[Event],
        selected: Collection[tuple[int, int]],
        forgotten: Mapping[int, int] = NOTHING,
    ) -> Iterator[Conversation]:
        """The selected (step, turn) pairs of one episode, in order, without the `forgotten` ones
        (step to its first: `automem.rollout.redactions.forgotten_turns`). UsageError where a turn
        is not there, is not the memory role's, or does not agree with the trace."""
        missing = {place for place in selected if not is_forgotten(*place, forgotten)}
        episode = started(events)
        for turns in by_step(events, forgotten):
            wanted = {turn for step, turn in missing if step == turns[0].turn.step}
            if not wanted:
                continue
            prompts = self._prompt_ids(episode.episode, turns)
            for seen, prompt in zip(turns, prompts, strict=True):
                if seen.turn.turn in wanted:
                    missing.discard((seen.turn.step, seen.turn.turn))
                    made = self._conversation(episode.episode, episode.seed, seen, prompt)
                    if made is not None:
                        yield made
        if missing:
            step, turn = min(missing)
            raise UsageError(
                f"{episode.episode} has no turn {turn} in step {step}: the selection was made from "
                "another trace"
            )

    def _prompt_ids(self, episode: str, turns: Sequence[SeenTurn]) -> list[list[int]]:
        """The prompt of every turn of a step, as the session rendered it, checked."""
        prompts: list[list[int]] = []
        for number, seen in enumerate(turns):
            where = _place(episode, seen.turn)
            if seen.turn.token_ids is None or not seen.turn.prompt_ids:
                raise UsageError(
                    f"{where}: the trace holds no token ids (its engine gave none). Exact data "
                    "need an engine with token ids: collect with engine=transformers or vllm, or "
                    "make `published` data"
                )
            ids = self._render(seen, turns[:number], prompts)
            if digest_ids(ids) != seen.turn.prompt_ids:
                raise UsageError(
                    f"{where}: the prompt does not render to the tokens that were played (digest "
                    f"{digest_ids(ids)}, the trace has {seen.turn.prompt_ids}): another tokenizer "
                    "or chat template, native tool calls, or a damaged trace"
                )
            self._check_text(where, seen)
            prompts.append(ids)
        return prompts

    def _render(
        self, seen: SeenTurn, earlier: Sequence[SeenTurn], prompts: Sequence[list[int]]
    ) -> list[int]:
        messages = [Message(role, text) for role, text in seen.messages]
        last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
        if last < 0:
            return self._renderer.start(messages)
        for before, ids in zip(reversed(earlier), reversed(prompts), strict=True):
            said = seen.messages[last][1]
            if before.messages == seen.messages[:last] and before.kept_text == said:
                kept = before.turn.token_ids or []
                if before.turn.kept >= 0:
                    kept = self._renderer.cut_ids(kept, before.text, before.turn.kept)
                return self._renderer.extend(ids, kept, messages[last + 1 :])
        raise UsageError(
            f"step {seen.turn.step} turn {seen.turn.turn} continues a turn that the trace lacks"
        )

    def _check_text(self, where: str, seen: SeenTurn) -> None:
        """The recorded tokens say the recorded text."""
        ids = list(seen.turn.token_ids or ())
        if ids and ids[-1] == self._renderer.turn_end:
            ids = ids[:-1]
        if decode(self._tokenizer, ids) != seen.text:
            raise UsageError(
                f"{where}: the recorded tokens do not say the recorded text: another tokenizer, "
                "or a damaged trace"
            )

    def _conversation(
        self, episode: str, seed: int, seen: SeenTurn, prompt: list[int]
    ) -> Conversation | None:
        turn = seen.turn
        if turn.role is not Role.MEMORY:
            raise UsageError(
                f"{_place(episode, turn)} is the gameplay role's: its model stays untouched, so "
                "its turns are no training data; select turns of the memory role"
            )
        cut, is_handover = self._cut(seen)
        trained, synthetic = self._trained_ids(seen, cut, closes=not is_handover)
        if len(trained) == synthetic:
            return None
        weights = np.zeros(len(prompt) + len(trained), np.float32)
        weights[len(prompt) :] = 1.0
        return Conversation(
            token_ids=np.asarray([*prompt, *trained], np.int32),
            weights=weights,
            messages=(*seen.messages, ("assistant", seen.text[:cut])),
            kind=HANDOVER if is_handover else turn.routine.value,
            episode=episode,
            step=turn.step,
            turn=turn.turn,
            seed=seed,
            adapter=turn.adapter,
            synthetic=synthetic,
            logprobs=_logprobs(turn, len(prompt), len(trained), synthetic),
            prompt_digest=turn.prompt_ids,
            completion_digest=digest_ids(trained),
        )

    def _cut(self, seen: SeenTurn) -> tuple[int, bool]:
        """Characters of the completion that are trained, and whether they begin a hand-over.

        Trained is what stays in the context, and in LOG the `DONE` behind it, which ends the
        routine and is the memory role's to say."""
        kept = len(seen.kept_text)
        items = self._dialect.parse(seen.text)
        if seen.turn.routine is Routine.LOG:
            ends = (i.end for i in items if isinstance(i.value, Done) and i.start >= kept)
            return next(ends, kept), False
        first = items[0] if items else None
        if kept or first is None or not isinstance(first.value, Commit):
            return kept, False
        spelled = seen.text[first.start : first.end]
        opening = spelled[: max(0, spelled.find(first.value.action))].rstrip()
        is_bare = not seen.text[: first.start].strip()
        return (first.start + len(opening), True) if is_bare and opening else (0, False)

    def _trained_ids(self, seen: SeenTurn, cut: int, closes: bool) -> tuple[list[int], int]:
        """The generated tokens up to the cut, the turn's end, and whether that one was added."""
        ids = list(seen.turn.token_ids or ())
        if cut < len(seen.text):
            ids = self._renderer.cut_ids(ids, seen.text, cut)
            if not closes:
                return ids, 0
        elif seen.turn.finish_reason == "length":
            return ids, 0  # it did not mean to end there
        end = self._renderer.turn_end
        if end is None or (ids and ids[-1] == end):
            return ids, 0
        return [*ids, end], 1


def check_verbatim(
    dataset: Dataset, events: Sequence[Event], base_model: str, dialect: Dialect
) -> int:
    """Compare a dataset's conversations of one episode with its trace, token by token; how many
    there were. UsageError names the first that differs."""
    episode = started(events).episode
    ours = [row for row in dataset.conversations if row.episode == episode]
    reader = ExactReader(base_model, dialect)
    selected = {(row.step, row.turn) for row in ours}
    fresh = {(row.step, row.turn): row for row in reader.conversations(events, selected)}
    for row in ours:
        other = fresh.get((row.step, row.turn))
        if (
            other is None
            or not np.array_equal(row.token_ids, other.token_ids)
            or row.seed != other.seed
        ):
            raise UsageError(
                f"{episode} step {row.step} turn {row.turn}: the dataset's tokens are not those of "
                "the trace; make the dataset again"
            )
    return len(ours)


def _logprobs(turn: Turn, prompt: int, trained: int, synthetic: int) -> np.ndarray | None:
    if turn.logprobs is None:
        return None
    values = np.zeros(prompt + trained, np.float32)
    generated = trained - synthetic
    values[prompt : prompt + generated] = turn.logprobs[:generated]
    return values


def _place(episode: str, turn: Turn) -> str:
    return f"{episode} step {turn.step} turn {turn.turn}"
