"""Accelerators by the names under which they are rented, and the time that FLOPs take on them."""

from dataclasses import dataclass

from t5x_like.cost.accelerator_types import chips_of
from t5x_like.cost.chips import Chip


@dataclass(frozen=True)
class Accelerators:
    """A number of chips of one kind.

    Attributes:
      name: as the user wrote it.
      chip: the chip.
      count: the number of chips.
    """

    name: str
    chip: Chip
    count: int

    @property
    def devices(self) -> int:
        """The number of JAX devices; some chips have two."""
        return self.count * self.chip.cores

    def hours(self, flops: float, mfu: float) -> float:
        """The hours of all chips together for `flops` at a share `mfu` of the peak."""
        return flops / (self.chip.bf16_flops * mfu) / 3600

    def mfu(self, flops_per_token: float, tokens_per_second: float) -> float:
        """The share of the peak that this many tokens a second of all chips together are.

        Chowdhery et al. 2022, appendix B.
        """
        return flops_per_token * tokens_per_second / (self.chip.bf16_flops * self.count)


def accelerators(name: str) -> Accelerators:
    """Parses the name of a number of accelerators, see `chips_of`.

    Whether such a slice exists is not checked here, but by `compile`.

    Raises:
      UserError: no such chip, or no such number of it.
    """
    return Accelerators(name, *chips_of(name, f"--chips={name}"))
