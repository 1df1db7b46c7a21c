"""Counts FLOPs and memory traffic of a compiled program, with loops by their trip count."""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from t5x_like.cost.hlo.module import Array, Instruction, Module

_WINDOW = re.compile(r"(\w+)=([\d_x\-]+)")
_DIM_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_COST_ESTIMATE = re.compile(r'"cost_estimate":\s*\{([^}]*)\}')

# Products of scores' size: scores and values; again, with three gradients; again, with one more.
_SPLASH_PRODUCTS = (("mha_fwd", 2), ("mha_dkv", 4), ("mha_dq", 3), ("mqa_fwd", 2), ("mqa_dkv", 4),
                    ("mqa_dq", 3))  # fmt: skip

# How `models.layers.parts` names the scope of a part of a model.
_PART = re.compile(r"part=(\w+)")
# The part of the optimizer, whose scope the training step opens, and of what has none.
UPDATE, OTHER = "update", "other"

# No traffic: names, views, control flow, and the ends of asynchronous pairs.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "iota", "opt-barrier", "add-dependency",
    "async-start", "async-update", "async-done",
}  # fmt: skip


class Spent(NamedTuple):
    """What a part of a program costs a device.

    Attributes:
      flops: of its matrix products.
      bytes_accessed: of HBM.
    """

    flops: float = 0.0
    bytes_accessed: float = 0.0


def matmul_flops(module: Module) -> dict[str, float]:
    """Counts the FLOPs of matrix products of one run on one device, 2 for each multiply-add.

    Recomputation and work that devices duplicate are included. TPU programs represent products as
    convolutions. Custom kernels count what they declare, and splash attention as if nothing were
    masked.

    Returns:
      By the dtype of the products' factors, in XLA's name: that of the wider one.
    """
    total: dict[str, float] = {}
    for computation, instruction, flops in _products(module):
        dtype = _factors(module, computation, instruction)
        total[dtype] = total.get(dtype, 0.0) + flops
    return total


def bytes_accessed(module: Module) -> float:
    """Counts the bytes read from and written to HBM in one run on one device.

    The operands and results of each instruction; of an array of which a fusion or a slice accesses
    only a part, that part; of a custom kernel what it declares, if anything. On-chip memory is
    free. On devices other than TPUs this is the traffic before caches.
    """
    return float(sum(accessed for _, accessed in _accesses(module)))


def spent_by_part(module: Module) -> dict[str, Spent]:
    """What each part of a program costs, by the names that its instructions were traced under.

    The innermost scope `part=NAME` around an instruction; the scope `update` is the optimizer's.
    A fusion's traffic is that of the part that its result has the name of.

    Returns:
      By part, most traffic first; `OTHER` is what no part claims, such as residual sums, what
      layers store for the backward pass, and copies that the compiler made.
    """
    total: dict[str, Spent] = {}

    def add(instruction: Instruction, flops: float, accessed: float) -> None:
        name = _part_of(instruction)
        sofar = total.get(name, Spent())
        total[name] = Spent(sofar.flops + flops, sofar.bytes_accessed + accessed)

    for _, instruction, flops in _products(module):
        add(instruction, flops, 0.0)
    for instruction, accessed in _accesses(module):
        add(instruction, 0.0, accessed)
    return dict(sorted(total.items(), key=lambda item: -item[1].bytes_accessed))


def _products(module: Module) -> Iterator[tuple[str, Instruction, float]]:
    """Computation, instruction and FLOPs of each matrix product, repetitions included."""
    for computation, instruction, times in module.executed_inside():
        if flops := times * _flops(module, computation, instruction):
            yield computation, instruction, flops


def _accesses(module: Module) -> Iterator[tuple[Instruction, float]]:
    """Instructions that read or write HBM, and how many bytes, repetitions included."""
    for computation, instruction, times in module.executed():
        if accessed := times * _traffic(module, computation, instruction):
            yield instruction, accessed


