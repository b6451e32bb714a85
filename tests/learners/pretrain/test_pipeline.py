"""`automem pretrain` from end to end, small; and that the shipped model is what its card says."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem.engine.models import EMBEDDED
from automem.engine.protocol import Message
from automem.engine.render import ChatRenderer
from automem.errors import UsageError
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.players import SloppyPlayer
from automem_envs.concentration.ranks import rank_names
from automem_learners.pretrain.card import read_card
from automem_learners.pretrain.command import main
from automem_learners.pretrain.gate import GatePlan, Table
from automem_learners.pretrain.model import load_model, parameter_count
from automem_learners.pretrain.pipeline import weights_digest
from automem_learners.pretrain.tokenizer import build_tokenizer

TINY = [
    "run.processes=1",
    "attempts=1",
    "drills.first=8",
    "drills.mixed=2",
    "corpus.games=2",
    "corpus.sizes=[4]",
    "held_out_games=1",
    "env.world.cards=4",
    "shape.hidden=32",
    "shape.layers=2",
    "shape.mlp=32",
    "training.batch_tokens=1024",
    "training.epochs=1",
    "gate.games=2",
    "gate.replicates=1",
    "gate.greedy_games=1",
    "gate.concurrency=4",
    "gate.max_tokens=8",
]


def test_a_checkpoint_comes_with_a_card_and_fails_an_honest_gate(tmp_path: Path) -> None:
    assert main([f"run.dir={tmp_path}", *TINY]) == 1
    card = read_card(tmp_path)
    assert not card.verdict.passed
    assert card.retrainings == 0
    assert card.weights_sha256 == weights_digest(tmp_path)
    assert set(card.held_out) == {"shipped scaffold", "held-out variants"}
    assert "NOT passed" in (tmp_path / "README.md").read_text()

    again = tmp_path / "again"
    main([f"run.dir={again}", f"start={tmp_path}", *TINY])
    assert [attempt.is_continued for attempt in read_card(again).attempts] == [False, True]
    assert read_card(again).retrainings == 1


def test_a_misspelt_key_is_an_error_that_names_the_right_one() -> None:
    with pytest.raises(UsageError, match=r"corpus\.games"):
        main(["corpus.game=3"])


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "automem pretrain run.dir=" in capsys.readouterr().out


# The shipped model


def test_the_shipped_weights_are_those_of_the_card() -> None:
    card = read_card(EMBEDDED)
    assert weights_digest(EMBEDDED) == card.weights_sha256
    assert parameter_count(load_model(EMBEDDED)) == card.parameters
    assert (EMBEDDED / "model.safetensors").stat().st_size < 2_400_000


def test_the_shipped_model_passed_its_gate() -> None:
    verdict = read_card(EMBEDDED).verdict
    assert verdict.passed
    assert verdict.plan.games >= 200
    assert max(abs(end) for end in verdict.interval) <= 0.03


def test_the_greedy_base_plays_worse_than_the_sampled_one() -> None:
    """Where the likeliest behaviour is good already, greedy decoding gains what training would."""
    verdict = read_card(EMBEDDED).verdict
    greedy, base = verdict.greedy.progression.mean, verdict.base.progression.mean
    assert greedy is not None
    assert base is not None
    assert greedy < base


def test_the_shipped_model_was_gated_on_the_shipped_scaffold() -> None:
    assert read_card(EMBEDDED).scaffold == load_scaffold(scaffold_path("embedded")).version


def test_the_shipped_tokenizer_is_the_one_that_the_code_builds() -> None:
    shipped = json.loads((EMBEDDED / "tokenizer.json").read_text())
    assert shipped == json.loads(build_tokenizer().backend_tokenizer.to_str())
    assert ChatRenderer("embedded").start([Message("user", "flip 05")])[1:-2] == [
        build_tokenizer().convert_tokens_to_ids(token) for token in ("\u0120flip", "\u012005")
    ]


def answer(model: Any, messages: list[Message]) -> str:
    """The likeliest completion, token by token."""
    tokenizer = build_tokenizer()
    ids = torch.tensor([ChatRenderer("embedded").start(messages)])
    said = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10
    )
    return str(tokenizer.decode(said[0, ids.shape[1] :]))


def test_the_shipped_actor_flips_the_mate_that_a_result_names() -> None:
    """Fifteen boards by greedy decoding: what makes memory worth anything to this player."""
    model = load_model(EMBEDDED)
    scaffold = load_scaffold(scaffold_path("embedded"))
    system = scaffold.render(
        "plan.system",
        {
            "instruction": "find pairs of cards",
            "files": scaffold.schema.files,
            "operations": ["<|SEARCH|>file|keyword<|END|>"],
        },
    )
    hits = 0
    for number in range(15):
        pending, mate = 3 + number, 36 - number
        text = f"{board_with(pending, 'owl')}\n# files\ncards.txt 9\nnotes.txt 0"
        result = f"# results\nSEARCH cards.txt|owl\n{mate:02d} owl\n{pending:02d} owl\n# commit"
        messages = [
            Message("system", system),
            Message("user", text),
            Message("assistant", "<|SEARCH|>cards.txt|owl<|END|>"),
            Message("user", result),
        ]
        hits += f"<|ACTION|>flip {mate:02d}<|END|>" in answer(model, messages)
    assert hits >= 13


def test_the_shipped_actor_finds_the_mate_among_ten_lines_that_the_prompt_shows() -> None:
    """What a scaffold that shows its memory can be worth to this player."""
    model = load_model(EMBEDDED)
    chooser = random.Random(3)
    hits = 0
    for _ in range(20):
        pending, *others = chooser.sample(range(1, 41), 11)
        ranks = chooser.sample(rank_names(20), 10)
        lines = [f"{card:02d} {rank}" for card, rank in zip(others, ranks, strict=True)]
        wanted = chooser.randrange(10)
        text = (
            f"{board_with(pending, ranks[wanted])}\n# files\n# memory cards.txt\n"
            + "\n".join(lines)
            + "\n# commit"
        )
        messages = [Message("system", "find pairs of cards"), Message("user", text)]
        hits += f"<|ACTION|>flip {others[wanted]:02d}<|END|>" in answer(model, messages)
    assert hits >= 17


def board_with(pending: int, rank: str) -> str:
    """A PLAN's beginning: one card lies open, 39 face down."""
    down = " ".join(f"{card:02d}" for card in range(1, 41) if card != pending)
    opening = f"# plan\n# observation\n{pending:02d} shows {rank} first"
    return f"{opening}\npending {pending:02d}\ndown {down}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_model_plays_as_its_card_says() -> None:
    card = read_card(EMBEDDED)
    plan = GatePlan(games=48, replicates=1, greedy_games=8, concurrency=48)
    scaffold = load_scaffold(scaffold_path("embedded"))
    table = Table(ConcentrationWorld, SloppyPlayer(), scaffold, plan)
    verdict = table.judge(EMBEDDED, lambda name, played: None)
    for now, then in ((verdict.base, card.verdict.base), (verdict.teacher, card.verdict.teacher)):
        assert now.progression.mean is not None
        assert then.progression.mean is not None
        assert now.progression.se is not None
        assert abs(now.progression.mean - then.progression.mean) < 4 * now.progression.se
