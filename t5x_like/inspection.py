"""What a model is made of and what it will need, without allocating any of it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from t5x_like.cost import flops, topologies
from t5x_like.cost.units import gibibytes
from t5x_like.data import formats
from t5x_like.distributed.axis_rules import BATCH_AXES
from t5x_like.errors import UserError
from t5x_like.host import command
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner, path_name, split_boxes, with_subtree
from t5x_like.protocols import Model, frozen_models, longest_row
from t5x_like.training import state as train_state
from t5x_like.training.loss import summed_loss

DEFAULT_LENGTH = 512  # of each feature where no task says

# Fields that models have under these names, and what their number counts.
_TITLE = {
    "num_layers": "layers",
    "num_encoder_layers": "encoder layers",
    "num_decoder_layers": "decoder layers",
    "embed_dim": "wide",
    "hidden_dim": "hidden units",
    "num_heads": "heads",
    "num_kv_heads": "key-value heads",
    "head_dim": "units a head",
    "mlp_dim": "units in an MLP",
    "num_experts": "experts",
    "vocab_size": "tokens in the vocabulary",
}


def inspect(
    *,
    model: Model,
    optimizer: Optimizer | None = None,
    partitioner: Partitioner | None = None,
    task_feature_lengths: Mapping[str, int] | None = None,
    batch_size: int | None = None,
    num_microbatches: int = 1,
    topology: str | None = None,
) -> dict[str, Any]:
    """Counts, FLOPs, memory and the parameter tree, as JSON.

    Args:
      model: what is looked at.
      optimizer: whose state is counted.
      partitioner: the mesh of the tree's `mesh_axes`; one device when None.
      topology: whose number of devices the mesh divides, as `compile` takes it, `v5p-64`; they are
        simulated. The partitioner's own, or this machine's, when None.
      task_feature_lengths: tokens of each feature; `DEFAULT_LENGTH` each when None.
      batch_size: rows whose activations are counted; 1 when None.
      num_microbatches: pieces that they are computed in, of which a device has one at a time.

    Returns:
      `parameters`, `parameters_without_embeddings`, `active_parameters` (those that one
      token meets), `flops_per_token` (forward and backward, a mean over all positions),
      `flops` (the same by part, and beside 6 N: `flops.FlopReport.to_json`), `six_nd_ratio`
      (`flops_per_token` over 6 times the active parameters), `trained_parameters` (those that
      training changes), `frozen_bytes` (of the others, which are among `parameter_bytes`, and of
      the frozen models that the loss reads, which are not), `parameter_bytes`, `optimizer_bytes`,
      `activation_bytes` (what the forward pass keeps
      for the backward pass, before XLA's own savings), `batch` (feature to shape), `title` (class,
      layers, width, heads), `device_memory` (of one device of the mesh: `devices`, `mesh`,
      `parameter_bytes`, `frozen_model_bytes`, `optimizer_bytes`, `gradient_bytes`,
      `activation_bytes` and `total_bytes`, at least, as if every axis divided all activations, and
      `hbm_bytes` where the topology tells it) and `tree` (name to `shape`, `dtype`,
      `logical_axes`, `mesh_axes`).

    Raises:
      UserError: no such topology, the mesh does not fit it, or the pieces do not divide the rows.
    """
    rows = 1 if batch_size is None else batch_size
    batch = example_batch(model, task_feature_lengths, rows)
    if num_microbatches < 1 or rows % num_microbatches:
        raise UserError(f"NUM_MICROBATCHES {num_microbatches} does not divide BATCH_SIZE {rows}.")
    if topology is not None:
        devices = topologies.simulated(topology, topologies.num_devices(topology))
        partitioner = replace(partitioner or Partitioner(), devices=tuple(devices))
    partitioner = partitioner or Partitioner(data=1, devices=tuple(jax.devices()[:1]))
    shapes = shapes_of(batch)
    params, _ = split_boxes(model.abstract_params())
    computed = flops.flop_report(model, shapes)
    trained = train_state.trained_part(model, params)
    beside = {name: one.abstract_params() for name, one in frozen_models(model).items()}
    report: dict[str, Any] = {
        "model": type(model).__name__,
        "title": title(model),
        "parameters": computed.parameters["total"],
        "parameters_without_embeddings": computed.parameters["total_without_embeddings"],
        "active_parameters": computed.parameters["active"],
        "flops_per_token": computed.step,
        "flops": computed.to_json(),
        "six_nd_ratio": computed.ratios["active"],
        "trained_parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(trained)),
        "frozen_bytes": _bytes(params) - _bytes(trained) + _bytes(split_boxes(beside)[0]),
        "parameter_bytes": _bytes(params),
        "optimizer_bytes": 0,
        "activation_bytes": _activation_bytes(model, params, batch),
        "batch": {name: list(shape) for name, shape in shapes.items()},
        "tree": parameter_tree(model, partitioner),
    }
    if optimizer is not None:
        state = jax.eval_shape(train_state.transformation(model, optimizer).init, trained)
        report["optimizer"] = optimizer.name
        report["optimizer_bytes"] = _bytes(state)
    report["device_memory"] = _device_memory(
        report, model, optimizer, partitioner, topology, num_microbatches
    )
    return report


def title(model: Model) -> str:
    """The class, layers, width and heads of a model, as far as it has them."""
    parts = [
        f"{value:,} {words}"
        for name, words in _TITLE.items()
        if isinstance(value := getattr(model, name, None), int) and not isinstance(value, bool)
    ]
    return ", ".join([type(model).__name__, *parts])


def _device_memory(
    report: Mapping[str, Any],
    model: Model,
    optimizer: Optimizer | None,
    partitioner: Partitioner,
    topology: str | None,
    num_microbatches: int,
) -> dict[str, Any]:
    """What one device of the mesh holds at least; gradients are divided as their parameters are.

    Activations are of one of the batch's pieces, whose rows are whole; axes that divide other
    dimensions divide a part of what is stored, and here all of it.
    """
    mesh = {axis: int(size) for axis, size in partitioner.mesh.shape.items()}
    placed = train_state.placed_params(model, partitioner)
    parameters = _shard_bytes(placed)
    gradients = _shard_bytes(train_state.trained_part(model, placed))
    frozen = _shard_bytes(train_state.abstract_frozen(model, partitioner))
    state = 0
    if optimizer is not None:
        state = _shard_bytes(train_state.abstract_state(model, optimizer, partitioner).opt_state)
    rows = next(iter(report["batch"].values()))[0]
    over_rows = math.prod(mesh[axis] for axis in BATCH_AXES)
    own_rows = math.ceil(rows / num_microbatches / over_rows)
    others = math.prod(mesh.values()) // over_rows
    activations = report["activation_bytes"] * own_rows // rows // others
    chip = topologies.chip_of_topology(topology) if topology else None
    return {
        "devices": math.prod(mesh.values()),
        "mesh": mesh,
        "parameter_bytes": parameters,
        "frozen_model_bytes": frozen,
        "optimizer_bytes": state,
        "gradient_bytes": gradients,
        "activation_bytes": activations,
        "total_bytes": parameters + frozen + state + gradients + activations,
        "hbm_bytes": int(chip.hbm) if chip and chip.hbm else None,
    }


def _shard_bytes(tree: Any) -> int:
    """The bytes of one device's parts."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * jax.numpy.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )


