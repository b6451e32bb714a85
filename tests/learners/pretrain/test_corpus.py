"""Training data: games through the real session, labelled by the teacher."""

from functools import partial

from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.players import PerfectMemoryPlayer, SloppyPlayer
from automem_learners.pretrain.corpus import CorpusPlan, CorpusSource, make_corpus
from automem_learners.pretrain.tokenizer import build_tokenizer
from automem_learners.pretrain.trees import Conversation

TOKENIZER = build_tokenizer()


def corpus(plan: CorpusPlan, processes: int = 1, seed: int = 0) -> list[Conversation]:
    source = CorpusSource(
        make_world=partial(ConcentrationWorld),
        teacher=SloppyPlayer(),
        players=((1.0, PerfectMemoryPlayer()), (1.0, SloppyPlayer())),
        scaffold=load_scaffold(scaffold_path("embedded")),
        plan=plan,
        seed=seed,
    )
    return make_corpus(source, processes)


def texts(conversations: list[Conversation]) -> list[str]:
    return [TOKENIZER.decode(c.tokens.tolist()) for c in conversations]


SMALL = CorpusPlan(games=4, kept_share=1.0, sizes=(6,))


def test_the_corpus_does_not_depend_on_the_number_of_processes() -> None:
    plan = CorpusPlan(games=20, kept_share=0.5, sizes=(4,))
    assert texts(corpus(plan)) == texts(corpus(plan, processes=2))


def test_every_routine_is_a_conversation_with_targets() -> None:
    found = corpus(SMALL)
    assert len(found) > 20
    assert all(len(c.target_nodes) > 0 for c in found)
    kinds = {int(kind) for c in found for kind in c.target_kinds}
    assert kinds == {0, 1, 2}


def test_results_are_among_the_prompts_that_the_actor_learns_from() -> None:
    assert any("# results\nSEARCH" in text and "# commit" in text for text in texts(corpus(SMALL)))


def test_held_out_games_are_not_the_trained_ones() -> None:
    held_out = CorpusPlan(games=4, kept_share=1.0, sizes=(6,), is_held_out=True)
    assert not set(texts(corpus(SMALL))) & set(texts(corpus(held_out)))


def test_a_share_of_routines_is_kept() -> None:
    half = CorpusPlan(games=4, kept_share=0.5, sizes=(6,))
    assert 0.3 < len(corpus(half)) / len(corpus(SMALL)) < 0.7
