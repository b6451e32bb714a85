"""The small model's beginning."""

import torch

from automem_learners.pretrain.model import ModelShape, build_model


def test_mimetic_heads_look_for_what_is_like_their_token_above_the_first_layer() -> None:
    model = build_model(ModelShape(mimetic=True), seed=0)
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            key = layer.self_attn.k_proj.weight[:32]
            query = layer.self_attn.q_proj.weight[:32]
            alike = torch.cosine_similarity(query.flatten(), key.flatten(), dim=0)
            assert (alike > 0.9) == (number > 0)
