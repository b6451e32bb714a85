"""The small language of notices: conditions and values over what the agent could see for itself.

    unchanged_for >= 3 and not sees("{thing} attacks")
    number("health {n}/9") < 4          lines("map.txt") > 60

Python's spelling, a language of its own: parsed by `ast`, checked node by node against what is
allowed and typed when it is loaded, evaluated by closures. There is no `eval`, no attribute, no
loop, nothing whose time or size grows beyond the text at hand.

Promise: an expression can speak of the present observation, of the sizes of memory files, of the
last action and of how long actions and observations have repeated, and of nothing else. What only
memory could tell (lines of files, older observations) has no name here and is refused at load.
What the observation does not hold has no value, and a condition without a value does not hold.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

import msgspec

from automem.agent.patterns import Pattern, PatternError
from automem.suggest import did_you_mean

Value: TypeAlias = bool | int | float | str | None
"""None: there is no such thing in the observation."""


class Kind(StrEnum):
    """What an expression gives."""

    TRUTH = "yes or no"
    NUMBER = "a number"
    TEXT = "a text"


class Facts(msgspec.Struct, frozen=True):
    """All that an expression may look at."""

    observation: str
    action: str = ""
    """The last action; empty before the first."""
    changed: bool = True
    unchanged_for: int = 0
    repeated_for: int = 0
    oscillating_for: int = 0
    lines: Mapping[str, int] = {}
    """Lines per memory file."""
    sizes: Mapping[str, int] = {}
    """Bytes per memory file."""
    fields: Mapping[str, str | float] = {}
    """What the scaffold's own parser made of the observation."""


class ExpressionError(ValueError):
    """The expression cannot be used; the message says why."""


class Expression(msgspec.Struct, frozen=True):
    """A checked expression."""

    kind: Kind
    value: Callable[[Facts], Value]

    def holds(self, facts: Facts) -> bool:
        """Whether it has a value and that value is true."""
        return bool(self.value(facts))


_MAX_CHARS = 400
_MAX_NODES = 120
_NAMES: dict[str, Expression] = {
    "changed": Expression(Kind.TRUTH, lambda facts: facts.changed),
    "action": Expression(Kind.TEXT, lambda facts: facts.action),
    "unchanged_for": Expression(Kind.NUMBER, lambda facts: facts.unchanged_for),
    "repeated_for": Expression(Kind.NUMBER, lambda facts: facts.repeated_for),
    "oscillating_for": Expression(Kind.NUMBER, lambda facts: facts.oscillating_for),
    "files": Expression(Kind.NUMBER, lambda facts: len(facts.lines)),
}
_FUNCTIONS = {
    "sees": Kind.TRUTH,
    "did": Kind.TRUTH,
    "exists": Kind.TRUTH,
    "number": Kind.NUMBER,
    "lines": Kind.NUMBER,
    "bytes": Kind.NUMBER,
    "number_field": Kind.NUMBER,
    "word": Kind.TEXT,
    "text_field": Kind.TEXT,
}
_LEAK_NAMES = """
    read search tail count line last_line first_line content contents text memory recall remember
    find match matches grep previous last_observation previous_observation observations history
    actions previous_action seen_before seen last_seen best
"""
_LEAKS = frozenset(_LEAK_NAMES.split())
"""Names by which a notice would tell what only memory may: nothing stands behind them."""

_ORDERS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SUMS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def compile_expression(text: str, files: tuple[str, ...], has_parser: bool) -> Expression:
    """Check and compile. `files` are those of the scaffold; `has_parser`: its hooks parse
    observations. ExpressionError says what is wrong."""
    if not text.strip() or len(text) > _MAX_CHARS:
        raise ExpressionError(f"expected an expression of 1 to {_MAX_CHARS} characters")
    try:
        with warnings.catch_warnings(action="ignore"):  # `1()` is about to be refused anyway
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "too deeply nested"
        raise ExpressionError(f"cannot read {text!r}: {reason}") from error
    if sum(1 for _ in ast.walk(tree)) > _MAX_NODES:
        raise ExpressionError("the expression is too long; use several notices")
    return _Compiler(files, has_parser).visit(tree.body)


