"""XLNet in Hugging Face's form, `model_type` "xlnet", with its output, with a head or without."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from models.errors import ModelError
from models.heads import Spans
from models.hf import heads
from models.hf.bert import ACTIVATION_NAMES
from models.hf.family import CONFIG, Config, Family, Option, activation, unsupported
from models.hf.mapping import Table, Weight, biased_linear, layer_norm
from models.hf.tensor_files import TensorFiles
from models.xlnet import XLNet

_ACTIVATION, _CLAMP, _HEAD_DIM, _KIND = "ff_activation", "clamp_len", "d_head", "attn_type"
_MEMORY, _RATE = "mem_len", "summary_last_dropout"
# What a head for rows reads, with the only value of each that is supported.
_SUMMARY: Mapping[str, Any] = {
    "summary_type": "last",
    "summary_use_proj": True,
    "summary_activation": "tanh",
}
_OF_ATTENTION = {
    "relative/content_bias": "r_w_bias",
    "relative/distance_bias": "r_r_bias",
    "segments/bias": "r_s_bias",
    "segments/embedding": "seg_embed",
}


class XLNetFamily(Family):
    """XLNet. Its projections have an axis of heads and one of their units."""

    model_type = "xlnet"
    prefix = "transformer."
    head = r"(lm_loss|sequence_summary|logits_proj|classifier|qa_outputs)\..*"
    models = (XLNet,)
    options = (
        Option("vocab_size", "vocab_size", 32000),
        Option("d_model", "embed_dim", 1024),
        Option("n_layer", "num_layers", 24),
        Option("n_head", "num_heads", 16),
        Option("d_inner", "mlp_dim", 4096),
        Option("layer_norm_eps", "norm_epsilon", 1e-12),
        Option("dropout", "dropout_rate", 0.1),
        Option("reuse_len", "reuse_length", None),
        Option("pad_token_id", "pad_id", 5),
    )
    fixed: ClassVar = {"bi_data": False, "same_length": False, "tie_word_embeddings": True}
    aliases: ClassVar = {
        "n_token": "vocab_size",
        "hidden_size": "d_model",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    # Of heads that we do not have, when there is a memory, and what older files repeat.
    neutral = r"summary_\w+|(start|end)_n_top|use_mems_\w+|untie_r|max_position_embeddings|dropatt"
    tokens: ClassVar = {"bos_token_id": 1, "eos_token_id": 2}
    own_fields = frozenset({"head", "use_output", "carries", "masked_places"})
    derived_options = (_ACTIVATION, _CLAMP, _HEAD_DIM, _KIND, _MEMORY)

    def architecture_of(self, model: XLNet) -> str:
        """The class with the same output or head."""
        if model.head is not None:
            return heads.architecture_of(model.head, "XLNet")
        return "XLNetLMHeadModel" if model.use_output else "XLNetModel"

    def prefix_of(self, model: XLNet) -> str:
        """None of the encoder alone."""
        return self.prefix if model.use_output or model.head is not None else ""

    def check(self, config: Config, source: str) -> None:
        """The activation, the kind of attention, the heads' size and the lengths are ours."""
        name = config.get(_ACTIVATION, "gelu")
        if activation(name) not in ACTIVATION_NAMES:
            accepted = " or ".join(map(repr, ACTIVATION_NAMES))
            raise unsupported(source, _ACTIVATION, name, accepted)
        if config.get(_KIND, "bi") not in ("bi", "uni"):
            raise unsupported(source, _KIND, config[_KIND], "'bi' or 'uni'")
        width, count = config.get("d_model", 1024), config.get("n_head", 16)
        size = config.get(_HEAD_DIM)
        if size and (type(size) is not int or size * count != width):
            accepted = "d_model divided by n_head"
            raise unsupported(source, _HEAD_DIM, size, accepted)
        if type(config.get(_CLAMP, -1)) is not int:
            raise unsupported(source, _CLAMP, config[_CLAMP], "a whole number")
        memory = config.get(_MEMORY, 512)
        if memory is not None and type(memory) is not int:
            raise unsupported(source, _MEMORY, memory, "a whole number or null")

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields; a memory of no length is ours, which is asked for by `carries` alone."""
        clamp = config.get(_CLAMP, -1)
        fields = super().fields(config) | {
            "activation": ACTIVATION_NAMES[activation(config.get(_ACTIVATION, "gelu"))],
            "causal": config.get(_KIND, "bi") == "uni",
            "clamp_length": clamp if clamp > 0 else None,
        }
        if memory := config.get(_MEMORY, 512):
            fields["memory_length"] = memory
        # What stands for all.
        fields["reuse_length"] = fields["reuse_length"] or None
        return fields

    def derived(self, model: XLNet) -> dict[str, Any]:
        """Options that are not one field each."""
        names = {ours: theirs for theirs, ours in ACTIVATION_NAMES.items()}
        of_head: dict[str, Any] = {}
        if model.head is not None:
            rate = model.head_dropout_rate
            of_head = heads.options_of(model.head)
            if model.head.reads_row:
                of_head |= {**_SUMMARY, _RATE: rate}
            elif rate:
                raise ModelError(
                    f"{type(model.head).__name__}.dropout_rate = {rate} cannot be expressed as "
                    "Hugging Face's model type 'xlnet', which drops what leaves the layers alone: "
                    "set it to 0.0."
                )
        return {
            **of_head,
            _ACTIVATION: names[model.activation],
            _CLAMP: -1 if model.clamp_length is None else model.clamp_length,
            _HEAD_DIM: model.embed_dim // model.num_heads,
            _KIND: "uni" if model.causal else "bi",
            _MEMORY: model.memory_length,
        }

    def with_heads(self, model: XLNet, config: Config, tensors: TensorFiles) -> XLNet:
        """The model with the head that its class has, or the output whose bias is there."""
        head: Any = heads.head_of(config, CONFIG)
        if head is not None:
            for option, value in _SUMMARY.items() if head.reads_row else ():
                if config.get(option, value) != value:
                    raise unsupported(CONFIG, option, config[option], repr(value))
            # What leaves the layers has been dropped already.
            rate = heads.rate_of(config, _RATE, 0.1) if head.reads_row else 0.0
            return model.clone(head=dataclasses.replace(head, dropout_rate=rate))
        classes = config.get("architectures") or ()
        return model.clone(use_output="lm_loss.bias" in tensors or "XLNetLMHeadModel" in classes)

    def prepare(self, model: XLNet, tensors: TensorFiles, source: str) -> None:
        """The encoder of a larger model is named as if it were alone."""
        if not self.prefix_of(model):
            for name in list(tensors):
                if name.startswith(self.prefix):
                    tensors.rename(name, name.removeprefix(self.prefix))
        super().prepare(model, tensors, source)

    def copies(self, model: XLNet) -> Mapping[str, str]:
        """The output's matrix."""
        if not model.use_output:
            return {}
        return {"lm_loss.weight": "transformer.word_embedding.weight"}

    def weights(self, model: XLNet) -> Table:
        """Where each parameter is."""
        prefix, ours = self.prefix_of(model), "encoder/layers"
        layer = f"{prefix}layer.{{i}}"
        attention = f"{layer}.rel_attn"
        split = (model.num_heads, model.embed_dim // model.num_heads)
        table = [
            Weight("token_embedder/embedding", f"{prefix}word_embedding.weight"),
            Weight("mask_embedding", f"{prefix}mask_emb"),
        ]
        for name, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("relative", "r")):
            place = f"{ours}/self_attention/{name}/kernel"
            table.append(Weight(place, f"{attention}.{theirs}", split=split))
        table += [
            Weight(
                f"{ours}/self_attention/out/kernel", f"{attention}.o", transposed=True, split=split
            ),
            *(
                Weight(f"{ours}/self_attention/{name}", f"{attention}.{theirs}")
                for name, theirs in _OF_ATTENTION.items()
            ),
            *layer_norm(f"{ours}/self_attention_norm", f"{attention}.layer_norm"),
            *biased_linear(f"{ours}/mlp/wi", f"{layer}.ff.layer_1"),
            *biased_linear(f"{ours}/mlp/wo", f"{layer}.ff.layer_2"),
            *layer_norm(f"{ours}/mlp_norm", f"{layer}.ff.layer_norm"),
        ]
        if model.use_output:
            table.append(Weight("logit_bias/bias", "lm_loss.bias"))
        if model.head is not None and model.head.reads_row:
            table += biased_linear("pooler", "sequence_summary.summary")
        if model.head is not None:
            of_tokens = "qa_outputs" if isinstance(model.head, Spans) else "classifier"
            name = "logits_proj" if model.head.reads_row else of_tokens
            table += biased_linear("output_head/output", name)
        return table