def _part_of(instruction: Instruction) -> str:
    name = instruction.traced_as
    if found := _PART.findall(name):
        return str(found[-1])
    return UPDATE if UPDATE in name.split("/") else OTHER


# -- Products --------------------------------------------------------------------------------


def _flops(module: Module, computation: str, instruction: Instruction) -> float:
    if instruction.opcode == "dot":
        left = module.operand_arrays(computation, instruction)[0]
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        contracted = [int(n) for n in found[1].split(",") if n] if found else []
        inner = math.prod(left.sizes[axis] for axis in contracted)
        return 2.0 * inner * math.prod(instruction.arrays[0].sizes)
    if instruction.opcode == "convolution":
        left, right = module.operand_arrays(computation, instruction)[:2]
        return _convolution_flops(instruction, left, right)
    if instruction.opcode == "custom-call":
        declared = _declared(instruction, "flops")
        return _splash_flops(module, computation, instruction) if declared is None else declared
    return 0.0


def _factors(module: Module, computation: str, instruction: Instruction) -> str:
    """The dtype of a product's factors; of a custom kernel, that of its first floats."""
    arrays = module.operand_arrays(computation, instruction)
    if instruction.opcode == "custom-call":
        arrays = tuple(array for array in arrays if "f" in array.dtype)[:1] or arrays
    return max(arrays[:2], key=lambda array: array.bytes / max(math.prod(array.sizes), 1)).dtype


def _declared(instruction: Instruction, cost: str) -> float | None:
    """What a custom kernel says of itself: its `flops`, or its `bytes_accessed`."""
    estimate = _COST_ESTIMATE.search(instruction.attributes)
    found = estimate and re.search(rf'"{cost}":\s*"?(\d+)', estimate[1])
    return float(found[1]) if found else None


def _splash_flops(module: Module, computation: str, instruction: Instruction) -> float:
    """FLOPs of JAX's splash attention, which declares none, without masking."""
    products = next(
        (n for part, n in _SPLASH_PRODUCTS if f"splash_{part}" in instruction.attributes), 0
    )
    operands = module.operand_arrays(computation, instruction)
    # The kernel's table of blocks is of integers: of 8 bits, of 16 where there are many blocks.
    heads = [array.sizes for array in operands if len(array.sizes) > 2 and "f" in array.dtype]
    if not products or len(heads) < 2:
        return 0.0
    queries, keys = heads[:2]
    return 2.0 * products * math.prod(queries) * keys[-2]


def _convolution_flops(instruction: Instruction, left: Array, right: Array) -> float:
    """Multiplications by elements of the input, excluding padding and dilation."""
    labels = _DIM_LABELS.search(instruction.attributes)
    if labels is None:
        return 0.0
    lhs, rhs, out = labels.groups()
    result = instruction.arrays[0].sizes
    window = dict(_WINDOW.findall(_braces(instruction.attributes, "window")))
    valid = 1
    for axis in range(len(lhs) - 2):
        low, _, _ = _at(window.get("pad"), axis, "0_0").partition("_")
        valid *= _valid_positions(
            left.sizes[lhs.index(str(axis))],
            right.sizes[rhs.index(str(axis))],
            result[out.index(str(axis))],
            int(_at(window.get("stride"), axis, "1")),
            int(low),
            int(_at(window.get("lhs_dilate"), axis, "1")),
            int(_at(window.get("rhs_dilate"), axis, "1")),
        )
    features = result[out.index("f")] * right.sizes[rhs.index("i")]
    return 2.0 * result[out.index("b")] * features * valid


@functools.lru_cache(maxsize=4096)
def _valid_positions(
    size: int, kernel: int, result: int, stride: int, low: int, lhs_dilate: int, rhs_dilate: int
) -> int:
    """Pairs of a result and a kernel element that hit an element of the input."""
    place = np.arange(result)[:, None] * stride + np.arange(kernel) * rhs_dilate - low
    inside = (place >= 0) & (place <= (size - 1) * lhs_dilate) & (place % lhs_dilate == 0)
    return int(inside.sum())


