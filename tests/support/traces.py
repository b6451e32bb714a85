"""Event lists of a small memory game, as an agent with real memory operations would leave them.

The game is Concentration without the platform: cards face down, two flips a turn, pairs score. The
player's habits are probabilities, so traces hold everything that metrics look for: good and
redundant writes, empty searches, malformed turns, invalid and fallback actions.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from automem.agent.recorder import MemoryRecorder
from automem.memory.edits import apply_edit, edit_between
from automem.memory.ops import AnyOp, Append, Edit, OpResult, OpStatus, Search
from automem.rollout.journal import Journal
from automem.rollout.lease import acquire
from automem.trace.blobs import CHAIN_START, next_link
from automem.trace.compact import compact_episode
from automem.trace.events import (
    SCHEMA,
    Attempt,
    CommitSource,
    Committed,
    Ended,
    EpisodeStarted,
    Event,
    Failed,
    MemoryChanged,
    Observed,
    OpDone,
    Outcome,
    Role,
    Routine,
    StopReason,
    Turn,
)

SYSTEM = "You play Concentration. " + "Write down what you see; search before you flip. " * 6
FILES = ("cards.txt", "notes.txt")


@dataclass
class Habits:
    """Probabilities of the player's doings."""

    writes: float = 0.9
    searches: float = 0.9
    repeats: float = 0.1
    malforms: float = 0.05
    refuses: float = 0.02
    breaks_rules: float = 0.03


@dataclass
class Board:
    """Cards by name, what is matched, what is pending."""

    cards: dict[str, str]
    matched: set[str] = field(default_factory=set)
    pending: str = ""
    said: str = "the game begins"

    @property
    def progression(self) -> float:
        return len(self.matched) / len(self.cards)

    @property
    def hidden(self) -> list[str]:
        return [c for c in self.cards if c not in self.matched and c != self.pending]

    def text(self) -> str:
        pending = f"{self.pending} {self.cards[self.pending]}" if self.pending else "none"
        return f"{self.said}\npending: {pending}\nface down: {' '.join(self.hidden)}"

    def flip(self, card: str) -> bool:
        """Flip a card; whether that was a valid move."""
        if card not in self.hidden:
            self.said = f"invalid: {card} does not lie face down"
            return False
        rank = self.cards[card]
        if not self.pending:
            self.pending, self.said = card, f"flipped {card}: {rank}, first of a pair"
        elif self.cards[self.pending] == rank:
            self.matched |= {card, self.pending}
            self.pending, self.said = "", f"flipped {card}: {rank}, a match"
        else:
            self.pending, self.said = "", f"flipped {card}: {rank}, a miss"
        return True


