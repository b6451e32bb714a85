"""Fixed rules: what a learned gate has to beat, and what it falls back to."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from automem.agent.gating.decision import (
    DEPTHS,
    EVERYTHING,
    NOTHING,
    Decision,
    Depth,
    GateOptions,
    Question,
)
from automem.agent.gating.features import INDEX


@dataclass(frozen=True, slots=True)
class Rule:
    """A gate by a function of question and options."""

    name: str
    options: GateOptions
    chooses: Callable[[Question, GateOptions], Decision]

    def decide(self, question: Question) -> Decision:
        """See `MemoryGate`."""
        return self.chooses(question, self.options)


def _always(question: Question, options: GateOptions) -> Decision:
    return EVERYTHING


def _never(question: Question, options: GateOptions) -> Decision:
    return NOTHING


def _brief(question: Question, options: GateOptions) -> Decision:
    return Decision(Depth.BRIEF, Depth.BRIEF)


def _every_k(question: Question, options: GateOptions) -> Decision:
    return NOTHING if question.step % options.every else EVERYTHING


def _on_change(question: Question, options: GateOptions) -> Decision:
    """All memory work where the observation holds something new, none where it does not."""
    has_changed = question.features[INDEX["changed"]] > 0.0
    is_new = question.features[INDEX["novelty_first"]] >= options.novelty
    return EVERYTHING if has_changed and is_new else NOTHING


def _random(question: Question, options: GateOptions) -> Decision:
    chooser = random.Random(question.seed)
    [log] = chooser.choices(DEPTHS, weights=options.log)
    [consult] = chooser.choices(DEPTHS, weights=options.consult)
    return Decision(log, consult)


RULES: dict[str, Callable[[Question, GateOptions], Decision]] = {
    "always": _always,
    "never": _never,
    "brief": _brief,
    "every_k": _every_k,
    "on_change": _on_change,
    "random": _random,
}
"""Values of `agent.gate` that are no folder."""


def rule_name(name: str, options: GateOptions) -> str:
    """What a policy's name says of a rule: its own settings too."""
    if name == "every_k":
        return f"every_{options.every}"
    if name == "on_change" and options.novelty:
        return f"on_change_{options.novelty:g}"
    if name == "random":
        shares = (*options.log, *options.consult)
        return "random_" + "_".join(f"{share:.3g}" for share in shares)
    return name


def make_rule(name: str, options: GateOptions) -> Rule:
    """The rule of this name; KeyError where there is none."""
    return Rule(rule_name(name, options), options, RULES[name])