def parameter_tree(model: Model, partitioner: Partitioner) -> dict[str, dict[str, Any]]:
    """Each parameter's `shape`, `dtype`, `logical_axes` and `mesh_axes`, by name."""
    params, axes = split_boxes(model.abstract_params())
    shardings = jax.tree.leaves(partitioner.param_shardings(model))
    names = jax.tree.leaves(axes, is_leaf=lambda node: isinstance(node, tuple))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {
        path_name(path): {
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "logical_axes": list(logical),
            "mesh_axes": [
                _used(entry, partitioner)
                for entry in (*sharding.spec, *[None] * (leaf.ndim - len(sharding.spec)))
            ],
        }
        for (path, leaf), logical, sharding in zip(leaves, names, shardings, strict=True)
    }


def parameter_table(tree: Mapping[str, Mapping[str, Any]]) -> str:
    """The tree as aligned lines, for `model-info.txt` and the terminal."""
    rows = [
        (
            name,
            " x ".join(map(str, entry["shape"])),
            ", ".join(map(str, entry["logical_axes"])),
            ", ".join(str(axis or "-") for axis in entry["mesh_axes"]),
            f"{math.prod(entry['shape']):,}",
        )
        for name, entry in tree.items()
    ]
    header = ("parameter", "shape", "logical axes", "mesh axes", "count")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i == len(header) - 1 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    )


def report_text(report: Mapping[str, Any]) -> str:
    """What `inspect` prints without `--json`."""
    batch = ", ".join(f"{name} {tuple(shape)}" for name, shape in report["batch"].items())
    return "\n".join(
        [
            report["title"],
            "",
            parameter_table(report["tree"]),
            "",
            f"parameters                     {report['parameters']:,}",
            f"  without embeddings           {report['parameters_without_embeddings']:,}",
            f"  active for one token         {report['active_parameters']:,}",
            flops.report_text(report["flops"]),
            *_trained_lines(report),
            f"parameters in memory           {gibibytes(report['parameter_bytes'])}",
            f"optimizer state                {gibibytes(report['optimizer_bytes'])}"
            f"  {report.get('optimizer', '')}",
            f"activations                    {gibibytes(report['activation_bytes'])}  for {batch}",
            "",
            *_device_lines(report["device_memory"]),
        ]
    )


