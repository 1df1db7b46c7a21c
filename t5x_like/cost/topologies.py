"""Devices of a named topology, which need not be attached to this machine.

`v5p:8x16x16` are the chips of a TPU slice, as Cloud TPU names it; `cpu:8` are simulated devices of
this machine. A TPU's devices come from libtpu, which compiles for them on any machine.
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
      topology: `v5p:8x16x16`, a chip and the chips along each dimension; or `cpu:8`.
      num_slices: how many such slices, joined by the data centre's network.

    Raises:
      UserError: no such topology, or libtpu is missing or of another version than JAX needs.
    """
    name, colon, shape = topology.partition(":")
    if num_slices < 1:
        raise UserError(f"--num_slices={num_slices}: at least 1.")
    if name == "cpu" and colon:
        return _simulated(topology, shape, num_slices)
    chip = chip_named(name)
    if chip is None:
        known = ", ".join(f"{chip.name}:{_most_chips(chip)}" for chip in CHIPS if chip.pod)
        raise UserError(
            f"topology '{topology}' is unknown: a chip and its shape, up to {known}, or cpu:8."
        )
    _check_shape(topology, shape, chip)
    return _described(topology, chip, num_slices)


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
        f"topology '{topology}' does not exist: {chip.name} has {chip.torus} dimensions, up to "
        f"{_most_chips(chip)}; the nearest are {names}."
    )


def _most_chips(chip: Chip) -> str:
    return "x".join(map(str, chip.pod))


def _simulated(topology: str, count: str, num_slices: int) -> list[Any]:
    if not count.isdecimal() or not int(count):
        raise UserError(f"topology '{topology}' is not a number of simulated devices, cpu:8.")
    if num_slices > 1:
        raise UserError("--num_slices is of TPUs: simulated devices are one slice.")
    with contextlib.suppress(
        RuntimeError
    ):  # JAX is initialised, and its number of devices is fixed
        jax.config.update("jax_num_cpu_devices", int(count))
    devices = jax.devices("cpu")
    if len(devices) < int(count):
        raise UserError(
            f"topology '{topology}': JAX has started with {len(devices)} CPU devices; set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count} before."
        )
    return devices[: int(count)]


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
