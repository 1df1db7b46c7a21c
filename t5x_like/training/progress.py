"""What a person watching a run sees."""

import logging
import sys
from collections.abc import Mapping
from typing import Any


class Progress:
    """A bar on a terminal, plain lines elsewhere; silent unless this is the first process.

    Args:
      total: the last step.
      start: the steps already made.
      shown: whether to show anything.
      label: put before every line, for one of several runs; then there is no bar.
    """

    def __init__(self, total: int, start: int = 0, shown: bool = True, label: str = "") -> None:
        self._total = total
        self._shown = shown
        self._label = f"{label}  " if label else ""
        alone = shown and not label and sys.stdout.isatty()
        self._bar = _rich_bar(total, start) if alone else None
        self._followed: list[tuple[logging.Logger, logging.Handler]] = []

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self._shown:
            lines = [f"{self._label}{line}" for line in text.splitlines()]
            print("\n".join(lines), flush=True)

    def follow(self, name: str) -> None:
        """Shows what this logger and those below it say, from INFO up, until `close`."""
        logger, handler = logging.getLogger(name), _Lines(self)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        # What other libraries have hung on the root would say it a second time.
        logger.propagate = False
        self._followed.append((logger, handler))

    def advance(self, step: int) -> None:
        """The bar moves to `step`."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of a training record: in the bar, or as a line."""
        text = _numbers(values)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, numbers=text)
        elif self._shown:
            if "step_seconds" in values and step < self._total:
                text += f"  {duration((self._total - step) * values['step_seconds'])} left"
            print(f"{self._label}step {step}/{self._total}  {text}", flush=True)

    def close(self) -> None:
        """Leaves the bar as it is."""
        for logger, handler in self._followed:
            logger.removeHandler(handler)
            logger.propagate = True
        if self._bar is not None:
            self._bar.stop()


class _Lines(logging.Handler):
    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.INFO)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.say(record.getMessage())


def aligned(lines: Mapping[str, str]) -> str:
    """One line for each label, the texts below one another."""
    width = max(map(len, lines))
    return "\n".join(f"{label:<{width}}  {text}" for label, text in lines.items())


def duration(seconds: float) -> str:
    """`2 h 05 min`, `3 min 20 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _numbers(values: Mapping[str, float]) -> str:
    parts = [f"loss {values['loss']:.4f}" if "loss" in values else "no update"]
    if "tokens_per_second" in values:
        parts.append(f"{values['tokens_per_second']:,.0f} tokens/s")
        parts.append(f"{values['step_seconds'] * 1000:.0f} ms/step")
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.1%}")
    return "  ".join(parts)


def _rich_bar(total: int, start: int) -> Any:
    """A started rich bar; None where rich is not installed."""
    try:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import (
            Progress as Bar,
        )
    except ImportError:
        return None
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, refresh_per_second=4)
    bar.start()
    bar.add_task("train", total=total, completed=start, numbers="compiling")
    return bar
