"""T5 1.0 and 1.1 in Hugging Face's form, `model_type` "t5"."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.errors import ModelError
from models.hf.mapping import Weight, linear
from models.layers.mlps import GatedMLP
from models.t5 import T5, T5_1_1

# Copies of the embeddings, and a table of cross-attention that was never used.
IGNORED = (
    r"(en|de)coder\.embed_tokens\.weight|lm_head\.weight"
    r"|decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
)


def build(config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], source: str) -> T5:
    """The model that `config.json` and the presence of an output matrix describe.

    Raises:
      ModelError: an MLP that is neither T5 1.0's nor 1.1's.
    """
    families = {"relu": T5, "gated-gelu": T5_1_1}
    mlp = config.get("feed_forward_proj", "relu")
    if mlp not in families:
        raise ModelError(
            f"{source}: feed_forward_proj {mlp!r} is not supported: "
            f"one of {', '.join(map(repr, families))} is."
        )
    # Until transformers 5 the one option said both: whether to share and whether to scale.
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False)
    if scaled and has_output(tensors):
        raise ModelError(
            f"{source}: an output matrix lm_head.weight of its own together with scaled "
            "decoder outputs is not supported: T5 1.0 has neither the one nor 1.1 the other."
        )
    return families[mlp](
        vocab_size=config["vocab_size"],
        embed_dim=config["d_model"],
        mlp_dim=config["d_ff"],
        num_heads=config["num_heads"],
        head_dim=config["d_kv"],
        num_encoder_layers=config["num_layers"],
        num_decoder_layers=config.get("num_decoder_layers") or config["num_layers"],
        num_buckets=config.get("relative_attention_num_buckets", 32),
        max_distance=config.get("relative_attention_max_distance", 128),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
        dropout_rate=config.get("dropout_rate", 0.1),
        tied_output=scaled,
    )


def has_output(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether there is an output matrix that is not a copy of the embeddings."""
    return "lm_head.weight" in tensors and not np.array_equal(
        tensors["lm_head.weight"], tensors.get("shared.weight")
    )


def weights(model: T5, tensors: Mapping[str, np.ndarray]) -> list[Weight]:
    """Where each parameter is."""
    table = [Weight("token_embedder/embedding", "shared.weight")]
    if not model.tied_output:
        output = "lm_head" if has_output(tensors) else "shared"
        table.append(linear("output", output))
    for side, num_branches in (("encoder", 2), ("decoder", 3)):
        block, ours = f"{side}.block.{{i}}.layer", f"{side}/stack/layers"
        table += [
            Weight(
                f"{side}/relative_position_bias/embedding",
                f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            ),
            Weight(f"{side}/final_norm/scale", f"{side}.final_layer_norm.weight"),
            *_attention(f"{ours}/self_attention", f"{block}.0", "SelfAttention"),
        ]
        if num_branches == 3:
            table += _attention(f"{ours}/cross_attention", f"{block}.1", "EncDecAttention")
        dense = f"{block}.{num_branches - 1}"
        table.append(Weight(f"{ours}/mlp_norm/scale", f"{dense}.layer_norm.weight"))
        inputs = ("wi_0", "wi_1") if model.mlp is GatedMLP else ("wi",)
        for name in (*inputs, "wo"):
            table.append(linear(f"{ours}/mlp/{name}", f"{dense}.DenseReluDense.{name}"))
    return table


def _attention(ours: str, layer: str, kind: str) -> list[Weight]:
    names = {"query": "q", "key": "k", "value": "v", "out": "o"}
    return [
        Weight(f"{ours}_norm/scale", f"{layer}.layer_norm.weight"),
        *(linear(f"{ours}/{name}", f"{layer}.{kind}.{short}") for name, short in names.items()),
    ]
