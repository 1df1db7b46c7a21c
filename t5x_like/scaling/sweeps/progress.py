"""How a sweep shows its progress: a table on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from t5x_like.host.progress import Display, duration

# Rows that fit on a terminal of usual height; running runs come first.
MOST_ROWS = 24
_ORDER = {"running": 0, "failed": 1, "waiting": 2, "done": 3}


class SweepProgress:
    """Shows the runs of a sweep.

    Args:
      title: the title of the table.
      costs: run -> FLOPs, of the runs that were not done when the sweep was started.
    """

    def __init__(self, title: str, costs: Mapping[str, float]) -> None:
        self._title = title
        self._costs = dict(costs)
        self._begun = time.monotonic()
        self._at_first: float | None = None  # FLOPs that were left: some runs resume
        self._display = Display()
        self._last: dict[str, str] = {}  # status of each run, as it was last said

    def update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Shows these states: `name`, `status`, `step`, `steps`, `train_loss`, `loss`, ..."""
        left = self._left(rows)
        if self._display.on_terminal:
            self._display.draw(self._table(rows, left))
            return
        for row in rows:
            if row["status"] != self._last.get(row["name"], "waiting"):
                self._last[row["name"]] = row["status"]
                self.say(self._line(row, rows, left))

    def say(self, text: str) -> None:
        """Writes lines, above the table."""
        self._display.say(text)

    def close(self) -> None:
        """Leaves the table as it is."""
        self._display.close()

    def _line(
        self, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], left: float | None
    ) -> str:
        if row["status"] != "done":
            return f"{row['name']}  {row['status']}"
        done = sum(other["status"] == "done" for other in rows)
        rest = f", {duration(left)} left" if left else ""
        found = f"loss {row['loss']:.4f}" if row["loss"] == row["loss"] else "measured"
        return f"{row['name']}  {found}  ({done}/{len(rows)}{rest})"

    def _left(self, rows: Sequence[Mapping[str, Any]]) -> float | None:
        """The seconds left, from the rate of FLOPs so far; None before there is one."""
        left = sum(
            self._costs.get(row["name"], 0.0) * (1 - row["step"] / max(row["steps"], 1))
            for row in rows
            if row["status"] in ("waiting", "running")
        )
        if self._at_first is None:
            self._at_first = left
        spent = self._at_first - left
        return left * (time.monotonic() - self._begun) / spent if spent > 0 else None

    def _table(self, rows: Sequence[Mapping[str, Any]], left: float | None) -> Any:
        from rich.table import Table

        done = sum(row["status"] == "done" for row in rows)
        rest = f", {duration(left)} left" if left and done < len(rows) else ""
        table = Table(title=f"{self._title}: {done} of {len(rows)} runs done{rest}")
        for column in ("run", "parameters", "tokens", "step", "train loss", "loss", "tokens/s", ""):
            table.add_column(column, justify="left" if column in ("run", "") else "right")
        ordered = sorted(rows, key=lambda row: _ORDER[row["status"]])
        for row in ordered[:MOST_ROWS]:
            table.add_row(
                row["name"],
                f"{row['parameters']:,}",
                f"{row['tokens']:,}",
                f"{row['step']}/{row['steps']}",
                _number(row["train_loss"]),
                _number(row["loss"]),
                f"{row['tokens_per_second']:,.0f}" if row["tokens_per_second"] > 0 else "",
                row["status"],
            )
        if len(ordered) > MOST_ROWS:
            table.caption = f"and {len(ordered) - MOST_ROWS} more"
        return table


def _number(value: float) -> str:
    return f"{value:.4f}" if value == value else ""
