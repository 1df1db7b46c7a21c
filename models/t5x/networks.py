"""The networks of T5X's examples, `network.Transformer` and `network.DecoderWrapper`, as models.

A checkpoint holds arrays and no description of the model: sizes are read off their shapes. What
no shape tells, the activation and how a decoder sees its inputs, is in T5X's `config.gin`, which
is looked for beside the checkpoint; without it, it is that of T5X's own gin files.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.hf.mapping import Weight
from models.lamda import LaMDA
from models.layers.mlps import MLP, GatedMLP
from models.model import Model
from models.t5 import T5, T5_1_1
from models.t5x.checkpoint_files import StoredArrays
from models.t5x.run_config import CONFIG, RunConfig

# `mlp_activations` of T5X's gin files: T5 1.0's, and those of 1.1, mT5, ByT5 and the decoder.
_ACTIVATIONS: dict[tuple[str, ...], type[MLP]] = {("relu",): MLP, ("gelu", "linear"): GatedMLP}
# What a `config.gin` need not bind, by the parameters of theirs.
_USUAL = {"dropout_rate": 0.1, "max_distance": 128, "inputs_bidirectional_attention": False}

# Branches of a layer: theirs to ours.
_ENCODER = {"attention": "self_attention"}
_DECODER = {"self_attention": "self_attention", "encoder_decoder_attention": "cross_attention"}
_NORMS = {
    "attention": "pre_attention_layer_norm",
    "self_attention": "pre_self_attention_layer_norm",
    "encoder_decoder_attention": "pre_cross_attention_layer_norm",
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and where its parameters are.

    Attributes:
      model: with its sizes.
      weights: the table.
      supposed: what no array and no `config.gin` says, in words; "" if there is nothing.
    """

    model: Model
    weights: list[Weight]
    supposed: str


def network_of(arrays: StoredArrays, directory: Path) -> Network:
    """The model of a checkpoint; the layers of scanned stacks are told apart in `arrays`.

    Args:
      arrays: the checkpoint's.
      directory: the checkpoint's, in or above which a `config.gin` may be.

    Raises:
      ModelError: it is none of the networks; its `config.gin` cannot be read, or has another
        activation.
    """
    sides = [
        side for side in ("encoder", "decoder") if any(n.startswith(f"{side}/") for n in arrays)
    ]
    if "decoder" not in sides:
        raise ModelError(f"{directory}: no array is a decoder's: {_shown(arrays)}.")
    alone = "encoder" not in sides
    root = "decoder/" if alone else ""
    embed_dim = _shape(arrays, f"{root}token_embedder/embedding", 2, directory)[1]
    for side in sides:
        _unstack(arrays, side, embed_dim, directory)
    _join_heads(arrays)
    config = RunConfig.beside(directory)
    gated = any(name.endswith("/mlp/wi_0/kernel") for name in arrays)
    _check_activations(config, GatedMLP if gated else MLP)
    own_bias = "decoder/relpos_bias/rel_embedding" not in arrays
    tied = "decoder/logits_dense/kernel" not in arrays
    sizes = _sizes(arrays, root, own_bias, gated, directory)
    sizes["dropout_rate"] = float(_bound(config, "dropout_rate", (int, float), "Config"))
    sizes["max_distance"] = _bound(config, "max_distance", (int,))
    kind: type[Model]
    if alone:
        if own_bias or not gated or not tied:
            raise ModelError(
                f"{directory}: a decoder alone is read with gated layers, an output tied to the "
                "embeddings and one relative bias for all layers, as in T5X's own gin files."
            )
        kind = LaMDA
        sizes["num_layers"] = _num_layers(arrays, "decoder")
        prefix = _bound(config, "inputs_bidirectional_attention", (bool,))
        sizes["input_attention"] = "prefix" if prefix else "causal"
    else:
        kind = T5_1_1 if gated else T5
        sizes |= {"tied_output": tied, "bias_per_layer": own_bias}
        sizes |= {f"num_{side}_layers": _num_layers(arrays, side) for side in sides}
    return Network(
        kind(**sizes),
        _weights(sides, root=root, tied=tied, gated=gated, own_bias=own_bias),
        _supposed(config, gated, alone),
    )


def _unstack(arrays: StoredArrays, side: str, embed_dim: int, directory: Path) -> None:
    """Tells the layers of a scanned side apart: `encoder/encoder/…`, of scalable_t5."""
    prefix = f"{side}/{side}/"
    stacked = [name for name in arrays if name.startswith(prefix)]
    if not stacked:
        return
    norm = _shape(arrays, f"{prefix}pre_mlp_layer_norm/scale", 2, directory)
    # `param_scan_axis` is 1 unless it was bound to 0.
    axis = 1 if norm[0] == embed_dim else 0
    for name in stacked:
        arrays.unstack(name, f"{side}/layers_{{i}}/{name.removeprefix(prefix)}", axis)


def _join_heads(arrays: StoredArrays) -> None:
    """Attention of scalable_t5 has an axis of heads, `[e, h, d]` and `[h, d, e]`."""
    for name in list(arrays):
        if not name.endswith("/kernel") or len(shape := arrays.shape(name)) != 3:
            continue
        if name.endswith("/out/kernel"):
            arrays.join(name, (shape[0] * shape[1], shape[2]))
        else:
            arrays.join(name, (shape[0], shape[1] * shape[2]))


