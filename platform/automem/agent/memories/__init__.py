"""Rival memories: what the files are compared with, behind the same session, engine and budget.

| `agent.memory` | who writes | what a prompt shows |
| --- | --- | --- |
| `files` | the model, by operations | what the model reads, and what the scaffold shows |
| `none`, `blanked` | controls | nothing |
| `window` | the session, every step | the newest steps |
| `full` | the session, every step | as many of the newest steps as the context holds |
| `bm25` | the session, every step | the steps most like the present one, by BM25 |
| `summary` | the model, one text | that text |

Every one is a file of the memory directory, changed by journalled edits alone: a resumed episode
rebuilds it exactly as it rebuilds the files, and a trace tells all of it. What is shown is a
function of that file and the present, capped in tokens, and says how many lines it leaves out.
"""

from automem.agent.memories.options import AUTOMATIC, MEMORIES, RecallOptions
from automem.agent.memories.recall import Recall, make_recall, schema_with

__all__ = ["AUTOMATIC", "MEMORIES", "Recall", "RecallOptions", "make_recall", "schema_with"]
