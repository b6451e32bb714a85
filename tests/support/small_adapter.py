"""A PEFT adapter of random weights, large enough to change what a small model says."""

from pathlib import Path

from automem.engine.models import resolve


def save_adapter(base: str, folder: Path, seed: int) -> Path:
    """An adapter of `base` (a name of `automem.engine.models`, or a folder)."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(resolve(base)), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    return folder