def _sizes(
    arrays: StoredArrays, root: str, own_bias: bool, gated: bool, directory: Path
) -> dict[str, Any]:
    first = "decoder/layers_0"
    bias = f"{first if own_bias else 'decoder'}/relpos_bias/rel_embedding"
    num_heads, num_buckets = _shape(arrays, bias, 2, directory)
    vocab_size, embed_dim = _shape(arrays, f"{root}token_embedder/embedding", 2, directory)
    joined = _shape(arrays, f"{first}/self_attention/query/kernel", 2, directory)[1]
    if not num_heads or joined % num_heads:
        raise ModelError(f"{directory}: {num_heads} heads cannot share queries of {joined} units.")
    hidden = f"{first}/mlp/{'wi_0' if gated else 'wi'}/kernel"
    return {
        "vocab_size": vocab_size,
        "embed_dim": embed_dim,
        "mlp_dim": _shape(arrays, hidden, 2, directory)[1],
        "num_heads": num_heads,
        "head_dim": joined // num_heads,
        "num_buckets": num_buckets,
    }


def _weights(
    sides: list[str], *, root: str, tied: bool, gated: bool, own_bias: bool
) -> list[Weight]:
    """Where each parameter is."""
    table = [Weight("token_embedder/embedding", f"{root}token_embedder/embedding")]
    if not tied:
        table.append(Weight("output/kernel", "decoder/logits_dense/kernel"))
    for side in sides:
        ours, theirs = f"{side}/stack/layers", f"{side}/layers_{{i}}"
        branches = _ENCODER if side == "encoder" else _DECODER
        if root:
            branches = {"self_attention": "self_attention"}
        for name, own in branches.items():
            table.append(Weight(f"{ours}/{own}_norm/scale", f"{theirs}/{_NORMS[name]}/scale"))
            for matrix in ("query", "key", "value", "out"):
                kernel = f"{matrix}/kernel"
                table.append(Weight(f"{ours}/{own}/{kernel}", f"{theirs}/{name}/{kernel}"))
        table.append(Weight(f"{ours}/mlp_norm/scale", f"{theirs}/pre_mlp_layer_norm/scale"))
        for matrix in (*(("wi_0", "wi_1") if gated else ("wi",)), "wo"):
            table.append(Weight(f"{ours}/mlp/{matrix}/kernel", f"{theirs}/mlp/{matrix}/kernel"))
        bias = f"{theirs if own_bias else side}/relpos_bias/rel_embedding"
        of_bias = "stack/layers/self_attention/relative" if own_bias else "relative_position_bias"
        table.append(Weight(f"{side}/{of_bias}/embedding", bias, transposed=True))
        table.append(Weight(f"{side}/final_norm/scale", f"{side}/{side}_norm/scale"))
    return table


def _num_layers(arrays: StoredArrays, side: str) -> int:
    found = [re.match(rf"{side}/layers_(\d+)/", name) for name in arrays]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _shape(arrays: StoredArrays, name: str, rank: int, directory: Path) -> tuple[int, ...]:
    """The shape of an array that a model cannot be without."""
    if name not in arrays:
        raise ModelError(f"{directory}: there is no array {name!r}: {_shown(arrays)}.")
    shape = arrays.shape(name)
    if len(shape) != rank:
        raise ModelError(f"{directory}: array {name!r} has {len(shape)} axes instead of {rank}.")
    return shape


def _shown(arrays: StoredArrays) -> str:
    names = list(arrays)
    return f"it has {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if names[3:] else "")


def _check_activations(config: RunConfig, mlp: type[MLP]) -> None:
    found = config.value("mlp_activations")
    if found is None:
        return
    names = tuple(found) if isinstance(found, list | tuple) else (found,)
    if mlp not in [kind for known, kind in _ACTIVATIONS.items() if known == names]:
        known = " or ".join(map(repr, _ACTIVATIONS))
        raise ModelError(
            f"{config.path} has mlp_activations {found!r}, and the arrays are those of "
            f"{'two matrices' if mlp is GatedMLP else 'one matrix'}: {known} is read."
        )


def _bound(config: RunConfig, parameter: str, kinds: tuple[type, ...], owner: str = "") -> Any:
    """What a `config.gin` binds a parameter of `_USUAL` to, of one of the types."""
    found = config.value(parameter, owner)
    if found is None:
        return _USUAL[parameter]
    if type(found) not in kinds:
        raise ModelError(f"{config.path} has {parameter} {found!r}, of another type than T5X's.")
    return found


def _supposed(config: RunConfig, gated: bool, alone: bool) -> str:
    """See `Network`."""
    activation = f"{'gelu' if gated else 'relu'} in its layers"
    if config.path is None:
        order = ", inputs read from left to right" if alone else ""
        rate = _USUAL["dropout_rate"]
        return f"{activation}, dropout of {rate}{order}, as no {CONFIG} is beside it"
    # Of one matrix it is that of the network itself.
    if gated and config.value("mlp_activations") is None:
        return f"{activation}, which {CONFIG} does not say"
    return ""
