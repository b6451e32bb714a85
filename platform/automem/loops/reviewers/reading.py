"""Episodes read: which there are, their steps in full, their memory at a step.

Promise: what a page needs is read and no more, so the last step of 100,000 is as near as the first;
memory at a step is folded from the edits before it, exactly. Not covered: unfinished episodes.
"""

import difflib
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow.parquet as pq

from automem.errors import UsageError
from automem.loops.reviewers.asking import quoted
from automem.loops.reviewers.episodes import Episodes, Place
from automem.loops.reviewers.pages import page
from automem.memory.edits import apply_edit
from automem.memory.ops import Edit
from automem.trace.query import query

_STEPS_AT_ONCE = 40


def list_episodes(episodes: Episodes, cursor: str) -> str:
    """A line for each, worst progression first."""
    if not episodes.by_name:
        return "(no complete episode)"
    rows = query(episodes.runs, _LIST).rows

    def items(start: int) -> Iterator[tuple[int, str]]:
        for number, (run, episode, *values) in enumerate(rows[start:], start):
            world, seed, progression, steps, stop, failed, lines = values
            name, why = episodes.name_of(run, episode), " (player failed)" if failed else ""
            told = f"{name}  {world}, seed {seed}  progression {progression:.3f}  {steps} steps, "
            yield number, f"{told}{stop}{why}, {lines} lines of memory"

    return page(items, cursor)


_LIST = """
select run, episode, world, seed, progression, steps, stop, failed, memory_lines from episodes
order by progression, run, episode
"""


def read_steps(place: Place, first: int, last: int, prompts: bool, cursor: str) -> str:
    """Steps in full, one item each."""
    if first < 0 or last < first:
        raise UsageError(f"expected 0 <= first <= last, got {first} and {last}")

    def items(start: int) -> Iterator[tuple[int, str]]:
        for begin in range(max(start, first), last + 1, _STEPS_AT_ONCE):
            end = min(last, begin + _STEPS_AT_ONCE - 1)
            told = list(_steps(place, begin, end, prompts))
            yield from told
            if not told:
                return

    return page(items, cursor, first)


def _steps(place: Place, first: int, last: int, prompts: bool) -> Iterator[tuple[int, str]]:
    limits = f"episode = {quoted(place.episode)} and step between {first} and {last}"
    steps = _rows(place, f"select * from steps where {limits} order by step")
    turns = _by_step(
        _rows(
            place,
            "select step, turn, routine, role, adapter, completion, malformed, tokens_in, "
            f"tokens_out from turns where {limits} order by step, turn",
        )
    )
    ops = _by_step(
        _rows(
            place,
            'select step, turn, "index", op, cause, file, argument, text, status, result from ops '
            f'where {limits} order by step, turn, "index"',
        )
    )
    said = _by_step(
        _rows(
            place,
            f"select step, turn, routine, role, text from prompts where {limits} "
            "order by step, turn, message",
        )
        if prompts
        else []
    )
    for step in steps:
        number = step["step"]
        yield (
            number,
            _tell(step, turns.get(number, []), ops.get(number, []), said.get(number, [])),
        )


def _tell(
    step: dict[str, Any],
    turns: list[dict[str, Any]],
    ops: list[dict[str, Any]],
    prompts: list[dict[str, Any]],
) -> str:
    same = "" if step["changed"] else " (as before)"
    lines = [f"== step {step['step']}, progression {step['progression']:.3f}"]
    lines += [f"observation{same}:", step["observation"]]
    lines += [_op_line(op) for op in ops if op["turn"] < 0]
    opened: set[str] = set()
    for turn in turns:
        if turn["routine"] not in opened:
            opened.add(turn["routine"])
            lines += [
                f"[prompt, {said['role']}]\n{said['text']}"
                for said in prompts
                if said["turn"] == turn["turn"]
            ]
        lines.append(f"-- {turn['routine'].upper()} turn {turn['turn']}, {turn['role']} role:")
        lines.append(turn["completion"] or "(nothing)")
        lines += [f"   malformed: {message}" for message in turn["malformed"] or []]
        lines += [_op_line(op) for op in ops if op["turn"] == turn["turn"]]
    lines.append(_outcome(step))
    return "\n".join(lines)


def _op_line(op: dict[str, Any]) -> str:
    if op["turn"] < 0:
        return f"   the scaffold changed {op['file']}: {op['cause']}"
    asked = " | ".join(str(op[key]) for key in ("file", "argument", "text") if op[key] is not None)
    answer = (op["result"] or "").replace("\n", "\n      ")
    return f"   {op['op']} {asked} -> {op['status']}: {answer}"


def _outcome(step: dict[str, Any]) -> str:
    if step["action"] is None:
        return "no action: the end"
    facts = [f"gain {step['gain']:+.3f}"] if step["gain"] is not None else ["no answer yet"]
    facts += ["invalid"] if step["invalid_action"] else []
    facts += ["nothing changed"] if step["unproductive"] and not step["invalid_action"] else []
    facts += [step["source"]] if step["source"] != "model" else []
    return f"action: {step['action']} ({', '.join(facts)})"


def diff_memory(place: Place, step: int, since: int | None, file: str, cursor: str) -> str:
    """Files at the end of `step`, or their diff since the end of step `since`."""
    if since is not None and since >= step:
        raise UsageError(f"`since` must be an earlier step than {step}, got {since}")
    before, after = _memory_at(place, (step if since is None else since, step))
    names = sorted({*before, *after})
    if file:
        if file not in names:
            raise UsageError(f"no file {file!r} in memory then; there are {', '.join(names)}")
        names = [file]
    lines: list[str] = []
    for name in names:
        if since is None:
            text = after.get(name, "")
            lines += [f"== {name}", *(text.splitlines() or ["(empty)"])]
        else:
            lines += difflib.unified_diff(
                before.get(name, "").splitlines(),
                after.get(name, "").splitlines(),
                f"{name} after step {since}" if name in before else f"{name} (not there)",
                f"{name} after step {step}" if name in after else f"{name} (removed)",
                n=1,
                lineterm="",
            )

    def items(start: int) -> Iterator[tuple[int, str]]:
        yield from enumerate(lines[start:], start)

    return page(items, cursor)


def _memory_at(place: Place, steps: tuple[int, int]) -> list[dict[str, str]]:
    """The files at the end of each of two steps, the earlier one first."""
    files: dict[str, str] = {}
    found: list[dict[str, str]] = []
    # The file's own order is that of the events; a query might not keep it.
    with pq.ParquetFile(place.table("ops")) as table:
        for batch in table.iter_batches(columns=["step", "edit"]):
            for row in batch.to_pylist():
                while len(found) < len(steps) and row["step"] > steps[len(found)]:
                    found.append(dict(files))
                if len(found) == len(steps):
                    return found
                if row["edit"] is not None:
                    _fold(files, msgspec.convert(row["edit"], Edit))
    return found + [dict(files)] * (len(steps) - len(found))


def _fold(files: dict[str, str], edit: Edit) -> None:
    text = apply_edit(files.get(edit.file), edit)
    if text is None:
        files.pop(edit.file, None)
    else:
        files[edit.file] = text


def _rows(place: Place, sql: str) -> list[dict[str, Any]]:
    answer = query([place.run], sql)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _by_step(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["step"], []).append(row)
    return found
