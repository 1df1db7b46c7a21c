"""A model that learns to translate between two languages from texts of each alone.

Back-translation (Sennrich et al. 2016), as MASS and Lample et al. learn it without any pair: the
model translates a text with the parameters that it has, and learns to write the text from that
translation (Song et al. 2019, section 3.3; Lample et al. 2018, algorithm 1). Beside it texts are
restored from noised ones, so that it keeps writing the language.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from models import flops, losses
from models.encoder_decoder import EncoderDecoder
from models.errors import ModelError
from models.language_model import target_weights
from models.model import Array, Batch, Params
from models.tuning import Parts

DENOISING, BACK_TRANSLATION = "denoising", "back_translation"
TokensOf = Literal["all", "batch"]
_TOKENS, _SEGMENTS = "translated_input_tokens", "translated_segment_ids"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackTranslated:
    """An encoder-decoder that is trained on its own translations; fulfils `TranslatesBack`.

    Inputs of a batch begin with the token of the language of the targets, behind which stands the
    same text with noise (`tasks.objectives.NoisedInputs`). To be translated, the text is given
    behind the other language's token; to be learned, the translation is given behind its own. What
    it is asked for is thus always the language whose token the inputs begin with. A run's
    checkpoints are those of the translator.

    Attributes:
      translator: MASS, or another encoder-decoder without a head.
      languages: ids of the two tokens.
      denoising: coefficient of the loss of the text given its noised form; 0 leaves it out.
      back_translation: coefficient of the loss of the text given its translation.
      length_ratio: a translation has at most so many times the text's tokens, and 5 more.
      tokens: what a translation may consist of: `'all'`, or `'batch'`, the tokens that the batch's
        texts of its language have, so that a model without any pair does not learn to copy.
    """

    translator: EncoderDecoder
    languages: tuple[int, int]
    denoising: float = 1.0
    back_translation: float = 1.0
    length_ratio: float = 1.3
    tokens: TokensOf = "all"

    def __post_init__(self) -> None:
        """Checks the translator, tokens and coefficients.

        Raises:
          ModelError: says what is needed.
        """
        object.__setattr__(self, "languages", tuple(self.languages))  # a list, from gin
        translator: Any = self.translator
        if not isinstance(translator, EncoderDecoder) or translator.head is not None:
            raise ModelError(
                f"BackTranslated.translator is a {type(translator).__name__}: an encoder-decoder "
                "without a head is needed."
            )
        known = range(translator.vocab_size)
        if len(set(self.languages)) != 2 or not all(i in known for i in self.languages):
            raise ModelError(
                f"BackTranslated.languages is {self.languages}: two different ids below "
                f"{translator.vocab_size} are needed."
            )
        if self.denoising < 0 or self.back_translation <= 0:
            raise ModelError(
                f"BackTranslated.denoising and back_translation are {self.denoising:g} and "
                f"{self.back_translation:g}: 0 or more, and above 0, are needed."
            )
        if self.tokens not in get_args(TokensOf):
            raise ModelError(
                f"BackTranslated.tokens is '{self.tokens}': one of "
                f"{', '.join(get_args(TokensOf))} is needed."
            )
        if not self.length_ratio > 0:
            raise ModelError(
                f"BackTranslated.length_ratio is {self.length_ratio:g}: it must be above 0."
            )

    # Of the translator.

    @property
    def vocab_size(self) -> int:
        """The translator's."""
        return self.translator.vocab_size

    @property
    def max_length(self) -> int | None:
        """The translator's."""
        return self.translator.max_length

    @property
    def batch_format(self) -> str:
        """The translator's."""
        return self.translator.batch_format

    @property
    def tuning(self) -> Parts | None:
        """The translator's."""
        return self.translator.tuning

    @property
    def dtype(self) -> str:
        """The translator's."""
        return self.translator.dtype

    def init(self, rng: Array, batch: Batch | None = None) -> dict[str, Params]:
        """See `Model`."""
        return self.translator.init(rng, batch)

    def apply(self, variables: Mapping[str, Params], **batch: Array) -> Any:
        """The translator's logits."""
        return self.translator.apply(variables, **batch)

    def abstract_params(self) -> Params:
        """See `Model`."""
        return self.translator.abstract_params()

    def axis_blocks(self) -> dict[str, int]:
        """See `Model`."""
        return self.translator.axis_blocks()

    def parameter_count(self, *, embeddings: bool = True) -> int:
        """See `Model`."""
        return self.translator.parameter_count(embeddings=embeddings)

    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        """See `Model`: of one forward pass of the translator."""
        return self.translator.forward_flops(batch_shapes)

    def backward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
        """See `Model`: of one backward pass of the translator."""
        return self.translator.backward_flops(batch_shapes)

    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """Those of a forward pass that translates, and of a step on each of the terms."""
        once = self.translator.step_flops(batch_shapes)
        translating = flops.in_full(self.translator.forward_flops(batch_shapes))
        return once * len(self.loss_terms) + translating

    # Translations.

    def to_translate(self, batch: Batch) -> tuple[Batch, Array]:
        """The texts behind the other language's token, and the most tokens of each translation.

        Returns:
          `encoder_input_tokens` and `encoder_segment_ids`, int32 `[b, 1 + t]`, and
          `decoder_input_tokens` `[b, 1]`; and int32 `[b]`.
        """
        first, second = self.languages
        own_b1 = batch["encoder_input_tokens"][:, :1]
        there_bt = target_weights(batch) != 0
        prompts = {
            **_behind(jnp.where(own_b1 == first, second, first), batch["decoder_target_tokens"],
                      there_bt),
            "decoder_input_tokens": batch["decoder_input_tokens"][:, :1],
        }  # fmt: skip
        lengths_b = there_bt.sum(axis=1)
        return prompts, (jnp.ceil(self.length_ratio * lengths_b) + 5).astype(jnp.int32)

    def allowed_tokens(self, batch: Batch) -> Array | None:
        """What the translation of each text may consist of, bool `[b, v]`; None for all tokens.

        A batch without texts of the language to be written allows all.
        """
        if self.tokens == "all":
            return None
        told_bt = batch["decoder_target_tokens"]
        there_bt = target_weights(batch) != 0
        is_first_b = batch["encoder_input_tokens"][:, 0] == self.languages[0]
        rows_b1 = jnp.arange(told_bt.shape[0])[:, None]
        none_bv = jnp.zeros((told_bt.shape[0], self.vocab_size), bool)
        has_bv = none_bv.at[rows_b1, told_bt].max(there_bt)
        first_v, second_v = (
            (has_bv & own_b[:, None]).any(axis=0) for own_b in (is_first_b, ~is_first_b)
        )
        # A text of the first language is translated into the second.
        allowed_bv = jnp.where(is_first_b[:, None], second_v, first_v)
        return allowed_bv | ~allowed_bv.any(axis=1, keepdims=True)

    def with_translations(self, batch: Batch, tokens_bn: Array, mask_bn: Array) -> Batch:
        """The batch with `translated_input_tokens` and `translated_segment_ids`, `[b, 1 + n]`."""
        rows = _behind(batch["encoder_input_tokens"][:, :1], tokens_bn, mask_bn)
        return {
            **batch,
            _TOKENS: rows["encoder_input_tokens"],
            _SEGMENTS: rows["encoder_segment_ids"],
        }

    # The loss.

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """Of both losses, also where that of denoising counts nothing: validation has no other."""
        return {DENOISING: self.denoising, BACK_TRANSLATION: self.back_translation}

    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """The targets, of each term."""
        (tokens,) = self.translator.loss_weights(batch).values()
        return dict.fromkeys(self.loss_terms, tokens)

    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """Each term summed over the targets, and the metrics of the way back.

        A batch without translations, as of validation, has the term of denoising alone.
        """
        noised = {name: x for name, x in batch.items() if not name.startswith("translated_")}
        # A term that counts nothing is measured without the cost of its gradient.
        restoring = params if self.denoising else jax.lax.stop_gradient(params)
        read = {DENOISING: (restoring, noised)}
        if _TOKENS in batch:
            back = noised | {
                "encoder_input_tokens": batch[_TOKENS],
                "encoder_segment_ids": batch[_SEGMENTS],
            }
            read[BACK_TRANSLATION] = params, back
        terms: dict[str, Array] = {}
        metrics: losses.Metrics = {}
        for name, (own_params, rows) in read.items():
            (terms[name],), found = _values(self.translator.loss(own_params, rows, rng))
            metrics = {**metrics, **found, name: found["loss"]}
        metrics = {name: pair for name, pair in metrics.items() if name != "loss"}
        if _TOKENS not in batch:
            return terms, metrics
        length = (batch[_SEGMENTS].sum() - batch[_SEGMENTS].shape[0]).astype(jnp.float32)
        rows_count = jnp.float32(batch[_SEGMENTS].shape[0])
        return terms, metrics | {"translation_length": (length, rows_count)}


def _values(
    found: tuple[dict[str, Array], losses.Metrics],
) -> tuple[list[Array], losses.Metrics]:
    return list(found[0].values()), found[1]


def _behind(token_b1: Array, text_bt: Array, there_bt: Array) -> dict[str, Array]:
    """Encoder rows of a token and the text behind it."""
    there_bt = there_bt.astype(jnp.int32)
    return {
        "encoder_input_tokens": jnp.concatenate([token_b1, text_bt * there_bt], axis=1),
        "encoder_segment_ids": jnp.concatenate([jnp.ones_like(token_b1), there_bt], axis=1),
    }
