"""The Crafter policy's corpus, table and command, on a few steps of play."""

from functools import partial
from pathlib import Path

import pytest

from automem.agent.scaffold import load_scaffold
from automem.cli import main as automem
from automem.config import scaffold_path
from automem_envs.crafter import ApprenticePlayer, CrafterWorld
from automem_learners.crafter_policy.command import main
from automem_learners.crafter_policy.corpus import CorpusSource, CrafterCorpusPlan, make_corpus
from automem_learners.crafter_policy.pipeline import read_card
from automem_learners.crafter_policy.table import Arm, lines, play_table
from automem_learners.crafter_policy.tokenizer import crafter_tokenizer
from automem_learners.pretrain.trees import Conversation

SCAFFOLD = load_scaffold(scaffold_path("crafter_small"))


@pytest.fixture(scope="module")
def corpus() -> list[Conversation]:
    source = CorpusSource(
        make_world=partial(CrafterWorld),
        teacher=ApprenticePlayer(),
        players=((1.0, ApprenticePlayer(careful=True)), (1.0, ApprenticePlayer(slip=0.2))),
        scaffold=SCAFFOLD,
        plan=CrafterCorpusPlan(games=2, max_steps=12, plan_share=1.0, without_memory=0.0),
        seed=0,
    )
    return make_corpus(source, processes=1)


def test_the_corpus_holds_real_prompts_and_the_teachers_answers(
    corpus: list[Conversation],
) -> None:
    texts = [crafter_tokenizer().decode(found.tokens.tolist()) for found in corpus]
    assert sum("# plan" in text for text in texts) == 24
    assert any("# log" in text and "explore|" in text for text in texts)
    assert any("# results\nREAD progress.txt\nexplore: " in text for text in texts)
    assert all("You see:" in text for text in texts)
    assert {kind for found in corpus for kind in found.target_kinds.tolist()} == {0, 1, 2}


def test_quiet_logs_are_left_out_and_the_others_are_not(corpus: list[Conversation]) -> None:
    texts = [crafter_tokenizer().decode(found.tokens.tolist()) for found in corpus]
    logs = [text for text in texts if "# log" in text]
    assert logs
    assert len(logs) < 12


def test_the_table_pairs_its_arms_by_seed() -> None:
    arms = [Arm("careful", SCAFFOLD, ApprenticePlayer(careful=True))]
    arms += [Arm("without", SCAFFOLD, ApprenticePlayer(), memory="none")]
    rows = play_table(arms, lambda: CrafterWorld(max_steps=8), [1, 2], None)
    assert [row.steps for row in rows] == [8, 8]
    expected = [one - other for one, other in zip(rows[1].values, rows[0].values, strict=True)]
    assert rows[1].difference.mean == pytest.approx(sum(expected) / 2)
    assert "| without |" in lines(rows)[-1]


@pytest.mark.slow
def test_the_command_trains_a_model_and_writes_its_card(tmp_path: Path) -> None:
    small = ["corpus.games=1", "corpus.max_steps=20", "held_out_games=1", "run.processes=1"]
    small += ["training.epochs=0.5", "shape.layers=1", "shape.hidden=32", "shape.mlp=32"]
    small += ["table.episodes=2", "table.max_steps=3"]
    assert main([f"run.dir={tmp_path}", *small]) == 0
    card = read_card(tmp_path)
    assert card.rows[0].name == "policy, temperature 1"
    assert len(card.rows) == 8
    assert "script: the full player" in (tmp_path / "README.md").read_text()
    assert main([f"only_table={tmp_path}", *small]) == 0


def test_a_checkpoint_that_is_not_there_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert automem(["crafter-policy", f"only_table={tmp_path}"]) == 2
    assert "expected the folder of a checkpoint" in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "automem crafter-policy only_table=" in capsys.readouterr().out
