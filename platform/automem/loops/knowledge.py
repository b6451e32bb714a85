"""Knowledge of the task, told apart from the structure of memory.

A revised scaffold can carry facts of the game (what a pickaxe costs, which cards are out of play)
beside structure (a file, a kind, how many lines are shown); a gain from the first is no gain of
memory. So every passage that a revision added is classed: *declared* knowledge of the task (by who
made the revision), *undeclared* (it speaks or acts in the world's own words, `knowledge_words.py`),
or *structure*. And knowledge is a text that every arm can be given alike (`agent.knowledge`,
`knowledge_file.py`).

Not covered: knowledge in words that neither the world says of itself nor any trace has. The check
flags; it proves nothing, and what it flags may be a mere mention.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache

import msgspec

from automem.agent.schema import FileSchema, Notice, PruneRule, RoutineSchema, ScaffoldSchema
from automem.config import conf_dir
from automem.loops.passages import Passage, added
from automem.memory.ops import OPS

_LEAST_WORDS = 3
"""Of a passage that is taken for a piece of a declared line."""
_WORD = re.compile(r"[a-z]{3,}")
_CODE = re.compile(r"\{[{%#].*?[}%#]\}|\{[^{}]*\}")
"""What templates and patterns compute: no words of anybody's."""
_COMMON_TEXT = """
    about above after again all already also and another any anything are away back because been
    before begin being below best better between both but can cannot case come could did different
    does done down during each early either else empty end enough even every everything far few
    find first for from full get give given goes going good had has have her here him his how if
    into its itself just keep kept know last late later least left less let like line lines list
    little long longer look made make many may mean might more most much must name names need never
    new newest next none nor not nothing now number off often old oldest once one only other others
    our out over own part past place plan put rather read same say see seen set several shall she
    should show shown since small some something soon still such take than that the their them then
    there these they thing things this those three through time times too turn two under until upon
    use used using very want was way well went were what when where whether which while who whole
    whose why will with within without word words would write written yes yet you your file files
    memory note unchanged repeated oscillating changed field sees exists bytes notes search step
    steps text game play action actions observation useful
"""
"""English that says nothing of any world, and this program's own words."""


class KnowledgeClass(StrEnum):
    """What a passage that a revision added is."""

    STRUCTURE = "structure"
    """How memory is kept."""
    DECLARED = "declared"
    """Knowledge of the task, by the reviewer's own word."""
    UNDECLARED = "undeclared"
    """Knowledge of the task by the look of it, and nobody said so."""


class Classed(msgspec.Struct, frozen=True):
    """A passage and what it is."""

    passage: Passage
    kind: KnowledgeClass
    words: tuple[str, ...] = ()
    """The world's own words in it."""

    @property
    def is_knowledge(self) -> bool:
        return self.kind is not KnowledgeClass.STRUCTURE


def classify(
    old: Mapping[str, str],
    new: Mapping[str, str],
    declared: Sequence[str],
    world_words: frozenset[str],
    start: Mapping[str, str] | None = None,
) -> list[Classed]:
    """Every passage that `new` has and `old` has not, classed. `declared`: lines that the reviewer
    calls knowledge; `world_words`: `words_of_runs` and `words_of_world`; `start`: the scaffold that
    evolution began with, whose words are no news (left out: `old`). What was accepted on the way
    excuses nothing: knowledge built on knowledge is knowledge."""
    known = words_in(" ".join((old if start is None else start).values())) | _own_words()
    said = [_bare(line) for line in declared if _bare(line)]
    found = []
    for passage in added(old, new):
        words = tuple(sorted((words_in(_CODE.sub(" ", passage.text)) & world_words) - known))
        text = _bare(passage.text)
        if any(line in text or _is_part(text, line) for line in said):
            kind = KnowledgeClass.DECLARED
        elif len(words) >= (1 if passage.acts else 2):
            # A rule needs but one word of the world to act on it; wording may mention one.
            kind = KnowledgeClass.UNDECLARED
        else:
            kind = KnowledgeClass.STRUCTURE
        found.append(Classed(passage, kind, words))
    return found


def as_text(classed: Iterable[Classed]) -> str:
    """The knowledge among them as one text, for `agent.knowledge`."""
    texts = [each.passage.text for each in classed if each.is_knowledge]
    return "\n".join(dict.fromkeys(texts))


def words_in(text: str) -> set[str]:
    """Lower-case words of three letters and more."""
    return set(_WORD.findall(text.lower()))


@cache
def _own_words() -> frozenset[str]:
    """What scaffolds are written in, whatever the world."""
    structs = (ScaffoldSchema, FileSchema, RoutineSchema, Notice, PruneRule)
    fields = " ".join(name for kind in structs for name in kind.__struct_fields__)
    start = conf_dir() / "scaffold" / "v0"
    texts = " ".join(path.read_text(encoding="utf-8") for path in sorted(start.iterdir()))
    return frozenset(words_in(f"{_COMMON_TEXT} {fields} {' '.join(OPS)} {texts}"))


def _is_part(text: str, line: str) -> bool:
    """Whether a passage is a piece of a declared line: whole words, and enough of them to be no
    accident."""
    if len(re.findall(r"\w+", text)) < _LEAST_WORDS:
        return False
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", line) is not None


def _bare(text: str) -> str:
    """Without case, marks of lists and diffs, and superfluous space."""
    return " ".join(text.lower().lstrip("+-*# ").split())
