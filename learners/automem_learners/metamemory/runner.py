"""RLlib's env runner whose environment is the platform: it plays rollouts with the gate as it is.

Each sample is a run of `automem.rollout`, real sessions and journals included, whose episodes carry
the exported gate (drawing its choices) and are then read back from their traces. There is no second
implementation of the session or the game here, and nothing that steps an environment.
"""

import shutil
from pathlib import Path
from typing import Any

import msgspec
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from automem.errors import InfrastructureError
from automem.rollout.run import run_rollout
from automem.rollout.spec import EpisodeKey, RolloutSpec
from automem.seeds import SeedRange, seeds_from
from automem_learners.metamemory.episodes import ACTIONS, OBSERVATIONS, to_episodes
from automem_learners.metamemory.export import export_gate
from automem_learners.metamemory.traces import Price, mean_tokens, read_traces

ROUND = "automem_round"


class Sampling(msgspec.Struct, frozen=True):
    """What a sample is; plain data, kept in RLlib's checkpoints."""

    template: RolloutSpec
    """Everything but gate and episodes."""
    folder: str
    """Where the runs are played; each goes when it was read."""
    episodes: int
    """Per sample."""
    first_seed: int
    """Offset into the range `train`; sample n takes the `episodes` seeds from there on."""
    price: Price


class Unplayed(InfrastructureError):
    """Episodes of a sample are pending; train again from the last checkpoint."""

    boundary = "rollout"


class RolloutRunner(SingleAgentEnvRunner):
    """See the module's docstring; `config.env_config["sampling"]` is a `Sampling`."""

    def make_env(self) -> None:
        """There is none: the platform plays."""
        self.env = None
        self.num_envs = 0
        self.round = 0

    def assert_healthy(self) -> None:
        assert self.module is not None

    def get_spaces(self) -> dict[str, Any]:
        pair = (OBSERVATIONS, ACTIONS)
        return {INPUT_ENV_SPACES: pair, DEFAULT_MODULE_ID: pair}

    def sample(self, **kwargs: Any) -> list[Any]:
        """Play the next seeds with the module as it is; RLlib's episodes, all of them ended."""
        sampling: Sampling = self.config.env_config["sampling"]
        folder = Path(sampling.folder) / f"sample-{self.round:04d}"
        shutil.rmtree(folder, ignore_errors=True)  # of a process that died in it
        gate = export_gate(self.module, folder / "gate", is_sampled=True)
        traces = play_gated(
            sampling.template,
            folder / "run",
            {"gate": str(gate.absolute())},
            seeds_from(
                SeedRange.TRAIN,
                sampling.episodes,
                sampling.first_seed + self.round * sampling.episodes,
            ),
        )
        episodes = to_episodes(traces, sampling.price, self.module)
        shutil.rmtree(folder, ignore_errors=True)
        self.round += 1
        self._increase_sampled_metrics(sum(len(trace.tokens) for trace in traces), len(traces))
        self._done_episodes_for_metrics.extend(episodes)
        progression = sum(trace.progression for trace in traces) / len(traces)
        self.metrics.log_value("progression", progression, window=1)
        self.metrics.log_value("tokens_per_step", mean_tokens(traces), window=1)
        return episodes

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state(*args, **kwargs)
        return {**state, ROUND: self.round}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.round = state.get(ROUND, self.round)


def play_gated(
    template: RolloutSpec, run_dir: Path, agent: dict[str, Any], seeds: list[int]
) -> list[Any]:
    """Play these seeds with a gate; their traces. Unplayed where episodes are pending."""
    spec = msgspec.structs.replace(
        template,
        agent={**template.agent, **agent},
        episodes=tuple(EpisodeKey(seed=seed) for seed in seeds),
    )
    result = run_rollout(spec, run_dir)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.pending:
        raise Unplayed(f"{len(result.pending)} episodes: {result.pending[0].reason}")
    return read_traces(run_dir)


__all__ = ["RolloutRunner", "Sampling", "Unplayed", "play_gated"]
