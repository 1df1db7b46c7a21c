"""Transformer-XL in Hugging Face's form, `model_type` "transfo-xl", of `transformers` before 5."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from models.errors import ModelError
from models.hf.family import Config, Family, Option, unsupported
from models.hf.mapping import Table, Weight, biased_linear, layer_norm, linear
from models.hf.tensor_files import TensorFiles
from models.layers.adaptive_softmax import cluster_bounds
from models.transformer_xl import TransformerXL

_CLAMP, _SAMPLED = "clamp_len", "sample_softmax"
_BIASES = {"content_bias": "r_w_bias", "distance_bias": "r_r_bias"}


class TransfoXLFamily(Family):
    """Transformer-XL, whose memory begins with zeros that are attended to."""

    model_type = "transfo-xl"
    architecture = "TransfoXLLMHeadModel"
    prefix = "transformer."
    head = r"crit\..*"
    models = (TransformerXL,)
    options = (
        Option("vocab_size", "vocab_size", 267735),
        Option("cutoffs", "cutoffs", (20000, 40000, 200000)),
        Option("d_model", "embed_dim", 1024),
        Option("d_embed", "table_dim", 1024),
        Option("n_head", "num_heads", 16),
        Option("d_head", "head_dim", 64),
        Option("d_inner", "mlp_dim", 4096),
        Option("div_val", "divisor", 4),
        Option("n_layer", "num_layers", 18),
        Option("mem_len", "memory_length", 1600),
        Option("same_length", "same_length", True),
        Option("proj_share_all_but_first", "tied_projections", True),
        Option("dropout", "dropout_rate", 0.1),
        Option("dropatt", "attention_dropout_rate", 0.0),
        Option("layer_norm_epsilon", "norm_epsilon", 1e-5),
    )
    fixed: ClassVar = {
        "pre_lnorm": False,
        "attn_type": 0,
        "adaptive": True,
        "tie_word_embeddings": True,
    }
    aliases: ClassVar = {
        "n_token": "vocab_size",
        "hidden_size": "d_model",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }
    # How the older files' training went on, and what they repeat of `tie_word_embeddings`.
    neutral = r"init|proj_init_(std|range)|trainer_compatible|tgt_len|ext_len|tie_(weight|projs)"
    tokens: ClassVar = {"eos_token_id": 0}
    # The frequencies of the sinusoids.
    ignored = r"(transformer\.)?pos_emb\.inv_freq"
    own_fields = frozenset({"carries"})
    derived_options = (_CLAMP, _SAMPLED, "untie_r")

    def check(self, config: Config, source: str) -> None:
        """The softmax is whole, and there is a memory."""
        sampled = config.get(_SAMPLED, -1)
        if type(sampled) is not int or sampled > 0:
            raise unsupported(source, _SAMPLED, sampled, "0 or below")
        clamp = config.get(_CLAMP, 1000)
        if type(clamp) is not int:
            raise unsupported(source, _CLAMP, clamp, "a whole number")
        cutoffs = config.get("cutoffs", ())
        if not isinstance(cutoffs, list | tuple):
            raise unsupported(source, "cutoffs", cutoffs, "a list of whole numbers")

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields."""
        clamp = config.get(_CLAMP, 1000)
        return super().fields(config) | {
            "clamp_length": clamp if clamp > 0 else None,
            "shared_biases": not config.get("untie_r", True),
            "carries": True,
            "zero_memory": True,
        }

    def explicit(self, model: TransformerXL) -> dict[str, Any]:
        """Fields in which None stands for a value."""
        rate = model.attention_dropout_rate
        return {
            "attention_dropout_rate": model.dropout_rate if rate is None else rate,
            "table_dim": model.embed_dim if model.table_dim is None else model.table_dim,
        }

    def derived(self, model: TransformerXL) -> dict[str, Any]:
        """Options that are not one field each."""
        explicit = self.explicit(model)
        return {
            _CLAMP: -1 if model.clamp_length is None else model.clamp_length,
            _SAMPLED: -1,
            "untie_r": not model.shared_biases,
            "d_embed": explicit["table_dim"],
            "dropatt": explicit["attention_dropout_rate"],
        }

    def copies(self, model: TransformerXL) -> Mapping[str, str]:
        """The output's tables and the projections of its tails, and biases of all layers."""
        copies: dict[str, str] = {}
        projected, tails = self._projections(model), len(_bounds(model)) - 2
        for i in range(self._tables(model)):
            copies[f"crit.out_layers.{i}.weight"] = f"transformer.word_emb.emb_layers.{i}.weight"
        if model.tied_projections and projected:
            for i in range(1, tails + 1):
                own = i if model.divisor > 1 else 0
                copies[f"crit.out_projs.{i}"] = f"transformer.word_emb.emb_projs.{own}"
        if model.shared_biases:
            for theirs in _BIASES.values():
                first = f"transformer.layers.0.dec_attn.{theirs}"
                copies[f"transformer.{theirs}"] = first
                for i in range(1, model.num_layers):
                    copies[f"transformer.layers.{i}.dec_attn.{theirs}"] = first
        return copies

    def weights(self, model: TransformerXL) -> Table:
        """Where each parameter is."""
        ours, layer = "decoder/layers", "transformer.layers.{i}"
        attention = f"{layer}.dec_attn"
        table: list[Weight] = [
            linear(f"{ours}/self_attention/{name}", f"{attention}.qkv_net", part=(k, 3))
            for k, name in enumerate(("query", "key", "value"))
        ]
        table += [
            linear(f"{ours}/self_attention/out", f"{attention}.o_net"),
            linear(f"{ours}/self_attention/relative", f"{attention}.r_net"),
            *(
                Weight(f"{ours}/self_attention/relative/{name}", f"{attention}.{theirs}")
                for name, theirs in _BIASES.items()
            ),
            *layer_norm(f"{ours}/self_attention_norm", f"{attention}.layer_norm"),
            *biased_linear(f"{ours}/mlp/wi", f"{layer}.pos_ff.CoreNet.0"),
            *biased_linear(f"{ours}/mlp/wo", f"{layer}.pos_ff.CoreNet.3"),
            *layer_norm(f"{ours}/mlp_norm", f"{layer}.pos_ff.layer_norm"),
            *self._of_output(model),
        ]
        return table

    def _of_output(self, model: TransformerXL) -> Iterator[Weight]:
        embeddings = "transformer.word_emb"
        tables = range(self._tables(model))
        for i in tables:
            yield Weight(f"token_embedder/embedding_{i}", f"{embeddings}.emb_layers.{i}.weight")
            yield Weight(f"output/bias_{i}", f"crit.out_layers.{i}.bias")
        tails = len(_bounds(model)) - 2
        if tails:
            yield Weight("output/cluster_embedding", "crit.cluster_weight")
            yield Weight("output/cluster_bias", "crit.cluster_bias")
        if not self._projections(model):
            return
        for i in tables:
            place = f"{embeddings}.emb_projs.{i}"
            yield Weight(f"token_embedder/projection_{i}", place, transposed=True)
        for i in range(1 if model.tied_projections else tails + 1):
            yield Weight(f"output/projection_{i}", f"crit.out_projs.{i}", transposed=True)

    def _tables(self, model: TransformerXL) -> int:
        """How many tables there are: one, or one for the head and each tail."""
        return len(_bounds(model)) - 1 if model.divisor > 1 else 1

    def _projections(self, model: TransformerXL) -> bool:
        """Whether what tables hold is projected."""
        width = self.explicit(model)["table_dim"]
        return bool(model.divisor > 1 or width != model.embed_dim)

    def prepare(self, model: TransformerXL, tensors: TensorFiles, source: str) -> None:
        """Refuses files without an output, before a tensor of it is found missing.

        Raises:
          ModelError: there is none.
        """
        if not any(name.startswith("crit.") for name in tensors):
            raise ModelError(
                f"{source} has no tensors of an output: it holds a TransfoXLModel, where a "
                "TransfoXLLMHeadModel is needed."
            )
        super().prepare(model, tensors, source)


def _bounds(model: TransformerXL) -> tuple[int, ...]:
    return cluster_bounds(model.vocab_size, model.cutoffs)