class _Compiler:
    """One expression's nodes, each to a typed closure."""

    def __init__(self, files: tuple[str, ...], has_parser: bool) -> None:
        self._files = files
        self._has_parser = has_parser

    def visit(self, node: ast.expr) -> Expression:
        match node:
            case ast.Constant(value=bool() as constant):
                return Expression(Kind.TRUTH, lambda _: constant)
            case ast.Constant(value=int() | float() as constant):
                return Expression(Kind.NUMBER, lambda _: constant)
            case ast.Constant(value=str() as constant):
                return Expression(Kind.TEXT, lambda _: constant)
            case ast.Name(id=name):
                return self._name(name)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments)
            case ast.BoolOp(op=joiner, values=parts):
                return self._join(joiner, parts)
            case ast.UnaryOp(op=ast.Not(), operand=part):
                inner = self._of_kind(part, Kind.TRUTH).value
                return Expression(Kind.TRUTH, lambda facts: _opposite(inner(facts)))
            case ast.UnaryOp(op=ast.USub(), operand=part):
                inner = self._of_kind(part, Kind.NUMBER).value
                return Expression(Kind.NUMBER, lambda facts: _apply(operator.mul, inner(facts), -1))
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _SUMS:
                ours = self._of_kind(left, Kind.NUMBER).value
                theirs = self._of_kind(right, Kind.NUMBER).value
                sum_of = _SUMS[type(sign)]
                return Expression(
                    Kind.NUMBER, lambda facts: _apply(sum_of, ours(facts), theirs(facts))
                )
            case ast.Compare(left=left, ops=[order], comparators=[right]):
                return self._compare(left, order, right)
        raise ExpressionError(
            f"{ast.unparse(node)!r} is not allowed; use and, or, not, one comparison at a time, "
            "+ - *, numbers, texts and " + ", ".join([*_NAMES, *(f"{n}(...)" for n in _FUNCTIONS)])
        )

    def _join(self, joiner: ast.boolop, parts: list[ast.expr]) -> Expression:
        values = [self._of_kind(part, Kind.TRUTH).value for part in parts]
        if isinstance(joiner, ast.And):
            return Expression(Kind.TRUTH, lambda facts: all(value(facts) for value in values))
        return Expression(Kind.TRUTH, lambda facts: any(value(facts) for value in values))

    def _compare(self, left: ast.expr, order: ast.cmpop, right: ast.expr) -> Expression:
        ours = self.visit(left)
        if type(order) in _ORDERS:
            ours, compare = self._of_kind(left, Kind.NUMBER), _ORDERS[type(order)]
        elif isinstance(order, ast.Eq | ast.NotEq):
            compare = _is_equal if isinstance(order, ast.Eq) else _is_other
        else:
            raise ExpressionError("expected one of < <= > >= == != between two values")
        theirs = self._of_kind(right, ours.kind)
        return Expression(
            Kind.TRUTH, lambda facts: _apply(compare, ours.value(facts), theirs.value(facts))
        )

    def _of_kind(self, node: ast.expr, kind: Kind) -> Expression:
        found = self.visit(node)
        if found.kind is not kind:
            raise ExpressionError(
                f"expected {kind} in the place of {ast.unparse(node)!r}, which is {found.kind}"
            )
        return found

    def _name(self, name: str) -> Expression:
        if name not in _NAMES:
            raise ExpressionError(_unknown(name))
        return _NAMES[name]

    def _call(self, name: str, arguments: list[ast.expr]) -> Expression:
        if name not in _FUNCTIONS:
            raise ExpressionError(_unknown(name))
        match arguments:
            case [ast.Constant(value=str() as argument)]:
                return Expression(_FUNCTIONS[name], self._function(name, argument))
        raise ExpressionError(f'{name} takes one text in quotes, such as {name}("...")')

    def _function(self, name: str, argument: str) -> Callable[[Facts], Value]:
        if name in ("lines", "bytes", "exists"):
            if argument not in self._files:
                guess = did_you_mean(argument, self._files) or f"; there are {self._files}"
                raise ExpressionError(f"the scaffold declares no file {argument!r}{guess}")
            if name == "exists":
                return lambda facts: argument in facts.lines
            if name == "lines":
                return lambda facts: facts.lines.get(argument, 0)
            return lambda facts: facts.sizes.get(argument, 0)
        if name.endswith("_field"):
            if not self._has_parser:
                raise ExpressionError(f"{name} needs a hooks.py with a function `parse`")
            kinds = (int, float) if name == "number_field" else (str,)
            return lambda facts: _if_of(facts.fields.get(argument), kinds)
        return self._pattern(name, argument)

    def _pattern(self, name: str, argument: str) -> Callable[[Facts], Value]:
        try:
            pattern = Pattern(argument)
        except PatternError as error:
            raise ExpressionError(f"{name}({argument!r}): {error}") from error
        if name == "sees":
            return lambda facts: _first(pattern, facts.observation) is not None
        if name == "did":
            return lambda facts: pattern.fits(facts.action)
        if len(pattern.names) != 1:
            raise ExpressionError(
                f"{name}({argument!r}): the pattern needs one {{name}} that says what to take"
            )
        if name == "word":
            return lambda facts: _taken(pattern, facts.observation)
        return lambda facts: _number(_taken(pattern, facts.observation))


def _unknown(name: str) -> str:
    if name in _LEAKS:
        return (
            f"{name!r} would tell what only memory holds. A notice speaks of what the agent could "
            "see for itself: the present observation, sizes of files, the last action, how long "
            "things repeat. To put lines of a file before the agent, use show_last"
        )
    known = [*_NAMES, *_FUNCTIONS]
    return f"no {name!r}{did_you_mean(name, known) or '.'} There are: {', '.join(known)}"


def _opposite(value: Value) -> Value:
    return None if value is None else not value


def _apply(combine: Callable[..., Value], one: Value, other: Value) -> Value:
    return None if one is None or other is None else combine(one, other)


def _is_equal(one: Value, other: Value) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    return one == other


def _is_other(one: Value, other: Value) -> bool:
    return not _is_equal(one, other)


def _first(pattern: Pattern, text: str) -> dict[str, str] | None:
    for line in text.split("\n"):
        for found in pattern.find(line):
            return found
    return None


def _taken(pattern: Pattern, text: str) -> str | None:
    found = _first(pattern, text)
    return None if found is None else found[pattern.names[0]]


def _number(text: str | None) -> Value:
    is_number = text is not None and text.removeprefix("-").isdecimal() and text.isascii()
    return int(text) if text is not None and is_number else None


def _if_of(value: Value, kinds: tuple[type, ...]) -> Value:
    return value if isinstance(value, kinds) and not isinstance(value, bool) else None


def shown(value: Value) -> str:
    """A value as one line of a prompt says it."""
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(str(value).split())
