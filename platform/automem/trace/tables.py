"""The Parquet tables of a finished episode: their columns, types and meaning.

One file per table and episode, `RUN/tables/<table>/<episode>.parquet`. Everything that
`automem query` offers is described here; `automem.trace.rows` fills it from the events.
Rows of a step tell one story: what was seen, what was done, and what that led to.
"""

from typing import NamedTuple

import pyarrow as pa

from automem.trace.metrics import METRICS


class Column(NamedTuple):
    """One column: its name, type, and what it holds."""

    name: str
    type: pa.DataType
    meaning: str


_text, _int, _float, _bool = pa.string(), pa.int32(), pa.float64(), pa.bool_()
_message = pa.struct([("role", _text), ("text", _text)])
_line_numbers = pa.struct([("file", _text), ("lines", pa.list_(_int))])
_writer = pa.struct([("step", _int), ("turn", _int), ("index", _int)])
_line = pa.struct(
    [("file", _text), ("step", _int), ("turn", _int), ("index", _int), ("line", _int)]
)
_edit = pa.struct(
    [
        ("file", _text),
        ("start", _int),
        ("removed", _int),
        ("inserted", _text),
        ("creates", _bool),
        ("deletes", _bool),
    ]
)
_failure = pa.struct(
    [("step", _int), ("boundary", _text), ("error", _text), ("is_infrastructure", _bool)]
)
_score = pa.struct([("task", _text), ("progression", _float)])

_episode = Column("episode", _text, "Id of the episode: world, seed, replicate.")
_step = Column("step", _int, "Step within the episode, from 0.")
_turn = Column("turn", _int, "Model call within the step, from 0, over both routines.")

STEPS = (
    _episode,
    _step,
    Column("observation", _text, "What the agent sees as the step begins."),
    Column("changed", _bool, "Whether that differs from the observation before."),
    Column("progression", _float, "Progression as the step begins, 0 to 1."),
    Column("action", _text, "Action committed in this step; null in the last (the final LOG)."),
    Column("source", _text, "Who committed it: `model`, `forced` or `fallback`."),
    Column("reward", _float, "The world's reward for this step's action."),
    Column("gain", _float, "Change of progression by this step's action."),
    Column("invalid_action", _bool, "Whether the world refused the action and did its fallback."),
    Column("unproductive", _bool, "Invalid, or the observation after it was the same as before."),
    Column(
        "gate", _text, "Memory gate that was asked; `fallback`: it had failed; null without one."
    ),
    Column("gate_log", _text, "What it let LOG spend: `skip`, `brief` or `full`."),
    Column("gate_consult", _text, "The same of consulting memory in PLAN."),
    Column("turns", _int, "Model calls of the step."),
    Column("ops", _int, "Memory operations of the step."),
    Column("malformed", _int, "Pieces of the model's text that looked like operations."),
    Column("tokens_in", pa.int64(), "Prompt tokens over the step's calls."),
    Column("tokens_out", pa.int64(), "Generated tokens over the step's calls."),
    Column("tokens_cached", pa.int64(), "Prompt tokens that came from the engine's cache."),
    Column("context_tokens", _int, "Longest prompt of the step plus its completion, in tokens."),
    Column("model_s", _float, "Seconds in model calls."),
    Column("world_s", _float, "Seconds in the world, for this step's action."),
    Column("platform_s", _float, "Rest of the step's wall time; null where it was interrupted."),
    Column("memory_files", _int, "Files in memory at the end of the step."),
    Column("memory_lines", _int, "Lines in memory at the end of the step."),
    Column("memory_bytes", pa.int64(), "Bytes (UTF-8) in memory at the end of the step."),
)

TURNS = (
    _episode,
    _step,
    _turn,
    Column("routine", _text, "`log` or `plan`."),
    Column("role", _text, "Who answered: `memory` or `gameplay`."),
    Column("adapter", _text, "Adapter of the call; empty for the untouched base."),
    Column(
        "prompt",
        pa.list_(_message),
        "The messages in full, long texts by blob name; the view `prompts` has the texts.",
    ),
    Column("completion", _text, "What the model answered."),
    Column("kept", _int, "Characters of it that stayed in the context; -1: all."),
    Column("finish_reason", _text, "`stop`, `length` or `tool_calls`."),
    Column("tokens_in", _int, "Prompt tokens."),
    Column("tokens_out", _int, "Generated tokens."),
    Column("tokens_cached", _int, "Prompt tokens from the engine's cache."),
    Column("malformed", pa.list_(_text), "What could not be parsed, as answered to the model."),
    Column("forced", _bool, "The context would overflow: only a commit was accepted."),
    Column("seconds", _float, "Wall time of the call."),
    Column("token_ids", pa.list_(_int), "Generated token ids, where the engine gives them."),
    Column("logprobs", pa.list_(pa.float32()), "Their log-probabilities, where given."),
    Column("prompt_ids", _text, "Digest of the prompt's token ids, for token engines."),
)

