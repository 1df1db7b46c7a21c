"""Devices of a named topology, which need not be attached to this machine.

`v5p:8x16x16` are the chips of a TPU slice, as Cloud TPU names it; `v5p-4096`, its accelerator type,
is the slice of as many chips that is nearest to a cube; `cpu:8` are simulated devices of this
machine. A TPU's devices come from libtpu, which compiles for them on any machine.
"""

import contextlib
import importlib.util
import math
import os
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
from jax.experimental import topologies

from t5x_like.cost.accelerator_types import chips_of
from t5x_like.cost.chips import CHIPS, Chip, chip_named
from t5x_like.errors import UserError

# Of the chips whose network has three dimensions, those smaller than a cube of 4.
_BELOW_A_CUBE = ((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4))

# Without these variables libtpu searches at length for an attached TPU.
_WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v4-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def devices_of(topology: str, num_slices: int = 1) -> list[Any]:
    """Returns the devices of a topology, to make a mesh of and to compile for.

    Args:
      topology: for `resolved`.
      num_slices: how many such slices, joined by the data centre's network.

    Raises:
      UserError: no such topology, or libtpu is missing or of another version than JAX needs.
    """
    if num_slices < 1:
        raise UserError(f"--num_slices={num_slices}: at least 1.")
    topology = resolved(topology)
    name, _, shape = topology.partition(":")
    chip = chip_named(name)
    if chip is None:
        if num_slices > 1:
            raise UserError("--num_slices is of TPUs: simulated devices are one slice.")
        return simulated(topology, int(shape))
    return _described(topology, chip, num_slices)


def resolved(topology: str) -> str:
    """The chip and the shape of a topology, `v5p:2x4x4`; or `cpu:8`.

    Args:
      topology: a chip and the chips along each dimension, `v5p:8x16x16`; an accelerator type,
        `v5p-64`; or simulated devices, `cpu:8`.

    Raises:
      UserError: no such topology.
    """
    name, colon, shape = topology.partition(":")
    if name == "cpu" and colon:
        if not shape.isdecimal() or not int(shape):
            raise UserError(f"topology '{topology}' is not a number of simulated devices, cpu:8.")
        return topology
    chip = chip_named(name)
    if chip is not None:
        _check_shape(topology, shape, chip)
        return topology
    if not colon and "-" in topology:
        return _most_cubic(topology)
    known = ", ".join(f"{chip.name}:{_most_chips(chip)}" for chip in CHIPS if chip.pod)
    raise UserError(
        f"topology '{topology}' is unknown: a chip and its shape, up to {known}, an accelerator "
        "type, v5p-64, or cpu:8."
    )


def num_devices(topology: str, num_slices: int = 1) -> int:
    """The number of devices of a topology, without a compiler for them.

    Raises:
      UserError: no such topology.
    """
    shape = resolved(topology).partition(":")[2]
    chip = chip_of_topology(topology)
    return math.prod(map(int, shape.split("x"))) * (chip.cores if chip else 1) * num_slices


def chip_of_topology(topology: str) -> Chip | None:
    """The chip of a topology; None of simulated devices."""
    return chip_named(resolved(topology).partition(":")[0])


def _most_cubic(accelerator: str) -> str:
    """The slice of an accelerator type that is nearest to a cube: the sum of its sides is least."""
    chip, count = chips_of(accelerator, f"topology '{accelerator}'")
    if not chip.pod:
        raise UserError(
            f"topology '{accelerator}': {chip.name} is no TPU, for which alone there is a compiler."
        )
    shapes = [shape for shape in _shapes(chip) if math.prod(shape) == count]
    if not shapes:
        _check_shape(accelerator, str(count), chip)
    return f"{chip.name}:{'x'.join(map(str, min(shapes, key=sum)))}"


def topology_names(chip: Chip) -> list[str]:
    """Lists the slices that exist of this chip, in ascending order of size."""
    shapes = sorted(_shapes(chip), key=lambda shape: (math.prod(shape), shape))
    return [f"{chip.name}:{'x'.join(map(str, shape))}" for shape in shapes]


def _shapes(chip: Chip) -> Iterator[tuple[int, ...]]:
    """Shapes of the slices, with their dimensions in ascending order."""
    if chip.torus == 2:
        sides = [2**n for n in range(1, 6) if 2**n <= chip.pod[-1]]
        yield from ((a, b) for a in sides for b in sides if a <= b <= 2 * a)
        return
    yield from _BELOW_A_CUBE
    x, y, z = (range(4, most + 1, 4) for most in chip.pod)
    yield from ((a, b, c) for a in x for b in y for c in z if a <= b <= c)


def _check_shape(topology: str, shape: str, chip: Chip) -> None:
    sizes = tuple(int(n) for n in shape.split("x")) if re.fullmatch(r"\d+(x\d+)*", shape) else ()
    known = set(_shapes(chip))
    # Any order of the dimensions is the same slice; the flat ones end in 1.
    if tuple(sorted(sizes)) in {tuple(sorted(shape)) for shape in known}:
        return
    chips = math.prod(sizes) if sizes else 0
    near = sorted(known, key=lambda s: (abs(math.log(math.prod(s) / max(chips, 1))), s))[:3]
    listed = sorted(near, key=lambda s: (math.prod(s), s))
    names = ", ".join(f"{chip.name}:{'x'.join(map(str, s))}" for s in listed)
    raise UserError(
        f"topology '{topology}' is no slice that can be compiled for: {chip.name} has {chip.torus} "
        f"dimensions, up to {_most_chips(chip)}; the nearest are {names}."
    )


def _most_chips(chip: Chip) -> str:
    return "x".join(map(str, chip.pod))


def simulated(topology: str, count: int) -> list[Any]:
    """Makes this many devices of this machine, if JAX has not started yet.

    Args:
      topology: as the user wrote it, for errors.
      count: how many.

    Raises:
      UserError: JAX has started with fewer.
    """
    with contextlib.suppress(
        RuntimeError
    ):  # JAX is initialised, and its number of devices is fixed
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise UserError(
            f"topology '{topology}': JAX has started with {len(devices)} CPU devices; set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count} before."
        )
    return devices[:count]


def _described(topology: str, chip: Chip, num_slices: int) -> list[Any]:
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"compiling for {topology} needs libtpu: pip install 't5x-like[tpu-compile]'."
        )
    for variable, value in _WITHOUT_TPU.items():
        os.environ.setdefault(variable, value)
    options: dict[str, Any] = {"num_slices": num_slices} if num_slices > 1 else {}
    if chip.name == "v4":
        options["chip_config_name"] = "megacore"  # one device a chip, as Cloud TPU has it
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except Exception as error:
        wanted = _libtpu_of_jax()
        raise UserError(
            f"libtpu {metadata.version('libtpu')} cannot describe {topology} to jax "
            f"{jax.__version__}{f', which wants {wanted}' if wanted else ''}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    return list(described.devices)


def _libtpu_of_jax() -> str:
    """The requirement of the installed JAX on libtpu, such as `libtpu==0.0.42.*`."""
    requirements = metadata.requires("jax") or []
    found = [r.split(";")[0].strip() for r in requirements if r.startswith("libtpu")]
    return found[0] if found else ""
