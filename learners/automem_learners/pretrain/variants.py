"""Random scaffolds: everything that the structure loop may change, in the words the model has.

A model cloned on one layout could not react to a revised one. So file names, their number, which of
them holds the cards, how lines are spelled, operations, limits, notices, lines shown, pruning, the
order of sections and the wording around them all vary. Held-out variants use names and orders that
training never sees.
"""

import random

from automem.agent.scaffold import FileSchema, Notice, RoutineSchema, Scaffold, ScaffoldSchema
from automem.seeds import derive
from automem_learners.pretrain.tokenizer import words

_USUAL_TEXT = "cards notes seen deck memo log map board plan book history"
_USUAL_STEMS = tuple(_USUAL_TEXT.split())
_STEMS = tuple(word for word in dict.fromkeys(words()[80:]) if word.islower() and len(word) > 2)
"""Any word can name a file, so that a name says nothing and the schema has to be read. The first 80
words are ranks: a file of that name would be found where the rank is searched."""
_ENDINGS = (".txt", ".md")
_CARD_PURPOSES = ("{}", "{}", "one line per card: {}", "seen cards as {}", "each flip, {}")
_OTHER_PURPOSES = ("", "", "", "anything else", "plans", "ideas", "goals", "what to do next")
SEPARATORS = (": ", ": ", " ", " is ")
_LOG_OPS = (
    ("SEARCH", "APPEND"),
    ("SEARCH", "APPEND"),
    ("SEARCH", "UPSERT"),
    ("APPEND",),
    ("UPSERT",),
    ("READ", "SEARCH", "APPEND", "WRITE"),
    ("READ", "SEARCH", "TAIL", "APPEND", "UPSERT"),
    ("SEARCH", "UPSERT", "DELETE"),
)
_PLAN_OPS = (
    ("SEARCH",),
    ("SEARCH",),
    ("SEARCH",),
    ("SEARCH", "READ"),
    ("READ", "SEARCH", "TAIL", "COUNT"),
    ("SEARCH", "COUNT", "LIST"),
    ("READ",),
    ("TAIL", "LIST"),
)
_NOTICES = (
    Notice(when="unchanged", steps=2),
    Notice(when="repeated", steps=2),
    Notice(when="oscillating", steps=3),
    Notice(when="unchanged", steps=1, text="nothing changed"),
    Notice(when="repeated", steps=2, text="same action {steps} times: try another card"),
)
_HINTS = ("", "", "", "look before you flip", "write what you see", "one flip at a time")
_COMMIT_LINES = ("", "", "", "now give one action", "give <|ACTION|>action<|END|>")
_SYSTEM = """\
{% for file in files %}
{{ (file.name ~ " " ~ file.purpose).rstrip() }}
{% endfor %}
"""
_OPERATIONS = '{{ operations | join("\\n") }}\n'
_SECTIONS = {
    "action": "# action\n{{ action }}\n",
    "changed": '# changed\n{{ "yes" if changed else "no" }}\n',
    "observation": "# observation\n{{ observation }}\n",
    "files": ("# files\n{% for file in index %}\n{{ file.name }} {{ file.lines }}\n{% endfor %}\n"),
    "shown": ("{% for file in shown %}\n# memory {{ file.name }}\n{{ file.text }}\n{% endfor %}\n"),
    "notice": '{% if notices %}\n# notice\n{{ notices | join("\\n") }}\n{% endif %}\n',
}
_LOG_SECTIONS = ("action", "changed", "observation", "files", "notice")
_PLAN_SECTIONS = ("observation", "files", "shown", "notice")
_HELD_OUT = 4
"""One in so many names of files, and of orders of sections, is held out."""


def random_scaffold(
    chooser: random.Random, is_held_out: bool = False, shown_share: float = 0.5
) -> Scaffold:
    """A variant drawn by `chooser`; `shown_share` of them show lines of the file of cards."""
    files = _files(chooser, is_held_out, shown_share)
    schema = ScaffoldSchema(
        name="variant",
        files=files,
        log=RoutineSchema(ops=chooser.choice(_LOG_OPS), max_turns=chooser.randint(2, 4)),
        plan=RoutineSchema(ops=chooser.choice(_PLAN_OPS), max_turns=chooser.randint(2, 4)),
        commit_turns=chooser.choice((1, 2, 3)),
        result_lines=chooser.choice((3, 8, 40, 40)),
        result_tokens=chooser.choice((60, 160, 160)),
        notices=tuple(chooser.sample(_NOTICES, chooser.choice((0, 0, 1, 2)))),
    )
    return Scaffold(schema, _templates(chooser, is_held_out))


def _files(chooser: random.Random, is_held_out: bool, shown_share: float) -> tuple[FileSchema, ...]:
    """One to four files, one of which holds the cards."""
    count = chooser.choice((1, 2, 2, 2, 3, 4))
    names: list[str] = []
    stems = chooser.sample(_USUAL_STEMS if chooser.random() < 0.3 else _STEMS, 11)
    if is_held_out:  # few names are, so that eleven may hold none
        stems += chooser.sample(_STEMS, len(_STEMS))
    for stem in stems:
        name = stem + chooser.choice(_ENDINGS)
        if _is_held_out(name) == is_held_out and len(names) < count:
            names.append(name)
    order = chooser.choice(("card rank", "card rank", "card rank", "rank card"))
    cards = FileSchema(
        name=names[0],
        purpose=chooser.choice(_CARD_PURPOSES).format(order),
        separator=chooser.choice(SEPARATORS),
        show_last=chooser.choice((5, 10, 20)) if chooser.random() < shown_share else 0,
        keep_last=chooser.choice((0, 0, 0, 0, 10, 30)),
    )
    others = [FileSchema(name=name, purpose=chooser.choice(_OTHER_PURPOSES)) for name in names[1:]]
    found = [cards, *others]
    chooser.shuffle(found)
    return tuple(found)


def _templates(chooser: random.Random, is_held_out: bool) -> dict[str, str]:
    hint = chooser.choice(_HINTS)
    instruction = chooser.choice(("{{ instruction }}\n", "{{ instruction }}\n", ""))
    commit_line = chooser.choice(_COMMIT_LINES)
    forced = "# commit{{ ' now' if forced else '' }}\n"
    parts = [_SYSTEM, _OPERATIONS]
    if chooser.random() < 0.3:
        parts.reverse()
    # Every prompt says which routine it opens; the rest is in any order.
    log = [name for name in _LOG_SECTIONS if name != "changed" or chooser.random() < 0.7]
    return {
        "log.system": (f"{hint}\n" if hint else "") + "".join(parts),
        "plan.system": instruction + "".join(parts),
        "log": "# log\n" + _ordered(chooser, log, is_held_out),
        "plan": "# plan\n" + _ordered(chooser, list(_PLAN_SECTIONS), is_held_out),
        "commit": forced + (f"{commit_line}\n" if commit_line else ""),
    }


def _ordered(chooser: random.Random, names: list[str], is_held_out: bool) -> str:
    while True:
        chooser.shuffle(names)
        if _is_held_out(*names) == is_held_out:
            return "".join(_SECTIONS[name] for name in names)


def _is_held_out(*names: str) -> bool:
    # The salt is one that leaves the shipped scaffold's names and orders among the seen ones.
    return derive("held out", 5, *names) % _HELD_OUT == 0
