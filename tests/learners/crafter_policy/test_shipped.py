"""The Crafter policy that is shipped: it is what its card says, and it plays."""

import json
from pathlib import Path

import msgspec
import pytest

from automem.agent.scaffold import load_scaffold
from automem.config import compose, scaffold_path
from automem.engine.models import CRAFTER_SMALL, resolve
from automem.errors import UsageError
from automem_envs.crafter import CrafterWorld
from automem_learners.crafter_policy.pipeline import read_card, readme
from automem_learners.crafter_policy.table import Arm, play_table
from automem_learners.crafter_policy.tokenizer import crafter_tokenizer
from automem_learners.pretrain.model import load_model, parameter_count
from automem_learners.pretrain.pipeline import weights_digest

CARD = read_card(CRAFTER_SMALL)
MOST_BYTES = 10_000_000


def test_it_goes_by_its_name_and_is_small() -> None:
    assert resolve("crafter_small") == str(CRAFTER_SMALL)
    assert sum(path.stat().st_size for path in CRAFTER_SMALL.iterdir()) < MOST_BYTES
    assert compose("config", ["experiment=crafter_small"]).engine.model == "crafter_small"


def test_a_name_whose_folder_is_missing_is_told_with_the_command_that_makes_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(
        resolve.__globals__["SHIPPED"], "crafter_small", (tmp_path, "automem crafter-policy")
    )
    with pytest.raises(UsageError, match="make it with `automem crafter-policy`"):
        resolve("crafter_small")


def test_its_card_is_of_these_weights() -> None:
    assert weights_digest(CRAFTER_SMALL) == CARD.weights_sha256
    assert parameter_count(load_model(CRAFTER_SMALL)) == CARD.parameters
    assert (CRAFTER_SMALL / "README.md").read_text() == readme(CARD)


def test_it_was_trained_on_the_shipped_scaffold_and_tokenizer() -> None:
    assert CARD.scaffold == load_scaffold(scaffold_path("crafter_small")).version
    shipped = json.loads((CRAFTER_SMALL / "tokenizer.json").read_text())
    assert shipped == json.loads(crafter_tokenizer().backend_tokenizer.to_str())


def test_its_table_has_player_memoryless_and_random_on_the_same_seeds() -> None:
    names = [row.name for row in CARD.rows]
    assert names[0] == "policy, temperature 1"
    assert {"policy without memory", "script: its forgetful teacher"} < set(names)
    assert {"script: the full player", "script: random actions"} < set(names)
    assert set(names) <= {arm["name"] for arm in compose("crafter-policy", []).arms}
    assert CARD.table.seeds == "report"
    assert {len(row.values) for row in CARD.rows} == {CARD.table.episodes}
    for row in CARD.rows:
        assert row.progression.mean == pytest.approx(sum(row.values) / len(row.values))


def test_random_actions_are_below_it() -> None:
    rows = {row.name: row.difference for row in CARD.rows}
    interval = rows["script: random actions"].ci95
    assert interval is not None
    assert interval[1] < 0


def test_it_plays_crafter_from_text() -> None:
    arm = Arm("greedy", load_scaffold(scaffold_path("crafter_small")), temperature=0.0)
    (row,) = play_table([arm], lambda: CrafterWorld(max_steps=12), [7, 8], CRAFTER_SMALL, threads=1)
    assert row.steps == 12
    assert row.invalid + row.fallbacks <= 0.5
    assert msgspec.json.encode(row)
