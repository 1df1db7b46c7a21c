"""The state in which a decoding loop begins: the prompt read, the first token to feed.

Shapes: `b` rows, `p` prompt columns, `v` vocabulary.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5x_like.protocols import Batch, Decodes

Array = Any


class Start(NamedTuple):
    """Where decoding begins.

    Attributes:
      cache: the model's, the prompt read.
      tokens_b: int32 `[b]`, the token to feed first.
      logits_bv: float32 `[b, v]` when the first new token's logits are known already, and
        so nothing is to be fed first; None otherwise.
    """

    cache: Any
    tokens_b: Array
    logits_bv: Array | None


def begin(
    model: Decodes, params: Any, decoding_params: Any, batch: Batch, max_new_tokens: int
) -> Start:
    """Reads encoder inputs or prompt.

    Args:
      model: gives `init_cache` and `logits`.
      params: its parameters.
      decoding_params: the same, from `model.decoding_params`.
      batch: as `PromptFormat.decoding_batch` makes it.
      max_new_tokens: how many tokens may follow.

    The last prompt column is left for the loop's first step, which is cheaper than a
    prefill that returns logits. Only where the prompt attends in both directions must all
    of it be read at once; its last logits then come from a plain forward pass.
    """
    prompt_bp = batch["decoder_input_tokens"]
    max_decode_length = prompt_bp.shape[1] + max_new_tokens - 1
    if "decoder_causal_attention" in batch:
        cache = model.init_cache(decoding_params, batch, max_decode_length)
        return Start(cache, prompt_bp[:, -1], model.logits(params, batch)[:, -1])
    read = {
        name: value[:, :-1] if name.startswith("decoder_") else value
        for name, value in batch.items()
    }
    return Start(model.init_cache(decoding_params, read, max_decode_length), prompt_bp[:, -1], None)


def spread(tree: Any, copies: int) -> Any:
    """Each row of the arrays so many times over, one after another; scalars are of all rows."""
    return jax.tree.map(
        lambda leaf: jnp.repeat(leaf, copies, axis=0) if jnp.ndim(leaf) else leaf, tree
    )
