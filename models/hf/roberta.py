"""RoBERTa in Hugging Face's form, `model_type` "roberta", with its head or without."""

from typing import Any, ClassVar

from models.bert import BERT
from models.heads import Classification, Head, MultipleChoice, Regression, Spans
from models.hf.bert import BERTFamily
from models.hf.family import Config, Option, unsupported
from models.roberta import RoBERTa

_POSITIONS, _PAD = "max_position_embeddings", "pad_token_id"


class RoBERTaFamily(BERTFamily):
    """RoBERTa: BERT's tensors with another head, and positions that begin after padding's."""

    model_type = "roberta"
    models = (RoBERTa,)
    class_name = "Roberta"
    classifier, classifier_pooler = "classifier.out_proj", "classifier.dense"
    without_rate = (MultipleChoice,)
    encoder_prefix = "roberta."
    head = r"(lm_head|classifier|qa_outputs)\..*"
    masked_head = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head")
    options = (
        *(option for option in BERTFamily.options if option.theirs != _POSITIONS),
        Option(_PAD, "pad_id", 1),
    )
    tokens: ClassVar = {"bos_token_id": 0, "eos_token_id": 2}
    own_fields = frozenset({"head", "use_masked_head", "use_pooler", "masked_places"})

    def head_names(self, head: Head) -> tuple[str, str | None]:
        """Of labels for rows, names of a layer of its own; else BERT's."""
        if isinstance(head, Classification | Regression | Spans):
            return super().head_names(head)
        return BERTFamily.classifier, None

    @property
    def derived_options(self) -> tuple[str, ...]:  # type: ignore[override]  # see BERT's
        """The rows of the table of positions, and BERT's."""
        return (*super().derived_options, _POSITIONS)

    def check(self, config: Config, source: str) -> None:
        """Padding is a token, and there are positions beyond its row."""
        super().check(config, source)
        rows, pad, size = config.get(_POSITIONS, 512), config.get(_PAD, 1), config["vocab_size"]
        if type(rows) is not int:
            raise unsupported(source, _POSITIONS, rows, "a whole number")
        if not 0 <= pad < size:
            raise unsupported(source, _PAD, pad, f"a token below vocab_size {size}")
        if not pad + 1 < rows:
            raise unsupported(
                source, _POSITIONS, rows, f"more than {_PAD} + 1, which is {pad + 1},"
            )

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields."""
        rows = config.get(_POSITIONS, 512)
        return super().fields(config) | {"max_length": rows - config.get(_PAD, 1) - 1}

    def derived(self, model: BERT) -> dict[str, Any]:
        """Options that are not one field each."""
        rows = model.max_length + model.position_offset
        return super().derived(model) | {_POSITIONS: rows}
