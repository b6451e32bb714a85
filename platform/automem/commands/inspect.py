"""`automem report`, `show` and `query`: look at runs that were played."""

from pathlib import Path

from rich.console import Console

from automem.commands.arguments import Parser, run_folder
from automem.commands.table import Row, print_table
from automem.report import write_report
from automem.show import show as show_episode
from automem.trace.query import as_csv, as_json, find_runs, print_answer
from automem.trace.query import query as run_query
from automem.trace.summary import write_summary


def query(argv: list[str]) -> int:
    """SQL over the traces of one run or several."""
    parser = Parser(
        "query",
        "SQL (DuckDB) over finished episodes: episodes, steps, turns, ops, writes, retrievals, "
        "progress, prompts, blobs; `columns` says what theirs mean.",
        [
            'automem query runs/first "select episode, progression, steps from episodes"',
            "automem query runs/first \"select * from ops where status = 'empty'\"",
            "automem query 'runs/*' \"select run, avg(progression) from episodes group by run\"",
            'automem query runs/first "describe steps"',
            'automem query runs/first "select * from turns" --csv > turns.csv',
        ],
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or of a sweep")
    parser.add_argument("sql", metavar="SQL")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all rows, as JSON")
    form.add_argument("--csv", action="store_true", help="all rows, as CSV")
    options = parser.parse_intermixed_args(argv)
    answer = run_query(find_runs(options.runs), options.sql)
    if options.json:
        print(as_json(answer))
    elif options.csv:
        print(as_csv(answer), end="")
    else:
        print_answer(answer, Console())
    return 0


def show(argv: list[str]) -> int:
    """One episode on the terminal."""
    parser = Parser(
        "show",
        "One episode, step by step: observation, model calls, operations, memory diff, answer.",
        [
            "automem show runs/first                          # which episodes there are",
            "automem show runs/first crafter-42-0             # a line for each step",
            "automem show runs/first crafter-42-0 --step 19   # everything about one step",
        ],
    )
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("episode", metavar="EPISODE", nargs="?", help="left out: list them")
    parser.add_argument("--step", type=int, metavar="N", help="one step in full")
    parser.add_argument("--prompts", action="store_true", help="with the text of each prompt")
    options = parser.parse_args(argv)
    run_dir = run_folder(options.run)
    if options.episode is None:
        for name in sorted(path.name for path in (run_dir / "episodes").iterdir() if path.is_dir()):
            print(name)
    else:
        show_episode(run_dir, options.episode, options.step, prompts=options.prompts)
    return 0


def report(argv: list[str]) -> int:
    """`summary.json` and `report.html` again, from the traces."""
    parser = Parser(
        "report",
        "summary.json and report.html again, for one run or for several side by side.",
        [
            "automem report runs/first",
            "automem report runs/first runs/second --out both.html --title 'Two scaffolds'",
            "automem report multirun/20260701-120000-sweep --out sweep.html",
        ],
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or of a sweep")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: in the (first) run")
    parser.add_argument("--title", default="")
    options = parser.parse_args(argv)
    runs = find_runs(options.runs)
    rows = [Row(run.name, write_summary(run)) for run in runs]
    path = write_report(runs, title=options.title, out=options.out)
    print_table(rows)
    print(f"written: {path}")
    return 0
