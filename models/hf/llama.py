"""LLaMA in Hugging Face's form, `model_type` "llama"."""

from collections.abc import Mapping
from typing import Any, ClassVar

from models.errors import ModelError
from models.hf.family import CONFIG, Config, Family, Option, unsupported
from models.hf.mapping import Table, Weight, linear
from models.llama import LLaMA, swiglu_dim

_BASE = 10_000.0
_OBJECTS = ("rope_scaling", "rope_parameters")


class LLaMAFamily(Family):
    """LLaMA."""

    model_type = "llama"
    architecture = "LlamaForCausalLM"
    prefix = "model."
    models = (LLaMA,)
    options = (
        Option("vocab_size", "vocab_size"),
        Option("hidden_size", "embed_dim"),
        Option("num_attention_heads", "num_heads"),
        Option("num_hidden_layers", "num_layers"),
        Option("intermediate_size", "mlp_dim"),
        Option("num_key_value_heads", "num_kv_heads", None),
        Option("max_position_embeddings", "max_length", 2048),
        Option("rms_norm_eps", "norm_epsilon", 1e-6),
        Option("tie_word_embeddings", "tied_output", False),
    )
    fixed: ClassVar = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    derived_options = ("head_dim", "rope_theta", "rope_scaling", "rope_parameters")
    # `pretraining_tp` splits products into parts, for the sake of tensor parallelism; the others
    # say what the file itself is.
    neutral = r"attention_dropout|pretraining_tp|max_sequence_length|is_llama_config"
    tokens: ClassVar = {"bos_token_id": 1, "eos_token_id": 2}
    # Older files keep the frequencies of the rotation.
    ignored = r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
    # Dropout has no place here, and none at inference.
    own_fields = frozenset({"dropout_rate"})

    def check(self, config: Config, source: str) -> None:
        """The rotation is the plain one, of whole heads that divide the model evenly."""
        rotation_of(config, source, partial=False)
        size, heads = config["hidden_size"], config["num_attention_heads"]
        if heads and config.get("head_dim") not in (None, size // heads):
            even = f"hidden_size over num_attention_heads, {size // heads},"
            raise unsupported(source, "head_dim", config["head_dim"], even)

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields; transformers 5 keeps the rotation's in an object of their own."""
        rope = rotation_of(config, CONFIG, partial=False)
        return super().fields(config) | {
            "rope_base": float(rope.get("rope_theta", config.get("rope_theta") or _BASE)),
        }

    def explicit(self, model: LLaMA) -> dict[str, Any]:
        """Fields in which None stands for a value."""
        return {
            "mlp_dim": model.mlp_dim or swiglu_dim(model.embed_dim),
            "num_kv_heads": model.num_kv_heads or model.num_heads,
        }

    def derived(self, model: LLaMA) -> dict[str, Any]:
        """Options that are not one field each; the rotation's for both forms of the file."""
        return {
            "intermediate_size": self.explicit(model)["mlp_dim"],
            "num_key_value_heads": self.explicit(model)["num_kv_heads"],
            "head_dim": model.embed_dim // model.num_heads,
            "rope_theta": model.rope_base,
            "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
        }

    def copies(self, model: LLaMA) -> dict[str, str]:
        """A tied output is the embeddings."""
        return {"lm_head.weight": "model.embed_tokens.weight"} if model.tied_output else {}

    def weights(self, model: LLaMA) -> Table:
        """Where each parameter is."""
        layer, ours = "model.layers.{i}", "decoder/layers"
        table = [
            Weight("token_embedder/embedding", "model.embed_tokens.weight"),
            Weight("final_norm/scale", "model.norm.weight"),
            Weight(f"{ours}/self_attention_norm/scale", f"{layer}.input_layernorm.weight"),
            Weight(f"{ours}/mlp_norm/scale", f"{layer}.post_attention_layernorm.weight"),
        ]
        for name, short in {"query": "q", "key": "k", "value": "v", "out": "o"}.items():
            table.append(linear(f"{ours}/self_attention/{name}", f"{layer}.self_attn.{short}_proj"))
        for name, their in {"wi_0": "gate", "wi_1": "up", "wo": "down"}.items():
            table.append(linear(f"{ours}/mlp/{name}", f"{layer}.mlp.{their}_proj"))
        return table if model.tied_output else [*table, linear("output", "lm_head")]


def rotation_of(config: Config, source: str, partial: bool = True) -> Config:
    """The object in which a file keeps its rotation, or an empty one.

    transformers 5 calls it `rope_parameters`, and reads the older `rope_scaling` in its place
    where that is there; both may hold the base.

    Args:
      config: of config.json.
      source: where it comes from, for errors.
      partial: whether the family can turn a part of each head.

    Raises:
      ModelError: the rotation is not the plain one, or two objects say different things.
    """
    objects = {name: config[name] for name in _OBJECTS if config.get(name)}
    for option, found in objects.items():
        if not isinstance(found, Mapping):
            raise ModelError(f"{source}: {option} {found!r} is not an object.")
        if found.get("rope_type", found.get("type", "default")) != "default":
            raise unsupported(source, option, dict(found), "the type 'default', with a rope_theta,")
        if not partial and found.get("partial_rotary_factor", 1) != 1:
            raise unsupported(source, option, dict(found), "a partial_rotary_factor of 1")
    if len(objects) == 2 and objects["rope_scaling"] != objects["rope_parameters"]:
        raise ModelError(
            f"{source}: rope_scaling and rope_parameters of config.json are one option with two "
            "values: take out the wrong one."
        )
    return next(iter(objects.values()), {})