def _trained_lines(report: Mapping[str, Any]) -> list[str]:
    """What is trained and what is not, where something is not."""
    if not report["frozen_bytes"]:
        return []
    return [
        f"parameters that are trained    {report['trained_parameters']:,}",
        f"parameters that are not        {gibibytes(report['frozen_bytes'])}",
    ]


def _device_lines(memory: Mapping[str, Any]) -> list[str]:
    mesh = ", ".join(f"{axis} {size}" for axis, size in memory["mesh"].items() if size > 1)
    of = f" of {memory['devices']:,}, mesh {mesh}" if mesh else ""
    available = memory["hbm_bytes"]
    has = f"  of {gibibytes(available)}" if available else ""
    rows = {
        "parameters": "parameter_bytes",
        "parameters of frozen models": "frozen_model_bytes",
        "optimizer state": "optimizer_bytes",
        "gradients": "gradient_bytes",
        "stored activations, at least": "activation_bytes",
    }
    return [
        f"memory of a device{of}",
        *(
            f"  {label:<29}{gibibytes(memory[key])}"
            for label, key in rows.items()
            if memory[key] or key != "frozen_model_bytes"
        ),
        f"  {'in all, at least':<29}{gibibytes(memory['total_bytes'])}{has}",
    ]


def example_batch(
    model: Model,
    task_feature_lengths: Mapping[str, int] | None,
    rows: int,
    *,
    packed: bool = False,
) -> dict[str, np.ndarray]:
    """A training batch of this model: its names, dtypes and shapes.

    Args:
      model: whose batch format is asked.
      task_feature_lengths: tokens of each feature; `DEFAULT_LENGTH` each, or what the model can
        read if that is less, when None.
      rows: how many.
      packed: whether rows hold several examples.

    Raises:
      UserError: a length that the model needs is missing, or its rows are not packed; there are no
        rows, or a length is not above 0.
    """
    if type(rows) is not int or rows < 1:
        raise UserError(f"BATCH_SIZE is {rows!r}: it must be a whole number of 1 or more.")
    for name, length in (task_feature_lengths or {}).items():
        if type(length) is not int or length < 1:
            raise UserError(
                f"TASK_FEATURE_LENGTHS has {name} {length!r}: it must be a whole number of 1 or "
                "more."
            )
    if task_feature_lengths is None:
        longest = min(DEFAULT_LENGTH, longest_row(model) or DEFAULT_LENGTH)
        needed = formats.find(model.batch_format).task_features
        task_feature_lengths = dict.fromkeys(needed, longest)
    return formats.example_batch(model.batch_format, task_feature_lengths, rows, pack=packed)


def shapes_of(batch: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shape of each feature."""
    return {name: value.shape for name, value in batch.items()}


def _activation_bytes(model: Model, params: Any, batch: Mapping[str, np.ndarray]) -> int:
    """Bytes that the backward pass reads beside the parameters and the batch."""

    def residuals(params: Any, batch: Mapping[str, jax.Array], carry: Any, frozen: Any) -> Any:
        def sums(trained: Any) -> Any:
            used = with_subtree(params, trained)
            return summed_loss(model, used, batch, carry=carry, frozen=frozen)[0]

        return jax.vjp(sums, train_state.trained_part(model, params))[1]

    rows = next(iter(batch.values())).shape[0]
    here = Partitioner(data=1, devices=tuple(jax.devices()[:1]))
    carry = train_state.abstract_carry(model, here, rows)
    frozen = train_state.abstract_frozen(model, here)
    jaxpr = jax.make_jaxpr(residuals)(params, batch, carry, frozen).jaxpr
    variables = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    return _bytes([v.aval for v in variables - set(jaxpr.invars)])


def _bytes(tree: Any) -> int:
    return sum(
        math.prod(leaf.shape) * jax.numpy.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _used(entry: Any, partitioner: Partitioner) -> str | None:
    """The mesh axes of a dimension that really split it, joined by `*`."""
    axes = (entry,) if isinstance(entry, str) else tuple(entry or ())
    return "*".join(axis for axis in axes if partitioner.mesh.shape[axis] > 1) or None


if __name__ == "__main__":
    command.run("inspect")
