"""The training loop: cross-entropy against the teacher's distributions, on trees of tokens."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from transformers import Qwen2ForCausalLM

from automem_learners.pretrain.trees import Conversation


class TrainingPlan(msgspec.Struct, frozen=True):
    """The optimiser's settings."""

    learning_rate: float = 3e-3
    continued_learning_rate: float = 1.5e-3
    """Of an attempt that goes on from the one before."""
    final_share: float = 0.02
    """Of the learning rate, reached by a cosine at the end."""
    warmup_steps: int = 60
    weight_decay: float = 0.02
    clip: float = 1.0
    batch_tokens: int = 8192
    epochs: float = 1.0
    seconds: float = 0.0
    """Wall time after which the schedule is made to end; 0 trains all epochs. A run that is cut
    short by time does not repeat exactly, and on a busy machine it sees fewer tokens."""
    tokens: int = 0
    """Tokens after which the schedule is made to end, on any machine the same; 0 trains all
    epochs."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Conversations side by side. B conversations of up to L tokens, R target rows, E entries."""

    tokens: torch.Tensor
    """[B, L] int64."""
    positions: torch.Tensor
    """[B, L] int64."""
    mask: torch.Tensor
    """[B, 1, L, L] bool: who attends to whom."""
    rows: torch.Tensor
    """[R] int64: index into B * L of the tokens that predict."""
    weights: torch.Tensor
    """[R] float32."""
    kinds: torch.Tensor
    """[R] int64."""
    entry_rows: torch.Tensor
    """[E] int64: index into R."""
    entry_ids: torch.Tensor
    """[E] int64: a token that may follow."""
    entry_shares: torch.Tensor
    """[E] float32: its probability."""
    size: int
    """Tokens, padding not counted."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training is."""

    step: int
    steps: int
    loss: float
    """Nats per supervised token above the teacher's own entropy (KL), running mean."""
    tokens: int
    tokens_per_s: float


def collate(conversations: Sequence[Conversation], pad: int) -> Batch:
    """Pad and stack."""
    length = max(len(c.tokens) for c in conversations)
    count = len(conversations)
    tokens = np.full((count, length), pad, dtype=np.int64)
    positions = np.zeros((count, length), dtype=np.int64)
    mask = np.zeros((count, 1, length, length), dtype=np.bool_)
    mask[:, 0, range(length), range(length)] = True  # padding sees itself: no row of nothing
    rows, entry_rows, offset = [], [], 0
    for index, c in enumerate(conversations):
        size = len(c.tokens)
        tokens[index, :size] = c.tokens
        positions[index, :size] = c.depths()
        mask[index, 0, :size, :size] = c.ancestors()
        rows.append(c.target_nodes.astype(np.int64) + index * length)
        entry_rows.append(np.repeat(np.arange(len(c.target_nodes)), np.diff(c.starts)) + offset)
        offset += len(c.target_nodes)

    def joined(name: str, dtype: Any) -> torch.Tensor:
        parts = [getattr(c, name) for c in conversations]
        return torch.from_numpy(np.concatenate(parts).astype(dtype))

    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(positions),
        mask=torch.from_numpy(mask),
        rows=torch.from_numpy(np.concatenate(rows)),
        weights=joined("target_weights", np.float32),
        kinds=joined("target_kinds", np.int64),
        entry_rows=torch.from_numpy(np.concatenate(entry_rows)),
        entry_ids=joined("ids", np.int64),
        entry_shares=joined("shares", np.float32),
        size=sum(len(c.tokens) for c in conversations),
    )


def divergences(model: Qwen2ForCausalLM, batch: Batch) -> torch.Tensor:
    """KL(teacher || model) in nats of each target row, shape [R]."""
    trunk: Any = model.model
    hidden = trunk(
        input_ids=batch.tokens,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
    ).last_hidden_state
    picked = hidden.reshape(-1, hidden.shape[-1])[batch.rows]
    logprobs = torch.log_softmax(model.lm_head(picked).float(), dim=-1)
    at_entries = logprobs[batch.entry_rows, batch.entry_ids]
    terms = batch.entry_shares * (batch.entry_shares.log() - at_entries)
    return torch.zeros(len(batch.rows)).index_add(0, batch.entry_rows, terms)


def batches(
    conversations: Sequence[Conversation], batch_tokens: int, chooser: random.Random
) -> Iterator[list[Conversation]]:
    """One epoch: batches of alike lengths, in random order, each of about `batch_tokens`."""
    order = sorted(conversations, key=lambda c: len(c.tokens) + 16 * chooser.random())
    groups: list[list[Conversation]] = [[]]
    longest = 0
    for conversation in order:
        longest = max(longest, len(conversation.tokens))
        if groups[-1] and longest * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
            longest = len(conversation.tokens)
        groups[-1].append(conversation)
    chooser.shuffle(groups)
    yield from groups


def train(
    model: Qwen2ForCausalLM,
    conversations: Sequence[Conversation],
    plan: TrainingPlan,
    seed: int,
    on_progress: Callable[[Progress], None],
) -> int:
    """Train in place; the number of tokens seen."""
    chooser = random.Random(seed)
    pad = int(model.config.pad_token_id or 0)
    optimiser = _optimiser(model, plan)
    steps = math.ceil(
        plan.epochs * sum(1 for _ in batches(conversations, plan.batch_tokens, random.Random(seed)))
    )
    start, tokens, step, running = time.perf_counter(), 0, 0, 0.0
    model.train()
    while step < steps:
        for group in batches(conversations, plan.batch_tokens, chooser):
            done = step / steps
            if plan.seconds:
                done = max(done, (time.perf_counter() - start) / plan.seconds)
            if plan.tokens:
                done = max(done, tokens / plan.tokens)
            if step >= steps or done >= 1:
                return tokens
            batch = collate(group, pad)
            for options in optimiser.param_groups:
                options["lr"] = _learning_rate(plan, step, done)
            each = divergences(model, batch)
            # Sum over a conversation's tokens, mean over conversations (a constant makes it read
            # per token): neither length nor padding weighs.
            loss = (each * batch.weights).sum() / (len(group) * 8.0)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step, tokens = step + 1, tokens + batch.size
            value = float(each.detach().mean())
            running = value if step == 1 else 0.95 * running + 0.05 * value
            rate = tokens / (time.perf_counter() - start)
            on_progress(Progress(step, steps, running, tokens, rate))
    return tokens


def _optimiser(model: Qwen2ForCausalLM, plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW; norms and biases do not decay."""
    parameters = list(model.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=plan.learning_rate,
        betas=(0.9, 0.98),
    )


def _learning_rate(plan: TrainingPlan, step: int, done: float) -> float:
    warm = min(1.0, (step + 1) / plan.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return plan.learning_rate * warm * (plan.final_share + (1 - plan.final_share) * cosine)