OPS = (
    _episode,
    _step,
    Column("turn", _int, "Model call that asked for it; -1: no operation but the scaffold itself."),
    Column("index", _int, "Place within the turn, in text order."),
    Column("op", _text, "`READ` ... `DELETE`; `CHANGE` where the scaffold changed memory."),
    Column("routine", _text, "`log` or `plan`; null for `CHANGE`."),
    Column(
        "cause",
        _text,
        "Why the scaffold changed memory (`tool`: a caller did); null for operations.",
    ),
    Column("file", _text, "The file; `*` for all; null for LIST."),
    Column("argument", _text, "Keyword, number of lines, key, or text replaced; null if none."),
    Column("text", _text, "Text to be written; null for reading operations."),
    Column("status", _text, "`ok`, `empty`, `unchanged` or `error`."),
    Column("result", _text, "What the model read as the answer."),
    Column("result_lines", pa.list_(_line_numbers), "Lines of memory that the result shows."),
    Column("cut", _int, "Lines that a cap left out of the result."),
    Column("sources", pa.list_(_writer), "Who wrote each line shown, in order; turn -1: scaffold."),
    Column("edit", _edit, "The change of memory; null where there is none."),
    Column("written_lines", _int, "Lines that a writing operation wrote, or wrote again."),
    Column("redundant_lines", _int, "Of these, lines that already stood in the file."),
)

WRITES = (
    _episode,
    Column("step", _int, "Step in which the line came to stand in memory."),
    Column("turn", _int, "Model call that wrote it; -1: the scaffold itself."),
    Column("index", _int, "Place of the operation within the turn."),
    Column("line", _int, "Which of the lines that this operation wrote, from 0."),
    Column("routine", _text, "`log` or `plan`; null where the scaffold wrote it."),
    Column("file", _text, "The file."),
    Column("text", _text, "The line."),
    Column("repeats", _bool, "The same line stood in the file already."),
    Column("shown", _int, "Prompts that showed it unasked."),
    Column("retrieved", _int, "Operations that returned it (READ, SEARCH, TAIL)."),
    Column("first_retrieved", _int, "Step of the first of these; null: never."),
    Column("used", _int, "Actions that used it: see `retrievals`."),
    Column("first_used", _int, "Step of the first of these; null: never."),
    Column(
        "contradicted", _int, "Step in which another line of the same key was written; or null."
    ),
    Column("ended", _int, "Step in which it was changed or removed; null: it stands at the end."),
    Column(
        "ended_by", _text, "The operation that did, or the scaffold's cause (`prune`), or `tool`."
    ),
)

RETRIEVALS = (
    _episode,
    _step,
    _turn,
    Column(
        "index", _int, "Place of the operation within the turn; -1: the turn's prompt shows it."
    ),
    Column("routine", _text, "`log` or `plan`. What PLAN retrieves is in the action's context."),
    Column("role", _text, "Who asked: `memory` or `gameplay`."),
    Column("op", _text, "`READ`, `SEARCH`, `TAIL`, or `SHOWN` for lines of the prompt."),
    Column("file", _text, "The file asked for; `*` for all."),
    Column("argument", _text, "Keyword or number of lines; null if none."),
    Column("writers", pa.list_(_line), "Who wrote each line, in order: the keys of `writes`."),
    Column("used", pa.list_(_int), "Places (from 0) of lines that the step's action used."),
    Column("named", pa.list_(_text), "Words of the action or its reasoning that say so."),
)

BLOBS = (
    _episode,
    Column("name", _text, "`b:` and a digest, as prompts name it."),
    Column("text", _text, "The text."),
)

EPISODES = (
    _episode,
    Column("world", _text, "Name of the world."),
    Column("task", _text, "Which of its tasks, where a world has several; null elsewhere."),
    Column("task_scores", pa.list_(_score), "Progression by task, where one episode has several."),
    Column("seed", pa.int64(), "Seed of the world."),
    Column("replicate", _int, "Number of the play among those with this seed."),
    Column("run_seed", pa.int64(), "Seed of everything sampled."),
    Column("policy", _text, "Policy version: base, scaffold, adapter."),
    Column("scaffold", _text, "Digest of the scaffold."),
    Column("max_steps", _int, "Cap on actions."),
    Column("instruction", _text, "What the agent was told about the game."),
    Column("progression", _float, "Reached in the end, 0 to 1: the score."),
    Column("stop", _text, "Why it ended: see `StopReason`."),
    Column("detail", _text, "The world's own word for the end, or the player's error."),
    Column("failed", _bool, "The player failed (it counts with what was reached)."),
    Column("steps", _int, "Actions that the world executed."),
    Column("turns", pa.int64(), "Model calls."),
    Column("ops", pa.int64(), "Memory operations."),
    Column("tokens_in", pa.int64(), "Prompt tokens."),
    Column("tokens_out", pa.int64(), "Generated tokens."),
    Column("tokens_cached", pa.int64(), "Prompt tokens from the engine's cache."),
    Column("model_s", _float, "Seconds in model calls."),
    Column("world_s", _float, "Seconds in the world."),
    Column("platform_s", _float, "Rest of the wall time, interrupted steps left out."),
    Column("memory_files", _int, "Files in memory at the end."),
    Column("memory_lines", _int, "Lines in memory at the end."),
    Column("memory_bytes", pa.int64(), "Bytes in memory at the end."),
    Column("failures", pa.list_(_failure), "What broke on the way, infrastructure included."),
    Column("attempts", _int, "Processes that worked on it."),
    Column("schema", _int, "Schema of the trace."),
    *(Column(m.name, _float, f"{m.meaning} ({m.unit}; null: undefined here)") for m in METRICS),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "steps": STEPS,
    "turns": TURNS,
    "ops": OPS,
    "writes": WRITES,
    "retrievals": RETRIEVALS,
    "blobs": BLOBS,
    "episodes": EPISODES,
}
"""Every table; `episodes` is written last, so that its file says that the others are there."""


def schema(table: str) -> pa.Schema:
    """The Arrow schema of a table; each field's `meaning` is kept in its metadata."""
    return pa.schema(
        [pa.field(c.name, c.type, metadata={"meaning": c.meaning}) for c in TABLES[table]]
    )
