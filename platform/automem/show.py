"""`automem show`: one episode on the terminal, in colour, from its journal.

Without a step a timeline, one line per step; with one everything that the step was: observation,
each model call with its operations and their results, the memory diff, the action and the world's
answer. Reads finished and unfinished episodes alike. Texts of models and worlds are printed as
they are: never as markup, and without the control characters that would move the cursor.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from automem.errors import UsageError
from automem.memory.ops import READING, Op, OpStatus
from automem.rollout.chain import iter_events
from automem.suggest import no_such
from automem.trace.credit import Retrieval
from automem.trace.events import TOOL_CAUSE, CommitSource, StopReason
from automem.trace.provenance import Change
from automem.trace.story import DoneOp, Told, ToldStep, ToldTurn, tell

_STATUS_STYLE = {
    OpStatus.OK: "green",
    OpStatus.EMPTY: "yellow",
    OpStatus.UNCHANGED: "yellow",
    OpStatus.ERROR: "red",
}
_STOP_STYLE = {StopReason.SOLVED: "green", StopReason.PLAYER_FAILED: "red"}
_LINE_CHARS = 160
"""Of an observation or action in the timeline."""
_LISTED_EPISODES = 12
"""Where a run has more, an error names the first and the last."""


def show(
    run_dir: Path,
    episode: str,
    step: int | None = None,
    *,
    prompts: bool = False,
    console: Console | None = None,
) -> None:
    """Print an episode of a run, or one step of it; `prompts` adds the full text of each prompt.
    UsageError where there is no such run, episode or step."""
    console = console or Console()
    told = tell(iter_events(find_episode(run_dir, episode)))
    if told.started is None:
        raise UsageError(
            f"{episode} has not begun: its journal is empty; `automem resume` plays it"
        )
    _print_head(told, console)
    if step is None:
        _print_timeline(told, console)
        console.print(
            Text(f"\none step in full: automem show {run_dir} {episode} --step N", style="dim")
        )
    else:
        _print_step(_step_of(told, step), prompts, console)


def find_episode(run_dir: Path, episode: str) -> Path:
    """The folder of an episode; UsageError names the nearest ones."""
    folder = run_dir / "episodes"
    if not folder.is_dir():
        raise UsageError(f"{run_dir} is no run: it has no folder `episodes`")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if episode in names:
        return folder / episode
    if len(names) > _LISTED_EPISODES:
        close = no_such("episode", episode, names).partition(" There are: ")[0]
        raise UsageError(f"{close} {run_dir} has {len(names)}, {names[0]} to {names[-1]}")
    raise UsageError(no_such("episode", episode, names))


def _step_of(told: Told, step: int) -> ToldStep:
    for told_step in told.steps:
        if told_step.step == step:
            return told_step
    if not told.steps:
        raise UsageError("the episode has no steps: it ended before its world was ready")
    last = told.steps[-1].step
    raise UsageError(f"no step {step}: the episode has steps 0 to {last}")


def _print_head(told: Told, console: Console) -> None:
    started, ended = told.started, told.ended
    assert started is not None
    line = Text.assemble(
        (started.episode, "bold"), f"  {started.world}, seed {started.seed}  ",
        (f"policy {_plain(started.policy)}", "dim"),
    )  # fmt: skip
    console.print(line)
    if ended is not None:
        detail = f" ({_plain(ended.detail)})" if ended.detail not in ("", ended.stop) else ""
        style = _STOP_STYLE.get(ended.stop, "")
        reached = f"progression {ended.progression:.3f} after {ended.steps} actions, "
        console.print(Text(f"{reached}{ended.stop}{detail}", style=style))
    else:
        at = told.steps[-1].observed.outcome.progression if told.steps else 0.0
        reached = f"not finished: {len(told.steps)} steps begun, progression {at:.3f}"
        console.print(Text(reached, style="yellow"))
    for failure in told.early_failures:
        _print_failure(failure.boundary, failure.error, console)
    console.print()


def _print_timeline(told: Told, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    table.add_column("step", justify="right", no_wrap=True)
    table.add_column("progress", justify="right", no_wrap=True)
    for name in ("action", "operations", "memory"):
        table.add_column(name, no_wrap=True)
    table.add_column("seen", no_wrap=True, overflow="ellipsis", ratio=1)
    for step in told.steps:
        value = Text(f"{step.observed.outcome.progression:.3f}", style="dim")
        if step.gain > 0:
            value = Text(
                f"{step.observed.outcome.progression + step.gain:.3f} ↑", style="bold green"
            )
        table.add_row(
            str(step.step),
            value,
            _action(step, told.ended is not None),
            _op_counts(step.ops),
            _memory_change(step),
            Text(_one_line(step.observation), style="" if step.observed.changed else "dim"),
        )
    console.print(table)


def _action(step: ToldStep, is_over: bool) -> Text:
    if step.committed is None:
        return Text("(the end)" if is_over else "…", style="dim")
    text = Text(_one_line(step.committed.action, 28))
    if step.committed.source is not CommitSource.MODEL:
        text.append(f" ({step.committed.source})", style="yellow")
    if step.answer is not None and step.answer.outcome.invalid_action:
        text.append(" invalid", style="red")
    return text


def _op_counts(ops: list[DoneOp]) -> Text:
    counts = Counter((op.event.op.name, op.event.result.status) for op in ops)
    text = Text()
    for (name, status), count in counts.items():
        times = f"×{count}" if count > 1 else ""
        text.append(f"{name.lower()}{times} ", style=_STATUS_STYLE[status])
    return text


def _memory_change(step: ToldStep) -> Text:
    added = sum(len(change.written) for change in step.changes)
    removed = sum(len(change.removed) for change in step.changes)
    text = Text()
    if added:
        text.append(f"+{added} ", style="green")
    if removed:
        text.append(f"-{removed} ", style="red")
    return text.append(f"{step.memory_lines}", style="dim")


def _print_step(step: ToldStep, prompts: bool, console: Console) -> None:
    console.rule(Text(f"step {step.step}", style="bold"), align="left", style="dim")
    same = "" if step.observed.changed else "  (as before)"
    _print_titled("observation" + same, Text(_clean(step.observation)), console)
    if step.gated is not None:
        said = f"gate {step.gated.by}: log {step.gated.log}, consult {step.gated.consult}"
        console.print(said, style="magenta", markup=False)
    for cause, change in step.own_changes:
        who = "a caller" if cause == TOOL_CAUSE else "the scaffold"
        console.print(f"{who} changed memory: {cause}", style="magenta", markup=False)
        _print_change(change, console)
    for turn in step.turns:
        _print_turn(turn, prompts, console, step.retrievals)
    if step.changes:
        console.print(Text("memory diff", style="bold"))
        for change in step.changes:
            _print_change(change, console)
        console.print(
            Text(f"  now {step.memory_files} files, {step.memory_lines} lines, "
                 f"{step.memory_bytes} bytes\n", style="dim")
        )  # fmt: skip
    _print_outcome(step, console)
    for failure in step.failures:
        _print_failure(failure.boundary, failure.error, console)


def _print_turn(
    turn: ToldTurn, prompts: bool, console: Console, retrievals: Sequence[Retrieval]
) -> None:
    event = turn.event
    used = f"{event.prompt_tokens} + {event.completion_tokens} tokens"
    adapter = f", adapter {_plain(event.adapter)}" if event.adapter else ""
    forced = ", only a commit is accepted" if event.forced else ""
    console.print(
        Text.assemble(
            (f"{event.routine.value.upper()}", "bold cyan"), f" turn {event.turn}, ",
            (f"{event.role} role", "cyan"),
            (f"  {used}, {event.seconds:.2f} s{adapter}{forced}", "dim"),
        )
    )  # fmt: skip
    if prompts:
        for role, text in turn.prompt:
            _print_titled(role, Text(_clean(text), style="dim"), console)
    _print_indented(Text(_clean(turn.completion) or "(nothing)"), 2, console)
    for call in event.tool_calls:
        _print_indented(Text(_clean(f"{call.get('name')}({call.get('arguments')})")), 2, console)
    for message in event.malformed:
        _print_indented(Text(f"malformed: {_clean(message)}", style="red"), 4, console)
    ours = {found.index: found for found in retrievals if found.turn == event.turn}
    if -1 in ours:
        _print_uses(ours[-1], f"the prompt shows {ours[-1].file}", console)
    for op in turn.ops:
        _print_op(op, console)
        if op.event.index in ours:
            _print_uses(ours[op.event.index], "", console)
    console.print()


def _print_op(op: DoneOp, console: Console) -> None:
    result, is_reading = op.event.result, op.event.op.name in READING
    line = Text.assemble(
        (spell(op.event.op), "blue" if is_reading else "magenta"),
        ("  → ", "dim"),
        (result.status.value, _STATUS_STYLE[result.status]),
    )
    _print_indented(line, 4, console)
    if is_reading or result.status is OpStatus.ERROR:
        _print_indented(Text(_clean(result.text)), 6, console)


def _print_uses(found: Retrieval, title: str, console: Console) -> None:
    """Who wrote the lines, and which of them the action used."""
    steps = sorted({writer.step for _, writer in found.writers if writer.turn >= 0})
    if title or steps:
        named = f"written in step {', '.join(map(str, steps))}" if steps else "not yet written to"
        _print_indented(Text(", ".join(filter(None, [title, named])), style="dim"), 6, console)
    for place in found.used:
        writer = found.writers[place][1]
        note = f"used: {_one_line(found.lines[place])}  (step {writer.step})"
        _print_indented(Text(note, style="green"), 6, console)


def spell(op: Op) -> str:
    """An operation on one line: `SEARCH cards.txt | K`."""
    values = [str(getattr(op, name)) for name in op.__struct_fields__]
    return _one_line(" ".join([op.name, " | ".join(values)]), 200)


def _print_change(change: Change, console: Console) -> None:
    console.print(Text(f"  {change.file}", style="bold"))
    for line in change.removed:
        console.print(Text(f"  - {_clean(line)}", style="red"))
    for line in change.written:
        console.print(Text(f"  + {_clean(line)}", style="green"))
    if not change.removed and not change.written:
        console.print(Text("  (empty file made or removed)", style="dim"))


def _print_outcome(step: ToldStep, console: Console) -> None:
    if step.committed is None:
        console.print(Text("no action in this step", style="dim"))
        return
    source = step.committed.source
    note = "" if source is CommitSource.MODEL else f"  ({source})"
    console.print(
        Text.assemble(("action  ", "bold"), _clean(step.committed.action), (note, "yellow"))
    )
    if step.answer is None:
        console.print(Text("the world has not answered yet", style="yellow"))
        return
    outcome = step.answer.outcome
    facts = [f"reward {outcome.reward:g}", f"progression {outcome.progression:.3f}"]
    if step.gain:
        facts[-1] += f" ({step.gain:+.3f})"
    facts += ["invalid action"] * outcome.invalid_action
    facts += ["nothing changed"] * (not step.answer.changed)
    facts += ["the end"] * outcome.is_final
    style = "red" if outcome.invalid_action else "bold green" if step.gain > 0 else ""
    console.print(Text.assemble(("world   ", "bold"), (", ".join(facts), style)))


def _print_failure(boundary: str, error: str, console: Console) -> None:
    console.print(Text(f"failed at {boundary}: {_clean(error)}", style="bold red"))


def _print_indented(body: Text, by: int, console: Console, after: int = 0) -> None:
    console.print(Padding(body, (0, 0, after, by), expand=False))


def _print_titled(title: str, body: Text, console: Console) -> None:
    console.print(Text(title, style="bold"))
    _print_indented(body, 2, console, after=1)


def _clean(text: str) -> str:
    """Without control characters other than newline and tab."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def _plain(text: str) -> str:
    return _one_line(text, 120)


def _one_line(text: str, limit: int = _LINE_CHARS) -> str:
    flat = " · ".join(part.strip() for part in _clean(text).splitlines() if part.strip())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
