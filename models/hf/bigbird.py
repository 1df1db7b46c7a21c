"""BigBird in Hugging Face's form, `model_type` "big_bird", with both heads or fewer.

`transformers` draws random blocks in training alone, from NumPy's generator seeded by the number of
the layer; in evaluation it shows block 0 in their place. What is read here does the same, by
`random_in_evaluation = False`, without which a model is not written: it would compute otherwise.
"""

from typing import Any, ClassVar

from models.bert import BERT
from models.bigbird import BLOCK_SPARSE, FULL, BigBird
from models.heads import Classification, Head, MultipleChoice, Regression, Spans
from models.hf.bert import BERTFamily
from models.hf.family import Config, Option, unsupported
from models.hf.mapping import Table, Zeros, biased_linear, layer_norm
from models.hf.tensor_files import TensorFiles

_POSITIONS, _ATTENTION = "max_position_embeddings", "attention_type"
_RANDOM = "num_random_blocks"


class BigBirdFamily(BERTFamily):
    """BigBird: BERT's tensors, but for the pooler and the head of rows."""

    model_type = "big_bird"
    models = (BigBird,)
    class_name = "BigBird"
    head = r"(cls|classifier|qa_classifier)\..*"
    span_output = "qa_classifier.qa_outputs"
    pooler = "pooler"
    classifier, classifier_pooler = "classifier.out_proj", "classifier.dense"
    without_rate = (MultipleChoice,)
    default_activation = "gelu_new"
    options = (
        *(option for option in BERTFamily.options if option.theirs != _POSITIONS),
        Option(_POSITIONS, "max_length", 4096),
        Option(_ATTENTION, "attention_type", BLOCK_SPARSE),
        Option("block_size", "block_size", 64),
        Option(_RANDOM, _RANDOM, 3),
        Option("rescale_embeddings", "rescale_embeddings", False),
    )
    fixed: ClassVar = {**BERTFamily.fixed, "use_bias": True}
    tokens: ClassVar = {
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 66,
    }

    def check(self, config: Config, source: str) -> None:
        """The activation and the kind of attention are some that we have."""
        super().check(config, source)
        kind = config.get(_ATTENTION, BLOCK_SPARSE)
        if kind not in (BLOCK_SPARSE, FULL):
            raise unsupported(source, _ATTENTION, kind, f"{BLOCK_SPARSE!r} or {FULL!r}")
        if kind == BLOCK_SPARSE and not config.get(_RANDOM, 3):
            raise unsupported(source, _RANDOM, config[_RANDOM], "1 or more")

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields."""
        return super().fields(config) | {"random_in_evaluation": False}

    def explicit(self, model: BERT) -> dict[str, Any]:
        """Fields that say nothing where no block is random."""
        found = super().explicit(model)
        assert isinstance(model, BigBird)
        if model.attention_type == FULL or not model.num_random_blocks:
            found["random_in_evaluation"] = False
        return found

    def prepare(self, model: BERT, tensors: TensorFiles, source: str) -> None:
        """A pooler that the head of a task does not read is left aside."""
        super().prepare(model, tensors, source)
        if model.head is not None and self._is_unread(model):
            for name in list(tensors):
                if name.startswith(f"{self.encoder_prefix}{self.pooler}."):
                    tensors.drop(name)

    def weights(self, model: BERT) -> Table:
        """Where each parameter is; theirs has a pooler beside every head but that of spans."""
        table = super().weights(model)
        prefix, e = self.prefix_of(model), model.embed_dim
        if isinstance(model.head, Spans):
            return [
                *table,
                *biased_linear("span_mlp/wi", "qa_classifier.intermediate.dense"),
                *biased_linear("span_mlp/wo", "qa_classifier.output.dense"),
                *layer_norm("span_norm", "qa_classifier.output.LayerNorm"),
            ]
        if not self._is_unread(model):
            return table
        zeros = [
            Zeros(f"{prefix}{self.pooler}.weight", (e, e)),
            Zeros(f"{prefix}{self.pooler}.bias", (e,)),
        ]
        return [*table, *zeros]

    def head_names(self, head: Head) -> tuple[str, str | None]:
        """Of labels for rows, names of a layer of its own; of spans its last; else BERT's."""
        if isinstance(head, Classification | Regression | Spans):
            return super().head_names(head)
        return BERTFamily.classifier, None

    def _is_unread(self, model: BERT) -> bool:
        """Whether a pooler stands in their file beside heads that do not read it."""
        if model.head is not None:
            return not isinstance(model.head, MultipleChoice | Spans)
        return model.use_masked_head and not model.use_pooler
