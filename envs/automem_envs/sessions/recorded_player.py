"""A scripted player of recorded sessions: notes what it is told, answers with the nearest line.

A reference point without a model: PLAN searches for the longest words of the question and answers
with the noted sentence that shares most words with it (the later one where two are as near), cut
to few words; `unknown` where nothing is found. `reads=False` is its memoryless twin.
"""

import random
import re
from collections.abc import Sequence

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Append, Search
from automem_envs.note_player import NotePlayer, lines_of
from automem_envs.sessions.judging import MORE_WORDS

NOTES_FILE = "actions.txt"
_SEARCHES = 4
_LONGEST_LINE = 300
"""Characters of a sentence that are noted."""
_WORD = re.compile(r"[\w./-]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_FRAME = ("Session ", "Say: ", "That was ", "Date: ")
"""How lines begin that tell nothing."""
_ENDS = ".,;:!?"


class RecordedSessionsPlayer(NotePlayer):
    """See the module's docstring."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        told = view.observation.split("Question: ")[0]
        lines = [line for line in told.split("\n") if not line.startswith(_FRAME)]
        sentences = [part.strip() for line in lines for part in _SENTENCE.split(line)]
        kept = [sentence[:_LONGEST_LINE] for sentence in sentences if sentence]
        return [Append(NOTES_FILE, "\n".join(kept))] if kept else []

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        words = sorted(_words(_question(view)), key=lambda word: (-len(word), word))
        return [Search(NOTES_FILE, word) for word in words[:_SEARCHES]]

    def decide(self, view: PromptView, chance: random.Random) -> str:
        question = _question(view)
        if not question:
            return "next"
        wanted = _words(question)
        lines = list(dict.fromkeys(lines_of(view, NOTES_FILE)))
        if not lines:
            return "answer unknown"
        best = max(enumerate(lines), key=lambda item: (len(wanted & _words(item[1])), item[0]))[1]
        fresh = [word for word in best.split() if word.strip(_ENDS).casefold() not in wanted]
        return f"answer {' '.join(fresh[-MORE_WORDS:]) or 'unknown'}"


def _question(view: PromptView) -> str:
    _, _, rest = view.observation.partition("Question: ")
    return rest.split("\nSay: ")[0]


def _words(text: str) -> set[str]:
    return {word.strip(_ENDS) for word in _WORD.findall(text.casefold()) if len(word) > 2}
