"""The electricity that training takes, and the CO2 that making it emits."""

import math
from dataclasses import dataclass

from t5x_like.cost.chips import Chip
from t5x_like.errors import UserError


@dataclass(frozen=True)
class Electricity:
    """What turns the hours of chips into energy, and energy into CO2.

    The defaults are those by which Touvron et al. 2023 (LLaMA, section 6 and table 15) compare
    models. The servers' processors and networks are not counted, and neither is what was spent
    on making the chips.

    Attributes:
      watts: of one chip while it trains; None for the table's, see `Chip.watts`.
      pue: power usage effectiveness: the energy of the data centre for each unit that reaches
        its computers; at least 1.
      kg_co2_per_kwh: the grid's carbon intensity; by default the average of the United States.
    """

    watts: float | None = None
    pue: float = 1.1
    kg_co2_per_kwh: float = 0.385

    def __post_init__(self) -> None:
        if not 1 <= self.pue < math.inf:
            raise UserError(f"--pue={self.pue:g}: at least 1, the computers' own share.")
        if not 0 <= self.kg_co2_per_kwh < math.inf:
            raise UserError(f"--kg_co2_per_kwh={self.kg_co2_per_kwh:g}: kg a kWh, at least 0.")

    def watts_of(self, chip: Chip) -> float | None:
        """The power of one chip, in watts; None where it is neither given nor published."""
        return chip.watts if self.watts is None else self.watts

    def kwh(self, chip: Chip, device_hours: float) -> float | None:
        """The energy of this many hours of a chip, in kWh, with the data centre's share.

        None where the power is not known.
        """
        watts = self.watts_of(chip)
        return None if watts is None else watts * device_hours * self.pue / 1000

    def kg_co2(self, chip: Chip, device_hours: float) -> float | None:
        """The CO2 of that energy, in kg; None where the power is not known."""
        kwh = self.kwh(chip, device_hours)
        return None if kwh is None else kwh * self.kg_co2_per_kwh
