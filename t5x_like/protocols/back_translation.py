"""What the engine asks of a model that learns from its own translations."""

from typing import Protocol, runtime_checkable

from t5x_like.protocols.models import Array, Batch, Decodes, Model


@runtime_checkable
class TranslatesBack(Model, Protocol):
    """A model that translates the texts of a batch, and learns the way back.

    Its `loss` reads batches to which `with_translations` has added what was written.

    Attributes:
      translator: which writes the translations; its parameters are the model's.
      languages: the two tokens, one of which every row's inputs begin with.
    """

    @property
    def translator(self) -> Decodes:
        """See above."""

    @property
    def languages(self) -> tuple[int, int]:
        """See above."""

    def to_translate(self, batch: Batch) -> tuple[Batch, Array]:
        """Prompts for the translator, and the most tokens of each translation, int32 `[b]`."""

    def allowed_tokens(self, batch: Batch) -> Array | None:
        """What each translation may consist of, bool `[b, v]`; None for all tokens."""

    def with_translations(self, batch: Batch, tokens_bn: Array, mask_bn: Array) -> Batch:
        """The batch with translations.

        Args:
          batch: as the data have it.
          tokens_bn: of translations, zeros behind them.
          mask_bn: where there is a token, bool.
        """
