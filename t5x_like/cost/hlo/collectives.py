"""Finds the collectives of a compiled program."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from t5x_like.cost.hlo.module import Module

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_ALIASES = {"ragged-all-to-all": "all-to-all", "collective-broadcast": "all-gather"}
_EXPLICIT = re.compile(r"replica_groups=\{(\{[\d,{}]*\})?\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:,? ?device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?"
    r" ?\{([^}]*)\}"
)
_PAIRS = re.compile(r"source_target_pairs=\{([\d,{}]*)\}")
_MEGASCALE = re.compile(
    r'_xla_megascale_target="([^"]*)".*_xla_megascale_transfer_type="([A-Z_]+)"'
)
_AXIS = re.compile(r"'([^']+)'=(\d+)")
_USED_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective instruction, in which devices exchange data.

    Attributes:
      kind: one of `KINDS`.
      name: the instruction's.
      bytes: of one execution and one device: what is reduced, gathered to, scattered, exchanged
        or sent.
      count: executions in one run of the program.
      groups: `[groups, members]`, positions in the mesh's flat order; of a permutation
        `[pairs, 2]`.
      origin: the operation in the model that it comes from, as JAX names it.
    """

    kind: str
    name: str
    bytes: int
    count: float
    groups: Any
    origin: str = ""

    @property
    def group_size(self) -> int:
        """The number of devices in a group."""
        return int(self.groups.shape[1])

    def axes(self, mesh_shape: dict[str, int]) -> tuple[str, ...]:
        """The mesh axes that the groups span."""
        places = np.array(np.unravel_index(self.groups, tuple(mesh_shape.values())))
        differ = (places != places[..., :1]).any(axis=(1, 2))
        return tuple(axis for axis, differs in zip(mesh_shape, differ, strict=True) if differs)


def collectives(module: Module, slices: Sequence[int]) -> list[Collective]:
    """Finds all collectives of a program, except those of a device with itself.

    Asynchronous pairs count once, at their start, and so do those that a TPU program spreads over
    the fusions in between. A fusion named `all-reduce-scatter`, the form
    in which TPU programs hold it, is a reduce-scatter. Between TPU slices a program sends to the
    host, which does the rest; the send says what that is.

    Args:
      module: the program.
      slices: of each device of the mesh, in its flat order, the slice that it belongs to.
    """
    found = []
    for computation, instruction, times in module.executed_inside():
        if module.continues(computation, instruction):
            continue
        kind = instruction.opcode.removesuffix("-start")
        kind = _ALIASES.get(kind, kind)
        if kind == "send" and (between := _MEGASCALE.search(instruction.attributes)):
            kind = between[2].lower().replace("_", "-")
            kind = kind if kind in KINDS else "collective-permute"
            groups = _between_slices(between[1], slices)
            data = sum(a.bytes for a in module.operand_arrays(computation, instruction))
        elif kind in KINDS:
            groups = replica_groups(instruction.attributes, len(slices))
            data = sum(a.bytes for a in module.operand_arrays(computation, instruction))
            if kind == "all-gather":
                data *= groups.shape[1]
            if computation.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"
        else:
            continue
        if groups.shape[1] > 1:
            found.append(
                Collective(kind, instruction.name, data, times, groups, instruction.traced_as)
            )
    return found


def _between_slices(target: str, slices: Sequence[int]) -> np.ndarray:
    """Parses `{1,2}x{0:3071}`: devices at the same index of slices that are counted from 1."""
    names = sorted(set(slices))
    chosen = [names[int(n) - 1] for n in re.findall(r"\d+", target.partition("}")[0])]
    return np.stack([np.flatnonzero(np.asarray(slices) == name) for name in chosen], axis=1)


@functools.lru_cache(maxsize=1024)
def replica_groups(attributes: str, num_devices: int) -> np.ndarray:
    """Parses the groups of devices that exchange data, int `[groups, members]`.

    XLA writes groups one by one, `{{0,1},{2,3}}`; as a transposed iota, `[4,2]<=[2,4]T(1,0)`; or
    as axes of a mesh, `mesh['a'=4,'b'=2] {'b'}`, of which a part may be meant, `'a':(1)2`.

    Args:
      attributes: of the instruction.
      num_devices: how many there are; without groups, all of them are one.
    """
    if found := _PAIRS.search(attributes):
        pairs = np.array(re.findall(r"\d+", found[1]), int).reshape(-1, 2)
        return pairs[pairs[:, 0] != pairs[:, 1]] if len(pairs) else np.empty((0, 1), int)
    if found := _IOTA.search(attributes):
        ids = _iota(_numbers(found[2]), found[3])
        return ids.reshape(_numbers(found[1]))
    if found := _MESH.search(attributes):
        return _mesh_groups(found)
    if (found := _EXPLICIT.search(attributes)) and found[1]:
        groups = [_numbers(group) for group in re.findall(r"\{([\d,]+)\}", found[1])]
        # Only the largest: XLA pads uneven groups with groups of single devices.
        most = max(map(len, groups))
        return np.array([group for group in groups if len(group) == most])
    return np.arange(num_devices)[None]


def _mesh_groups(found: re.Match[str]) -> np.ndarray:
    sizes = {name: int(size) for name, size in _AXIS.findall(found[1])}
    ids = (
        _iota(_numbers(found[2]), found[3]).ravel()
        if found[2]
        else np.arange(int(np.prod(list(sizes.values()))))
    )
    shape: list[int] = []
    used: list[int] = []
    parts = {name: (int(pre), int(size)) for name, pre, size in _USED_AXIS.findall(found[4]) if pre}
    whole = {name for name, pre, _ in _USED_AXIS.findall(found[4]) if not pre}
    for name, size in sizes.items():
        if name in parts:
            # `'a':(p)s` is the axis of size s that p divisions precede.
            before, part = parts[name]
            used.append(len(shape) + 1)
            shape += [before, part, size // (before * part)]
        else:
            if name in whole:
                used.append(len(shape))
            shape.append(size)
    members = int(np.prod([shape[axis] for axis in used]))
    return np.moveaxis(ids.reshape(shape), used, range(-len(used), 0)).reshape(-1, members)


def _iota(sizes: tuple[int, ...], order: str | None) -> np.ndarray:
    ids = np.arange(int(np.prod(sizes))).reshape(sizes)
    return ids.transpose(_numbers(order)) if order else ids


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))
