"""One selection, from traces to a folder. Turns stream by twice: once to find the good ones, which
alone are kept in memory (as keys), once from disk to flag them all.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from automem.rollout.redactions import FORGOTTEN
from automem_learners.select.report import Report
from automem_learners.select.selection import TURNS, write_report, write_turns
from automem_learners.select.selector import Selector
from automem_learners.select.thinning import Candidate, Thinning, thin
from automem_learners.select.traces import Traces
from automem_learners.select.verdict import Judged, Kind, TurnKey, Verdict

_DRAFT = ".draft"


def select(
    runs: Sequence[Path],
    selector: Selector,
    thinning: Thinning,
    folder: Path,
    config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Judge every turn of these runs, thin, write the folder; the report. An empty selection is
    written too, and its report says why it is empty: `read_selection` refuses it."""
    draft = folder / _DRAFT
    candidates: list[Candidate] = []
    with Traces(runs, selector.settings) as traces:
        folders = {name: str(path.resolve()) for name, path in traces.runs.items()}
        cuts = _cuts(traces, thinning.episode_share)
        write_turns(draft, _judged(traces, selector, folders, cuts, candidates))
    if not selector.is_thinned:
        thinning = msgspec.structs.replace(thinning, per_episode=0, per_cluster=0, balance=0.0)
    left_out = thin(candidates, thinning)
    report = Report(selector.name, folders, config or {})
    write_turns(folder, _final(draft, left_out, report))
    (draft / TURNS).unlink()
    draft.rmdir()
    finished = report.finish(selector.notes)
    write_report(folder, finished)
    return finished


def _cuts(traces: Traces, share: float) -> dict[str, float]:
    """The progression from which an episode of each world is among the best."""
    if share >= 1:
        return {}
    return dict(traces.rows(
        f"select world, quantile_disc(progression, {1 - share!r}) from episodes group by world"
    ))  # fmt: skip


def _judged(
    traces: Traces,
    selector: Selector,
    folders: dict[str, str],
    cuts: dict[str, float],
    candidates: list[Candidate],
) -> Iterator[Judged]:
    for turn, verdict in selector.judge(traces):
        if traces.is_forgotten(turn.key):
            verdict = Verdict(False, FORGOTTEN, value=0.0)
        if verdict.is_good and turn.episode_progression < cuts.get(turn.world, -math.inf):
            verdict = Verdict(False, "its episode is not among the best", value=verdict.value)
        key = msgspec.structs.replace(turn.key, run=folders[turn.key.run])
        form = turn.form
        if verdict.is_good:
            candidates.append(Candidate(key, turn.kind, form))
        yield Judged(key, turn.world, turn.seed, turn.kind, turn.tokens, form, verdict)


def _final(draft: Path, left_out: dict[TurnKey, str], report: Report) -> Iterator[Judged]:
    for batch in pq.ParquetFile(draft / TURNS).iter_batches():
        for row in batch.to_pylist():
            key = TurnKey(row["run"], row["episode"], row["step"], row["turn"])
            is_selected = row["is_good"] and key not in left_out
            reason = row["reason"] if is_selected else left_out.get(key, row["reason"])
            judged = Judged(
                key,
                row["world"],
                row["seed"],
                Kind(row["kind"]),
                row["tokens"],
                row["form"],
                Verdict(row["is_good"], reason, row["detail"] or "", row["value"]),
                is_selected,
                1.0 if is_selected else 0.0,
            )
            report.add(judged)
            yield judged
