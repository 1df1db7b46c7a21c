"""T5 1.0 and 1.1 in Hugging Face's form, `model_type` "t5"."""

from typing import Any, ClassVar

from models.hf.family import Config, Family, Option, equal, unsupported
from models.hf.mapping import Table, Weight, linear
from models.hf.tensor_files import TensorFiles
from models.layers.mlps import GatedMLP
from models.t5 import T5, T5_1_1

OPTIONS = (
    Option("vocab_size", "vocab_size"),
    Option("d_model", "embed_dim"),
    Option("d_ff", "mlp_dim"),
    Option("num_heads", "num_heads"),
    Option("d_kv", "head_dim"),
    Option("num_layers", "num_encoder_layers"),
    Option("relative_attention_num_buckets", "num_buckets", 32),
    Option("relative_attention_max_distance", "max_distance", 128),
    Option("layer_norm_epsilon", "norm_epsilon", 1e-6),
    Option("dropout_rate", "dropout_rate", 0.1),
)
ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
}
TOKENS = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
# A table of cross-attention that was never used.
UNUSED = r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight"
# feed_forward_proj: our class, and the activation that transformers derives from it. Its "gelu"
# after "gated-" is the approximation by tanh.
_MLPS: dict[str, tuple[type[T5], str]] = {
    "relu": (T5, "relu"),
    "gated-gelu": (T5_1_1, "gelu_new"),
    "gated-gelu_new": (T5_1_1, "gelu_new"),
}


class T5Family(Family):
    """T5 1.0 and 1.1."""

    model_type = "t5"
    architecture = "T5ForConditionalGeneration"
    models = (T5, T5_1_1)
    options = OPTIONS
    fixed: ClassVar = {"is_encoder_decoder": True}
    derived_options = (
        "num_decoder_layers", "feed_forward_proj", "dense_act_fn", "is_gated_act",
        "scale_decoder_outputs", "tie_word_embeddings",
    )  # fmt: skip
    aliases: ClassVar = {**ALIASES, "head_dim": "d_kv"}
    neutral = "n_positions|is_decoder"
    tokens = TOKENS
    ignored = UNUSED

    def model_class(self, config: Config) -> type[T5]:
        """T5 1.0 or 1.1, as the MLP says."""
        return _MLPS[config.get("feed_forward_proj", "relu")][0]

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields; until transformers 5 one option said whether to share and to scale."""
        decoder = config.get("num_decoder_layers")
        scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings") is not False)
        return super().fields(config) | {
            "num_decoder_layers": config["num_layers"] if decoder is None else decoder,
            "tied_output": bool(scaled),
        }

    def check(self, config: Config, source: str) -> None:
        """The MLP is one of the two."""
        name = config.get("feed_forward_proj", "relu")
        if name not in _MLPS:
            raise unsupported(source, "feed_forward_proj", name, " or ".join(map(repr, _MLPS)))
        expected = {"dense_act_fn": _MLPS[name][1], "is_gated_act": name.startswith("gated-")}
        for option, value in expected.items():
            if not equal(config.get(option, value), value):
                accepted = f"{value!r}, as feed_forward_proj {name!r} says,"
                raise unsupported(source, option, config[option], accepted)

    def derived(self, model: T5) -> dict[str, Any]:
        """Options that are not one field each."""
        name = next(
            (
                name
                for name, (kind, _) in _MLPS.items()
                if (kind.mlp, kind.activation) == (model.mlp, model.activation)
            ),
            "relu",
        )
        return {
            "num_decoder_layers": model.num_decoder_layers,
            "feed_forward_proj": name,
            "dense_act_fn": _MLPS[name][1],
            "is_gated_act": name.startswith("gated-"),
            "scale_decoder_outputs": model.tied_output,
            "tie_word_embeddings": model.tied_output,
        }

    def prepare(self, model: Any, tensors: TensorFiles, source: str) -> None:
        """See `Family`; a file may leave out an output that is a copy and yet not scaled."""
        if not model.tied_output and "lm_head.weight" not in tensors and "shared.weight" in tensors:
            tensors.alias("shared.weight", "lm_head.weight")
        super().prepare(model, tensors, source)

    def copies(self, model: T5) -> dict[str, str]:
        """The embeddings of both sides, and T5 1.0's output."""
        return copies(model.tied_output)

    def weights(self, model: T5) -> Table:
        """Where each parameter is."""
        table = [Weight("token_embedder/embedding", "shared.weight")]
        if not model.tied_output:
            table.append(linear("output", "lm_head"))
        inputs = ("wi_0", "wi_1") if model.mlp is GatedMLP else ("wi",)
        for side in ("encoder", "decoder"):
            table += side_weights(side)
            ours, theirs = f"{side}/stack/layers", f"{side}.block.{{i}}.layer"
            table += attentions(side, ours, theirs)
            dense = f"{theirs}.{last_branch(side)}"
            table.append(Weight(f"{ours}/mlp_norm/scale", f"{dense}.layer_norm.weight"))
            for name in (*inputs, "wo"):
                table.append(linear(f"{ours}/mlp/{name}", f"{dense}.DenseReluDense.{name}"))
        return table


def copies(tied_output: bool) -> dict[str, str]:
    """Tensors that are the shared embeddings once more."""
    names = [f"{side}.embed_tokens.weight" for side in ("encoder", "decoder")]
    return dict.fromkeys(names + ["lm_head.weight"] * tied_output, "shared.weight")


def side_weights(side: str) -> list[Weight]:
    """What is beside the layers: the relative bias, which the first layer holds, and the norm."""
    return [
        Weight(
            f"{side}/relative_position_bias/embedding",
            f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        ),
        Weight(f"{side}/final_norm/scale", f"{side}.final_layer_norm.weight"),
    ]


def attentions(side: str, ours: str, theirs: str, **layers: Any) -> list[Weight]:
    """Self-attention and, in the decoder, cross-attention of layers."""
    kinds = [("self_attention", "0.SelfAttention"), ("cross_attention", "1.EncDecAttention")]
    table = []
    for name, place in kinds[: last_branch(side)]:
        norm = f"{theirs}.{place[0]}.layer_norm.weight"
        table.append(Weight(f"{ours}/{name}_norm/scale", norm, **layers))
        for matrix, short in {"query": "q", "key": "k", "value": "v", "out": "o"}.items():
            table.append(linear(f"{ours}/{name}/{matrix}", f"{theirs}.{place}.{short}", **layers))
    return table


def last_branch(side: str) -> int:
    """The number of the MLP among the branches of a layer."""
    return 1 if side == "encoder" else 2
