"""DistilBERT in Hugging Face's form, `model_type` "distilbert", with a head or none."""

from typing import Any, ClassVar

from models.bert import BERT
from models.distilbert import DistilBERT
from models.heads import Tagging
from models.hf.bert import BERTFamily
from models.hf.family import Option


class DistilBERTFamily(BERTFamily):
    """DistilBERT: BERT's parts under other names; the norms' epsilon is fixed there."""

    model_type = "distilbert"
    models = (DistilBERT,)
    class_name = "DistilBert"
    classifier_pooler = "pre_classifier"
    classifier_dropout, classifier_rate = "seq_classif_dropout", 0.2
    without_rate = (Tagging,)
    span_dropout, span_rate = "qa_dropout", 0.1
    encoder_prefix = "distilbert."
    head = r"(vocab_\w+|pre_classifier|classifier|qa_outputs)\..*"
    tables: ClassVar = {
        "token_embedder": "word_embeddings",
        "position_embedder": "position_embeddings",
    }
    layer = "transformer.layer.{i}"
    layer_linears: ClassVar = {
        "self_attention/query": "attention.q_lin",
        "self_attention/key": "attention.k_lin",
        "self_attention/value": "attention.v_lin",
        "self_attention/out": "attention.out_lin",
        "mlp/wi": "ffn.lin1",
        "mlp/wo": "ffn.lin2",
    }
    layer_norms: ClassVar = {
        "self_attention_norm": "sa_layer_norm",
        "mlp_norm": "output_layer_norm",
    }
    masked_head = ("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector")
    activation_option = "activation"
    options = (
        Option("vocab_size", "vocab_size", 30522),
        Option("dim", "embed_dim", 768),
        Option("n_layers", "num_layers", 6),
        Option("n_heads", "num_heads", 12),
        Option("hidden_dim", "mlp_dim", 3072),
        Option("max_position_embeddings", "max_length", 512),
        Option("dropout", "dropout_rate", 0.1),
        Option("attention_dropout", "attention_dropout_rate", 0.1),
    )
    fixed: ClassVar = {"tie_word_embeddings": True}
    aliases: ClassVar = {
        "hidden_size": "dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }
    # Initial values of the positions, older files' name of the tie, and dropout of heads that are
    # not here.
    neutral = r"sinusoidal_pos_embds|tie_weights_|(qa|seq_classif)_dropout"
    own_fields = frozenset({"head", "use_masked_head", "masked_places"})

    def explicit(self, model: BERT) -> dict[str, Any]:
        """As BERT; a pooler is what the head for rows has."""
        own = {} if model.head is None else {"use_pooler": False}
        return super().explicit(model) | own
