"""A replay: the moment in a run where memory visibly paid, in four lines for people.

What is looked for, in any world: a line that the agent wrote at step s, shown again to it by an
operation at a later step t, and then an action that raised progression and holds a word of that
line which neither the question had nor many other lines: what the line told, the action used.
Numbers count (one of many cards); other words only as the answer to a search, and out of sight.
A heuristic: a replay illustrates and proves nothing; figures come from the metrics.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from automem.trace.events import CommitSource, Event
from automem.trace.query import query
from automem.trace.rows import rows
from automem.trace.summary import finished_episodes

_SHOWING = ("SEARCH", "READ", "TAIL")
_FAR_ENOUGH = 12
"""Steps between writing and reading beyond which a replay is not better for being longer; among
those the earliest in the game is taken, where most is still open."""
_FEW_LINES = 3
"""A result of so many lines reads as one answer."""
_CANDIDATES = 400

_FIND = f"""
select o.run, o.episode, o.step, o.op, o.file, o.argument, o.result, o.result_lines, o.sources,
       s.observation, s.action, s.progression, s.gain, e.world, e.seed
from ops o join steps s using (run, episode, step) join episodes e using (run, episode)
where s.gain > 0 and s.source = 'model' and o.op in {_SHOWING} and o.status = 'ok'
order by (o.op = 'SEARCH') desc, greatest({_FEW_LINES}, least(9, len(o.sources))),
         least({_FAR_ENOUGH}, o.step - list_min([writer.step for writer in o.sources])) desc,
         s.progression, o.run, o.episode, o.step
limit {_CANDIDATES}
"""
_COUNT_ACTIONS = "select action, count(*) from steps where action is not null group by action"


class Replay(msgspec.Struct, frozen=True):
    """See the module's docstring."""

    run: str
    episode: str
    world: str
    seed: int
    observation: str
    """What the agent saw at `step`."""
    line: str
    file: str
    written_step: int
    step: int
    operation: str
    """As it was asked, on one line: `SEARCH cards.txt | K`."""
    lines_shown: int
    action: str
    progression: float
    """Before the action."""
    gain: float

    def told(self) -> list[tuple[str, str]]:
        """Four (what, text) pairs: seen, written, found, done."""
        return [
            (f"step {self.step}, the agent sees", self.observation),
            (f"step {self.written_step}, it wrote", f"{self.file}: {self.line}"),
            (f"step {self.step}, it asks", f"{self.operation}  →  {self.line}"),
            (
                f"step {self.step}, it does",
                f"{self.action}  →  progression {self.progression:.3f} to "
                f"{self.progression + self.gain:.3f}",
            ),
        ]


def find_replay(events: Iterable[Event]) -> Replay | None:
    """The best replay in one episode's events; None where memory never paid visibly."""
    steps: dict[int, dict[str, Any]] = {}
    operations: list[dict[str, Any]] = []
    episode: dict[str, Any] = {"run": "", "world": "", "seed": 0}
    for table, row in rows(events):
        if table == "steps":
            kept = ("observation", "action", "progression", "gain", "source")
            steps[row["step"]] = {name: row[name] for name in kept}
        elif table == "ops" and row["op"] in _SHOWING and row["status"] == "ok":
            operations.append(row)
        elif table == "episodes":
            episode.update(world=row["world"], seed=row["seed"])
    moments = [{**episode, **op, **steps[op["step"]]} for op in operations if op["step"] in steps]
    paid = [m for m in moments if (m["gain"] or 0) > 0 and m["source"] == CommitSource.MODEL]
    return _best(paid, _common_words((step["action"], 1) for step in steps.values()))


def find_replay_in(runs: Sequence[Path]) -> Replay | None:
    """The best replay among the finished episodes of these runs."""
    if not any(finished_episodes(run) for run in runs):
        return None
    answer = query(runs, _FIND)
    moments = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    counts = query(runs, _COUNT_ACTIONS).rows
    return _best(moments, _common_words((action, count) for action, count in counts))


def _best(moments: Iterable[Mapping[str, Any]], common: set[str]) -> Replay | None:
    found = [scored for moment in moments for scored in _candidates(moment, common)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _candidates(
    moment: Mapping[str, Any], common: set[str]
) -> Iterable[tuple[tuple[float, ...], Replay]]:
    """Lines of one result that the agent wrote in an earlier step and that its action used."""
    named = _words(moment["action"]) - common - _words(moment["argument"] or "")
    files = [part["file"] for part in moment["result_lines"] for _ in part["lines"]]
    texts = moment["result"].split("\n")[: len(files)]
    seen = Counter(word for text in texts for word in _words(text))
    hidden = set() if moment["op"] != "SEARCH" else named - _words(moment["observation"])
    named = {w for w in named if seen[w] <= _FEW_LINES and (w.isdigit() or w in hidden)}
    for text, file, source in zip(texts, files, moment["sources"], strict=False):
        if source is None or source["turn"] < 0 or source["step"] >= moment["step"]:
            continue
        line = text.removeprefix(f"{file}: ") if moment["file"] == "*" else text
        if not named & _words(line):
            continue
        distance = moment["step"] - source["step"]
        score = (
            float(moment["op"] == "SEARCH"),
            -float(max(_FEW_LINES, min(len(files), 9))),
            float(min(distance, _FAR_ENOUGH)),
            -moment["progression"],
            moment["gain"],
        )
        yield score, _replay(moment, line, file, source["step"], len(files))


def _replay(
    moment: Mapping[str, Any], line: str, file: str, written_step: int, lines_shown: int
) -> Replay:
    asked = [moment["op"], moment["file"] or ""]
    asked += ["|", moment["argument"]] if moment["argument"] else []
    same = ("run", "episode", "world", "seed", "observation", "step", "action", "progression",
            "gain")  # fmt: skip
    return Replay(
        **{name: moment[name] for name in same},
        line=line,
        file=file,
        written_step=written_step,
        operation=" ".join(asked),
        lines_shown=lines_shown,
    )


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _common_words(actions: Iterable[tuple[str | None, int]]) -> set[str]:
    """Words of more than half of all actions (`flip`): they name nothing."""
    total, counts = 0, Counter[str]()
    for action, count in actions:
        total += count if action else 0
        counts.update(dict.fromkeys(_words(action or ""), count))
    return {word for word, count in counts.items() if count > total / 2}
