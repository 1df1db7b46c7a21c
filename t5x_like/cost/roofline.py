"""The roofline model: a lower bound on the time of a compiled program."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_like.cost.chips import Chip
from t5x_like.cost.hlo import Collective


def seconds(
    chip: Chip,
    flops: Mapping[str, float],
    bytes_accessed: float,
    exchanges: Sequence[Collective],
    devices: Sequence[Any],
) -> dict[str, float]:
    """The time for which a step keeps each resource of one device busy.

    * `compute`: FLOPs / the peak of products of their dtype.
    * `hbm`: bytes / bandwidth.
    * `ici`, `dcn`: the sum over collectives of `network_seconds`.

    A step takes at least the longest of them, and their sum where nothing overlaps. Real steps
    take longer: under-filled matrix units, latency and the vector unit are not modelled.

    Args:
      chip: of every device.
      flops: of a step, by the dtype of the factors.
      bytes_accessed: of HBM.
      exchanges: of a step.
      devices: in the mesh's flat order.
    """
    times = {
        "compute": sum(n / (chip.peak(dtype) / chip.cores) for dtype, n in flops.items()),
        "hbm": bytes_accessed / ((chip.hbm_bandwidth or np.inf) / chip.cores),
        "ici": 0.0,
        "dcn": 0.0,
    }
    for exchange in exchanges:
        ici, dcn = network_seconds(chip, exchange, devices)
        times["ici"] += exchange.count * ici
        times["dcn"] += exchange.count * dcn
    return times


def network_seconds(
    chip: Chip, exchange: Collective, devices: Sequence[Any]
) -> tuple[float, float]:
    """The time of one collective on the links within a slice, and between slices.

    Of n members, m in each of s slices, and B bytes:

    * all-gather, reduce-scatter: B (m - 1) / m within a slice and (B / m) (s - 1) / s across;
      an all-reduce twice that (a reduce-scatter and an all-gather).
    * all-to-all: on a ring each byte passes a quarter of the members, so B k / 4, where k is
      the members along a dimension of the torus; B (s - 1) / s across.
    * a permutation: B, by the slowest network that a pair needs.

    The links within a slice are those of the dimensions of the torus along which the members
    lie, both directions, and wrap around. Devices of one chip share its links.
    """
    group = exchange.groups[0]
    if exchange.kind == "collective-permute":
        group = next((pair for pair in exchange.groups if len(_slices(pair, devices)) > 1), group)
    slices = len(_slices(group, devices))
    members = len(group) // slices
    dimensions = _torus_dimensions([devices[i] for i in group])
    ici = (chip.ici_bandwidth or np.inf) / chip.torus / chip.cores * dimensions
    dcn = (chip.dcn_bandwidth or np.inf) / chip.cores
    size = exchange.bytes
    if exchange.kind == "collective-permute":
        return (size / ici, 0.0) if slices == 1 else (0.0, size / dcn)
    if exchange.kind == "all-to-all":
        along = members ** (1 / dimensions)
        within = size / slices * along / 4 / (ici / dimensions) if members > 1 else 0.0
        return within, size * (slices - 1) / slices / dcn
    twice = 2 if exchange.kind == "all-reduce" else 1
    within = twice * size * (members - 1) / members / ici
    return within, twice * size / members * (slices - 1) / slices / dcn


def _slices(group: Sequence[int], devices: Sequence[Any]) -> set[int]:
    return {getattr(devices[i], "slice_index", 0) or 0 for i in group}


def _torus_dimensions(members: Sequence[Any]) -> int:
    """The number of dimensions of the torus along which these devices differ; at least 1."""
    first = getattr(members[0], "slice_index", 0)
    places = [
        getattr(device, "coords", (device.id,))
        for device in members
        if getattr(device, "slice_index", 0) == first
    ]
    return max(sum(len(set(along)) > 1 for along in zip(*places, strict=True)), 1)
