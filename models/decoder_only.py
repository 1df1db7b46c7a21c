"""The base class of decoder-only families: embeddings, one causal stack, prefill and decoding."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models import losses
from models.errors import ModelError
from models.heads import Head, HeadOutput
from models.language_model import Batch, Cache, LanguageModel
from models.layers import intermediates
from models.layers.attention.masks import Mask
from models.layers.block import Context
from models.layers.dropout import Dropout
from models.layers.linear import normal
from models.model import Params

Array = jax.Array

INPUT_ATTENTION = ("prefix", "causal")
# What a head gives of a row without tokens.
_NO_ROW = -1e9


class DecoderOnly(LanguageModel, kw_only=True):
    """The base class of decoder-only families.

    A family's `setup` makes `token_embedder`, `decoder` (a `Stack` or what is called like one)
    and, unless it overrides `final_layers`, `final_norm`. It overrides `embed`, `final_layers` and
    `output_kernel` where its own differ.

    With a `head` of `models.heads` that reads one vector for each row, it reads rows causally, and
    the head the vector of a row's last token (Radford et al. 2018, section 3.2); rows have an
    encoder's names. The output to tokens is then left out.

    Attributes:
      head: for fine-tuning, such as `heads.Reward`; None to write text.
      input_attention: how the inputs of a task with inputs and targets are seen: "prefix", in
        both directions (Raffel et al. 2020, section 3.2.1), or "causal", like the targets. Without
        inputs the two are the same.
    """

    input_features: ClassVar[tuple[str, ...]] = ("decoder_input_tokens",)
    # Whether what enters the stack has dropout.
    drops_embeddings: ClassVar[bool] = True

    head: Head | None = None
    input_attention: str = "prefix"

    def __post_init__(self) -> None:
        """Checks the fields.

        Raises:
          ModelError: as `Model`; or a head that reads more than a row's last token.
        """
        head = self.head
        if head is not None and (not head.reads_row or hasattr(head, "of_several_tasks")):
            raise self.refused("head", "a decoder takes one that reads one vector for each row")
        super().__post_init__()

    @property
    def batch_format(self) -> str:
        """The head's; without one, by how the inputs of a pair are seen."""
        if self.head is not None:
            return self.head.batch_format
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

    # With a head.

    def __call__(self, **features: Any) -> Array:
        """Logits, float32 `[b, t, v]`; with a head what this gives, see `head_logits`."""
        return super().__call__(**features) if self.head is None else self.head_logits(**features)

    @nn.compact
    def head_logits(self, *, enable_dropout: bool = False, **features: Any) -> Array:
        """What the head gives, float32 `[b, outputs]`, or `[b, rows, outputs]`.

        Args:
          enable_dropout: whether there is dropout.
          **features: `encoder_input_tokens`, int `[b, t]` or `[b, rows, t]`, the tokens at the
            beginning of each row, and `encoder_segment_ids`, 0 behind them; without these every
            token is read.

        Raises:
          ModelError: the tokens are missing.
        """
        assert self.head is not None
        # Parameters are made of a batch of text.
        tokens = features.get("encoder_input_tokens", features.get("decoder_input_tokens"))
        if tokens is None:
            raise ModelError(
                f"the batch has {sorted(features)}, but {type(self).__name__} with a head reads "
                f"encoder_input_tokens: is it a batch of the format '{self.batch_format}'?"
            )
        *axes, length = tokens.shape
        segments = features.get("encoder_segment_ids")
        there = jnp.ones_like(tokens) if segments is None else jnp.minimum(segments, 1)
        there_bt = there.reshape(-1, length)
        x_bte = self.hidden_states(
            decoder_input_tokens=tokens.reshape(-1, length),
            decoder_segment_ids=there_bt,
            enable_dropout=enable_dropout,
        )
        last_b = jnp.maximum(there_bt.sum(axis=1) - 1, 0)
        x_be = jnp.take_along_axis(x_bte, last_b[:, None, None], axis=1)[:, 0]
        own = self.head.dropout_rate
        # Stiennon et al. 2020, appendix C: a reward of variance 1 to begin with, and a little less.
        output = HeadOutput(
            self.head.outputs,
            normal((x_be.shape[-1] + 1) ** -0.5),
            self.dropout_rate if own is None else own,
            name="output_head",
        )
        logits = output(x_be, enable_dropout).reshape(*axes, -1)
        return jnp.where(there.any(axis=-1)[..., None], logits, _NO_ROW)

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Of predictions that are numbers of classes, the classes' names."""
        return {} if self.head is None else self.head.label_names

    @nn.nowrap
    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """How many target tokens count, or what the head counts."""
        if self.head is None:
            return super().loss_weights(batch)
        return {"loss": self.head.weight(batch)}

    @nn.nowrap
    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss of text, see `LanguageModel.loss`, or the head's, see `models.heads`."""
        if self.head is None:
            return super().loss(params, batch, rng)
        loss, metrics = self.head.loss(self._of_head(params, batch, rng), batch)
        return {"loss": loss}, metrics

    @nn.nowrap
    def row_metrics(self, params: Params, batch: Batch) -> tuple[losses.Metrics, losses.Metrics]:
        """See `LanguageModel.row_metrics`; a head's loss too is a sum over rows."""
        head = self.head
        if head is None:
            return super().row_metrics(params, batch)

        def of_row(logits: Array, row: Batch) -> losses.Metrics:
            return head.loss(logits[None], jax.tree.map(lambda x: x[None], row))[1]

        return jax.vmap(of_row)(self._of_head(params, batch, None), dict(batch)), {}

    @nn.nowrap
    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the head says, without dropout; see `models.heads`.

        Args:
          params: as `init` makes them.
          batch: as for `head_logits`.

        Raises:
          ModelError: there is no head.
        """
        if self.head is None:
            raise ModelError(
                f"{type(self).__name__} has no head that predicts: generate or score text."
            )
        return self.head.predictions(self._of_head(params, batch, None))

    @nn.nowrap
    def _of_head(self, params: Params, batch: Batch, rng: Array | None) -> Array:
        logits: Any = self.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            method="head_logits",
        )
        return logits


def _prefix(causal_attention_bt: Array | None) -> Array | None:
    return None if causal_attention_bt is None else causal_attention_bt != 0
