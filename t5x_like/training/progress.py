"""How a training run shows its progress."""

import contextlib
import logging
from collections.abc import Mapping

from t5x_like.host import log_records
from t5x_like.host.progress import Display, ProgressBar, duration

# What is shown of learning from rewards, and what it is called.
_OF_REWARDS = {
    "reward": "reward",
    "kl": "KL",
    "entropy": "entropy",
    "clip_fraction": "clipped",
    "loss": "loss",
}


class Progress:
    """A bar on a terminal, plain lines elsewhere; silent unless this is the first process.

    Args:
      total: the last step.
      start: the steps already made.
      shown: whether to show anything.
      label: put before every line, for one of several runs; then there is no bar.
    """

    def __init__(self, total: int, start: int = 0, shown: bool = True, label: str = "") -> None:
        self._start, self._total = start, total
        self._label = f"{label}  " if label else ""
        self._display, self._bar = Display(shown=shown), None
        if self._display.on_terminal and not label:
            self._bar = ProgressBar(
                total, done=start, fields=["compiling"], estimate=False, summary=False
            )
            self._display = self._bar.display
        self._followed = contextlib.ExitStack()

    def say(self, text: str) -> None:
        """Writes lines, above the bar."""
        self._display.say("\n".join(f"{self._label}{line}" for line in text.splitlines()))

    def follow(self, name: str) -> None:
        """Shows what this logger and those below it say, from INFO up, until `close`."""
        self._followed.enter_context(log_records.told(name, self.say, logging.INFO))

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        if self._bar is not None:
            compiled = step == self._start + 1
            self._bar.update(step, () if compiled else None)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the numbers of a training record: in the bar, or as a line."""
        numbers, seconds_each = _numbers(values), values.get("step_seconds")
        if self._bar is not None:
            self._bar.update(step, numbers, seconds_each)
            return
        if seconds_each is not None and step < self._total:
            numbers.append(f"{duration((self._total - step) * seconds_each)} left")
        self.say(f"step {step}/{self._total}  {'  '.join(numbers)}")

    def close(self) -> None:
        """Leaves the bar as it is, and follows no logger any more."""
        self._followed.close()
        if self._bar is not None:
            self._bar.close()


def aligned(lines: Mapping[str, str]) -> str:
    """One line for each label, the texts below one another."""
    width = max(map(len, lines))
    return "\n".join(f"{label:<{width}}  {text}" for label, text in lines.items())


def _numbers(values: Mapping[str, float]) -> list[str]:
    """The most important first, as a narrow terminal drops the last."""
    parts = [f"loss {values['loss']:.4f}" if "loss" in values else "no update"]
    if "kl_coefficient" in values:  # of learning from rewards
        parts = [
            f"{word} {values[name]:.3f}" for name, word in _OF_REWARDS.items() if name in values
        ]
        for part in ("rollout", "update"):
            if (rate := values.get(f"{part}_tokens_per_second")) is not None:
                parts.append(f"{part} {rate:,.0f} tokens/s")
    elif "tokens_per_second" in values:
        parts.append(f"{values['tokens_per_second']:,.0f} tokens/s")
        parts.append(f"{values['step_seconds'] * 1000:.0f} ms/step")
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.1%}")
    return parts
