"""Writes low-rank factors of `peft` for two fixtures, with the logits that it computes.

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
TARGETS = {"llama": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_fc"]}


def write(name: str) -> None:
    """Random factors on the fixture of this name."""
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(FIXTURES / name)
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=TARGETS[name], fan_in_fan_out=name == "gpt2"
    )
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
    for each in TARGETS:
        write(each)