class Play:
    """One episode in the making; `events` holds it."""

    def __init__(self, seed: int, cards: int, max_steps: int, habits: Habits, policy: str) -> None:
        self.random = random.Random(seed)
        ranks = [rank for rank in "A23456789TJQKXYZ"[: cards // 2] for _ in range(2)]
        self.random.shuffle(ranks)
        names = [f"{number:02d}" for number in range(1, cards + 1)]
        self.board = Board(dict(zip(names, ranks, strict=True)))
        self.habits, self.max_steps, self.seed = habits, max_steps, seed
        self.recorder = MemoryRecorder()
        self.files: dict[str, str] = {}
        self.chain, self.clock, self.turn, self.step = CHAIN_START, 1_700_000_000.0, 0, 0
        self.episode = f"concentration-{seed}-0"
        self.policy = policy

    def run(self) -> list[Event]:
        record = self.recorder.append
        record(Attempt(1, 0, 0, "host-a", 4242, self.clock))
        record(self._started())
        for file in FILES:
            self._change(Edit(file, creates=True), cause="initial")
        last, changed = "", True
        outcome = Outcome(progression=0.0)
        while True:
            self._observe(changed, outcome)
            if self.step:
                self._log(last)
            if outcome.is_final:
                break
            self._plan()
            last = self._commit()
            before = self.board.text()
            is_valid = self.board.flip(last.removeprefix("flip "))
            changed = self.board.text() != before
            self.step += 1
            done = self.board.progression == 1.0
            outcome = Outcome(
                progression=self.board.progression,
                reward=float("a match" in self.board.said),
                terminated=done,
                truncated=not done and self.step >= self.max_steps,
                invalid_action=not is_valid,
                action=last,
            )
        stop = StopReason.SOLVED if outcome.terminated else StopReason.CAP
        record(Ended(stop, self.board.progression, self.step, time=self.clock))
        return self.recorder.events

    def _started(self) -> EpisodeStarted:
        return EpisodeStarted(
            schema=SCHEMA,
            episode=self.episode,
            world="concentration",
            seed=self.seed,
            replicate=0,
            run_seed=1,
            max_steps=self.max_steps,
            policy=self.policy,
            scaffold="0" * 16,
            instruction="Find all pairs.",
            fallback_action="wait",
        )

    def _observe(self, changed: bool, outcome: Outcome) -> None:
        self.clock += 0.003
        text = self.recorder.text(self.board.text())
        self.turn = 0
        self.recorder.append(
            Observed(self.step, text, changed, outcome, world_s=0.001, time=self.clock)
        )

    def _ask(self, routine: Routine, role: Role, said: str, **more: object) -> None:
        text = self.recorder.text
        user = f"# {routine}\n# observation\n{self.board.text()}\n# files\n" + "\n".join(
            f"{name} {content.count(chr(10))}" for name, content in self.files.items()
        )
        prompt = [("system", text(SYSTEM)), ("user", text(user))]
        base, shared = -1, 0
        if role is Role.GAMEPLAY:
            prompt, base, shared = [("user", "# commit")], self.turn - 1, 2
        self.clock += 0.02
        turn = Turn(
            self.step, self.turn, routine, role, prompt, said, base_turn=base, shared=shared,
            prompt_tokens=220 + len(user) // 4, cached_tokens=180,
            completion_tokens=max(1, len(said) // 4), seconds=0.02,
        )  # fmt: skip
        self.recorder.append(msgspec.structs.replace(turn, **more))
        self.turn += 1

    def _log(self, last: str) -> None:
        chance, said = self.random.random, self.board.said
        if not said.startswith("flipped") or chance() >= self.habits.writes:
            malformed = ["an APPEND is not closed"] if chance() < self.habits.malforms else []
            self._ask(Routine.LOG, Role.MEMORY, "<|DONE|>", malformed=malformed)
            return
        card, rank = said.split()[1].rstrip(":"), said.split()[2].rstrip(",")
        line = f"{card} {rank}"
        if chance() < self.habits.repeats and self.files["cards.txt"]:
            line = self.random.choice(self.files["cards.txt"].splitlines())
        op = Append("cards.txt", line)
        self._ask(Routine.LOG, Role.MEMORY, f"<|APPEND|>cards.txt|{line}<|END|><|DONE|>")
        new = self.files["cards.txt"] + line + "\n"
        self._op(
            op, OpResult(OpStatus.OK, "ok"), edit_between("cards.txt", self.files["cards.txt"], new)
        )

    def _plan(self) -> None:
        self.known = ""
        if not self.board.pending or self.random.random() >= self.habits.searches:
            self._ask(Routine.PLAN, Role.MEMORY, "")
            return
        rank = self.board.cards[self.board.pending]
        self._ask(Routine.PLAN, Role.MEMORY, f"<|SEARCH|>cards.txt|{rank}<|END|>")
        lines = self.files["cards.txt"].splitlines()
        found = [number for number, line in enumerate(lines, 1) if rank.lower() in line.lower()]
        if found:
            text = "\n".join(lines[number - 1] for number in found)
            result = OpResult(OpStatus.OK, text, {"cards.txt": found})
        else:
            result = OpResult(OpStatus.EMPTY, "no match")
        self._op(Search("cards.txt", rank), result)
        known = [lines[number - 1].split() for number in found]
        good = [
            card for card, found_rank in known if found_rank == rank and card in self.board.hidden
        ]
        self.known = good[0] if good else ""

    def _commit(self) -> str:
        chance = self.random.random
        source = CommitSource.MODEL
        action = f"flip {self.known or self.random.choice(self.board.hidden)}"
        if chance() < self.habits.breaks_rules:
            action = f"flip {self.random.choice(list(self.board.cards))}"
        if chance() < self.habits.refuses:
            action, source = "wait", CommitSource.FALLBACK
        said = f"<|ACTION|>{action}<|END|>" if source is CommitSource.MODEL else "hm"
        self._ask(Routine.PLAN, Role.GAMEPLAY, said)
        self.recorder.append(Committed(self.step, action, source, time=self.clock))
        return action

    def _op(self, op: AnyOp, result: OpResult, edit: Edit | None = None) -> None:
        if edit is not None:
            self._fold(edit)
        self.recorder.append(
            OpDone(self.step, self.turn - 1, 0, op, result, edit, self.chain if edit else "")
        )

    def _change(self, edit: Edit, cause: str) -> None:
        self._fold(edit)
        self.recorder.append(MemoryChanged(self.step, cause, edit, self.chain))

    def _fold(self, edit: Edit) -> None:
        self.chain = next_link(self.chain, edit)
        new = apply_edit(self.files.get(edit.file), edit)
        assert new is not None
        self.files[edit.file] = new


def play(
    seed: int = 7,
    cards: int = 20,
    max_steps: int = 40,
    habits: Habits | None = None,
    policy: str = "test-base/scaffold-0/-",
) -> list[Event]:
    """Events of one finished episode."""
    return Play(seed, cards, max_steps, habits or Habits(), policy).run()


def failed_play(seed: int = 99) -> list[Event]:
    """An episode whose player failed at step 0: it counts with 0."""
    whole = play(seed)
    start = [e for e in whole if isinstance(e, Attempt | EpisodeStarted)][:2]
    failure = Failed(0, "scaffold", "plan.user.j2 line 3: no such name", False, time=1.0)
    return [
        *start,
        failure,
        Ended(StopReason.PLAYER_FAILED, 0.0, 0, detail="scaffold: no such name"),
    ]


def write_journal(folder: Path, events: list[Event]) -> None:
    """The journal of one episode, by one attempt."""
    journal = Journal(folder, acquire(folder))
    for event in events:
        if not isinstance(event, Attempt):
            journal.append(event)
    journal.close()


def write_run(
    run_dir: Path,
    plays: list[list[Event]],
    pending: tuple[str, ...] = (),
    config: str = "env: concentration\nengine: scripted\n",
    **run: object,
) -> Path:
    """A run directory as a rollout leaves it: tables, done marks, run.json, config.yaml."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(config)
    (run_dir / "run.json").write_text(json.dumps(run))
    for events in plays:
        started = next(e for e in events if isinstance(e, EpisodeStarted))
        folder = run_dir / "episodes" / started.episode
        write_journal(folder, events)
        compact_episode(events, run_dir / "tables", started.episode)
        (folder / "episode.json").write_text("{}")
    for name in pending:
        (run_dir / "episodes" / name).mkdir(parents=True)
    return run_dir
