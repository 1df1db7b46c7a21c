"""Writes low-rank factors of `peft` for fixtures, with the logits that it computes.

    python -m tests.models.hf.make_peft_fixtures

needs the extra [interop] and `peft` (written with 0.21.2). Each directory under `peft_fixtures/`
holds what `save_pretrained` writes, and `expected.npz`: tokens without padding, and their logits.
"""

from pathlib import Path

import numpy as np
import peft
import torch
import transformers

from tests.models.hf.make_fixtures import FIXTURES

PEFT_FIXTURES = Path(__file__).parent / "peft_fixtures"
# By directory: the fixture of the base model, and options of the factors.
ADAPTERS = {
    "llama": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    # Keys are ends of names and regular expressions, and the first that fits counts; in the order
    # of the alphabet, in which `peft` writes them.
    "llama_patterns": (
        "llama",
        {
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {"v_proj": 1},
            "alpha_pattern": {r".*layers\.0\..*": 12, r"layers\.2.*proj": 5, "q_proj": 7},
        },
    ),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
}


def write(name: str) -> None:
    """Random factors on the fixture of their base model."""
    torch.manual_seed(0)
    fixture, options = ADAPTERS[name]
    base = transformers.AutoModelForCausalLM.from_pretrained(FIXTURES / fixture)
    config = peft.LoraConfig(r=2, lora_alpha=3, **options)
    model = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.normal_(std=0.3)
        tokens = torch.arange(3, 19).reshape(2, 8)
        logits = model(tokens).logits.numpy()
    model.save_pretrained(PEFT_FIXTURES / name)
    (PEFT_FIXTURES / name / "README.md").unlink(missing_ok=True)
    np.savez_compressed(PEFT_FIXTURES / name / "expected.npz", tokens=tokens, logits=logits)


if __name__ == "__main__":
    for each in ADAPTERS:
        write(each)
