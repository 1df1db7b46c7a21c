"""Writes tiny random checkpoints of models that `transformers` had before version 5.

    python -m tests.models.hf.make_version_4_fixtures

needs transformers 4.35 in place of the one of [interop]. Each directory holds `config.json` and
`model.safetensors`, and `version_4.npz`: two segments, the second with the memory of the first, the
log-probabilities of both, and greedy tokens after the first.
"""

import re
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent / "fixtures"


def transfo_xl() -> torch.nn.Module:
    """Tails of narrower vectors, projections, u and v of each layer, clamped distances."""
    return _random(
        cutoffs=[20, 50], d_embed=20, div_val=2, clamp_len=5, same_length=False, untie_r=True
    )


def transfo_xl_shared() -> torch.nn.Module:
    """One table, u and v of all layers, and as many keys for each query."""
    return _random(
        cutoffs=[20, 50], d_embed=24, div_val=1, clamp_len=-1, same_length=True, untie_r=False
    )


def _random(**options: object) -> torch.nn.Module:
    """Every parameter far from its initial value, norms and biases too."""
    config = transformers.TransfoXLConfig(
        vocab_size=80, d_model=24, n_head=3, d_head=6, d_inner=44, n_layer=3, mem_len=6,
        layer_norm_epsilon=1e-3, **options,
    )  # fmt: skip
    model = transformers.TransfoXLLMHeadModel(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if re.search(r"layer_norm\.weight", name) else 0.0
            parameter.normal_(mean, 0.3, generator=generator)
    return model.eval()


@torch.no_grad()
def main() -> None:
    """Writes all."""
    rng = np.random.default_rng(0)
    for make in (transfo_xl, transfo_xl_shared):
        model, directory = make(), FIXTURES / make.__name__
        directory.mkdir(exist_ok=True)
        model.config.save_pretrained(directory)
        state = {name: tensor.contiguous() for name, tensor in model.named_parameters()}
        state["transformer.pos_emb.inv_freq"] = model.transformer.pos_emb.inv_freq
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
        first, second = (torch.tensor(rng.integers(0, 80, (3, n))) for n in (9, 5))
        one = model(first)
        two = model(second, mems=one.mems)
        tokens, mems, given = [], one.mems, one.logits[:, -1:].argmax(-1)
        for _ in range(15):
            tokens.append(given)
            after = model(given, mems=mems)
            mems, given = after.mems, after.logits[:, -1:].argmax(-1)
        found = {"first": one.logits, "second": two.logits, "tokens": torch.cat(tokens, dim=1)}
        np.savez_compressed(
            directory / "version_4.npz",
            first_tokens=first.numpy(),
            second_tokens=second.numpy(),
            **{name: x.numpy() for name, x in found.items()},
        )


if __name__ == "__main__":
    main()
