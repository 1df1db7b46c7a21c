"""Switch Transformer in Hugging Face's form, `model_type` "switch_transformers"."""

from typing import Any, ClassVar

from models.field_checks import is_of
from models.hf import t5
from models.hf.family import Config, Family, Option, unsupported
from models.hf.mapping import Table, Weight, linear
from models.layers.experts.dispatch import Dropless, RowCapacity
from models.switch import Switch, SwitchC

# A capacity that no row exceeds stands for none.
_UNLIMITED = 2**31 - 1
# Every layer has experts, or every second one; with other distances theirs stand elsewhere.
_DISTANCES = (1, 2)
_SIDES = (("num_layers", "num_sparse_encoder_layers"),
          ("num_decoder_layers", "num_sparse_decoder_layers"))  # fmt: skip


class SwitchFamily(Family):
    """Switch Transformer: T5 1.0's layers, and experts of the same kind."""

    model_type = "switch_transformers"
    architecture = "SwitchTransformersForConditionalGeneration"
    models = (SwitchC, Switch)
    options = (
        *t5.OPTIONS,
        Option("num_decoder_layers", "num_decoder_layers"),
        Option("num_experts", "num_experts"),
        Option("tie_word_embeddings", "tied_output", True),
        Option("router_jitter_noise", "router_jitter", 0.01),
        Option("router_aux_loss_coef", "load_balance", 0.001),
        Option("router_z_loss_coef", "router_z_loss", 0.001),
    )
    fixed: ClassVar = {
        "is_encoder_decoder": True,
        "dense_act_fn": "relu",
        "router_bias": False,
        "router_dtype": "float32",
    }
    aliases = t5.ALIASES
    derived_options = (
        "expert_capacity", "num_sparse_encoder_layers", "num_sparse_decoder_layers",
        "encoder_sparse_step", "decoder_sparse_step",
    )  # fmt: skip
    # What transformers reads nowhere, and whether it outputs probabilities too.
    neutral = (
        r"add_router_probs|router_ignore_padding_tokens|n_positions|feed_forward_proj"
        r"|is_gated_act|router_type|is_decoder|add_cross_attention"
    )
    tokens: ClassVar = t5.TOKENS
    ignored = t5.UNUSED
    # Dropout is drawn in training alone.
    own_fields = frozenset({"expert_dropout_rate"})

    def check(self, config: Config, source: str) -> None:
        """The experts stand in every layer, or in every second, and in both sides alike."""
        capacity = config.get("expert_capacity", 64)
        if not is_of(capacity, int) or capacity < 1:
            raise unsupported(source, "expert_capacity", capacity, "a whole number from 1 on")
        distances: list[int] = []
        for layers, sparse in _SIDES:
            number = config.get(sparse, 3)
            if not is_of(number, int) or number < 1:
                raise unsupported(source, sparse, number, "a whole number from 1 on")
            allowed = [config[layers] // every for every in distances or _DISTANCES]
            if number not in allowed or config[layers] % number:
                shown = " or ".join(map(str, allowed))
                both = "" if layers == "num_layers" else " and the encoder's num_layers"
                raise unsupported(
                    source, sparse, number, f"{shown}, with {layers} {config[layers]}{both},"
                )
            distances.append(config[layers] // number)
        for step in ("encoder_sparse_step", "decoder_sparse_step"):
            if config.get(step, distances[0]) != distances[0]:
                raise unsupported(source, step, config[step], f"{distances[0]}, as the layers say,")

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields."""
        capacity = config.get("expert_capacity", 64)
        return super().fields(config) | {
            "expert_every": config["num_layers"] // config.get("num_sparse_encoder_layers", 3),
            "dispatch": Dropless() if capacity >= _UNLIMITED else RowCapacity(capacity),
        }

    def derived(self, model: Switch) -> dict[str, Any]:
        """Options that are not one field each."""
        # Another dispatch than the two reads as none, and is refused with the field's name.
        dispatch = model.dispatch
        slots = dispatch.slots if isinstance(dispatch, RowCapacity) else _UNLIMITED
        return {
            "expert_capacity": slots,
            "num_sparse_encoder_layers": model.num_encoder_layers // model.expert_every,
            "num_sparse_decoder_layers": model.num_decoder_layers // model.expert_every,
            "encoder_sparse_step": model.expert_every,
            "decoder_sparse_step": model.expert_every,
        }

    def copies(self, model: Switch) -> dict[str, str]:
        """The embeddings of both sides, and a tied output."""
        return t5.copies(model.tied_output)

    def weights(self, model: Switch) -> Table:
        """Where each parameter is."""
        table = [Weight("token_embedder/embedding", "shared.weight")]
        if not model.tied_output:
            table.append(linear("output", "lm_head"))
            # transformers then ties nothing at all, and looks for each side's embeddings.
            for side in ("encoder", "decoder"):
                name = f"{side}.embed_tokens.weight"
                table.append(Weight("token_embedder/embedding", name, copy=True))
        every = model.expert_every
        for side in ("encoder", "decoder"):
            table += t5.side_weights(side)
            theirs = f"{side}.block.{{i}}.layer"
            mlp = f"{theirs}.{t5.last_branch(side)}"
            for block in range(every):
                ours = f"{side}/stack/layers" + (f"/block_{block}" if every > 1 else "")
                layers: dict[str, Any] = {"first": block, "step": every}
                table += t5.attentions(side, ours, theirs, **layers)
                table.append(Weight(f"{ours}/mlp_norm/scale", f"{mlp}.layer_norm.weight", **layers))
                inside = f"{mlp}.mlp"
                experts = ""
                if block == every - 1:
                    experts = "/experts"
                    table.append(
                        linear(f"{ours}/mlp/router", f"{inside}.router.classifier", **layers)
                    )
                    inside += ".experts.expert_{j}"
                for name in ("wi", "wo"):
                    table.append(
                        linear(f"{ours}/mlp{experts}/{name}", f"{inside}.{name}", **layers)
                    )
        return table
