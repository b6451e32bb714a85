"""Notices: lines put into a prompt when something holds that the agent could see for itself.

They are computed from the present observation, the sizes of files and the last few steps alone
(`automem.agent.expressions`), so a notice never tells what only memory could hold.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from automem.agent.expressions import Expression, ExpressionError, Facts, compile_expression, shown
from automem.agent.recorder import LastStep
from automem.agent.schema import Notice
from automem.memory.sandbox import FileInfo
from automem.trace.events import Routine

USUAL = {
    "unchanged": "the observation has not changed for {steps} steps",
    "repeated": "the same action was taken {steps} times in a row",
    "oscillating": "the last {steps} actions go back and forth",
}
"""The conditions that have a name of their own, and what they say unless told otherwise."""

MAX_LINE = 300
"""Characters of a notice, values included."""

_BRACES = re.compile(r"\{((?:[^{}]++|\{[^{}]*+\})*+)\}")
"""A pattern inside an expression has braces of its own."""


class CompiledNotice:
    """One notice, checked; ExpressionError where it cannot be."""

    def __init__(self, notice: Notice, files: tuple[str, ...], has_parser: bool) -> None:
        self._notice = notice
        self._is_usual = notice.when in USUAL
        if notice.text.startswith("#"):
            raise ExpressionError("`text` may not begin with `#`, which heads a section")
        self._values: list[Expression] = []
        if self._is_usual:
            self._text = notice.text or USUAL[notice.when]
            return
        self._condition = compile_expression(notice.when, files, has_parser)
        if self._condition.kind != "yes or no":
            raise ExpressionError(f"`when` has to be a condition; this is {self._condition.kind}")
        if notice.steps != Notice("unchanged").steps:
            raise ExpressionError(
                f"`steps` goes with {', '.join(USUAL)} alone; write {notice.when!r} with a number"
            )
        if not notice.text.strip():
            raise ExpressionError("`text` is missing: what should the line say?")
        if len(notice.text) > MAX_LINE or "\n" in notice.text:
            raise ExpressionError(f"`text` has to be one line of at most {MAX_LINE} characters")
        self._text = notice.text
        for expression in _BRACES.findall(notice.text):
            self._values.append(compile_expression(expression, files, has_parser))
        if set(_BRACES.sub("", notice.text)) & set("{}"):
            raise ExpressionError("`text` has a brace without its partner")

    def line(self, routine: Routine, facts: Facts) -> str | None:
        """What it says now; None where it does not hold, or where a value it names is missing."""
        if routine.value not in self._notice.routines:
            return None
        if self._is_usual:
            steps = {
                "unchanged": facts.unchanged_for,
                "repeated": facts.repeated_for,
                "oscillating": facts.oscillating_for,
            }[self._notice.when]
            return (
                self._text.replace("{steps}", str(steps)) if steps >= self._notice.steps else None
            )
        if not self._condition.holds(facts):
            return None
        values = [expression.value(facts) for expression in self._values]
        if None in values:
            return None
        words = iter([shown(value) for value in values])
        return _BRACES.sub(lambda _: next(words), self._text)[:MAX_LINE]


def facts_of(
    recent: Sequence[LastStep],
    observation: str,
    files: Sequence[FileInfo],
    fields: Mapping[str, str | float] | None = None,
) -> Facts:
    """What notices may look at. `recent` is oldest first."""
    actions = [step.action for step in reversed(recent)]
    return Facts(
        observation=observation,
        action=actions[0] if actions else "",
        changed=not recent or recent[-1].observation != observation,
        unchanged_for=_leading(step.observation == observation for step in reversed(recent)),
        repeated_for=_leading(action == actions[0] for action in actions),
        oscillating_for=_oscillation(actions),
        lines={file.name: file.lines for file in files},
        sizes={file.name: file.bytes for file in files},
        fields=fields or {},
    )


def _oscillation(actions: Sequence[str]) -> int:
    """For how many actions, newest first, two of them alternate."""
    if len(actions) < 2 or actions[0] == actions[1]:
        return 0
    return _leading(action == actions[index % 2] for index, action in enumerate(actions))


def _leading(holds: Iterable[bool]) -> int:
    """How many are true before the first that is not."""
    count = 0
    for each in holds:
        if not each:
            break
        count += 1
    return count
