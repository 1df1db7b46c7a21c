"""BERT in Hugging Face's form, `model_type` "bert", with both heads or fewer."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from models.bert import BERT
from models.errors import ModelError
from models.heads import Head, Spans
from models.hf import heads
from models.hf.family import CONFIG, Config, Family, Option, activation, unsupported
from models.hf.mapping import Table, Weight, biased_linear, layer_norm
from models.hf.tensor_files import TensorFiles
from models.model import Params
from models.spanbert import SpanBERT
from models.structbert import StructBERT
from models.unilm import UniLM

# hidden_act: ours.
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu"}


class BERTFamily(Family):
    """BERT, and the base class of types that differ in names.

    Which heads a directory has, its tensors say: the released `bert-base-uncased` names the class
    `BertForMaskedLM` and holds the other head too.

    Attributes:
      class_name: what the names of its classes begin with.
      encoder_prefix: of every tensor but the heads', where there is a head.
      tables: our tables to theirs, below `embeddings`.
      our_layers: where our layers are.
      layer: where layers are.
      layer_linears: our linear layers of a layer to theirs.
      layer_norms: our norms of a layer to theirs.
      masked_head: names of its transform, norm, output, and of what has its bias.
      pair_head: name of its linear layer.
      pooler: name of its linear layer.
      classifier: name of the linear layer of a head for rows.
      classifier_pooler: name of what such a head reads; None is the pooler.
      classifier_dropout: the option that is the rate of that head.
      classifier_rate: the rate where there is no such option; None is that of the hidden states.
      without_rate: heads whose rate is that of the hidden states, whatever the option says.
      span_output: name of the linear layer of a head that marks spans.
      span_dropout: the option that is the rate of that head; None where it has no dropout.
      span_rate: the rate where there is no such option.
      activation_option: the option that names the activation.
      default_activation: what stands where the option is absent.
    """

    model_type = "bert"
    models: ClassVar[tuple[type[BERT], ...]] = (BERT, SpanBERT, StructBERT, UniLM)
    class_name: ClassVar[str] = "Bert"
    encoder_prefix: ClassVar[str] = "bert."
    head = r"(cls|classifier|qa_outputs)\..*"
    tables: ClassVar[Mapping[str, str]] = {
        "token_embedder": "word_embeddings",
        "token_type_embedder": "token_type_embeddings",
        "position_embedder": "position_embeddings",
    }
    our_layers: ClassVar[str] = "encoder/layers"
    layer: ClassVar[str] = "encoder.layer.{i}"
    layer_linears: ClassVar[Mapping[str, str]] = {
        "self_attention/query": "attention.self.query",
        "self_attention/key": "attention.self.key",
        "self_attention/value": "attention.self.value",
        "self_attention/out": "attention.output.dense",
        "mlp/wi": "intermediate.dense",
        "mlp/wo": "output.dense",
    }
    layer_norms: ClassVar[Mapping[str, str]] = {
        "self_attention_norm": "attention.output.LayerNorm",
        "mlp_norm": "output.LayerNorm",
    }
    masked_head: ClassVar[tuple[str, str, str, str]] = (
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.decoder",
        "cls.predictions",
    )
    pair_head: ClassVar[str] = "cls.seq_relationship"
    pooler: ClassVar[str] = "pooler.dense"
    classifier: ClassVar[str] = "classifier"
    classifier_pooler: ClassVar[str | None] = None
    classifier_dropout: ClassVar[str] = "classifier_dropout"
    classifier_rate: ClassVar[float | None] = None
    without_rate: ClassVar[tuple[type[Any], ...]] = ()
    span_output: ClassVar[str] = "qa_outputs"
    span_dropout: ClassVar[str | None] = None
    span_rate: ClassVar[float] = 0.0
    activation_option: ClassVar[str] = "hidden_act"
    default_activation: ClassVar[str] = "gelu"
    options: ClassVar[tuple[Option, ...]] = (
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
    # Of the pooler in files that were converted from TensorFlow's; TinyBERT's files say again how
    # wide it is.
    neutral = r"directionality|pooler_\w+|emb_size"
    tokens: ClassVar = {"pad_token_id": 0}
    # The numbers of the positions, which older files keep, and what TinyBERT's states passed to be
    # compared with its teacher's.
    ignored = r"(\w+\.)?(embeddings\.position_ids|fit_denses?\..*)"
    own_fields = frozenset(
        {
            "head",
            "use_masked_head",
            "use_pooler",
            "use_next_sentence_head",
            "masked_places",
            "mask_id",
        }
    )

    @property
    def derived_options(self) -> tuple[str, ...]:  # type: ignore[override]  # by the type's name
        """The activation."""
        return (self.activation_option,)

    def architecture_of(self, model: BERT) -> str:
        """The class with the same heads, `BertForNextSentencePrediction` for a pair's alone."""
        if model.head is not None:
            return heads.architecture_of(model.head, self.class_name)
        head = "ForMaskedLM" if model.use_masked_head else "Model"
        if model.use_next_sentence_head:
            head = "ForPreTraining" if model.use_masked_head else "ForNextSentencePrediction"
        return f"{self.class_name}{head}"

    def check(self, config: Config, source: str) -> None:
        """The activation is one that we have, and the norms' epsilon is known."""
        option = self.activation_option
        name = config.get(option, self.default_activation)
        if activation(name) not in ACTIVATION_NAMES:
            raise unsupported(source, option, name, " or ".join(map(repr, ACTIVATION_NAMES)))
        if config.get("type_vocab_size") == 6 and "layer_norm_eps" not in config:
            # UniLM's released files, whose code has another epsilon than BERT's default.
            accepted = "a stated one with six types of segments, such as UniLM's 1e-05,"
            raise unsupported(source, "layer_norm_eps", None, accepted)

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields."""
        name = activation(config.get(self.activation_option, self.default_activation))
        return super().fields(config) | {"activation": ACTIVATION_NAMES[name]}

    def explicit(self, model: BERT) -> dict[str, Any]:
        """The rate that None stands for."""
        rate = model.attention_dropout_rate
        return {"attention_dropout_rate": model.dropout_rate if rate is None else rate}

    def derived(self, model: BERT) -> dict[str, Any]:
        """Options that are not one field each."""
        names = {ours: theirs for theirs, ours in ACTIVATION_NAMES.items()}
        (rate,) = (o.theirs for o in self.options if o.ours == "attention_dropout_rate")
        of_head: dict[str, Any] = {}
        if model.head is not None:
            of_head = heads.options_of(model.head)
            option, otherwise = self._dropout_of(model.head)
            own = model.head.dropout_rate
            rates = [model.dropout_rate if r is None else r for r in (own, otherwise)]
            if option is not None:
                # Where no option is not the model's rate, the rate must be said.
                of_head[option] = own if otherwise is None else rates[0]
            elif rates[0] != rates[1]:
                name = type(model.head).__name__
                raise ModelError(
                    f"{name}.dropout_rate = {own} cannot be expressed as Hugging Face's model type "
                    f"{self.model_type!r}, where it is {rates[1]}: set it to {otherwise}."
                )
        return {
            **of_head,
            self.activation_option: names[model.activation],
            rate: self.explicit(model)["attention_dropout_rate"],
        }

    def _dropout_of(self, head: Head) -> tuple[str | None, float | None]:
        """The option that is a head's rate, and the rate without it; None is the model's."""
        if isinstance(head, Spans):
            return self.span_dropout, self.span_rate
        if isinstance(head, self.without_rate):
            return None, None
        return self.classifier_dropout, self.classifier_rate

    def written(self, model: Any, params: Params, part: str | None) -> tuple[Any, Params]:
        """What the type has of a model that was pre-trained with further heads: all else."""
        model, params = super().written(model, params, part)
        kind = self.models[0]
        if type(model) is kind:
            return model, params
        names = {field.name for field in dataclasses.fields(kind)} - {"parent", "name"}
        fields = {name: getattr(model, name) for name in names}
        if model.pair_classes != kind.pair_classes:
            fields["use_next_sentence_head"] = False
        plain = kind(**fields)
        kept = plain.abstract_params()
        return plain, {name: value for name, value in params.items() if name in kept}

    def with_heads(self, model: BERT, config: Config, tensors: TensorFiles) -> BERT:
        """The model with the heads whose tensors are there, or that the class must have."""
        head: Any = heads.head_of(config, CONFIG)
        if head is not None:
            option, otherwise = self._dropout_of(head)
            rate = heads.rate_of(config, option, otherwise)
            return model.clone(head=dataclasses.replace(head, dropout_rate=rate))
        classes = config.get("architectures") or ()

        def there(tensor: str, *having_it: str) -> bool:
            names = {f"{tensor}.weight", f"{self.encoder_prefix}{tensor}.weight"}
            having = {f"{self.class_name}For{name}" for name in having_it}
            return bool(names & set(tensors) or having & set(classes))

        fields: dict[str, Any] = self.pretrained_heads(there)
        return model.clone(**fields)

    def pretrained_heads(self, there: Callable[..., bool]) -> dict[str, bool]:
        """Fields of the heads of pre-training.

        Args:
          there: from a linear layer's name, and endings of the classes that must have it, to
            whether there is one.
        """
        pairs = there(self.pair_head, "PreTraining", "NextSentencePrediction")
        return {
            "use_masked_head": there(self.masked_head[0], "PreTraining", "MaskedLM"),
            "use_pooler": pairs or there(self.pooler),
            "use_next_sentence_head": pairs,
        }

    def prefix_of(self, model: BERT) -> str:
        """None where there is no head: `BertModel` is what has the prefix elsewhere."""
        headed = model.use_masked_head or model.use_next_sentence_head
        return self.encoder_prefix if headed or model.head is not None else ""

    def prepare(self, model: BERT, tensors: TensorFiles, source: str) -> None:
        """Norms' older names, and the prefix of a part of a larger model, are brought in line."""
        for name in list(tensors):
            new = name
            for old, current in ((".gamma", ".weight"), (".beta", ".bias")):
                if new.endswith(old):
                    new = new.removesuffix(old) + current
            if not self.prefix_of(model):
                new = new.removeprefix(self.encoder_prefix)
            if new != name and new not in tensors:
                tensors.rename(name, new)
        super().prepare(model, tensors, source)
        if model.head is not None and not model.use_pooler:
            # Older files with a head that reads tokens have a pooler all the same.
            for name in list(tensors):
                if name.startswith(f"{self.prefix_of(model)}{self.pooler}."):
                    tensors.drop(name)

    def copies(self, model: BERT) -> Mapping[str, str]:
        """The output's matrix and bias."""
        *_, output, biased = self.masked_head
        table = f"{self.prefix_of(model)}embeddings.{self.tables['token_embedder']}.weight"
        copies = {f"{output}.weight": table}
        return copies if output == biased else copies | {f"{output}.bias": f"{biased}.bias"}

    def weights(self, model: BERT) -> Table:
        """Where each parameter is."""
        prefix, ours = self.prefix_of(model), self.our_layers
        layer = f"{prefix}{self.layer}"
        table = [
            *(
                Weight(f"{name}/embedding", f"{prefix}embeddings.{theirs}.weight")
                for name, theirs in self.tables.items()
            ),
            *layer_norm("embedding_norm", f"{prefix}embeddings.LayerNorm"),
        ]
        for name, theirs in self.layer_linears.items():
            table += biased_linear(f"{ours}/{name}", f"{layer}.{theirs}")
        for name, theirs in self.layer_norms.items():
            table += layer_norm(f"{ours}/{name}", f"{layer}.{theirs}")
        classifier, own = ("", None) if model.head is None else self.head_names(model.head)
        if model.use_pooler:
            table += biased_linear("pooler", own or f"{prefix}{self.pooler}")
        if model.use_masked_head:
            transform, norm, _, biased = self.masked_head
            table += [
                *biased_linear("masked_head/transform", transform),
                *layer_norm("masked_head/norm", norm),
                Weight("masked_head/bias", f"{biased}.bias"),
            ]
        if model.use_next_sentence_head:
            table += biased_linear("next_sentence_head", self.pair_head)
        if model.head is not None:
            table += biased_linear("output_head/output", classifier)
        return table

    def head_names(self, head: Head) -> tuple[str, str | None]:
        """Names of a head's linear layer, and of what it reads; None is the pooler."""
        if isinstance(head, Spans):
            return self.span_output, None
        return self.classifier, self.classifier_pooler
