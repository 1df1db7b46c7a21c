"""BERT in Hugging Face's form, `model_type` "bert", with both heads or fewer."""

from collections.abc import Mapping
from typing import Any, ClassVar

from models.bert import BERT
from models.hf.family import Config, Family, Option, activation, unsupported
from models.hf.mapping import Table, Weight, biased_linear, layer_norm
from models.hf.tensor_files import TensorFiles

# hidden_act: ours.
_ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu"}
# A tensor by which each head is known, and the classes of transformers that have the head.
_MASKED = ("cls.predictions.transform.dense.weight", ("BertForPreTraining", "BertForMaskedLM"))
_PAIRS = (
    "cls.seq_relationship.weight",
    ("BertForPreTraining", "BertForNextSentencePrediction"),
)
_POOLER = ("pooler.dense.weight", _PAIRS[1])
_PREFIX = "bert."


class BERTFamily(Family):
    """BERT.

    Which heads a directory has, its tensors say: the released `bert-base-uncased` names the class
    `BertForMaskedLM` and holds the other head too.
    """

    model_type = "bert"
    models = (BERT,)
    head = r"cls\..*"
    options = (
        Option("vocab_size", "vocab_size"),
        Option("hidden_size", "embed_dim"),
        Option("num_hidden_layers", "num_layers"),
        Option("num_attention_heads", "num_heads"),
        Option("intermediate_size", "mlp_dim"),
        Option("max_position_embeddings", "max_length", 512),
        Option("type_vocab_size", "num_token_types", 2),
        Option("layer_norm_eps", "norm_epsilon", 1e-12),
        Option("hidden_dropout_prob", "dropout_rate", 0.1),
        Option("attention_probs_dropout_prob", "attention_dropout_rate", 0.1),
    )
    fixed: ClassVar = {
        "is_decoder": False,
        "add_cross_attention": False,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
    }
    derived_options = ("hidden_act",)
    # Of the pooler in files that were converted from TensorFlow's.
    neutral = r"directionality|pooler_\w+"
    tokens: ClassVar = {"pad_token_id": 0}
    # The numbers of the positions, which older files keep.
    ignored = r"(bert\.)?embeddings\.position_ids"
    own_fields = frozenset({"use_masked_head", "use_pooler", "use_next_sentence_head"})

    def architecture_of(self, model: BERT) -> str:
        """The class with the same heads."""
        if model.use_next_sentence_head:
            masked = model.use_masked_head
            return "BertForPreTraining" if masked else "BertForNextSentencePrediction"
        return "BertForMaskedLM" if model.use_masked_head else "BertModel"

    def check(self, config: Config, source: str) -> None:
        """The activation is one that we have."""
        name = config.get("hidden_act", "gelu")
        if activation(name) not in _ACTIVATIONS:
            raise unsupported(source, "hidden_act", name, " or ".join(map(repr, _ACTIVATIONS)))

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields."""
        name = activation(config.get("hidden_act", "gelu"))
        return super().fields(config) | {"activation": _ACTIVATIONS[name]}

    def explicit(self, model: BERT) -> dict[str, Any]:
        """The rate that None stands for."""
        rate = model.attention_dropout_rate
        return {"attention_dropout_rate": model.dropout_rate if rate is None else rate}

    def derived(self, model: BERT) -> dict[str, Any]:
        """Options that are not one field each."""
        names = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
        return {
            "hidden_act": names[model.activation],
            "attention_probs_dropout_prob": self.explicit(model)["attention_dropout_rate"],
        }

    def with_heads(self, model: BERT, config: Config, tensors: TensorFiles) -> BERT:
        """The model with the heads whose tensors are there, or that the class must have."""
        classes = set(config.get("architectures") or ())

        def there(head: tuple[str, tuple[str, ...]]) -> bool:
            tensor, having = head
            names = {tensor, f"{_PREFIX}{tensor}"}
            return bool(names & set(tensors) or classes & set(having))

        pairs = there(_PAIRS)
        return model.clone(
            use_masked_head=there(_MASKED),
            use_pooler=pairs or there(_POOLER),
            use_next_sentence_head=pairs,
        )

    def prefix_of(self, model: BERT) -> str:
        """None where there is no head: `BertModel` is what has the prefix elsewhere."""
        return _PREFIX if model.use_masked_head or model.use_next_sentence_head else ""

    def prepare(self, model: BERT, tensors: TensorFiles, source: str) -> None:
        """Norms' older names, and the prefix of a part of a larger model, are brought in line."""
        for name in list(tensors):
            new = name
            for old, current in ((".gamma", ".weight"), (".beta", ".bias")):
                if new.endswith(old):
                    new = new.removesuffix(old) + current
            if not self.prefix_of(model):
                new = new.removeprefix(_PREFIX)
            if new != name and new not in tensors:
                tensors.rename(name, new)
        super().prepare(model, tensors, source)

    def copies(self, model: BERT) -> Mapping[str, str]:
        """The output's matrix and bias."""
        table = f"{self.prefix_of(model)}embeddings.word_embeddings.weight"
        return {
            "cls.predictions.decoder.weight": table,
            "cls.predictions.decoder.bias": "cls.predictions.bias",
        }

    def weights(self, model: BERT) -> Table:
        """Where each parameter is."""
        prefix, ours = self.prefix_of(model), "encoder/layers"
        layer = f"{prefix}encoder.layer.{{i}}"
        table = [
            *(
                Weight(f"{name}/embedding", f"{prefix}embeddings.{theirs}_embeddings.weight")
                for name, theirs in (
                    ("token_embedder", "word"),
                    ("token_type_embedder", "token_type"),
                    ("position_embedder", "position"),
                )
            ),
            *layer_norm("embedding_norm", f"{prefix}embeddings.LayerNorm"),
            *(
                weight
                for name in ("query", "key", "value")
                for weight in biased_linear(
                    f"{ours}/self_attention/{name}", f"{layer}.attention.self.{name}"
                )
            ),
            *biased_linear(f"{ours}/self_attention/out", f"{layer}.attention.output.dense"),
            *layer_norm(f"{ours}/self_attention_norm", f"{layer}.attention.output.LayerNorm"),
            *biased_linear(f"{ours}/mlp/wi", f"{layer}.intermediate.dense"),
            *biased_linear(f"{ours}/mlp/wo", f"{layer}.output.dense"),
            *layer_norm(f"{ours}/mlp_norm", f"{layer}.output.LayerNorm"),
        ]
        if model.use_pooler:
            table += biased_linear("pooler", f"{prefix}pooler.dense")
        if model.use_masked_head:
            table += [
                *biased_linear("masked_head/transform", "cls.predictions.transform.dense"),
                *layer_norm("masked_head/norm", "cls.predictions.transform.LayerNorm"),
                Weight("masked_head/bias", "cls.predictions.bias"),
            ]
        if model.use_next_sentence_head:
            table += biased_linear("next_sentence_head", "cls.seq_relationship")
        return table
