"""GPT-2 in Hugging Face's form, `model_type` "gpt2"."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.errors import ModelError
from models.gpt import GPT2
from models.hf.mapping import Weight

# The causal masks that older files keep, and copies of the embeddings.
IGNORED = r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias|lm_head\.weight"

# Options that change what is computed, with the only value that GPT-2 itself has.
_REQUIRED = {
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def build(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], source: str) -> GPT2:
    """The model that `config.json` describes.

    Raises:
      ModelError: an option that GPT-2 does not have.
    """
    for option, value in _REQUIRED.items():
        if config.get(option, value) != value:
            raise ModelError(
                f"{source}: {option} {config[option]!r} is not supported: only {value!r} is."
            )
    return GPT2(
        vocab_size=config["vocab_size"],
        embed_dim=config["n_embd"],
        num_heads=config["n_head"],
        num_layers=config["n_layer"],
        max_length=config["n_positions"],
        mlp_dim=config.get("n_inner"),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
        dropout_rate=config.get("resid_pdrop", 0.1),
    )


def weights(model: GPT2, tensors: Mapping[str, np.ndarray]) -> list[Weight]:
    """Where each parameter is; the first published files have no prefix `transformer.`."""
    prefix = "transformer." if "transformer.wte.weight" in tensors else ""
    layer, ours = f"{prefix}h.{{i}}", "decoder/layers"
    table = [
        Weight("token_embedder/embedding", f"{prefix}wte.weight"),
        Weight("position_embedder/embedding", f"{prefix}wpe.weight"),
        *_norm("final_norm", f"{prefix}ln_f"),
        *_norm(f"{ours}/self_attention_norm", f"{layer}.ln_1"),
        *_norm(f"{ours}/mlp_norm", f"{layer}.ln_2"),
        *_dense(f"{ours}/self_attention/out", f"{layer}.attn.c_proj"),
        *_dense(f"{ours}/mlp/wi", f"{layer}.mlp.c_fc"),
        *_dense(f"{ours}/mlp/wo", f"{layer}.mlp.c_proj"),
    ]
    for k, name in enumerate(("query", "key", "value")):
        table += _dense(f"{ours}/self_attention/{name}", f"{layer}.attn.c_attn", part=(k, 3))
    return table


def _norm(ours: str, theirs: str) -> list[Weight]:
    return [Weight(f"{ours}/scale", f"{theirs}.weight"), Weight(f"{ours}/bias", f"{theirs}.bias")]


def _dense(ours: str, theirs: str, part: tuple[int, int] | None = None) -> list[Weight]:
    # GPT-2's `Conv1D` keeps its matrix as [inputs, outputs], as we do.
    return [
        Weight(f"{ours}/kernel", f"{theirs}.weight", part=part),
        Weight(f"{ours}/bias", f"{theirs}.bias", part=part),
    ]
