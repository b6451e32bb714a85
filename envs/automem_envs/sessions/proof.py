"""Partial proofs: what one session proves is a numbered lemma that later ones must cite.

A goal `a -> d` is reached by steps from `a`: rules in view and lemmas that are not. Lemmas are
cited by number; numbers cannot be guessed, and a step that does not fit costs one of three tries.
A lemma may turn out to have a gap and get a new number. A goal that was given up is proved by a
colleague, so that later sessions are the same for everyone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from automem_envs.sessions.session import NEXT, Session
from automem_envs.sessions.words import SYMBOLS

TITLE = "proof"
TRIES = 3
GOALS = 2
"""Goals of a session."""
_LIVE = 60
"""The last so many lemmas are what later goals are built on."""
_MOST_CITED = 8
"""Steps of one proof that the cap of an episode allows for; two are enough."""
_APPLY = "apply "


@dataclass(frozen=True, slots=True)
class Step:
    """`start -> end` under a name such as `rule 2` or `lemma 417`."""

    name: str
    start: str
    end: str

    def __str__(self) -> str:
        return f"{self.name}: {self.start} -> {self.end}"


@dataclass(frozen=True, slots=True)
class Goal:
    """To be proved by `rules` and earlier lemmas; then it is `lemma`."""

    lemma: Step
    rules: tuple[Step, ...]
    lemmas: dict[str, Step]
    """Every lemma that may be cited, by name; the same object in all goals of an episode."""


class Proof:
    """A session of goals, after a notice where a lemma was renumbered."""

    title = TITLE

    def __init__(self, notice: str, goals: list[Goal]) -> None:
        self.tasks = len(goals)
        self.solved = 0
        self._notice = notice
        self._goals = goals
        self._at = 0
        self._so_far = goals[0].lemma.start
        self._tries = TRIES

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._goals)

    def look(self) -> str:
        if self._notice:
            return f"{self._notice}\nSay: next"
        goal = self._goals[self._at]
        lines = [f"Prove {goal.lemma.start} -> {goal.lemma.end}. You have reached {self._so_far}."]
        lines += [f"In view, {rule}" for rule in goal.rules]
        lines.append(f"Tries left: {self._tries}")
        return "\n".join([*lines, "Say: apply rule N, apply lemma N, or next to give up"])

    def accepts(self, action: str) -> bool:
        action = action.lower()
        return action == NEXT or (
            not self._notice and action.startswith(_APPLY) and len(action) > len(_APPLY)
        )

    def act(self, action: str) -> str:
        if self._notice:
            self._notice = ""
            return ""
        goal = self._goals[self._at]
        if action.lower() == NEXT:
            return self._close(goal, is_proved=False)
        name = " ".join(action[len(_APPLY) :].lower().split())
        step = {rule.name: rule for rule in goal.rules}.get(name) or goal.lemmas.get(name)
        if step is None or step.start != self._so_far:
            self._tries -= 1
            said = "That does not apply here."
            return said if self._tries else f"{said} {self._close(goal, is_proved=False)}"
        self._so_far = step.end
        return self._close(goal, is_proved=True) if step.end == goal.lemma.end else ""

    def _close(self, goal: Goal, is_proved: bool) -> str:
        goal.lemmas[goal.lemma.name] = goal.lemma
        self.solved += is_proved
        self._at += 1
        self._tries = TRIES
        if not self.is_over:
            self._so_far = self._goals[self._at].lemma.start
        who = "Proved" if is_proved else "Not proved; a colleague proved it"
        return f"{who}. It is now {goal.lemma}"


def sessions(chance: Random, size: int) -> Iterator[Session]:
    """Each goal needs an earlier lemma, once there is one; `size` rules are in view."""
    live: list[Step] = []
    known: dict[str, Step] = {}
    free = _numbers(chance)
    while True:
        notice = ""
        if len(live) > GOALS and chance.random() < 0.5:
            place = chance.randrange(len(live))
            broken = live[place]
            live[place] = Step(f"lemma {next(free)}", broken.start, broken.end)
            del known[broken.name]
            known[live[place].name] = live[place]
            notice = f"Notice: {broken.name} had a gap; mended, it is {live[place].name}."
        goals = [_goal(chance, size, live, known, f"lemma {next(free)}") for _ in range(GOALS)]
        live = [*live, *(goal.lemma for goal in goals)][-_LIVE:]
        yield Proof(notice, goals)


def _numbers(chance: Random) -> Iterator[int]:
    """Numbers without order or repetition; longer ones when the short ones are used up."""
    low = 100
    while True:
        yield from chance.sample(range(low, 10 * low), 9 * low)
        low *= 10


def _goal(chance: Random, size: int, live: list[Step], known: dict[str, Step], name: str) -> Goal:
    """A lemma and a rule after it, or, at first, two rules; the other rules lead nowhere useful."""
    taken = {(lemma.start, lemma.end) for lemma in live}
    while True:
        start, middle, end, *rest = chance.sample(SYMBOLS, 3 + 2 * size)
        if live:
            lemma = chance.choice(live)
            start, middle = lemma.start, lemma.end
        if end not in (start, middle) and (start, end) not in taken:
            break
    pairs = [(middle, end)] if live else [(start, middle), (middle, end)]
    others = [symbol for symbol in rest if symbol not in (start, middle, end)]
    pairs += list(zip(others[::2], others[1::2], strict=False))[: max(0, size - len(pairs))]
    chance.shuffle(pairs)
    rules = tuple(Step(f"rule {number}", *pair) for number, pair in enumerate(pairs, 1))
    return Goal(Step(name, start, end), rules, known)


def most_steps(size: int) -> int:
    """Actions that a session can take at most: with longer ways than needed, by older lemmas."""
    return 1 + GOALS * (TRIES + _MOST_CITED)
