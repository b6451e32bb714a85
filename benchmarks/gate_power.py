"""The gate over whole structure loops: how often it errs, and what it sees.

10,000 loops of the published plan (5 revisions of 3 attempts and a continuation, racing on 8, 16
and 32 seeds, K confirmations of 64) with scores drawn from recorded games. Without any true effect
the share of loops that accept anything must be at most 0.10 + 3 standard errors; with one, the
power curve says how often a better contender is found. Recorded scores are those of the embedded
game's base and specialist (`gate_scores.json`); "solved or not" is a made distribution (30 % ones),
the roughest there is.

    python benchmarks/gate_power.py                        # about a minute
    python benchmarks/gate_power.py --runs 1000 --flips 999
    python benchmarks/gate_power.py --record RUN...        # take scores from runs anew
"""

import argparse
import json
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from automem.loops.evolve_plan import Plan
from automem.loops.evolve_power import Players, Rates, simulate
from automem.loops.gate import Rule
from automem.loops.ledger import LEDGER, Compared, Ledger

HERE = Path(__file__).resolve().parent / "results"
SCORES = HERE / "gate_scores.json"
GAINS = (0.02, 0.04, 0.06, 0.08, 0.10, 0.15)
PLANS = {
    "published": {},
    "embedded": {"revisions": 3, "rule": {"confirmations": 3, "pairs": 48, "race": (16,)}},
    "one at a time": {"at_once": 1},
}


def record(runs: list[Path]) -> dict[str, list[float]]:
    """Progressions by base and specialist from the first rounds of proficiency runs, in which the
    base is the champion."""
    scores: dict[str, list[float]] = {"base": [], "specialist": []}
    for run in runs:
        for path in sorted(run.glob(f"**/{LEDGER}")):
            for entry in Ledger(path.parent).entries():
                if entry.round == 1 and isinstance(entry.what, Compared):
                    scores["specialist"] += [ours for _, ours, _ in entry.what.pairs]
                    scores["base"] += [theirs for _, _, theirs in entry.what.pairs]
    return {name: [round(value, 4) for value in found] for name, found in scores.items()}


def plan_of(name: str, flips: int) -> Plan:
    """A plan by name; the rule's flips are fewer than the gate's own, which costs nothing but the
    last digits of p."""
    fields = dict(PLANS[name])
    rule = Rule(
        **{"confirmations": 10, "minimum_gain": 0.02, **fields.pop("rule", {}), "flips": flips}
    )
    return Plan(rule=rule, **fields)


def bound(rates: Rates, alpha: float) -> float:
    """alpha + 3 standard errors."""
    return alpha + 3 * (alpha * (1 - alpha) / rates.runs) ** 0.5


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000, help="loops without effect")
    parser.add_argument("--power-runs", type=int, default=500, help="loops for each point")
    parser.add_argument("--flips", type=int, default=9_999)
    parser.add_argument("--record", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    options = parser.parse_args()
    if options.record:
        SCORES.write_text(json.dumps(record(options.record)) + "\n")
    began, console = time.monotonic(), Console(width=120)
    scores = json.loads(SCORES.read_text())
    pools = {**scores, "solved or not": [0.0] * 7 + [1.0] * 3}
    figures: dict = {"runs": options.runs, "flips": options.flips, "null": {}, "power": {}}

    table = Table(title=f"No true effect, {options.runs} loops: share that accepts anything")
    for column in ("plan", "scores", "accepted", "allowed", "confirmations", "raced out"):
        table.add_column(column, justify="right")
    errs = False
    for name in PLANS:
        for pool, values in pools.items():
            rates = simulate(
                plan_of(name, options.flips), Players(champion=values), options.runs, 1
            )
            allowed = bound(rates, 0.10)
            errs |= rates.accepted > allowed
            figures["null"][f"{name}, {pool}"] = {
                **msgspec.structs.asdict(rates),
                "allowed": allowed,
            }
            table.add_row(name, pool, f"{rates.accepted:.4f}", f"{allowed:.4f}",
                          f"{rates.confirmations:.2f}", f"{rates.raced_out:.2f}")  # fmt: skip
    console.print(table)

    table = Table(
        title=f"Power, {options.power_runs} loops a point: a better contender is accepted"
    )
    for column in ("plan", "better", *(f"+{gain:.2f}" for gain in GAINS)):
        table.add_column(column, justify="right")
    reach = sum(scores["specialist"]) / len(scores["specialist"])
    reach -= sum(scores["base"]) / len(scores["base"])
    for name in PLANS:
        for who, is_only_one in (("every attempt", False), ("the first attempt only", True)):
            row = []
            for gain in GAINS:
                players = Players(champion=scores["base"], better=scores["specialist"],
                                  share=gain / reach, is_only_one=is_only_one)  # fmt: skip
                rates = simulate(plan_of(name, options.flips), players, options.power_runs, 2)
                row.append(rates.better)
            figures["power"][f"{name}, {who}"] = dict(zip(map(str, GAINS), row, strict=True))
            table.add_row(name, who, *(f"{value:.2f}" for value in row))
    console.print(table)
    figures["seconds"] = round(time.monotonic() - began, 1)
    console.print(f"{figures['seconds']} s")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")
    if errs:
        console.print("the gate errs more often than declared", style="red")
    return int(errs)


if __name__ == "__main__":
    sys.exit(main())
