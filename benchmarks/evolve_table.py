"""Structure loops side by side, as a table for `benchmarks/results/`: what a reviewer's revisions
came to, against the control that tries the same catalogue in random order.

    automem evolve experiment=embedded run.dir=A
    automem evolve experiment=embedded reviewer=random_order run.dir=B
    automem finalize A; automem finalize B
    python benchmarks/evolve_table.py A B --out benchmarks/results/evolve_embedded

Readings of the final seeds stand below a loop's table, where there was one.
"""

import argparse
import json
import subprocess
from pathlib import Path

import msgspec

from automem.loops.evolve_final import LOOKS, Look
from automem.loops.evolve_results import RESULTS, NodeResult, Results, results_of
from automem.loops.evolve_tree import sentence, spread
from automem.loops.lineage import Lineage
from automem.loops.records import Records

COLUMNS = ("node", "from", "revision", "race", "confirmation", "p", "verdict")


def read(folder: Path) -> Results:
    """A finished loop's results; of one that was stopped, what its lineage says."""
    path = folder / RESULTS
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Results)
    return results_of(Lineage(folder), "", 0.0)


def line(node: NodeResult, champion: str) -> str:
    """A node as a row."""
    name = f"{node.id} *" if node.id == champion else node.id
    p = "" if node.p is None else f"{node.p:.4f}"
    title = node.title or node.version
    cells = (name, node.parent, title, spread(node.race), spread(node.confirm), p, node.verdict)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def final_look(folder: Path) -> Look | None:
    """The finished reading of a loop's champion on final seeds."""
    looks = Records(folder.parent / LOOKS, Look).all()
    mine = [look for look in looks if look.run == folder.name and look.difference is not None]
    return mine[-1] if mine else None


def told(look: Look | None) -> str:
    """A reading as a line."""
    if look is None or look.reached is None or look.difference is None:
        return "The final seeds were not read."
    start, champion = look.reached
    (low, high) = look.difference.ci95 or (0.0, 0.0)
    return (
        f"Final seeds ({look.games} decks that nothing was decided on, look {look.number}): start "
        f"{start.mean or 0:.3f}, champion {champion.mean or 0:.3f}, "
        f"difference {look.difference.mean or 0:+.3f} ({low:+.3f} to {high:+.3f})."
    )


def table(results: Results, state: str, final: Look | None) -> str:
    """A loop for people."""
    head = f"## {results.reviewer}{state}"
    rows = [line(node, results.champion) for node in results.nodes]
    lapsed = [f"\nNo revision: {reason}." for reason in results.lapsed]
    columns = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS))]
    return "\n".join([head, "", *columns, *rows, *lapsed, "", sentence(results), "", told(final)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.md")
    parser.add_argument("--note", default="", help="how it was played, a sentence")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    parts, figures = [f"# Structure loops side by side\n\n{options.note}".strip()], []
    for run in options.runs:
        results = read(run)
        is_whole = (run / RESULTS).exists()
        final = final_look(run.resolve())
        parts.append(table(results, "" if is_whole else " (stopped before its end)", final))
        figures.append(
            {
                "is_whole": is_whole,
                **msgspec.to_builtins(results),
                "final": msgspec.to_builtins(final),
            }
        )
    text = "\n\n".join(parts) + "\n"
    print(text)
    if options.out:
        options.out.with_suffix(".md").write_text(text)
        found = {"commit": commit, "note": options.note, "loops": figures}
        options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
