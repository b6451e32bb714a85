"""What the selectors take from real traces, and on Concentration how much of it is right.

Concentration has a truth to compare with: the deck. A write is right where its line names a card
and that card's rank in the file for cards; a consultation where it searches that file for the rank
of the open card; a LOG that writes nothing where the card is matched or stands in the file already;
a PLAN that hands over at once where no card is open. The selectors never see this. Crafter has
none: there the yield is reported.

    python benchmarks/selection.py                      # plays 48 and 10 episodes, then selects
    python benchmarks/selection.py --concentration RUN --crafter RUN
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from automem.trace.query import query
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.ranks import card_name
from automem_envs.concentration.view import read_board
from automem_learners.select.controls import OutcomeSelector, RandomSelector
from automem_learners.select.report import print_report
from automem_learners.select.run import select
from automem_learners.select.selection import TURNS
from automem_learners.select.selector import provenance
from automem_learners.select.thinning import Thinning

CARDS = 40
FILE = "cards.txt"
GAMES = {
    "concentration": ["env=concentration", "rollout.episodes=48",
                      "env.player._target_=automem_envs.concentration.players.SloppyPlayer"],
    "crafter": ["env=crafter", "rollout.episodes=10", "rollout.max_steps=300"],
}  # fmt: skip


def play(name: str, folder: Path) -> Path:
    """A run of scripted episodes on training seeds."""
    run = folder / name
    subprocess.run(
        [sys.executable, "-m", "automem.cli", "rollout", "engine=scripted", "rollout.workers=0",
         "rollout.seeds=train", f"run.dir={run}", *GAMES[name]],
        check=True,
    )  # fmt: skip
    return run


def ranks_of(seed: int) -> dict[str, str]:
    """Card to rank."""
    world = ConcentrationWorld(CARDS)
    world.reset(seed=seed)
    return {card_name(card, CARDS): rank for card, rank in enumerate(world._ranks)}


def is_right(run: Path) -> dict[tuple[str, int, int], bool]:
    """Episode, step and turn to whether the turn was right, for the kinds that have a truth."""
    decks: dict[int, dict[str, str]] = {}
    stands: dict[str, set[str]] = defaultdict(set)
    right: dict[tuple[str, int, int], bool] = {}
    rows = query(
        [run],
        """select t.episode, e.seed, t.step, t.turn, t.routine, s.observation,
                  list({'op': o.op, 'file': o.file, 'argument': o.argument, 'text': o.text}
                       order by o.index) filter (where o.op is not null) as ops
           from turns t join episodes e using (run, episode) join steps s using (run, episode, step)
           left join ops o using (run, episode, step, turn)
           where t.role = 'memory' group by all order by t.episode, t.step, t.turn""",
    ).rows
    for episode, seed, step, turn, routine, observation, ops in rows:
        deck = decks.setdefault(seed, ranks_of(seed))
        board, key = read_board(observation), (episode, step, turn)
        known = stands[episode]
        if routine == "log":
            writes = [op for op in ops or () if op["op"] == "APPEND"]
            lines = [op["text"] for op in writes]
            if writes:
                right[key] = all(
                    op["file"] == FILE and deck.get(op["text"][:2]) == op["text"][3:]
                    for op in writes
                )
                known.update(lines if all(op["file"] == FILE for op in writes) else ())
            elif board.card:
                right[key] = board.event == "match" or f"{board.card} {board.rank}" in known
        elif ops:
            right[key] = bool(board.pending) and all(
                op["op"] == "SEARCH" and op["file"] == FILE and op["argument"] == board.rank
                for op in ops
            )
        elif turn == 0 or not any((episode, step, t) in right for t in range(turn)):
            right[key] = not board.pending
        elif routine == "plan":
            right.setdefault(key, not board.pending)
    return right


def precision(run: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Kind to: turns, share right of all, selected, share right of the selected."""
    right = is_right(run)
    table = pq.read_table(folder / TURNS).to_pylist()
    counts: Counter[tuple[str, str]] = Counter()
    for row in table:
        truth = right.get((row["episode"], row["step"], row["turn"]))
        if truth is None or row["kind"] in ("plan_end", "log_read"):
            continue
        kind = row["kind"]
        counts[kind, "turns"] += 1
        counts[kind, "right"] += truth
        counts[kind, "selected"] += row["is_selected"]
        counts[kind, "selected_right"] += truth and row["is_selected"]
    return {
        kind: {
            "turns": counts[kind, "turns"],
            "base_rate": counts[kind, "right"] / counts[kind, "turns"],
            "selected": counts[kind, "selected"],
            "precision": counts[kind, "selected_right"] / (counts[kind, "selected"] or 1),
        }
        for kind in sorted({kind for kind, _ in counts})
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concentration", type=Path, help="a run that was played")
    parser.add_argument("--crafter", type=Path)
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    options = parser.parse_args()
    console, figures = Console(width=140), {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = options.concentration or play("concentration", folder)
        first = folder / "concentration-provenance"
        for selector in (
            provenance(), OutcomeSelector(), RandomSelector(match=str(first)),
        ):  # fmt: skip
            out = folder / f"concentration-{selector.name}"
            report = select([run], selector, Thinning(), out)
            if selector.name == "provenance":
                print_report(report, console)
            figures[selector.name] = precision(run, out)
            table = Table(title=f"Concentration, {selector.name}: right by the deck")
            for name in ("kind", "turns", "base rate", "selected", "precision"):
                table.add_column(name, justify="right")
            for kind, row in figures[selector.name].items():
                table.add_row(kind, f"{row['turns']}", f"{row['base_rate']:.3f}",
                              f"{row['selected']}", f"{row['precision']:.3f}")  # fmt: skip
            console.print(table)
        crafter = options.crafter or play("crafter", folder)
        report = select([crafter], provenance(), Thinning(), folder / "crafter")
        print_report(report, console)
        figures["crafter"] = {
            kind: {name: row[name] for name in ("turns", "good", "selected")}
            for kind, row in report["kinds"].items()
        }
    if options.out:
        options.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
