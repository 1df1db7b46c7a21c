"""The base class of encoder-decoder families: an encoder, and a decoder that attends to it."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from models.headed import HeadedLanguageModel
from models.heads import Classification, Regression
from models.language_model import Batch, Cache
from models.layers import intermediates
from models.layers.attention.masks import Mask
from models.layers.block import Context
from models.layers.dropout import Dropout

Array = jax.Array


class EncoderDecoder(HeadedLanguageModel):
    """The base class of encoder-decoder families.

    A family's `setup` makes `token_embedder`, `encoder` and `decoder` (each a `Stack` or what
    is called like one). It overrides `embed_source`, `embed_target`, `final_layers` and
    `output_kernel` where its own differ.

    With a head, text goes to both sides, and the decoder's state at the last token says the label,
    since it has seen all of it (Lewis et al. 2019, section 3.1).
    """

    headed_format: ClassVar[str] = "encoder_decoder"
    accepted_heads: ClassVar = (Classification, Regression)
    input_features: ClassVar[tuple[str, ...]] = ("encoder_input_tokens", "decoder_input_tokens")
    reads_prompts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks what no model can be built with.

        Raises:
          ModelError: a language-model loss beside a head's, and as the base class.
        """
        super().__post_init__()
        if self.language_model_coefficient:
            raise self.refused(
                "language_model_coefficient",
                "it must be 0, since the encoder has read the text that would be predicted",
            )

    @property
    def text_format(self) -> str:
        """Inputs to the encoder, targets to the decoder."""
        return "encoder_decoder"

    def embed_source(self, tokens_bs: Array, positions_bs: Array | None) -> Array:
        """Input embeddings of the encoder, `[b, s, e]`; positions None are 0, 1, 2, …."""
        return self.token_embedder(tokens_bs)

    def entering_encoder(self, tokens_bs: Array, context: Context) -> Array:
        """What the encoder reads, `[b, s, e]`: `embed_source`, and dropout."""
        x_bse = self.embed_source(tokens_bs, context.positions_bt)
        return self._dropped(x_bse, context.enable_dropout)

    def embed_target(self, tokens_bt: Array, positions_bt: Array | None) -> Array:
        """Input embeddings of the decoder, `[b, t, e]`; positions as for `embed_source`."""
        return self.token_embedder(tokens_bt)

    def final_layers(self, x_bte: Array) -> Array:
        """What follows the decoder, such as a final layer norm; here nothing."""
        return x_bte

    def output_kernel(self) -> Array:
        """The matrix from `hidden_states` to logits, `[e, v]`: the embeddings, transposed."""
        return self.token_embedder.output_kernel()

    def embedding_dropout(self) -> Dropout:
        """Dropout on the input embeddings of both sides."""
        return Dropout(self.dropout_rate)

    @intermediates.within(intermediates.DECODER)
    def hidden_states(
        self,
        *,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        decoder_segment_ids: Array | None = None,
        encoder_positions: Array | None = None,
        decoder_positions: Array | None = None,
        enable_dropout: bool = False,
        **_: Array,
    ) -> Array:
        """The decoder's hidden states after `final_layers`, `[b, t, e]`."""
        memory_bse = self._encode(
            encoder_input_tokens, encoder_segment_ids, encoder_positions, enable_dropout
        )
        context = Context(
            mask=Mask(
                causal=True,
                query_segments_bt=decoder_segment_ids,
                key_segments_bs=decoder_segment_ids,
            ),
            positions_bt=decoder_positions,
            memory_bse=memory_bse,
            memory_mask=_memory_mask(
                encoder_input_tokens, encoder_segment_ids, decoder_segment_ids
            ),
            enable_dropout=enable_dropout,
        )
        x_bte = self.embed_target(decoder_input_tokens, decoder_positions)
        return self.final_layers(self.decoder(self._dropped(x_bte, enable_dropout), context))

    def text_states(  # type: ignore[override]  # features by their names
        self,
        *,
        encoder_input_tokens: Array,
        encoder_segment_ids: Array | None = None,
        encoder_positions: Array | None = None,
        **_: Array,
    ) -> Array:
        """The encoder's last hidden states, `[b, s, e]`."""
        return self._encode(encoder_input_tokens, encoder_segment_ids, encoder_positions, False)

    def prefill(self, batch: Batch, max_decode_length: int) -> Cache:
        """Runs the encoder and the prompt, if there is one, and fills the cache."""
        tokens_bs, segments_bs = batch["encoder_input_tokens"], batch.get("encoder_segment_ids")
        memory_bse = self._encode(tokens_bs, segments_bs, batch.get("encoder_positions"), False)
        cache = {
            "layers": self.decoder.empty_cache(tokens_bs.shape[0], max_decode_length, memory_bse),
            "next_slot": jnp.zeros((), jnp.int32),
            "next_position": jnp.zeros((tokens_bs.shape[0],), jnp.int32),
            "memory_valid": _valid(tokens_bs, segments_bs),
            "valid": None,
        }
        prompt_bp = batch.get("decoder_input_tokens")
        if prompt_bp is None or not prompt_bp.shape[1]:
            return cache
        segments_bp = batch.get("decoder_segment_ids")
        positions_bp = batch.get("decoder_positions")
        valid_bp = jnp.ones(prompt_bp.shape, bool) if segments_bp is None else segments_bp != 0
        if positions_bp is None:
            positions_bp = jnp.maximum(jnp.cumsum(valid_bp, axis=1) - 1, 0)
        if segments_bp is not None:
            new = ((0, 0), (0, max_decode_length - prompt_bp.shape[1]))
            cache["valid"] = jnp.pad(valid_bp, new, constant_values=True)
        cache = self._extend(cache, prompt_bp, positions_bp)[1]
        return cache | {"next_position": jnp.where(valid_bp[:, -1], positions_bp[:, -1] + 1, 0)}

    def decode(self, cache: Cache, tokens_bt: Array) -> tuple[Array, Cache]:
        """Hidden states of the next tokens, and the cache with their keys and values."""
        positions_bt = cache["next_position"][:, None] + jnp.arange(tokens_bt.shape[1])
        return self._extend(cache, tokens_bt, positions_bt)

    def _extend(self, cache: Cache, tokens_bt: Array, positions_bt: Array) -> tuple[Array, Cache]:
        slot = cache["next_slot"]
        context = Context(
            mask=Mask(causal=True, key_valid_bs=cache["valid"], first_query=slot),
            positions_bt=positions_bt,
            memory_mask=Mask(key_valid_bs=cache["memory_valid"]),
            first_slot=slot,
        )
        x_bte = self.embed_target(tokens_bt, positions_bt)
        x_bte, layers = self.decoder.decode(x_bte, context, cache["layers"])
        return self.final_layers(x_bte), cache | {
            "layers": layers,
            "next_slot": slot + tokens_bt.shape[1],
            "next_position": positions_bt[:, -1] + 1,
        }

    @intermediates.within(intermediates.ENCODER)
    def _encode(
        self,
        tokens_bs: Array,
        segments_bs: Array | None,
        positions_bs: Array | None,
        enable_dropout: bool,
    ) -> Array:
        if segments_bs is None:
            mask = Mask(key_valid_bs=_valid(tokens_bs, None))
        else:
            mask = Mask(query_segments_bt=segments_bs, key_segments_bs=segments_bs)
        context = Context(mask, positions_bt=positions_bs, enable_dropout=enable_dropout)
        return self.encoder(self.entering_encoder(tokens_bs, context), context)

    def _dropped(self, x_bte: Array, enable_dropout: bool) -> Array:
        draw = enable_dropout and self.dropout_rate
        return self.embedding_dropout()(x_bte, self.make_rng("dropout") if draw else None)


def _valid(tokens_bs: Array, segments_bs: Array | None) -> Array:
    return (tokens_bs if segments_bs is None else segments_bs) != 0


def _memory_mask(
    tokens_bs: Array, encoder_segments_bs: Array | None, decoder_segments_bt: Array | None
) -> Mask:
    if encoder_segments_bs is None or decoder_segments_bt is None:
        return Mask(key_valid_bs=_valid(tokens_bs, encoder_segments_bs))
    return Mask(query_segments_bt=decoder_segments_bt, key_segments_bs=encoder_segments_bs)