def _braces(attributes: str, name: str) -> str:
    found = re.search(rf"\b{name}=\{{([^}}]*)\}}", attributes)
    return found[1] if found else ""


def _at(values: str | None, axis: int, default: str) -> str:
    return values.split("x")[axis] if values else default


# -- Traffic ---------------------------------------------------------------------------------


def _traffic(module: Module, computation: str, instruction: Instruction) -> float:
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
        return 0
    if opcode in ("copy-start", "slice-start", "dynamic-slice-start"):
        # Between HBM and on-chip memory: the result holds source, target and a token.
        parts = instruction.arrays[-2:-1] if opcode != "copy-start" else instruction.arrays[:2]
        moved = _in_hbm(parts)
        return moved if opcode == "copy-start" else moved + sum(part.bytes for part in parts)
    if opcode == "custom-call" and (declared := _declared(instruction, "bytes_accessed")):
        return declared  # blocks that it reads again included
    if opcode == "fusion" and (inner := instruction.called("calls")) in module.computations:
        return _fusion_traffic(module, computation, instruction, str(inner))
    if opcode in ("slice", "dynamic-slice", "gather"):
        return 2 * _in_hbm(instruction.arrays)
    operands = module.operand_arrays(computation, instruction)
    if opcode == "dynamic-update-slice":
        return 2 * _in_hbm(operands[1:2])
    if opcode.endswith("-start"):
        return 2 * _in_hbm(operands)
    return _in_hbm(instruction.arrays) + _in_hbm(operands)


def _fusion_traffic(
    module: Module, computation: str, instruction: Instruction, inner: str
) -> float:
    end = module.async_parts.get(inner)
    if end is not None:  # as of `all-gather-start` and `all-gather-done`
        operands = module.operand_arrays(computation, instruction)
        return 2 * _in_hbm(operands) if end == "Start" else 0
    body = module.computations[inner]
    outer = module.computations[computation]
    total = 0.0
    for index, name in enumerate(instruction.operands):
        if name not in outer or not _in_hbm(outer[name].arrays):
            continue
        read = _read_inside(module, inner, index)
        total += _in_hbm(outer[name].arrays) if read is None else read
    roots = [i for i in body.values() if i.is_root]
    parts = roots
    if roots and roots[0].opcode == "tuple":
        parts = [body[name] for name in roots[0].operands if name in body]
    if len(parts) != len(instruction.arrays):
        return total + _in_hbm(instruction.arrays)
    for part, array in zip(parts, instruction.arrays, strict=True):
        total += _written(module, inner, part) if array.in_hbm else 0
    return total


def _read_inside(module: Module, computation: str, index: int) -> float | None:
    """Bytes that a fusion reads of its operand `index`; None for all of it."""
    body = module.computations[computation]
    names = {i.name for i in body.values() if i.opcode == "parameter" and i.arguments == str(index)}
    total = 0.0
    for user in body.values():
        if not names & set(user.operands):
            continue
        if user.opcode in ("bitcast", "reshape"):
            names.add(user.name)
        elif module.continues(computation, user) or (user.is_root and user.opcode == "tuple"):
            continue  # an asynchronous collective still running, or a result passed on
        elif user.opcode in ("slice", "dynamic-slice", "gather") and user.operands[0] in names:
            total += sum(array.bytes for array in user.arrays)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] in names:
            continue  # written in place
        else:
            return None
    return total


def _written(module: Module, computation: str, part: Instruction) -> float:
    if part.opcode == "parameter" or module.continues(computation, part):
        return 0.0
    body = module.computations[computation]
    while part.opcode == "bitcast" and part.operands[0] in body:
        part = body[part.operands[0]]
    if part.opcode == "dynamic-update-slice":
        return sum(array.bytes for array in module.operand_arrays(computation, part)[1:2])
    return sum(array.bytes for array in part.arrays)


def _in_hbm(arrays: tuple[Array, ...]) -> float:
    return sum(array.bytes for array in arrays if array.in_hbm)
