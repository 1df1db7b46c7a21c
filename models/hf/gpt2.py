"""GPT-2 in Hugging Face's form, `model_type` "gpt2"."""

from typing import Any, ClassVar

from models.gpt import GPT1, GPT2
from models.hf.family import Family, Option
from models.hf.mapping import Table, Weight, layer_norm

ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}


class GPT2Family(Family):
    """GPT-2."""

    model_type = "gpt2"
    architecture = "GPT2LMHeadModel"
    prefix = "transformer."
    models = (GPT2,)
    options = (
        Option("vocab_size", "vocab_size"),
        Option("n_embd", "embed_dim"),
        Option("n_head", "num_heads"),
        Option("n_layer", "num_layers"),
        Option("n_positions", "max_length", 1024),
        Option("n_inner", "mlp_dim", None),
        Option("layer_norm_epsilon", "norm_epsilon", 1e-5),
        Option("resid_pdrop", "dropout_rate", 0.1, also=("embd_pdrop", "attn_pdrop")),
    )
    fixed: ClassVar = {
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    }
    aliases = ALIASES
    neutral = r"n_ctx|summary_\w+|reorder_and_upcast_attn"
    tokens: ClassVar = {"bos_token_id": 50256, "eos_token_id": 50256}
    # The causal masks that older files keep.
    ignored = r"transformer\.h\.\d+\.attn\.(masked_)?bias"

    def explicit(self, model: GPT2) -> dict[str, Any]:
        """Fields in which None stands for a value."""
        return explicit(model)

    def copies(self, model: GPT2) -> dict[str, str]:
        """The output is the embeddings."""
        return {"lm_head.weight": "transformer.wte.weight"}

    def weights(self, model: GPT2) -> Table:
        """Where each parameter is."""
        layer, ours = "transformer.h.{i}", "decoder/layers"
        return [
            Weight("token_embedder/embedding", "transformer.wte.weight"),
            Weight("position_embedder/embedding", "transformer.wpe.weight"),
            *layer_norm("final_norm", "transformer.ln_f"),
            *layer_norm(f"{ours}/self_attention_norm", f"{layer}.ln_1"),
            *layer_norm(f"{ours}/mlp_norm", f"{layer}.ln_2"),
            *attention_and_mlp(ours, layer),
        ]


def explicit(model: GPT1) -> dict[str, Any]:
    """The sizes of heads and MLP, also where they are None."""
    return {
        "head_dim": model.head_dim or model.embed_dim // model.num_heads,
        "mlp_dim": model.mlp_dim or 4 * model.embed_dim,
    }


def attention_and_mlp(ours: str, layer: str) -> list[Weight]:
    """The matrices of a layer, with queries, keys and values side by side in one of theirs."""
    table = [
        *_dense(f"{ours}/self_attention/out", f"{layer}.attn.c_proj"),
        *_dense(f"{ours}/mlp/wi", f"{layer}.mlp.c_fc"),
        *_dense(f"{ours}/mlp/wo", f"{layer}.mlp.c_proj"),
    ]
    for k, name in enumerate(("query", "key", "value")):
        table += _dense(f"{ours}/self_attention/{name}", f"{layer}.attn.c_attn", part=(k, 3))
    return table


def _dense(ours: str, theirs: str, part: tuple[int, int] | None = None) -> list[Weight]:
    # Their `Conv1D` keeps its matrix as [inputs, outputs], as we do.
    return [
        Weight(f"{ours}/kernel", f"{theirs}.weight", part=part),
        Weight(f"{ours}/bias", f"{theirs}.bias", part=part),
    ]
