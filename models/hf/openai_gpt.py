"""GPT-1 in Hugging Face's form, `model_type` "openai-gpt"."""

from typing import Any, ClassVar

from models.gpt import GPT1
from models.hf.family import Family, Option
from models.hf.gpt2 import ALIASES, attention_and_mlp, explicit
from models.hf.mapping import Table, Weight, layer_norm


class GPT1Family(Family):
    """GPT-1."""

    model_type = "openai-gpt"
    architecture = "OpenAIGPTLMHeadModel"
    prefix = "transformer."
    models = (GPT1,)
    options = (
        Option("vocab_size", "vocab_size"),
        Option("n_embd", "embed_dim"),
        Option("n_head", "num_heads"),
        Option("n_layer", "num_layers"),
        Option("n_positions", "max_length", 512),
        Option("layer_norm_epsilon", "norm_epsilon", 1e-5),
        Option("resid_pdrop", "dropout_rate", 0.1, also=("embd_pdrop", "attn_pdrop")),
    )
    # This type's "gelu" is the approximation by tanh.
    fixed: ClassVar = {"afn": "gelu", "tie_word_embeddings": True}
    aliases = ALIASES
    neutral = r"n_ctx|n_special|predict_special_tokens|summary_\w+"
    # The causal masks and positions that older files keep.
    ignored = r"transformer\.(h\.\d+\.attn\.bias|position_ids)"

    def explicit(self, model: GPT1) -> dict[str, Any]:
        """Fields in which None stands for a value."""
        return explicit(model)

    def copies(self, model: GPT1) -> dict[str, str]:
        """The output is the embeddings."""
        return {"lm_head.weight": "transformer.tokens_embed.weight"}

    def weights(self, model: GPT1) -> Table:
        """Where each parameter is."""
        layer, ours = "transformer.h.{i}", "decoder/layers"
        return [
            Weight("token_embedder/embedding", "transformer.tokens_embed.weight"),
            Weight("position_embedder/embedding", "transformer.positions_embed.weight"),
            *layer_norm(f"{ours}/self_attention_norm", f"{layer}.ln_1"),
            *layer_norm(f"{ours}/mlp_norm", f"{layer}.ln_2"),
            *attention_and_mlp(ours, layer),
        ]
