"""DeBERTa, version 1, in Hugging Face's form, `model_type` "deberta"."""

from typing import Any, ClassVar

from models.bert import BERT
from models.deberta import DeBERTa
from models.errors import ModelError
from models.heads import Tagging
from models.hf.bert import BERTFamily
from models.hf.family import CONFIG, Config, Option, activation, unsupported
from models.hf.mapping import Table, Weight, biased_linear, linear
from models.hf.tensor_files import TensorFiles

_POSITIONS, _DISTANCES = "max_position_embeddings", "max_relative_positions"
_RELATIVE, _BIASED, _TERMS = "relative_attention", "position_biased_input", "pos_att_type"
_TABLE = "embeddings.position_embeddings"
# Our switches of the terms of attention by their names.
_SWITCHES = {"c2p": "content_to_position", "p2c": "position_to_content"}
# The other names of the masked head, which its class has where it is called legacy.
_LEGACY = {
    "cls.predictions.transform.": "lm_predictions.lm_head.",
    "cls.predictions.": "lm_predictions.lm_head.",
}


class DeBERTaFamily(BERTFamily):
    """DeBERTa; queries, keys and values of a layer lie in one tensor, head by head.

    The published files hold the masked head of the enhanced mask decoder and its positions, and are
    written in the same form. `transformers` has the head and not the decoder: it leaves the
    positions aside and reads the head off the last layer. A file without them is read so here
    too, with `decoder_turns` 0.
    """

    model_type = "deberta"
    models = (DeBERTa,)
    class_name = "Deberta"
    encoder_prefix = "deberta."
    head = r"(cls|lm_predictions|pooler|classifier|qa_outputs)\..*"
    layer_linears: ClassVar = {
        name: theirs
        for name, theirs in BERTFamily.layer_linears.items()
        if name not in ("self_attention/query", "self_attention/key", "self_attention/value")
    }
    tables: ClassVar = {"token_embedder": "word_embeddings"}
    masked_head = (
        "lm_predictions.lm_head.dense",
        "lm_predictions.lm_head.LayerNorm",
        "lm_predictions.lm_head.decoder",
        "lm_predictions.lm_head",
    )
    classifier_pooler = "pooler.dense"
    classifier_dropout = "cls_dropout"
    without_rate = (Tagging,)
    options = (
        Option("vocab_size", "vocab_size", 50_265),
        Option("hidden_size", "embed_dim", 768),
        Option("num_hidden_layers", "num_layers", 12),
        Option("num_attention_heads", "num_heads", 12),
        Option("intermediate_size", "mlp_dim", 3072),
        Option(_POSITIONS, "max_length", 512),
        Option("type_vocab_size", "num_token_types", 0),
        Option("layer_norm_eps", "norm_epsilon", 1e-7),
        Option("hidden_dropout_prob", "dropout_rate", 0.1),
        Option("attention_probs_dropout_prob", "attention_dropout_rate", 0.1),
    )
    fixed: ClassVar = {"tie_word_embeddings": True}
    aliases: ClassVar = {"embedding_size": "hidden_size"}
    # Names of the masked head's tensors, which say themselves which they are; dropout and width of
    # the pooler, whose activation `with_heads` reads; another name of what pads.
    neutral = r"legacy|pooler_\w+|cls_dropout|padding_idx"
    tokens: ClassVar = {"pad_token_id": 0}
    own_fields = frozenset({"head", "use_masked_head", "masked_places"})

    @property
    def derived_options(self) -> tuple[str, ...]:  # type: ignore[override]  # see BERT's
        """What says how attention is made, and BERT's."""
        return (*super().derived_options, _RELATIVE, _TERMS, _DISTANCES, _BIASED, "legacy")

    def check(self, config: Config, source: str) -> None:
        """There are distances, and terms of attention that know them."""
        super().check(config, source)
        if not config.get(_RELATIVE, False):
            raise unsupported(source, _RELATIVE, config.get(_RELATIVE, False), "True")
        if type(config.get(_DISTANCES, -1)) is not int:
            raise unsupported(source, _DISTANCES, config[_DISTANCES], "a whole number")
        terms = _terms(config)
        if not terms or len(set(terms)) < len(terms) or not set(terms) <= _SWITCHES.keys():
            raise unsupported(source, _TERMS, config.get(_TERMS), "'c2p', 'p2c' or 'c2p|p2c'")

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields."""
        fields = super().fields(config)
        given = config.get(_DISTANCES, -1)
        terms, biased = _terms(config), bool(config.get(_BIASED, True))
        switches = {ours: theirs in terms for theirs, ours in _SWITCHES.items()}
        return {
            **fields,
            **switches,
            "max_distance": given if given >= 1 else fields["max_length"],
            "use_input_positions": biased,
            "decoder_turns": 0 if biased else 2,
        }

    def explicit(self, model: BERT) -> dict[str, Any]:
        """As BERT; a pooler is what the head for rows has, a decoder what the masked head has."""
        own: dict[str, Any] = {} if model.head is None else {"use_pooler": False}
        return super().explicit(model) | own | {"decoder_turns": None}

    def derived(self, model: BERT) -> dict[str, Any]:
        """Options that are not one field each.

        Raises:
          ModelError: a decoder that is not the published one.
        """
        assert isinstance(model, DeBERTa)
        if model.decoder_turns not in (0, 2):
            raise ModelError(
                f"DeBERTa.decoder_turns = {model.decoder_turns} cannot be expressed as Hugging "
                "Face's model type 'deberta': its files have the released decoder, which is 2, or "
                "none, which is 0."
            )
        return {
            **super().derived(model),
            _RELATIVE: True,
            _TERMS: [theirs for theirs, ours in _SWITCHES.items() if getattr(model, ours)],
            _DISTANCES: model.max_distance,
            _BIASED: model.use_input_positions,
            "legacy": False,
        }

    def with_heads(self, model: BERT, config: Config, tensors: TensorFiles) -> BERT:
        """The model with the heads whose tensors are there, and with the decoder if it is."""
        assert isinstance(model, DeBERTa)
        self._rename(tensors)
        found = super().with_heads(model, config, tensors)
        name = config.get("pooler_hidden_act", "gelu")
        if found.head is not None and found.use_pooler and activation(name) != "gelu":
            raise unsupported(CONFIG, "pooler_hidden_act", name, "'gelu'")
        there = {f"{_TABLE}.weight", f"{self.encoder_prefix}{_TABLE}.weight"} & set(tensors)
        decodes = there and found.use_masked_head and not model.use_input_positions
        return found.clone(decoder_turns=model.decoder_turns if decodes else 0)

    def prepare(self, model: BERT, tensors: TensorFiles, source: str) -> None:
        """Positions that nothing reads are dropped, as `transformers` does."""
        if not _has_positions(model):
            for name in list(tensors):
                if name.removeprefix(self.encoder_prefix) == f"{_TABLE}.weight":
                    tensors.drop(name)
        super().prepare(model, tensors, source)

    def weights(self, model: BERT) -> Table:
        """Where each parameter is."""
        assert isinstance(model, DeBERTa)
        prefix, ours = self.prefix_of(model), f"{self.our_layers}/self_attention"
        theirs = f"{prefix}{self.layer}.attention.self"
        names = ("query", "key", "value")
        table = [
            *super().weights(model),
            Weight("encoder/relative_embedding", f"{prefix}encoder.rel_embeddings.weight"),
            *(
                linear(f"{ours}/{name}", f"{theirs}.in_proj", part=(i, 3), groups=model.num_heads)
                for i, name in enumerate(names)
            ),
            Weight(f"{ours}/query/bias", f"{theirs}.q_bias"),
            Weight(f"{ours}/value/bias", f"{theirs}.v_bias"),
        ]
        if model.content_to_position:
            table.append(linear(f"{ours}/relative/key", f"{theirs}.pos_proj"))
        if model.position_to_content:
            table += biased_linear(f"{ours}/relative/query", f"{theirs}.pos_q_proj")
        if _has_positions(model):
            table.append(Weight("position_embedder/embedding", f"{prefix}{_TABLE}.weight"))
        if model.num_token_types:
            types = f"{prefix}embeddings.token_type_embeddings.weight"
            table.append(Weight("token_type_embedder/embedding", types))
        return table

    def _rename(self, tensors: TensorFiles) -> None:
        """The legacy head's names become those of the other."""
        for name in list(tensors):
            for old, new in _LEGACY.items():
                if name.startswith(old):
                    tensors.rename(name, new + name.removeprefix(old))
                    break


def _terms(config: Config) -> list[Any]:
    """The names of the terms of attention, which older files give in one string."""
    given = config.get(_TERMS)
    if isinstance(given, str):
        return [term.strip() for term in given.lower().split("|")]
    return list(given or ())


def _has_positions(model: BERT) -> bool:
    """Whether a table of absolute positions is read, at the input or by the decoder."""
    assert isinstance(model, DeBERTa)
    return model.use_input_positions or model.decoder_turns > 0
