"""The names under which chips are rented: `v5p-2048`, `v6e-256`, `v5p:8x16x16`, `h100-8`."""

import math
import re

from t5x_like.config.gin_files import nearest
from t5x_like.cost.chips import CHIPS, Chip
from t5x_like.errors import UserError

# TensorCores of a chip, where Cloud TPU's accelerator types count these: v5p-2048 has 1,024 chips.
_TENSORCORES = {"v2": 2, "v3": 2, "v4": 2, "v5p": 2, "tpu7x": 2}
_SPELLED = {"v5litepod": "v5e", "v5lite": "v5e", "v6": "v6e", "v7x": "tpu7x"}
_FORM = "v5p-2048, v6e-256, v5p:8x16x16 or h100-8"


def chips_of(name: str, where: str) -> tuple[Chip, int]:
    """The chip of a name, and how many.

    It is a Cloud TPU accelerator type, whose number counts TensorCores for v2, v3, v4, v5p and
    TPU7x (two a chip) and chips for v5e and v6e; or a topology; or a GPU and a number.

    Args:
      name: as the user wrote it.
      where: of the error's first words, `--chips=v5p-7`.

    Raises:
      UserError: no such chip, or no such number of it.
    """
    plain = name.strip().casefold()
    topology = re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+)*)", plain)
    counted = re.fullmatch(r"([a-z0-9-]*?[a-z0-9])(?:-(\d+))?", plain)
    if topology:
        chip = _chip(topology[1], where)
        count = math.prod(int(size) for size in topology[2].split("x"))
    elif counted:
        chip = _chip(counted[1], where)
        count = _chips(chip, int(counted[2]) if counted[2] else None, where)
    else:
        raise UserError(f"{where}: wanted a chip and how many, {_FORM}.")
    if count < 1:
        raise UserError(f"{where}: at least one chip, {_FORM}.")
    return chip, count


def _chip(spelled: str, where: str) -> Chip:
    named = {chip.name.casefold().replace(" ", "-"): chip for chip in CHIPS}
    key = _SPELLED.get(spelled, spelled)
    if key not in named:
        raise UserError(
            f"{where}: no chip '{spelled}': there are {', '.join(named)}.{nearest(spelled, named)}"
        )
    return named[key]


def _chips(chip: Chip, number: int | None, where: str) -> int:
    if number is None:
        return 1
    cores = _TENSORCORES.get(chip.name, 1)
    if number % cores:
        raise UserError(
            f"{where}: {chip.name}'s number counts TensorCores, {cores} a chip, "
            f"and so is a multiple of {cores}."
        )
    return number // cores
