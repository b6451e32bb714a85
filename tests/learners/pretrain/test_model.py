"""The small model's beginning."""

import pytest
import torch

from automem.errors import UsageError
from automem_learners.pretrain.corpus import shared_encoder
from automem_learners.pretrain.model import ModelShape, build_model


def test_mimetic_heads_look_for_what_is_like_their_token_above_the_first_layer() -> None:
    model = build_model(ModelShape(mimetic=True), seed=0)
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            key = layer.self_attn.k_proj.weight[:32]
            query = layer.self_attn.q_proj.weight[:32]
            alike = torch.cosine_similarity(query.flatten(), key.flatten(), dim=0)
            assert (alike > 0.9) == (number > 0)


def test_a_wired_model_looks_for_the_line_of_the_rank_it_says() -> None:
    shape = ModelShape(wired=True, rope_theta=1e6, embedding_scale=9.0)
    listed = [("07", "owl"), ("12", "fox"), ("31", "crab"), ("04", "hare"), ("25", "lynx")]
    mine, others = [], []
    for seed, separator in ((0, " "), (1, ": "), (2, " ")):
        model = build_model(shape, seed)
        model.set_attn_implementation("eager")
        text = "\n".join(f"{card}{separator}{rank}" for card, rank in listed)
        text += "\n# observation\n02 shows {0} first\npending 02\n# commit\n{0}"
        for _, rank in listed:
            ids = shared_encoder().answer(text.format(rank))[:-1]
            with torch.no_grad():
                seen = model(torch.tensor([ids]), output_attentions=True).attentions[1][0, 0, -1]
            for _, name in listed:
                share = float(seen[ids.index(shared_encoder().answer(name)[0])])
                (mine if name == rank else others).append(share)
    assert sum(mine) / len(mine) > 0.15
    assert sum(others) / len(others) < sum(mine) / len(mine) / 8


@pytest.mark.parametrize("change", [{"layers": 1}, {"heads": 2, "kv_heads": 2}])
def test_a_model_too_small_to_be_wired_says_so(change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"shape\.layers .* shape\.heads"):
        build_model(ModelShape(wired=True, **change), 0)
