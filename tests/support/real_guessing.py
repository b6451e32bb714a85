"""A multi-turn environment of the real `verifiers` package (before 0.4)."""

from typing import Any

import verifiers
from datasets import Dataset


class Guessing(verifiers.MultiTurnEnv):
    """Guess a number, with hints."""

    async def setup_state(self, state: Any) -> None:
        state["won"] = False

    async def env_response(self, messages: Any, state: Any, **_: Any) -> list[dict]:
        last = messages[-1]
        said = last["content"] if isinstance(last, dict) else last.content
        number, guess = int(state["answer"]), int(said) if said.isdecimal() else -1
        state["won"] = guess == number
        text = "right" if state["won"] else "higher" if guess < number else "lower"
        answer = [{"role": "user", "content": text}]
        if state["won"]:
            state["final_env_response"] = answer
        return answer


def won(state: Any) -> float:
    """The rubric."""
    return float(state["won"])


def load() -> Guessing:
    """Four games."""
    rows = [
        {"prompt": [{"role": "user", "content": f"game {n}: guess"}], "answer": str(n)}
        for n in range(4)
    ]
    rubric = verifiers.Rubric(funcs=[won])
    return Guessing(dataset=Dataset.from_list(rows), rubric=rubric, max_turns=6)
