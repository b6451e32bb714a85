"""Which kinds of the structural catalogue help, do nothing or harm, on the embedded game.

    python benchmarks/catalogue.py [--games 50] [--folder runs/catalogue] [KIND ...]

The base plays `--games` decks to be studied (range `train`). Each kind's most promising edit of
what is found there is made to the starting scaffold, and the base plays it in both roles on
`--games` other decks (range `calibrate`, the same for all), beside the starting scaffold.
Differences are paired by deck, with bootstrap intervals; with so many kinds, one interval in twenty
misses 0 by chance, so the table also says what Holm's correction leaves. The catalogue is ordered
by its promises and not by this table. About 40 s a kind on two idle cores; finished games are kept
in the folder.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import msgspec

from automem.agent.scaffold_files import files_digest, read_files, write_files
from automem.commands.plan import spec_from
from automem.config import compose
from automem.loops.experiment import commit
from automem.loops.gate import sign_flip_p
from automem.loops.reviewers.case import case_of
from automem.loops.reviewers.catalogue import offers
from automem.loops.reviewers.constraints import check_revision
from automem.loops.reviewers.edits import Edit, apply
from automem.loops.reviewers.materials import loaded_schema
from automem.loops.stage import Arm, Played, Stage
from automem.rollout.spec import RolloutSpec
from automem.seeds import seeds_from
from automem.trace.statistics import paired_difference

RESULTS = Path(__file__).parent / "results" / "catalogue.json"


def main() -> None:
    """Study, play each kind's edit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="only these; nothing is written")
    parser.add_argument("--games", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path("runs/catalogue"))
    options = parser.parse_args()
    began = time.monotonic()
    spec = spec_from(compose("config", ["experiment=embedded", "rollout.workers=0"]))
    start = read_files(Path(spec.scaffold))
    decks = seeds_from("calibrate", options.games)
    play(spec, options.folder / "study", seeds_from("train", options.games), "study")
    chosen = choose(start, options.folder / "study")
    base = play(spec, options.folder / "start", decks, "start")
    rows = []
    for edit in chosen:
        if options.kinds and edit.kind not in options.kinds:
            continue
        files = apply(edit, start)
        scaffold = options.folder / "scaffolds" / files_digest(files)
        if not scaffold.exists():
            write_files(files, scaffold)
        changed = msgspec.structs.replace(spec, scaffold=str(scaffold))
        played = play(changed, options.folder / edit.kind, decks, edit.label)
        rows.append(row(edit, base, played))
        print(told(rows[-1]), flush=True)
    correct(rows)
    print(table(base, rows))
    if not options.kinds:
        write(base, rows, decks, time.monotonic() - began)


def choose(start: dict[str, str], study: Path) -> list[Edit]:
    """Each kind's most promising edit that breaks no constraint, most promising first."""
    found: dict[str, Edit] = {}
    for edit in offers(case_of(loaded_schema(start), [study])):
        if edit.kind not in found and not check_revision(start, apply(edit, start)):
            found[edit.kind] = edit
    return list(found.values())


def play(spec: RolloutSpec, folder: Path, seeds: list[int], title: str) -> Played:
    """A rollout of the base in both roles; none of its games may be missing."""
    played = Stage(spec, None).play(folder, Arm(), None, seeds, title)
    if len(played.progressions) < len(seeds):
        raise SystemExit(f"{title}: games are pending ({played.reason}); run the same again")
    return played


def row(edit: Edit, base: Played, played: Played) -> dict[str, Any]:
    """What an edit came to."""
    ours, theirs = played.progressions, base.progressions
    found = paired_difference([ours[seed] for seed in theirs], list(theirs.values()))
    gaps = {"": [ours[seed] - theirs[seed] for seed in theirs]}
    losses = {"": [-gap for gap in gaps[""]]}
    two_sided = min(1.0, 2 * min(sign_flip_p(gaps), sign_flip_p(losses)))
    return {
        "kind": edit.kind,
        "edit": edit.title,
        "promise": edit.promise,
        "mean": sum(ours.values()) / len(ours),
        "failed": played.summary["failed"],
        "difference": msgspec.to_builtins(found),
        "p": two_sided,
    }


def correct(rows: list[dict[str, Any]]) -> None:
    """Holm's correction over all kinds, and the verdict at 0.05."""
    worst = 0.0
    for place, found in enumerate(sorted(rows, key=lambda found: found["p"])):
        worst = max(worst, min(1.0, found["p"] * (len(rows) - place)))
        found["p_holm"] = worst
        word = "helps" if found["difference"]["mean"] > 0 else "harms"
        found["verdict"] = word if worst <= 0.05 else "no difference shown"


def told(found: dict[str, Any]) -> str:
    gap = found["difference"]
    low, high = gap["ci95"]
    return f"{found['kind']:>16} {gap['mean']:+.3f} ({low:+.3f} to {high:+.3f})  {found['edit']}"


def table(base: Played, rows: list[dict[str, Any]]) -> str:
    """For people, best first."""
    start = sum(base.progressions.values()) / len(base.progressions)
    lines = [
        f"the starting scaffold: {start:.3f}",
        "| kind | edit | promise | minus start | 95 % interval | p (Holm) | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in sorted(rows, key=lambda found: -found["difference"]["mean"]):
        gap = found["difference"]
        lines.append(
            f"| {found['kind']} | {found['edit']} | {found['promise']:.2f} | {gap['mean']:+.3f} "
            f"| {gap['ci95'][0]:+.3f} to {gap['ci95'][1]:+.3f} | {found['p_holm']:.3f} "
            f"| {found['verdict']} |"
        )
    return "\n".join(lines)


def write(base: Played, rows: list[dict[str, Any]], decks: list[int], seconds: float) -> None:
    data = {
        "commit": commit(),
        "seconds": round(seconds),
        "calibrate_seeds": [decks[0], decks[-1]],
        "start": sum(base.progressions.values()) / len(base.progressions),
        "kinds": rows,
    }
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
