"""The neural probabilistic language model: a window of words and a layer (Bengio et al. 2003)."""

from typing import ClassVar

import jax.numpy as jnp

from models.language_model import Cache, LanguageModel
from models.layers import parts
from models.layers.dropout import Dropout
from models.layers.embeddings import Embed, OutputBias, OutputKernel
from models.layers.linear import Linear, uniform
from models.model import Array, Batch

_NO_WORD = -1  # before the beginning of a text: its vector is zero


class NNLM(LanguageModel):
    """`y = b + W x + U tanh(d + H x)`, x the vectors of the last `order - 1` words, newest first.

    Bengio et al. 2003, equation 1. A window does not reach across the beginning of its text: x is
    zero there, at the beginning of a row and where another text precedes it in the row.

    Attributes:
      order: how many words the window has with the one that follows it, 2 or more.
      embed_dim: size of a word's vector.
      hidden_dim: units of the layer.
      direct: whether the vectors are connected with the output directly, by `W`.
      init_scale: all matrices are drawn evenly from between plus and minus this.
    """

    input_features: ClassVar[tuple[str, ...]] = ("decoder_input_tokens",)

    order: int = 5
    embed_dim: int = 30
    hidden_dim: int = 100
    direct: bool = True
    init_scale: float = 0.05

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: an order below 2.
        """
        super().__post_init__()
        if self.order < 2:
            raise self.refused("order", "it must be 2 or more, for a window of a word or more")

    def setup(self) -> None:
        """Makes embeddings, the layer and the output."""
        draw = uniform(self.init_scale)
        self.token_embedder = Embed(self.vocab_size, self.embed_dim, draw, self.dtype)
        self.decoder = WindowLayer(self.hidden_dim, ("embed", "mlp"), draw, True, self.dtype)
        direct = (self.order - 1) * self.embed_dim if self.direct else 0
        self.output = OutputKernel(self.vocab_size, self.hidden_dim + direct, draw)
        self.logit_bias = OutputBias(self.vocab_size)

    @property
    def batch_format(self) -> str:
        """Packed or separate texts."""
        return "causal_language_model"

    # Inside `apply`.

    def output_kernel(self) -> Array:
        """`U` and, with `direct`, `W` below it, `[f, v]`."""
        return self.output()

    def output_bias(self) -> Array:
        """`b`, `[v]`."""
        return self.logit_bias()

    def hidden_states(  # type: ignore[override]  # features by their names
        self,
        *,
        decoder_input_tokens: Array,
        decoder_segment_ids: Array | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> Array:
        """The layer's units and, with `direct`, the window's vectors after them.

        Args:
          decoder_input_tokens: int `[b, t]`.
          decoder_segment_ids: int `[b, t]`, the number of each token's text; None is one a row.
          enable_dropout: of the units; needs an rng `dropout`.

        Returns:
          `[b, t, f]`, f what `output_kernel` reads.
        """
        words_bs = self._after_nothing(decoder_input_tokens)
        texts_bs = None
        if decoder_segment_ids is not None:
            texts_bs = self._after_nothing(decoder_segment_ids)
        return self._of_windows(words_bs, texts_bs, enable_dropout)

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """Keeps the last words of the prompt: those that the next window reads."""
        tokens_bt, segments_bt = batch["decoder_input_tokens"], batch.get("decoder_segment_ids")
        words_bs = self._after_nothing(tokens_bt)
        if segments_bt is not None and segments_bt.shape[1]:
            texts_bs, last_b1 = self._after_nothing(segments_bt), segments_bt[:, -1:]
            # A prompt without a word is all padding, whose segment is 0.
            words_bs = jnp.where((texts_bs == last_b1) & (last_b1 != 0), words_bs, _NO_WORD)
        return {"words": words_bs[:, tokens_bt.shape[1] :]}

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """The hidden states of the next tokens, and the last words with them."""
        words_bs = jnp.concatenate([cache["words"], tokens_bt], axis=1)
        return self._of_windows(words_bs), {"words": words_bs[:, tokens_bt.shape[1] :]}

    def _after_nothing(self, ids_bt: Array) -> Array:
        """With as many places before the first one as its window reads, `[b, n - 2 + t]`."""
        return jnp.pad(ids_bt, ((0, 0), (self.order - 2, 0)), constant_values=_NO_WORD)

    def _of_windows(
        self, words_bs: Array, texts_bs: Array | None = None, enable_dropout: bool = False
    ) -> Array:
        x_bse = self.token_embedder(jnp.maximum(words_bs, 0))
        x_bse = jnp.where((words_bs == _NO_WORD)[..., None], 0, x_bse)
        past = self.order - 2
        length = words_bs.shape[1] - past
        vectors = []
        for start in range(past, -1, -1):
            x_bte = x_bse[:, start : start + length]
            if texts_bs is not None:
                same_bt = texts_bs[:, start : start + length] == texts_bs[:, past:]
                x_bte = jnp.where(same_bt[..., None], x_bte, 0)
            vectors.append(x_bte)
        x_btm = jnp.concatenate(vectors, axis=-1)
        h_btf = jnp.tanh(self.decoder(x_btm))
        if enable_dropout and self.dropout_rate:
            h_btf = Dropout(self.dropout_rate)(h_btf, self.make_rng("dropout"))
        return jnp.concatenate([h_btf, x_btm], axis=-1) if self.direct else h_btf


class WindowLayer(Linear):
    """What the layer reads of a window's vectors: `d + H x`."""

    part: ClassVar[str] = parts.MLP
