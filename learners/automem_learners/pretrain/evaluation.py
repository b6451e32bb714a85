"""How close a model is to its teacher, prompt by prompt, on conversations it was not trained on."""

import random
from collections.abc import Sequence

import msgspec
import torch
from transformers import Qwen2ForCausalLM

from automem_learners.pretrain.corpus import KINDS
from automem_learners.pretrain.training import batches, collate, divergences
from automem_learners.pretrain.trees import Conversation


class KindScore(msgspec.Struct, frozen=True):
    """One kind of turn."""

    divergence: float
    """KL(teacher || model), nats per token, mean over supervised tokens."""
    certain_error: float
    """Mean probability missed where the teacher is certain of the next token."""
    tokens: int


@torch.no_grad()
def evaluate(
    model: Qwen2ForCausalLM, conversations: Sequence[Conversation]
) -> dict[str, KindScore]:
    """Scores by kind of turn."""
    model.eval()
    found: dict[str, list[torch.Tensor]] = {kind: [] for kind in KINDS}
    certain: dict[str, list[torch.Tensor]] = {kind: [] for kind in KINDS}
    for group in batches(conversations, 16384, random.Random(0)):
        batch = collate(group, int(model.config.pad_token_id or 0))
        each = divergences(model, batch)
        entries = torch.bincount(batch.entry_rows, minlength=len(batch.rows))
        for index, kind in enumerate(KINDS):
            is_kind = batch.kinds == index
            found[kind].append(each[is_kind])
            certain[kind].append(1 - (-each[is_kind & (entries == 1)]).exp())
    model.train()
    return {
        kind: KindScore(
            divergence=round(float(torch.cat(found[kind]).mean()), 5),
            certain_error=round(float(torch.cat(certain[kind]).mean()), 5),
            tokens=sum(len(part) for part in found[kind]),
        )
        for kind in KINDS
    }
