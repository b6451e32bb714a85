"""A scripted player of the sessions world: notes what it is told, keeps notes true, looks them up.

One file per family, each line `key: text`. What changes is upserted under its key, what is
withdrawn is overwritten (the old value is gone), a renumbered lemma is found and set anew. It knows
the forms of the world's sentences and nothing else. `reads=False` is its memoryless twin.
"""

import random
import re
from collections.abc import Sequence

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Read, Search, Upsert
from automem_envs.note_player import NotePlayer, keyed, lines_of
from automem_envs.sessions import way
from automem_envs.sessions.conventions import in_style

PEOPLE_FILE = "progress.txt"
MAP_FILE = "map.txt"
PROOF_FILE = "actions.txt"
CODE_FILE = "strategy.txt"

_DETAIL = r"(.+'s favourite \w+)"
_TOLD = re.compile(rf"^(?:Please note:|From now on,) {_DETAIL} is (.+)\.$", re.MULTILINE)
_FORGET = re.compile(rf"^.+ asks us to forget {_DETAIL}\.$", re.MULTILINE)
_ASKED = re.compile(rf"^Question: What is {_DETAIL}\?$", re.MULTILINE)
_REVIEW = re.compile(r"^Review: (?:in this codebase|from now on,) (.+) (\S+)\.$", re.MULTILINE)
_FUNCTION = re.compile(r"^Question: Name the function that (reads|saves) the (.+)\.$", re.MULTILINE)
_TESTS = re.compile(r"^Question: Give the path of the tests of (.+)\.$", re.MULTILINE)
_WARNS = re.compile(r"^Question: Write the call .* missing (\w+): ", re.MULTILINE)
_LEMMA = re.compile(r"It is now (lemma \d+): (.+ -> .+)$", re.MULTILINE)
_MENDED = re.compile(r"^Notice: (lemma \d+) had a gap; mended, it is (lemma \d+)\.$", re.MULTILINE)
_GOAL = re.compile(r"^Prove (.+) -> (.+)\. You have reached (.+)\.$", re.MULTILINE)
_RULE = re.compile(r"^In view, (rule \d+): (.+) -> (.+)$", re.MULTILINE)


class SessionsPlayer(NotePlayer):
    """See the module's docstring."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        text = view.observation
        operations: list[AnyOp] = []
        for key, value in _TOLD.findall(text):
            operations.append(Upsert(PEOPLE_FILE, key, value))
        for key in _FORGET.findall(text):
            operations.append(Upsert(PEOPLE_FILE, key, "unknown"))
        for key, value in _REVIEW.findall(text):
            operations.append(Upsert(CODE_FILE, key, value))
        for name, statement in _LEMMA.findall(text):
            operations.append(Upsert(PROOF_FILE, statement, name))
        if mended := _MENDED.search(text):
            operations += _renumber(view, *mended.groups())
        return operations + way.notes(view, MAP_FILE)

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        text = view.observation
        if asked := _ASKED.search(text):
            return [Search(PEOPLE_FILE, asked[1])]
        if goal := _GOAL.search(text):
            return [Search(PROOF_FILE, f"{goal[3]} -> ")]
        if any(form.search(text) for form in (_FUNCTION, _TESTS, _WARNS)):
            return [Read(CODE_FILE)]
        return [Read(MAP_FILE)] if way.is_walking(text) else []

    def decide(self, view: PromptView, chance: random.Random) -> str:
        text = view.observation
        if asked := _ASKED.search(text):
            return f"answer {keyed(lines_of(view, PEOPLE_FILE)).get(asked[1], 'unknown')}"
        if goal := _GOAL.search(text):
            return _next_step(view, goal[2], goal[3])
        if way.is_walking(text):
            return way.go(text, keyed(lines_of(view, MAP_FILE)), chance)
        return _code_answer(text, keyed(lines_of(view, CODE_FILE)))


def _renumber(view: PromptView, old: str, new: str) -> list[AnyOp]:
    """First look for the lemma's line, then set its name anew."""
    if not view.turns:
        return [Search(PROOF_FILE, f": {old}")]
    found = keyed(lines_of(view, PROOF_FILE))
    return [Upsert(PROOF_FILE, statement, new) for statement, name in found.items() if name == old]


def _next_step(view: PromptView, goal: str, so_far: str) -> str:
    """A rule or lemma from where the proof stands, first those after which it can go on."""
    rules = _RULE.findall(view.observation)
    steps = [(name, end) for name, start, end in rules if start == so_far]
    for statement, name in keyed(lines_of(view, PROOF_FILE)).items():
        start, _, end = statement.partition(" -> ")
        if start == so_far:
            steps.append((name, end))
    useful = {goal} | {start for _, start, end in rules if end == goal}
    steps.sort(key=lambda step: (step[1] != goal, step[1] not in useful))
    return f"apply {steps[0][0]}" if steps else "next"


def _code_answer(text: str, rules: dict[str, str]) -> str:
    """The answer that the conventions in the notes give; where one is missing, a guess."""
    if found := _FUNCTION.search(text):
        verb = rules.get(f"functions that {found[1].removesuffix('s')} begin with", "get")
        style = rules.get("names of functions are written in", "snake_case")
        return f"answer {in_style(style, [verb, *found[2].split()])}"
    if found := _TESTS.search(text):
        folder = rules.get("tests lie in the folder", "tests")
        return f"answer {folder}/{rules.get('names of test files begin with', 'test_')}{found[1]}"
    if found := _WARNS.search(text):
        error = found[1].capitalize() + rules.get("names of errors end in", "Error")
        return f"answer {rules.get('the logger is called', 'logger')}.warning({error})"
    return "next"
