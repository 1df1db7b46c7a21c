"""ELECTRA in Hugging Face's form, `model_type` "electra": either network, with a head or none."""

import dataclasses
from collections.abc import Callable
from typing import Any

from models.bert import BERT
from models.electra import DISCRIMINATOR, ELECTRA
from models.heads import Head, MultipleChoice, Tagging
from models.hf.bert import BERTFamily
from models.hf.family import CONFIG, Config, Option, equal, unsupported
from models.hf.mapping import Table, biased_linear
from models.hf.tensor_files import TensorFiles
from models.model import Params

_WIDTH, _RATE = "embedding_size", "summary_last_dropout"
# What a head for choices reads.
_SUMMARY = {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"}
_REPLACED = "discriminator_predictions"
# What stands where a size is absent: the small discriminator's.
_SIZES = {
    "vocab_size": 30522,
    "hidden_size": 256,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
}


def _with_default(option: Option) -> Option:
    return dataclasses.replace(option, default=_SIZES.get(option.theirs, option.default))


class ELECTRAFamily(BERTFamily):
    """One network of ELECTRA, with BERT's names; both are two directories.

    Where the embeddings are as wide as the layers, nothing projects them.
    """

    model_type = "electra"
    models = (ELECTRA,)
    class_name = "Electra"
    encoder_prefix = "electra."
    head = r"(discriminator_predictions|generator_\w+|classifier|sequence_summary|qa_outputs)\..*"
    masked_head = (
        "generator_predictions.dense",
        "generator_predictions.LayerNorm",
        "generator_lm_head",
        "generator_lm_head",
    )
    classifier, classifier_pooler = "classifier.out_proj", "classifier.dense"
    options = tuple(map(_with_default, BERTFamily.options))
    # Of a head for choices; `with_heads` looks at them.
    neutral = r"summary_\w+"
    own_fields = frozenset(
        {"head", "use_masked_head", "use_pooler", "use_replaced_head", "discriminator_weight"}
        | {"masked_places", "detects_hidden_only"}
        | {field.name for field in dataclasses.fields(ELECTRA) if field.name[:10] == "generator_"}
    )

    @property
    def derived_options(self) -> tuple[str, ...]:  # type: ignore[override]  # see BERT's
        """The width of the embeddings, and BERT's."""
        return (*super().derived_options, _WIDTH)

    def check(self, config: Config, source: str) -> None:
        """The width of the embeddings is a size."""
        super().check(config, source)
        width = config.get(_WIDTH, 128)
        if type(width) is not int or width < 1:
            raise unsupported(source, _WIDTH, width, "a whole number above 0")

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields, those of one network."""
        fields = super().fields(config)
        width = config.get(_WIDTH, 128)
        width = None if width == fields["embed_dim"] else width
        return {**fields, "embedding_dim": width, "use_generator": False}

    def derived(self, model: BERT) -> dict[str, Any]:
        """Options that are not one field each."""
        summary = _SUMMARY if isinstance(model.head, MultipleChoice) else {}
        return {**super().derived(model), **summary, _WIDTH: model.embedding_width}

    def _dropout_of(self, head: Head) -> tuple[str | None, float | None]:
        """As BERT; of a head for choices that of its summary."""
        return (_RATE, 0.1) if isinstance(head, MultipleChoice) else super()._dropout_of(head)

    def with_heads(self, model: BERT, config: Config, tensors: TensorFiles) -> BERT:
        """As BERT; a head for choices reads a summary, whose options are those that we have."""
        model = super().with_heads(model, config, tensors)
        for option, value in _SUMMARY.items() if isinstance(model.head, MultipleChoice) else ():
            if not equal(config.get(option, value), value):
                raise unsupported(CONFIG, option, config[option], repr(value))
        return model

    def head_names(self, head: Head) -> tuple[str, str | None]:
        """Of labels for rows, names of layers of its own; else BERT's, after a summary or not."""
        if isinstance(head, MultipleChoice):
            return BERTFamily.classifier, "sequence_summary.summary"
        if isinstance(head, Tagging):
            return BERTFamily.classifier, None
        return super().head_names(head)

    def written(self, model: Any, params: Params, part: str | None) -> tuple[Any, Params]:
        """One of two networks, the discriminator unless another is named."""
        if not model.use_generator:
            return super().written(model, params, part)
        found: tuple[Any, Params] = model.network(params, part or DISCRIMINATOR)
        return found

    def architecture_of(self, model: Any) -> str:
        """The class with the same head."""
        if model.head is None and model.use_replaced_head:
            return f"{self.class_name}ForPreTraining"
        return super().architecture_of(model)

    def pretrained_heads(self, there: Callable[..., bool]) -> dict[str, bool]:
        """Fields of the one head, whose tensors are there or that the class must have."""
        return {
            "use_masked_head": there(self.masked_head[0], "MaskedLM"),
            "use_replaced_head": there(f"{_REPLACED}.dense", "PreTraining"),
        }

    def prefix_of(self, model: Any) -> str:
        """As of BERT, of a discriminator too."""
        return self.encoder_prefix if model.use_replaced_head else super().prefix_of(model)

    def weights(self, model: Any) -> Table:
        """Where each parameter is: BERT's, and what ELECTRA has besides."""
        table = [*super().weights(model)]
        if model.embedding_dim is not None:
            theirs = f"{self.prefix_of(model)}embeddings_project"
            table += biased_linear("embedding_projection", theirs)
        if model.use_replaced_head:
            table += biased_linear("replaced_head/transform", f"{_REPLACED}.dense")
            table += biased_linear("replaced_head/output", f"{_REPLACED}.dense_prediction")
        return table
