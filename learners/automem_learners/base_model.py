"""The model that training starts from: found, checked and loaded.

`find_base` costs no weights: it answers everything that can be wrong before time is spent.
"""

import msgspec
import torch

from automem.engine.models import resolve
from automem.errors import UsageError
from automem_learners.tokenizers import tokenizer_digest
from automem_learners.train import attention


class Base(msgspec.Struct, frozen=True):
    """A base model, by name, before its weights are loaded."""

    name: str
    """As the person gave it: goes into cards and adapters."""
    location: str
    """Folder or hub name."""
    tokenizer: str
    """Digest of its tokenizer."""
    vocabulary: int
    """Rows of its embedding."""


def find_base(name: str) -> Base:
    """The base model `name`; UsageError where there is none, or one that cannot be trained."""
    from transformers import AutoConfig

    location = resolve(name)
    try:
        config = AutoConfig.from_pretrained(location)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"there is no base model {name!r}: expected a folder with config.json and weights, "
            f"`embedded`, or a model name of the hub ({str(error).splitlines()[0]})"
        ) from error
    attention.check_supported(config)
    digest = tokenizer_digest(name)
    return Base(name=name, location=location, tokenizer=digest, vocabulary=config.vocab_size)


def skeleton(base: Base) -> torch.nn.Module:
    """The model without memory for its weights (torch's meta device): to look at its layers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(base.location), attn_implementation=attention.NAME
        )
    return model


def load_model(base: Base, dtype: torch.dtype) -> torch.nn.Module:
    """The model for training on packed rows, on the CPU (or as ZeRO 3 places it)."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would be drawn over the loop's own
    model = AutoModelForCausalLM.from_pretrained(
        base.location, dtype=dtype, attn_implementation=attention.NAME
    )
    model.config.use_cache = False
    loaded: torch.nn.Module = model
    return loaded
