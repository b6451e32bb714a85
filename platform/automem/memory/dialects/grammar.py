"""A grammar of the turns that a routine can use, for engines that keep a model to one.

Promise: every text that the grammar of the `tags` dialect derives parses into whole operations of
the given vocabulary, in the order written, the last of them perhaps a commit or `DONE`; prose may
stand between them. The notation is the EBNF of GBNF (llama.cpp, xgrammar).

Not covered: the `tools` dialect, whose calls the serving side parses; whether an operation will
succeed. A model that is kept to a grammar samples from another distribution than it would by
itself: its log-probabilities are those under the grammar.
"""

from collections.abc import Sequence

from automem.memory.dialects.tags import fields_of

_TERMINALS = r"""prose ::= [^<]*
end ::= "<|END|>"
file ::= part ("/" part){0,3}
part ::= [A-Za-z0-9_] [A-Za-z0-9._-]{0,63}
N ::= [1-9] [0-9]{0,8}
key ::= text
old ::= text
new ::= text
keyword ::= text
action ::= text
text ::= ([^|<\\] | "\\" [|<\\])+"""
"""Fields by the names that the model is told; a bar, `<` and backslash are escaped in them."""


def tags_grammar(vocabulary: Sequence[str], most: int, commits: bool, finishes: bool) -> str:
    """Turns of at most `most` operations out of `vocabulary` (names such as `APPEND`).

    `commits`: the turn may end with an `ACTION`; `finishes`: with `DONE`."""
    last = list(vocabulary) + ["ACTION"] * commits + ["DONE"] * finishes
    between = f" (op prose){{0,{most - 1}}}" if vocabulary and most > 1 else ""
    rules = [f"root ::= prose{between} ({' | '.join(_rule_of(name) for name in last)})"]
    if vocabulary:
        rules.append(f"op ::= {' | '.join(_rule_of(name) for name in vocabulary)}")
    rules += [f"{_rule_of(name)} ::= {_body(name)}" for name in last]
    return "\n".join([*rules, _TERMINALS])


def _rule_of(name: str) -> str:
    return f"tag-{name.lower()}"


def _body(name: str) -> str:
    """A tag in its canonical spelling."""
    if name == "DONE":
        return '"<|DONE|>"'
    fields = ' "|" '.join(fields_of(name))
    return " ".join(part for part in (f'"<|{name}|>"', fields, "end") if part)
