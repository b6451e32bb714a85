"""Notices: lines put into a prompt when something holds that the agent could see for itself.

They are computed from the present observation and the last few steps alone, so a notice never
tells what only memory could hold.
"""

from collections.abc import Sequence

from automem.agent.recorder import LastStep
from automem.agent.scaffold import Notice

_DEFAULT_TEXT = {
    "unchanged": "the observation has not changed for {steps} steps",
    "repeated": "the same action was taken {steps} times in a row",
    "oscillating": "the last {steps} actions go back and forth",
}


def notices_for(
    notices: Sequence[Notice], recent: Sequence[LastStep], observation: str
) -> list[str]:
    """The texts of those notices that hold now. `recent` is oldest first."""
    lines = []
    for notice in notices:
        steps = _run_length(notice.when, recent, observation)
        if steps >= notice.steps:
            lines.append((notice.text or _DEFAULT_TEXT[notice.when]).replace("{steps}", str(steps)))
    return lines


def _run_length(kind: str, recent: Sequence[LastStep], observation: str) -> int:
    """For how many steps in a row `kind` holds."""
    count = 0
    if kind == "unchanged":
        for step in reversed(recent):
            if step.observation != observation:
                break
            count += 1
        return count
    actions = [step.action for step in reversed(recent)]
    if not actions:
        return 0
    if kind == "repeated":
        while count < len(actions) and actions[count] == actions[0]:
            count += 1
        return count
    if len(actions) < 2 or actions[0] == actions[1]:
        return 0
    while count < len(actions) and actions[count] == actions[count % 2]:
        count += 1
    return count
