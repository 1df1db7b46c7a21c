"""The base class of decoder-only families: embeddings, one causal stack, prefill and decoding."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from models.headed import HeadedLanguageModel
from models.language_model import Batch, Cache
from models.layers import intermediates
from models.layers.attention.masks import Mask
from models.layers.block import Context
from models.layers.dropout import Dropout

Array = jax.Array

INPUT_ATTENTION = ("prefix", "causal")


class DecoderOnly(HeadedLanguageModel, kw_only=True):
    """The base class of decoder-only families.

    A family's `setup` makes `token_embedder`, `decoder` (a `Stack` or what is called like one)
    and, unless it overrides `final_layers`, `final_norm`. It overrides `embed`, `final_layers` and
    `output_kernel` where its own differ.

    Attributes:
      input_attention: how the inputs of a task with inputs and targets are seen: "prefix", in
        both directions (Raffel et al. 2020, section 3.2.1), or "causal", like the targets. Without
        inputs the two are the same.
    """

    input_features: ClassVar[tuple[str, ...]] = ("decoder_input_tokens",)
    reads_prompts: ClassVar[bool] = True
    # Whether what enters the stack has dropout.
    drops_embeddings: ClassVar[bool] = True

    input_attention: str = "prefix"

    @property
    def text_format(self) -> str:
        """By how the inputs of a pair are seen."""
        if self.input_attention not in INPUT_ATTENTION:
            raise self.refused("input_attention", f"it must be one of {INPUT_ATTENTION}")
        return f"{self.input_attention}_language_model"

    def embed(self, tokens_bt: Array, positions_bt: Array | None) -> Array:
        """Input embeddings, `[b, t, e]`; positions None are 0, 1, 2, … in every row."""
        return self.token_embedder(tokens_bt)

    def final_layers(self, x_bte: Array) -> Array:
        """Applies the final layer norm to the stack's output."""
        return self.final_norm(x_bte)

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, `[e, v]`: the embeddings, transposed."""
        return self.token_embedder.output_kernel()

    @intermediates.within(intermediates.DECODER)
    def hidden_states(self, **features: Any) -> Array:
        """The hidden states after the final layer norm, `[b, t, e]`."""
        x_bte, context = self.stack_inputs(**features)
        return self.final_layers(self.decoder(x_bte, context))

    def stack_inputs(
        self,
        *,
        decoder_input_tokens: Array,
        decoder_segment_ids: Array | None = None,
        decoder_positions: Array | None = None,
        decoder_causal_attention: Array | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> tuple[Array, Context]:
        """What enters the layers, `[b, t, e]`, and what all of them read beside it."""
        x_bte = self.embed(decoder_input_tokens, decoder_positions)
        if enable_dropout and self.dropout_rate and self.drops_embeddings:
            x_bte = Dropout(self.dropout_rate)(x_bte, self.make_rng("dropout"))
        mask = Mask(
            causal=True,
            query_segments_bt=decoder_segment_ids,
            key_segments_bs=decoder_segment_ids,
            prefix_bt=_prefix(decoder_causal_attention),
        )
        return x_bte, Context(mask, positions_bt=decoder_positions, enable_dropout=enable_dropout)

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """Runs the prompt and fills the cache with its keys and values."""
        prompt_bp = batch["decoder_input_tokens"]
        b, p = prompt_bp.shape
        segments_bp = batch.get("decoder_segment_ids")
        positions_bp = batch.get("decoder_positions")
        valid_bp = jnp.ones((b, p), bool) if segments_bp is None else segments_bp != 0
        if positions_bp is None:
            positions_bp = jnp.maximum(jnp.cumsum(valid_bp, axis=1) - 1, 0)
        new = ((0, 0), (0, max_decode_length - p))
        prefix_bp = _prefix(batch.get("decoder_causal_attention"))
        cache = {
            "layers": self.decoder.empty_cache(b, max_decode_length),
            "next_slot": jnp.zeros((), jnp.int32),
            "next_position": jnp.zeros((b,), jnp.int32),
            "valid": jnp.pad(valid_bp, new, constant_values=True),
        }
        if not p:
            return cache
        prefix_bs = None if prefix_bp is None else jnp.pad(prefix_bp, new)
        cache = self._extend(cache, prompt_bp, positions_bp, prefix_bs)[1]
        return cache | {"next_position": jnp.where(valid_bp[:, -1], positions_bp[:, -1] + 1, 0)}

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """Hidden states of the next tokens, and the cache with their keys and values."""
        positions_bt = cache["next_position"][:, None] + jnp.arange(tokens_bt.shape[1])
        return self._extend(cache, tokens_bt, positions_bt, None)

    def _extend(
        self, cache: Cache, tokens_bt: Array, positions_bt: Array, prefix_bs: Array | None
    ) -> tuple[Array, Cache]:
        slot = cache["next_slot"]
        mask = Mask(causal=True, key_valid_bs=cache["valid"], prefix_bt=prefix_bs, first_query=slot)
        context = Context(mask, positions_bt=positions_bt, first_slot=slot)
        x_bte = self.embed(tokens_bt, positions_bt)
        x_bte, layers = self.decoder.decode(x_bte, context, cache["layers"])
        return self.final_layers(x_bte), cache | {
            "layers": layers,
            "next_slot": slot + tokens_bt.shape[1],
            "next_position": positions_bt[:, -1] + 1,
        }


def _prefix(causal_attention_bt: Array | None) -> Array | None:
    return None if causal_attention_bt is None else causal_attention_bt != 0
