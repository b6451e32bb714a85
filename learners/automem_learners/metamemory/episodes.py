"""Gate traces as RLlib's episodes: the spaces of the problem, and the conversion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from automem.agent.gating.decision import DEPTHS
from automem.agent.gating.features import NAMES
from automem_learners.metamemory.traces import GateTrace, Price

if TYPE_CHECKING:
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

OBSERVATIONS = gymnasium.spaces.Box(-1.0, 8.0, (len(NAMES),), np.float32)
ACTIONS = gymnasium.spaces.MultiDiscrete([len(DEPTHS), len(DEPTHS)])


def to_episodes(
    traces: Sequence[GateTrace], price: Price, module: Any | None = None
) -> "list[SingleAgentEpisode]":
    """RLlib's episodes; `module`: the RLModule that acted, whose log-probabilities PPO needs.

    A cap ends the game for good here, so there is no value to go on from."""
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    found = []
    for trace in traces:
        seen = np.asarray(trace.features, dtype=np.float32)
        actions = np.asarray(trace.actions, dtype=np.int64)
        outputs = {} if module is None else _outputs(module, seen, actions)
        episode = SingleAgentEpisode(
            id_=trace.episode,
            observations=[*seen, np.zeros(len(NAMES), np.float32)],
            actions=list(actions),
            rewards=list(price.rewards(trace)),
            terminated=True,
            extra_model_outputs={name: list(values) for name, values in outputs.items()},
            observation_space=OBSERVATIONS,
            action_space=ACTIONS,
            len_lookback_buffer=0,
        )
        found.append(episode.to_numpy())
    return found


def _outputs(module: Any, seen: np.ndarray, actions: np.ndarray) -> dict[str, np.ndarray]:
    """Logits of shape (steps, 6) and log-probabilities of shape (steps,)."""
    import torch
    from ray.rllib.core.columns import Columns

    with torch.no_grad():
        logits = module.forward_exploration({Columns.OBS: torch.from_numpy(seen)})[
            Columns.ACTION_DIST_INPUTS
        ]
        chosen = module.get_exploration_action_dist_cls().from_logits(logits)
        logp = chosen.logp(torch.from_numpy(actions))
    return {
        Columns.ACTION_DIST_INPUTS: logits.numpy().astype(np.float32),
        Columns.ACTION_LOGP: logp.numpy().astype(np.float32),
    }
