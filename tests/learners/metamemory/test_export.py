"""The exported gate decides as RLlib's module does, and sessions run it without RLlib."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automem.agent.gating.decision import DEPTHS, GateOptions, Question
from automem.agent.gating.exported import ExportedGate
from automem.agent.gating.features import NAMES
from automem.agent.gating.keeper import gate_label

os.environ.setdefault("RAY_AUTH_MODE", "token")


@pytest.fixture(scope="module")
def module() -> Any:
    """The policy that PPO trains, with random weights."""
    import torch
    from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import (
        DefaultPPOTorchRLModule,
    )
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    from automem_learners.metamemory.episodes import ACTIONS, OBSERVATIONS

    torch.manual_seed(7)
    spec = RLModuleSpec(
        module_class=DefaultPPOTorchRLModule,
        observation_space=OBSERVATIONS,
        action_space=ACTIONS,
        model_config=DefaultModelConfig(fcnet_hiddens=[32, 32], fcnet_activation="tanh"),
    )
    built = spec.build()
    for parameter in built.parameters():  # far from uniform choices
        parameter.data += 0.5 * torch.randn_like(parameter)
    return built


def questions(count: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 2, (count, len(NAMES))).round(4).astype(np.float32)


def test_the_exported_gate_decides_as_the_module_does(module: Any, tmp_path: Path) -> None:
    import torch
    from ray.rllib.core.columns import Columns

    from automem_learners.metamemory.export import export_gate

    gate = ExportedGate(export_gate(module, tmp_path / "gate", about={"price": 0.3}))
    seen = questions(500)
    with torch.no_grad():
        logits = module.forward_inference({Columns.OBS: torch.from_numpy(seen)})
    theirs = logits[Columns.ACTION_DIST_INPUTS].reshape(-1, 2, 3).argmax(-1).tolist()
    ours = [gate.decide(Question(0, 0, tuple(map(float, each)))) for each in seen]
    assert [[DEPTHS.index(d.log), DEPTHS.index(d.consult)] for d in ours] == theirs
    assert len({str(each) for each in theirs}) > 4


def test_a_gate_in_training_draws_as_often_as_the_module_says(module: Any, tmp_path: Path) -> None:
    import torch
    from ray.rllib.core.columns import Columns

    from automem_learners.metamemory.export import export_gate

    gate = ExportedGate(export_gate(module, tmp_path / "gate", is_sampled=True))
    seen = questions(1)
    with torch.no_grad():
        found = module.forward_inference({Columns.OBS: torch.from_numpy(seen)})
    expected = found[Columns.ACTION_DIST_INPUTS][0, :3].softmax(-1).numpy()
    asked = tuple(map(float, seen[0]))
    drawn = [DEPTHS.index(gate.decide(Question(0, n, asked)).log) for n in range(3000)]
    assert np.bincount(drawn, minlength=3) / 3000 == pytest.approx(expected, abs=0.04)
    assert gate.decide(Question(0, 5, asked)) == gate.decide(Question(0, 5, asked))


def test_a_policy_name_changes_with_the_gate(module: Any, tmp_path: Path) -> None:
    from automem_learners.metamemory.export import export_gate

    export_gate(module, tmp_path / "a")
    export_gate(module, tmp_path / "b", is_sampled=True)
    options = GateOptions()
    label = gate_label(str(tmp_path / "a"), options)
    assert label != gate_label(str(tmp_path / "b"), options)
    assert label == gate_label(str(shutil.copytree(tmp_path / "a", tmp_path / "copy")), options)


def test_a_session_runs_the_gate_without_ray(module: Any, tmp_path: Path) -> None:
    from automem_learners.metamemory.export import export_gate

    folder = export_gate(module, tmp_path / "gate")
    code = (
        "import sys\n"
        "from automem.agent.gating.keeper import make_gate\n"
        "from automem.agent.gating.decision import GateOptions, Question\n"
        "from automem.agent.gating.features import NAMES\n"
        f"gate = make_gate({str(folder)!r}, GateOptions())\n"
        "print(gate.decide(Question(0, 0, (0.0,) * len(NAMES))))\n"
        "assert 'ray' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Decision(log=" in done.stdout
