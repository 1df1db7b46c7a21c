"""What makes a training step fit into the memory of its devices, from the cheapest change on."""

import math
from collections.abc import Mapping
from typing import Any

from t5x_like.cost.units import gibibytes

_PARTITIONER = "--gin.partitioning.Partitioner"


def advice(report: Mapping[str, Any], remat_policy: str | None, rules: Any) -> list[str]:
    """Changes of a step that does not fit, as flags with their effect, the cheapest first.

    Args:
      report: of `aot.compile_step`, up to `hbm_bytes`.
      remat_policy: what the model's layers keep for the backward pass; None if they have none.
      rules: of the partitioner.
    """
    mesh, available = report["mesh"], report["hbm_bytes"]
    state = report["argument_bytes"]
    if state and available and state >= available:
        return [*_smaller_state(mesh), _larger_slice(report, math.ceil(state / available) + 1)]
    found = []
    if remat_policy not in (None, "full"):
        found.append(
            f"--gin.model.Model.remat_policy=full computes activations again (now {remat_policy})"
        )
    if mesh.get("tensor", 1) > 1 and rules != "sequence_parallel":
        found.append(
            f"{_PARTITIONER}.rules=sequence_parallel divides stored activations over tensor too"
        )
    found += _smaller_state(mesh)
    rows = next(iter(report["batch"].values()))[0]
    per_device = rows // _data_shards(mesh)
    pieces = report["num_microbatches"]
    wanted = _pieces(report, per_device)
    if wanted > pieces:
        found.append(
            f"--gin.NUM_MICROBATCHES={wanted} computes {per_device // wanted} of a device's "
            f"{per_device} rows at a time (now {per_device // pieces})"
        )
    return [*found, _larger_slice(report, 2)]


def _smaller_state(mesh: Mapping[str, int]) -> list[str]:
    if mesh.get("data", 1) == 1:
        return []
    return [
        f"{_PARTITIONER}.data=1 {_PARTITIONER}.fsdp=-1 divides parameters and optimizer state over "
        "all devices"
    ]


def _larger_slice(report: Mapping[str, Any], times: int) -> str:
    return f"a slice of {times * report['devices']:,} devices, or a model of fewer parameters"


def _data_shards(mesh: Mapping[str, int]) -> int:
    return math.prod(mesh.get(axis, 1) for axis in ("data", "fsdp", "expert"))


def _pieces(report: Mapping[str, Any], per_device: int) -> int:
    """The microbatches, a divisor of a device's rows, that temporaries would have to be cut into.

    Twice as many as now where the compiler does not say how large they are.
    """
    pieces = report["num_microbatches"]
    wanted = 2 * pieces
    temporary, state = report["temporary_bytes"], report["argument_bytes"]
    if temporary and state is not None and report["hbm_bytes"] > state:
        wanted = math.ceil(pieces * temporary / (report["hbm_bytes"] - state))
    divisors = [n for n in range(1, per_device + 1) if per_device % n == 0]
    return next((n for n in divisors if n >= wanted), max(divisors, default=1))


def shortage(report: Mapping[str, Any]) -> str:
    """How much is missing, in words."""
    available, used = report["hbm_bytes"], report["used_bytes"]
    if used is None:
        return f"does not fit {gibibytes(available)}"
    return f"does not fit: {gibibytes(used - available)} of {gibibytes(available)} too much"
