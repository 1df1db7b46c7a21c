"""BART in Hugging Face's form, `model_type` "bart", as a language model or with a head."""

import dataclasses
from typing import Any, ClassVar

from models.bart import BART
from models.hf import heads
from models.hf.family import CONFIG, Config, Family, Option, unsupported
from models.hf.mapping import Table, Weight, Zeros, biased_linear, layer_norm
from models.hf.tensor_files import TensorFiles

# The rate of a head, 0 where it is not said.
_RATE = "classifier_dropout"


class BARTFamily(Family):
    """BART."""

    model_type = "bart"
    architecture = "BartForConditionalGeneration"
    prefix = "model."
    head = r"(lm_head|classification_head)\..*|final_logits_bias"
    models = (BART,)
    options = (
        Option("vocab_size", "vocab_size"),
        Option("d_model", "embed_dim"),
        Option("encoder_ffn_dim", "mlp_dim", also=("decoder_ffn_dim",)),
        Option("encoder_attention_heads", "num_heads", also=("decoder_attention_heads",)),
        Option("encoder_layers", "num_encoder_layers"),
        Option("decoder_layers", "num_decoder_layers"),
        Option("max_position_embeddings", "max_length", 1024),
        Option("dropout", "dropout_rate", 0.1),
    )  # fmt: skip
    fixed: ClassVar = {
        "activation_function": "gelu",
        "scale_embedding": False,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
    }
    aliases: ClassVar = {
        "hidden_size": "d_model",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
    }
    # Dropout of more places than ours, what is only drawn in training, and options that today's
    # transformers does not read.
    neutral = (
        r"(attention|activation)_dropout|(en|de)coder_layerdrop|extra_pos_embeddings"
        r"|normalize_embedding|is_decoder"
    )
    tokens: ClassVar = {
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
    }  # fmt: skip
    ignored = r"model\.(en|de)coder\.version"
    own_fields = frozenset({"head"})

    def architecture_of(self, model: BART) -> str:
        """The class with the same head, or the language model's."""
        if model.head is None:
            return self.architecture
        return heads.architecture_of(model.head, "Bart")

    def with_heads(self, model: BART, config: Config, tensors: TensorFiles) -> BART:
        """The model with the head that its class has."""
        head: Any = heads.head_of(config, CONFIG)
        if head is None:
            return model
        rate = heads.rate_of(config, _RATE, 0.0)
        return model.clone(head=dataclasses.replace(head, dropout_rate=rate))

    def derived(self, model: BART) -> dict[str, Any]:
        """What a head is, and its rate."""
        if model.head is None:
            return {}
        return heads.options_of(model.head) | {_RATE: model.head_dropout_rate}

    def check(self, config: Config, source: str) -> None:
        """Both sides have equal layers."""
        for name in ("ffn_dim", "attention_heads"):
            ours, theirs = config.get(f"encoder_{name}"), config.get(f"decoder_{name}")
            if ours != theirs:
                raise unsupported(source, f"decoder_{name}", theirs, f"encoder_{name}, {ours},")

    def copies(self, model: BART) -> dict[str, str]:
        """The embeddings of both sides, and the output."""
        names = ("model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head")
        return dict.fromkeys((f"{name}.weight" for name in names), "model.shared.weight")

    def weights(self, model: BART) -> Table:
        """Where each parameter is."""
        table: list[Weight | Zeros] = [
            Weight("token_embedder/embedding", "model.shared.weight"),
        ]
        if model.head is None:
            table.append(Zeros("final_logits_bias", (1, model.vocab_size)))
        else:
            table += biased_linear("output_head_dense", "classification_head.dense")
            table += biased_linear("output_head/output", "classification_head.out_proj")
        for side in ("encoder", "decoder"):
            theirs, ours = f"model.{side}.layers.{{i}}", f"{side}/layers"
            table += [
                Weight(f"{side}_positions/embedding", f"model.{side}.embed_positions.weight"),
                *layer_norm(f"{side}_embedding_norm", f"model.{side}.layernorm_embedding"),
                *layer_norm(f"{ours}/mlp_norm", f"{theirs}.final_layer_norm"),
                *biased_linear(f"{ours}/mlp/wi", f"{theirs}.fc1"),
                *biased_linear(f"{ours}/mlp/wo", f"{theirs}.fc2"),
                *_attention(f"{ours}/self_attention", f"{theirs}.self_attn"),
            ]
            if side == "decoder":
                table += _attention(f"{ours}/cross_attention", f"{theirs}.encoder_attn")
        return table


def _attention(ours: str, theirs: str) -> list[Weight]:
    table = layer_norm(f"{ours}_norm", f"{theirs}_layer_norm")
    for name, short in {"query": "q", "key": "k", "value": "v", "out": "out"}.items():
        table += biased_linear(f"{ours}/{name}", f"{theirs}.{short}_proj")
    return table
