"""Writes tiny random networks of T5X with the logits that its own code computes.

    python tests/models/t5x/make_fixtures.py T5X

where T5X is a clone of github.com/google-research/t5x, of which only `t5x/examples` is run: it
needs no more than JAX and Flax. Each file under `fixtures/` holds the parameters by their names in
a checkpoint (`target/…`), a batch with padding (`batch/…`) and its logits.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

FIXTURES = Path(__file__).parent / "fixtures"
SIZES = {"emb_dim": 12, "num_heads": 2, "head_dim": 4, "mlp_dim": 20, "vocab_size": 24}
TWO_SIDES = {**SIZES, "num_encoder_layers": 2, "num_decoder_layers": 3}
GELU = ("gelu", "linear")

ENCODER_TOKENS = [[5, 6, 7, 1, 0, 0, 0], [9, 10, 11, 12, 13, 14, 1]]
DECODER_TOKENS = [[0, 8, 9, 3, 2, 0], [0, 15, 16, 17, 18, 19]]
TARGET_TOKENS = [[8, 9, 3, 2, 1, 0], [15, 16, 17, 18, 19, 1]]


def main(clone: str) -> None:
    """Writes every fixture."""
    # Only the examples: the package's own start wants all that T5X needs.
    for name in ("t5x", "t5x.examples"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(clone, *name.split(".")))]
        sys.modules[name] = package
    two = {
        "encoder_input_tokens": ENCODER_TOKENS,
        "decoder_input_tokens": DECODER_TOKENS,
        "decoder_target_tokens": TARGET_TOKENS,
    }
    one = {name: two[name] for name in ("decoder_input_tokens", "decoder_target_tokens")}
    t5, scalable, alone = (
        importlib.import_module(f"t5x.examples.{name}.network")
        for name in ("t5", "scalable_t5", "decoder_only")
    )
    tied = {"mlp_activations": ("relu",), "logits_via_embedding": True}
    write("t5_1_0", t5.Transformer(t5.T5Config(**TWO_SIDES, **tied)), two)
    write("t5_1_1", t5.Transformer(t5.T5Config(**TWO_SIDES, mlp_activations=GELU)), two)
    config = scalable.T5Config(**TWO_SIDES, mlp_activations=GELU)
    write("scanned", scalable.Transformer(config), two)
    config = alone.TransformerConfig(
        **SIZES, num_layers=2, mlp_activations=GELU, logits_via_embedding=True
    )
    write("decoder_only", alone.DecoderWrapper(config), one)


def write(name: str, network: nn.Module, batch: dict[str, Any]) -> None:
    """One network with random parameters."""
    batch = {feature: jnp.array(rows) for feature, rows in batch.items()}
    variables = network.init(jax.random.key(0), **batch, enable_dropout=False)
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    keys = jax.random.split(jax.random.key(1), len(flat))
    # Scales too, which T5X initializes to 1.
    flat = {
        path: jax.random.normal(key, leaf.shape) * 0.5
        for key, (path, leaf) in zip(keys, sorted(flat.items()), strict=True)
    }
    params = traverse_util.unflatten_dict(flat, sep="/")
    logits = network.apply({"params": params}, **batch, enable_dropout=False)
    FIXTURES.mkdir(exist_ok=True)
    np.savez_compressed(
        FIXTURES / f"{name}.npz",
        **{f"target/{path}": leaf for path, leaf in flat.items()},
        **{f"batch/{feature}": rows for feature, rows in batch.items()},
        logits=logits,
    )


if __name__ == "__main__":
    main(sys.argv[1])
