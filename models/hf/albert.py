"""ALBERT in Hugging Face's form, `model_type` "albert", with both heads or fewer."""

from typing import ClassVar

from models.albert import ALBERT
from models.bert import BERT
from models.errors import ModelError
from models.hf.bert import BERTFamily
from models.hf.family import Config, Option, unsupported
from models.hf.mapping import Table, biased_linear

# Of the first published files, with the only value that any of them has.
_OLD = {"down_scale_factor": 1, "gap_size": 0, "net_structure_type": 0, "num_memory_blocks": 0}


class ALBERTFamily(BERTFamily):
    """ALBERT, whose layers share all of their parameters, in groups or not."""

    model_type = "albert"
    models = (ALBERT,)
    class_name = "Albert"
    classifier_dropout, classifier_rate = "classifier_dropout_prob", 0.1
    encoder_prefix = "albert."
    head = r"(predictions|sop_classifier|classifier|qa_outputs)\..*"
    our_layers = "encoder/layers/block"
    layer = "encoder.albert_layer_groups.{i}.albert_layers.0"
    layer_linears: ClassVar = {
        "self_attention/query": "attention.query",
        "self_attention/key": "attention.key",
        "self_attention/value": "attention.value",
        "self_attention/out": "attention.dense",
        "mlp/wi": "ffn",
        "mlp/wo": "ffn_output",
    }
    layer_norms: ClassVar = {
        "self_attention_norm": "attention.LayerNorm",
        "mlp_norm": "full_layer_layer_norm",
    }
    masked_head = (
        "predictions.dense",
        "predictions.LayerNorm",
        "predictions.decoder",
        "predictions",
    )
    pair_head = "sop_classifier.classifier"
    pooler = "pooler"
    default_activation = "gelu_new"
    options = (
        Option("vocab_size", "vocab_size"),
        Option("embedding_size", "embedding_dim", 128),
        Option("hidden_size", "embed_dim"),
        Option("num_hidden_layers", "num_layers"),
        Option("num_hidden_groups", "num_groups", 1),
        Option("num_attention_heads", "num_heads"),
        Option("intermediate_size", "mlp_dim"),
        Option("max_position_embeddings", "max_length", 512),
        Option("type_vocab_size", "num_token_types", 2),
        Option("layer_norm_eps", "norm_epsilon", 1e-12),
        Option("hidden_dropout_prob", "dropout_rate", 0.0),
        Option("attention_probs_dropout_prob", "attention_dropout_rate", 0.0),
    )
    fixed: ClassVar = {
        "inner_group_num": 1,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
    }
    neutral = rf"classifier_dropout_prob|{'|'.join(_OLD)}"
    tokens: ClassVar = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}

    def architecture_of(self, model: BERT) -> str:
        """The class with the same heads.

        Raises:
          ModelError: no class has them.
        """
        if model.use_next_sentence_head and not model.use_masked_head:
            raise ModelError(
                "ALBERT.use_masked_head = False cannot be expressed as Hugging Face's model type "
                "'albert' with use_next_sentence_head: no class has that head alone."
            )
        return super().architecture_of(model)

    def check(self, config: Config, source: str) -> None:
        """The activation is one that we have, embeddings are projected, old options say nothing."""
        super().check(config, source)
        if config.get("embedding_size", 128) is None:
            raise unsupported(source, "embedding_size", None, "the width of the embeddings")
        for option, value in _OLD.items():
            if config.get(option, value) != value:
                raise unsupported(source, option, config[option], repr(value))

    def weights(self, model: BERT) -> Table:
        """Where each parameter is: the projection of the embeddings, and what BERT has."""
        theirs = f"{self.prefix_of(model)}encoder.embedding_hidden_mapping_in"
        return [*biased_linear("embedding_projection", theirs), *super().weights(model)]
