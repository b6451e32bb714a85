"""Third-party environments to wrap: a number to guess, in the forms that the adapters take."""

from types import SimpleNamespace
from typing import Any

import gymnasium
from gymnasium.spaces import Discrete, Text

HINTS = ("lower", "higher", "right")


class GuessingGame(gymnasium.Env):
    """Guess a digit; hints. Observations are text, actions a Discrete or a Text space."""

    def __init__(self, in_words: bool = False, in_mapping: bool = False) -> None:
        self.action_space = Text(5, charset="0123456789") if in_words else Discrete(10)
        self.observation_space = Text(20)
        self._in_mapping = in_mapping
        self._number = self._guesses = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self._number = int(self.np_random.integers(10))
        self._guesses = 0
        return self._seen("guess"), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        guess = int(action)
        self._guesses += 1
        is_right = guess == self._number
        text = "right" if is_right else "higher" if guess < self._number else "lower"
        info = {"done": 1.0} if is_right else {}
        return self._seen(text), 5.0 * is_right, is_right, self._guesses >= 8, info

    def _seen(self, text: str) -> Any:
        return {"text": text} if self._in_mapping else text


gymnasium.register("support/Guessing-v0", entry_point=GuessingGame)
gymnasium.register(
    "support/GuessingInWords-v0", entry_point=GuessingGame, kwargs={"in_words": True}
)


class ClassicGuessing:
    """The classic interface of `verifiers`, without the package: rows, state, rubric."""

    def __init__(self, games: int = 4) -> None:
        self._rows = [
            {"prompt": [{"role": "user", "content": f"game {n}: guess"}], "answer": str(n)}
            for n in range(games)
        ]
        self.rubric = SimpleNamespace(score_rollout=self._score)

    def get_dataset(self) -> list[dict]:
        return self._rows

    get_eval_dataset = get_dataset

    async def init_state(self, row: dict, client: Any, model: str, sampling: dict) -> dict:
        return {**row, "trajectory": [], "reward": None, "final_env_response": None}

    async def setup_state(self, state: dict) -> None:
        state["won"] = False

    async def add_trajectory_step(self, state: dict, step: dict) -> None:
        state["trajectory"].append(step)

    async def is_completed(self, state: dict) -> bool:
        return state["final_env_response"] is not None or len(state["trajectory"]) >= 6

    async def get_prompt_messages(self, state: dict) -> list[dict]:
        if not state["trajectory"]:
            return state["prompt"]
        last = state["trajectory"][-1]
        guess = last["completion"][0]["content"]
        state["won"] = guess == state["answer"]
        answer = [{"role": "user", "content": "right" if state["won"] else "no"}]
        if state["won"]:
            state["final_env_response"] = answer
        return [*last["prompt"], *last["completion"], *answer]

    async def render_completion(self, state: dict) -> None:
        state["completion"] = [step["completion"] for step in state["trajectory"]]

    async def _score(self, state: dict) -> None:
        state["reward"] = float(state["won"])
        state["metrics"] = {"guesses": float(len(state["completion"]))}
