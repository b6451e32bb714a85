"""The selection report: what was taken, what was not and why, and whether that teaches anything.

Fragmentation: failures that are spread over many forms, each seen once, are no pattern that
training or a filter could pick up (a filter learned from 785,797 rejections stayed empty for that
reason); so the report counts their forms, and says so where what was *selected* is scattered like
that, or empty.
"""

from collections import Counter
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from automem_learners.select.verdict import Judged, Kind

TOP_FORMS = 5
FEW = 20
"""Fewer selected turns teach little."""
SCATTERED = 0.5
"""A share of singletons among the selected forms' turns above which nothing repeats."""
_LISTED = 100
_DUPLICATES = frozenset({"enough of its kind from its episode", "enough of its form",
                         "enough of its kind"})  # fmt: skip


class Report:
    """Counts of one selection, added turn by turn."""

    def __init__(self, selector: str, runs: dict[str, str], config: dict[str, Any]) -> None:
        self._head = {"selector": selector, "runs": runs, "config": config}
        self._turns: Counter[Kind] = Counter()
        self._good: Counter[Kind] = Counter()
        self._selected: Counter[Kind] = Counter()
        self._tokens: Counter[Kind] = Counter()
        self._why: Counter[tuple[Kind, str]] = Counter()
        self._rejected: Counter[tuple[Kind, str]] = Counter()
        self._episodes: Counter[str] = Counter()
        self._seeds: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._forms: Counter[str] = Counter()

    def add(self, judged: Judged) -> None:
        """One turn, with all that was decided about it."""
        kind, verdict = judged.kind, judged.verdict
        self._turns[kind] += 1
        self._good[kind] += verdict.is_good
        if judged.is_selected:
            self._selected[kind] += 1
            self._tokens[kind] += judged.tokens
            self._why[kind, verdict.reason] += 1
            self._episodes[judged.key.episode] += 1
            self._seeds[f"{judged.world} {judged.seed}"] += 1
            self._forms[judged.form] += 1
        else:
            self._rejected[kind, verdict.reason] += 1
            if verdict.reason not in _DUPLICATES and not verdict.is_good:
                self._failures[judged.form] += 1

    @property
    def selected(self) -> int:
        return self._selected.total()

    def finish(self, notes: dict[str, str]) -> dict[str, Any]:
        """`report.json`."""
        return {
            **self._head,
            "turns": self._turns.total(),
            "good": self._good.total(),
            "selected": self.selected,
            "tokens": self._tokens.total(),
            "verdict": self._verdict(),
            "notes": notes,
            "kinds": {
                kind.value: {
                    "turns": count,
                    "good": self._good[kind],
                    "selected": self._selected[kind],
                    "tokens": self._tokens[kind],
                    "why": _of(self._why, kind),
                    "rejected": _of(self._rejected, kind),
                }
                for kind, count in sorted(self._turns.items())
            },
            "episodes": dict(self._episodes.most_common(_LISTED)),
            "episodes_with_any": len(self._episodes),
            "seeds": dict(self._seeds.most_common(_LISTED)),
            "seeds_with_any": len(self._seeds),
            "fragmentation": {
                "failures": fragmentation(self._failures),
                "selected": fragmentation(self._forms),
            },
        }

    def _verdict(self) -> str:
        """Whether a model could learn something from it, in a sentence."""
        if not self._turns:
            return (
                "the traces hold no turn of the memory role: play with two roles and memory files"
            )
        if not self.selected:
            causes = Counter[str]()
            for (_, reason), count in self._rejected.items():
                causes[reason] += count
            most = "; ".join(f"{reason} ({count})" for reason, count in causes.most_common(3))
            return f"nothing was selected of {self._turns.total()} turns: {most}"
        spread = fragmentation(self._forms)
        if self.selected < FEW:
            return f"only {self.selected} turns: too few to learn from; collect more episodes"
        if spread["singleton_share"] > SCATTERED:
            return (
                f"scattered: {spread['singletons']} of {self.selected} selected turns have a form "
                "of their own, so little repeats that could be learned"
            )
        missing = [k for k in (Kind.WRITE, Kind.CONSULT) if self._turns[k] and not self._good[k]]
        if missing:
            names = " and no ".join(missing)
            return f"no {names} was good: what is left teaches to do less, not to do better"
        return f"{self.selected} turns of {len(self._selected)} kinds, {len(self._forms)} forms"


def fragmentation(forms: Counter[str]) -> dict[str, Any]:
    """How turns spread over forms: distinct ones, the share that is alone in its form, and the mass
    that the top forms cover."""
    total = forms.total()
    singletons = sum(1 for count in forms.values() if count == 1)
    top = forms.most_common(TOP_FORMS)
    return {
        "turns": total,
        "forms": len(forms),
        "singletons": singletons,
        "singleton_share": singletons / total if total else 0.0,
        "top_mass": sum(count for _, count in top) / total if total else 0.0,
        "top": dict(top),
    }


def print_report(report: dict[str, Any], console: Console) -> None:
    """The report for people: a table of kinds, why turns fell out, how failures spread."""
    table = Table(box=box.SIMPLE_HEAD, title=f"selection by {report['selector']}",
                  title_justify="left")  # fmt: skip
    table.add_column("kind")
    for name in ("turns", "good", "selected", "tokens"):
        table.add_column(name, justify="right")
    table.add_column("most turned down because")
    for kind, row in report["kinds"].items():
        reasons = list(row["rejected"].items())[:2]
        told = "; ".join(f"{reason} ({count})" for reason, count in reasons)
        counts = (f"{row[name]:,}" for name in ("turns", "good", "selected", "tokens"))
        table.add_row(kind, *counts, told)
    counts = (f"{report[name]:,}" for name in ("turns", "good", "selected", "tokens"))
    table.add_section()
    table.add_row("all", *counts, "")
    console.print(table)
    for name, note in report["notes"].items():
        console.print(f"{name}: {note}", style="dim", markup=False, highlight=False)
    for name, spread in report["fragmentation"].items():
        console.print(
            f"{name}: {spread['turns']:,} turns in {spread['forms']:,} forms, "
            f"{spread['singleton_share']:.0%} alone in theirs, the top {TOP_FORMS} cover "
            f"{spread['top_mass']:.0%}",
            markup=False,
            highlight=False,
        )
    console.print(
        f"from {report['episodes_with_any']} episodes, {report['seeds_with_any']} seeds: "
        f"{report['verdict']}",
        markup=False,
        highlight=False,
    )


def _of(counts: Counter[tuple[Kind, str]], kind: Kind) -> dict[str, int]:
    return {reason: count for (k, reason), count in counts.most_common() if k is kind}
