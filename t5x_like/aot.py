"""Compiling the train step for devices that are not here, and what that tells.

Nothing is allocated: shapes and shardings go in, XLA's program for one device comes out. What is
read from it: whether it fits, what it computes, moves and exchanges, and how fast it could be.
"""

import datetime
import importlib.metadata
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import jax

from t5x_like import inspection
from t5x_like.cost import fitting_memory, hlo, roofline, topologies
from t5x_like.cost.chips import Chip, chip_of
from t5x_like.cost.hlo import Collective
from t5x_like.errors import UserError
from t5x_like.host import command, log_records
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Model
from t5x_like.training.state import abstract_state
from t5x_like.training.step import lower_train_step

_GIB = 2**30


class DoesNotFit(RuntimeError):
    """A step that needs more memory than its devices have; its report is printed before.

    The command line prints it on one line, and exits with 1: the user gave nothing wrong.
    """

    exit_code = 1


class Programs(Protocol):
    """What is compiled."""

    def lower(
        self,
        model: Model,
        optimizer: Optimizer,
        partitioner: Partitioner,
        batch: Mapping[str, Any],
        *,
        num_microbatches: int = 1,
    ) -> jax.stages.Lowered:
        """The program for batches like this one; see `lower_train_step`."""

    def model_flops(self, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> float:
        """The model's FLOPs in it, of all devices, for batches of these shapes."""


class TrainingStep:
    """One step of `train`."""

    def lower(
        self,
        model: Model,
        optimizer: Optimizer,
        partitioner: Partitioner,
        batch: Mapping[str, Any],
        *,
        num_microbatches: int = 1,
    ) -> jax.stages.Lowered:
        """See `Programs`."""
        return lower_train_step(
            model, optimizer, partitioner, batch, num_microbatches=num_microbatches
        )

    def model_flops(self, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> float:
        """See `Programs`."""
        return model.step_flops(shapes)


def compile_step(
    *,
    model: Model,
    optimizer: Optimizer,
    topology: str,
    num_slices: int = 1,
    partitioner: Partitioner | None = None,
    task_feature_lengths: Mapping[str, int] | None = None,
    batch_size: int = 128,
    num_microbatches: int = 1,
    packed: bool = False,
    programs: Programs | None = None,
) -> dict[str, Any]:
    """Compiles one training step, forward, backward and update, and reports on it as JSON.

    All counts are of one device and one step. What could not be learned is None: everything
    after the memory where the program does not fit, times and memory limits on CPUs.

    Args:
      model: what is trained.
      optimizer: its update rule.
      topology: for `topologies.devices_of`, `v5p:8x16x16`, `v5p-4096` or `cpu:8`.
      num_slices: how many of them.
      partitioner: the mesh and its rules, whatever its `devices`; data parallel when None.
      task_feature_lengths: tokens of each feature, for `inspection.example_batch`.
      batch_size: rows of the global batch.
      num_microbatches: pieces that it is computed in.
      packed: whether rows hold several examples, with segments and positions.
      programs: what is compiled in place of a training step.

    Returns:
      `topology`, `num_slices`, `devices`, `mesh` (axis to size), `batch` (feature to shape),
      `num_microbatches`, `parameters`, `attention` (which kernel was chosen, and why: a line for
      each shape that this process had not met before);
      `argument_bytes`, `temporary_bytes`, `output_bytes`, `donated_bytes` (of arguments whose
      place outputs take), `program_bytes` (instructions), `used_bytes` (all of them, the donated
      once), `hbm_bytes` (what the compiler leaves to a program), `fits`, and `would_fit` (what to
      change, where it does not fit);
      `flops` (matrix products in the program, recomputation and what devices do in duplicate
      included), `flops_of_dtypes` (the same by XLA's name of their factors' dtype),
      `model_flops` (the device's share of `model.step_flops`), `bytes_accessed` (of HBM),
      `parts` (part of the program to its `flops` and `bytes_accessed`, see `hlo.spent_by_part`),
      `collectives` (kind to `count`, `bytes` and `axes`: mesh axes, joined by `*`, to `count` and
      `bytes`), all with loops counted as often as they turn;
      `instructions` (lines of the program), `lower_seconds`, `compile_seconds`;
      `seconds` (`compute`, `hbm`, `ici`, `dcn`, see `roofline`), `step_seconds` and `mfu`
      (each `[best, worst]`: everything at the same time, one thing after the other);
      `jax`, `libtpu`, `date`.

    Raises:
      UserError: no such topology, the mesh or the batch does not fit it, or the compiler
        cannot do what the mesh asks of it.
    """
    programs = programs or TrainingStep()
    topology = topologies.resolved(topology)
    devices = topologies.devices_of(topology, num_slices)
    partitioner = replace(partitioner or Partitioner(), devices=tuple(devices))
    mesh = partitioner.mesh
    batch = inspection.example_batch(model, task_feature_lengths, batch_size, packed=packed)
    shapes = inspection.shapes_of(batch)
    partitioner.check_rows(batch_size)
    started = time.perf_counter()
    said: list[str] = []
    with log_records.told("models", said.append, logging.INFO):
        lowered = programs.lower(
            model, optimizer, partitioner, batch, num_microbatches=num_microbatches
        )
    lowered_after = time.perf_counter() - started
    chip = chip_of(devices[0].device_kind)
    report: dict[str, Any] = {
        "topology": topology,
        "num_slices": num_slices,
        "devices": len(devices),
        "mesh": {axis: int(size) for axis, size in mesh.shape.items()},
        "batch": {name: list(shape) for name, shape in shapes.items()},
        "num_microbatches": num_microbatches,
        "parameters": model.parameter_count(),
        "attention": [line for line in said if line.startswith("attention ")],
    }
    started = time.perf_counter()
    try:
        compiled: Any = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        compiled = None
        memory = _exhausted(str(error), _state_bytes(model, optimizer, partitioner))
    else:
        memory = _memory(compiled)
    compile_seconds = time.perf_counter() - started
    report |= memory
    report["hbm_bytes"] = chip and chip.hbm and int(chip.hbm)
    report["fits"] = _fits(report, compiled is not None)
    report["would_fit"] = None
    if report["fits"] is False:
        policy = getattr(model, "remat_policy", None)
        report["would_fit"] = fitting_memory.advice(report, policy, partitioner.rules)
    model_flops = programs.model_flops(model, shapes) / len(devices)
    report |= _program(compiled, partitioner, chip, model_flops)
    report["lower_seconds"] = lowered_after
    report["compile_seconds"] = compile_seconds
    report["jax"] = jax.__version__
    report["libtpu"] = _version("libtpu") if devices[0].platform == "tpu" else None
    report["date"] = datetime.date.today().isoformat()
    return report


def _memory(compiled: Any) -> dict[str, int | None]:
    sizes = compiled.memory_analysis()
    memory: dict[str, int | None] = {
        "argument_bytes": sizes.argument_size_in_bytes,
        "temporary_bytes": sizes.temp_size_in_bytes,
        "output_bytes": sizes.output_size_in_bytes,
        "donated_bytes": sizes.alias_size_in_bytes,
        "program_bytes": sizes.generated_code_size_in_bytes,
    }
    used = sum(value or 0 for value in memory.values()) - 2 * sizes.alias_size_in_bytes
    return memory | {"used_bytes": used}


def _state_bytes(model: Model, optimizer: Optimizer, partitioner: Partitioner) -> int:
    """Of one device's part of parameters and optimizer state; the batch is next to nothing."""
    state = abstract_state(model, optimizer, partitioner)
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )


def _fits(report: Mapping[str, Any], compiled: bool) -> bool | None:
    if not compiled:
        return False
    return report["used_bytes"] <= report["hbm_bytes"] if report["hbm_bytes"] else None


def _exhausted(message: str, arguments: int) -> dict[str, int | None]:
    """What the compiler says of a program that does not fit.

    Args:
      message: the compiler's.
      arguments: bytes of parameters and optimizer state.

    Raises:
      UserError: it failed for another reason that the user can do something about.
    """
    if found := re.search(r"AllReduce fusion with (\d+) sized replica_groups", message):
        raise UserError(
            f"the TPU compiler makes no all-reduce in groups of {found[1]}, which this mesh needs "
            "along a side of the slice: choose axis sizes that are powers of two (16 rather than "
            "12), or another shape of the slice."
        )
    if "RESOURCE_EXHAUSTED" not in message:
        raise jax.errors.JaxRuntimeError(message)
    needed = re.search(r"temporaries \(([\d.]+)([KMGT])\)", message)
    used = re.search(r"Used ([\d.]+)([KMGT]) of", message)
    return {
        "argument_bytes": arguments,
        "temporary_bytes": _bytes_of(needed),
        "output_bytes": None,
        "donated_bytes": None,
        "program_bytes": None,
        "used_bytes": _bytes_of(used) or _bytes_of(needed),
    }


def _bytes_of(found: re.Match[str] | None) -> int | None:
    return found and int(float(found[1]) * 1024 ** (" KMGT".index(found[2])))


# -- The program -----------------------------------------------------------------------------


def _program(
    compiled: Any, partitioner: Partitioner, chip: Chip | None, model_flops: float
) -> dict[str, Any]:
    """What the compiled text says; None throughout without one."""
    if compiled is None:
        unknown = (
            *("flops", "flops_of_dtypes", "bytes_accessed", "parts", "collectives"),
            "instructions",
        )
        after = ("seconds", "step_seconds", "mfu")
        return dict.fromkeys(unknown) | {"model_flops": model_flops} | dict.fromkeys(after)
    module = hlo.parse(compiled.as_text())
    devices = list(partitioner.mesh.devices.flat)
    slices = [getattr(device, "slice_index", 0) or 0 for device in devices]
    exchanges = hlo.collectives(module, slices)
    flops, accessed = hlo.matmul_flops(module), hlo.bytes_accessed(module)
    report: dict[str, Any] = {
        "flops": sum(flops.values()),
        "flops_of_dtypes": flops,
        "model_flops": model_flops,
        "bytes_accessed": accessed,
        "parts": {name: part._asdict() for name, part in hlo.spent_by_part(module).items()},
        "collectives": by_kind(exchanges, partitioner),
        "instructions": module.num_instructions,
        "seconds": None,
        "step_seconds": None,
        "mfu": None,
    }
    if chip is not None and chip.hbm_bandwidth:
        seconds = roofline.seconds(chip, flops, accessed, exchanges, devices)
        best, worst = max(seconds.values()), sum(seconds.values())
        ideal = model_flops / (chip.bf16_flops / chip.cores)
        report |= {
            "seconds": seconds,
            "step_seconds": [best, worst],
            "mfu": [ideal / best, ideal / worst],
        }
    return report


def by_kind(exchanges: Sequence[Collective], partitioner: Partitioner) -> dict[str, dict[str, Any]]:
    """Kind to `count`, `bytes` and `axes`, sums over a step."""
    kinds: dict[str, dict[str, Any]] = {}
    shape = dict(partitioner.mesh.shape)
    for exchange in exchanges:
        kind = kinds.setdefault(exchange.kind, {"count": 0, "bytes": 0, "axes": {}})
        along = "*".join(exchange.axes(shape))
        axis = kind["axes"].setdefault(along, {"count": 0, "bytes": 0})
        for total in (kind, axis):
            total["count"] += int(exchange.count)
            total["bytes"] += int(exchange.count * exchange.bytes)
    return kinds


def _version(package: str) -> str:
    return importlib.metadata.version(package)


if __name__ == "__main__":
    command.run("compile")
