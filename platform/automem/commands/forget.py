"""`automem forget`: take a fact out of a run, or of everything below a folder, and say what stays.

Exit codes: 0 nothing holds it any more (or it was only looked for); 1 something still does, or
weights were trained on it.
"""

from pathlib import Path

from omegaconf import OmegaConf
from rich import box
from rich.table import Table

from automem.audit.elsewhere import elsewhere
from automem.audit.forget import (
    Forgotten,
    Plan,
    carry_out,
    complete_all,
    look,
    near_mentions,
    owned,
    verify,
)
from automem.audit.needle import Needle, fact_needle, pattern_needle
from automem.cli import FAILED
from automem.commands.arguments import Parser
from automem.commands.gc import is_played
from automem.commands.loop_config import built
from automem.commands.play import shortest
from automem.commands.table import wide_console
from automem.config import compose
from automem.errors import UsageError
from automem.rollout.redactions import unfinished_plan
from automem.rollout.run_dir import RUN_FILE

EXAMPLES = [
    'automem forget RUN "17 horse" --dry-run      # where is it?',
    'automem forget RUN "17 horse"                # 17: horse, 17|Horse and 117 horses, too',
    "automem forget RUN --pattern '\\b17 (shows )?horse\\b'     # a regular expression of Python",
    "automem forget RUN                           # finish one that was killed",
]


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "forget",
        "Remove a fact from journals, tables, memory, datasets, reports and logs below a folder.",
        EXAMPLES,
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run's folder, or any above it")
    parser.add_argument("fact", nargs="?", metavar="FACT", help="one line of text, in any case")
    parser.add_argument("--pattern", metavar="REGEX", help="instead of a fact")
    parser.add_argument("--dry-run", action="store_true", help="say where it is, change nothing")
    options = parser.parse_args(argv)
    folder = options.folder.expanduser().resolve()
    if not folder.is_dir():
        raise UsageError(f"{options.folder}: there is no such folder")
    for place in folder.parents[:4]:
        if is_played(place):
            raise UsageError(f"{place} is being played: stop it with Ctrl-C, or wait for it")
        if (place / RUN_FILE).exists():  # a resume looks for an unfinished forgetting from there up
            raise UsageError(
                f"{shortest(folder)} is part of a run, which can be forgotten in only as a whole: "
                f"automem forget {shortest(place)} ..."
            )
    above = unfinished_plan(folder)
    if above is not None and above != folder:
        raise UsageError(
            f"in {shortest(above)} something was being forgotten when the process died: finish it "
            f"with `automem forget {shortest(above)}`"
        )
    with owned(folder):
        return _forget(folder, options.fact, options.pattern, options.dry_run)


def _forget(folder: Path, fact: str | None, pattern: str | None, is_dry: bool) -> int:
    if not is_dry and complete_all(folder):
        print("a forgetting that was cut short is complete")
        if fact is None and pattern is None:
            return 0
    if (fact is None) == (pattern is None):
        raise UsageError("give a fact, or --pattern; see automem forget --help")
    needle = fact_needle(fact) if fact is not None else pattern_needle(pattern or "")
    config = OmegaConf.to_container(compose("forget", []), resolve=True)
    assert isinstance(config, dict)
    datasets = built(config["datasets"], "datasets")
    plan = look(folder, needle, datasets)
    plan.left += elsewhere(folder, needle, plan.sources)
    if is_dry:
        done = Forgotten(plan.id, plan.time, plan.finds, plan.tainted, plan.left)
        _print(done, plan, folder)
        _hint(folder, needle)
        print("nothing was changed")
        return 0
    done = carry_out(folder, plan)
    _print(done, plan, folder)
    problems = verify(folder, needle, datasets)
    for problem in problems:
        print(problem)
    _hint(folder, needle)
    stays = bool(problems or done.tainted or done.left)
    if stays:
        print(f"of what was searched for {shortest(folder)}, only what is named above holds it")
    else:
        print(f"nothing below {shortest(folder)} holds it in a form that can be searched")
    return FAILED if stays else 0


def _hint(folder: Path, needle: Needle) -> None:
    """What may be the fact in other words is a person's to judge."""
    if mentions := near_mentions(folder, needle):
        some = ", ".join(f"{text!r} ({times})" for text, times in list(mentions.items())[:5])
        print(f"kept, but maybe the same in other words: {some}; see --pattern")


def _print(done: Forgotten, plan: Plan, folder: Path) -> None:
    if not done.finds:
        if not (done.tainted or done.left):
            print("it is nowhere")
    else:
        table = Table(box=box.SIMPLE_HEAD)
        for column in ("where", "what", "times"):
            table.add_column(column, justify="right" if column == "times" else "left")
        for find in done.finds:
            table.add_row(find.path, find.kind, str(find.occurrences))
        wide_console().print(table)
    for path in plan.removes:
        print(f"removed: {path.relative_to(folder)}")
    for each in done.tainted:
        print(f"cannot be undone: {each.sentence()}")
    for place in done.left:
        print(f"not reached: {place}")
