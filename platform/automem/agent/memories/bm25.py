"""Retrieval by BM25 over the lines of a log that grows: SQLite's FTS5, in memory.

FTS5 ranks by Okapi BM25 (k1 = 1.2, b = 0.75) and takes lines one by one, where the BM25 packages
for Python build their index anew for every line: quadratic in the length of an episode.
Promise: what is found is a function of lines and query; of equal ranks the newer line comes first.
"""

import re
import sqlite3
from collections.abc import Sequence

from automem.errors import UsageError

_MOST_WORDS = 64
"""Different words of a query; a whole screen of a game has hundreds, most of them in every line."""
_WORD = re.compile(r"\w+")


class Bm25Index:
    """Lines by number, in the order in which they were added."""

    def __init__(self) -> None:
        self._base = sqlite3.connect(":memory:", check_same_thread=False)
        try:
            self._base.execute("CREATE VIRTUAL TABLE log USING fts5(line, tokenize = 'unicode61')")
        except sqlite3.OperationalError as error:
            raise UsageError(
                "agent.memory=bm25 needs an SQLite with FTS5, which this Python's has not "
                f"({error}); use another build of Python or agent.memory=window"
            ) from error
        self.size = 0

    def add(self, lines: Sequence[str]) -> None:
        """Put lines behind those there are."""
        numbered = enumerate(lines, self.size)
        self._base.executemany("INSERT INTO log (rowid, line) VALUES (?, ?)", numbered)
        self.size += len(lines)

    def clear(self) -> None:
        """Forget every line."""
        self._base.execute("DELETE FROM log")
        self.size = 0

    def find(self, query: str, most: int, before: int) -> tuple[list[int], int]:
        """Numbers of the best lines below `before`, best first, and how many share a word with the
        query in all."""
        words = list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))[:_MOST_WORDS]
        if not words:
            return [], 0
        asked = (" OR ".join(f'"{word}"' for word in words), before)
        matching = "FROM log WHERE log MATCH ? AND rowid < ?"
        best = f"SELECT rowid {matching} ORDER BY rank, rowid DESC LIMIT {most}"
        found = [row[0] for row in self._base.execute(best, asked)]
        [[count]] = self._base.execute(f"SELECT count(*) {matching}", asked)
        return found, count
