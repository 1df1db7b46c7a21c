"""GPT-NeoX in Hugging Face's form, `model_type` "gpt_neox"; Pythia's checkpoints have it too."""

from typing import Any, ClassVar

from models.gpt_neox import GPTNeoX
from models.hf.family import CONFIG, Config, Family, Option, activation, unsupported
from models.hf.llama import rotation_of
from models.hf.mapping import Table, Weight, biased_linear, layer_norm, linear

# hidden_act: whether it is the approximation by tanh.
_APPROXIMATE = {"gelu": False, "gelu_new": True}
_BASE = 10_000.0
_PCT = 0.25


class GPTNeoXFamily(Family):
    """GPT-NeoX and Pythia."""

    model_type = "gpt_neox"
    architecture = "GPTNeoXForCausalLM"
    prefix = "gpt_neox."
    head = r"embed_out\..*"
    models = (GPTNeoX,)
    options = (
        Option("vocab_size", "vocab_size"),
        Option("hidden_size", "embed_dim"),
        Option("num_attention_heads", "num_heads"),
        Option("num_hidden_layers", "num_layers"),
        Option("intermediate_size", "mlp_dim"),
        Option("max_position_embeddings", "max_length", 2048),
        Option("use_parallel_residual", "parallel_residual", True),
        Option("layer_norm_eps", "norm_epsilon", 1e-5),
        Option("hidden_dropout", "dropout_rate", 0.0, also=("attention_dropout",)),
    )
    fixed: ClassVar = {"attention_bias": True, "tie_word_embeddings": False}
    derived_options = (
        "hidden_act", "rotary_pct", "rotary_emb_base", "rope_scaling", "rope_parameters",
    )  # fmt: skip
    neutral = "is_decoder"
    tokens: ClassVar = {"bos_token_id": 0, "eos_token_id": 0}
    # Older files keep causal masks and the frequencies of the rotation.
    ignored = r"gpt_neox\.layers\.\d+\.attention\.((masked_)?bias|rotary_emb\.inv_freq)"

    def check(self, config: Config, source: str) -> None:
        """The activation is a GELU, and the rotation the plain one."""
        name = config.get("hidden_act", "gelu")
        if activation(name) not in _APPROXIMATE:
            raise unsupported(source, "hidden_act", name, " or ".join(map(repr, _APPROXIMATE)))
        rotation_of(config, source)

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields; transformers 5 keeps the rotation's in an object of their own."""
        rope = rotation_of(config, CONFIG)
        base = rope.get("rope_theta", config.get("rotary_emb_base", _BASE))
        return super().fields(config) | {
            "approximate_gelu": _APPROXIMATE[activation(config.get("hidden_act", "gelu"))],
            "rotary_pct": rope.get("partial_rotary_factor", config.get("rotary_pct", _PCT)),
            "rope_base": float(base),
        }

    def explicit(self, model: GPTNeoX) -> dict[str, Any]:
        """Fields in which None stands for a value."""
        return {"mlp_dim": model.mlp_dim or 4 * model.embed_dim}

    def derived(self, model: GPTNeoX) -> dict[str, Any]:
        """Options that are not one field each; the rotation's for both forms of the file."""
        return {
            # The 20B's own name of the approximation.
            "hidden_act": "gelu_fast" if model.approximate_gelu else "gelu",
            "intermediate_size": self.explicit(model)["mlp_dim"],
            "rotary_pct": model.rotary_pct,
            "rotary_emb_base": model.rope_base,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": model.rope_base,
                "partial_rotary_factor": model.rotary_pct,
            },
        }

    def weights(self, model: GPTNeoX) -> Table:
        """Where each parameter is."""
        layer, ours = "gpt_neox.layers.{i}", "decoder/layers"
        table = [
            Weight("token_embedder/embedding", "gpt_neox.embed_in.weight"),
            *layer_norm("final_norm", "gpt_neox.final_layer_norm"),
            *layer_norm(f"{ours}/self_attention_norm", f"{layer}.input_layernorm"),
            *layer_norm(f"{ours}/mlp_norm", f"{layer}.post_attention_layernorm"),
            *biased_linear(f"{ours}/self_attention/out", f"{layer}.attention.dense"),
            *biased_linear(f"{ours}/mlp/wi", f"{layer}.mlp.dense_h_to_4h"),
            *biased_linear(f"{ours}/mlp/wo", f"{layer}.mlp.dense_4h_to_h"),
            linear("output", "embed_out"),
        ]
        # Side by side in one of theirs, head by head.
        for k, name in enumerate(("query", "key", "value")):
            table += biased_linear(
                f"{ours}/self_attention/{name}",
                f"{layer}.attention.query_key_value",
                part=(k, 3),
                groups=model.num_heads,
            )
        return table
