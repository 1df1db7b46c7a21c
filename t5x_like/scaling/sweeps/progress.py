"""What a person watching a sweep sees: a table on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from t5x_like.training.progress import duration

# Rows that fit above the totals on a usual terminal; running runs come first.
MOST_ROWS = 24
_ORDER = {"running": 0, "failed": 1, "waiting": 2, "done": 3}


class SweepProgress:
    """Shows the runs of a sweep.

    Args:
      title: above the table.
      costs: run -> FLOPs that it still had to do when this started.
    """

    def __init__(self, title: str, costs: Mapping[str, float]) -> None:
        self._title = title
        self._costs = dict(costs)
        self._begun = time.monotonic()
        self._live: Any = None
        self._shown: dict[str, str] = {}
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(refresh_per_second=2)
            self._live.start()

    def update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Shows these states: `name`, `status`, `step`, `steps`, `train_loss`, `loss`, ..."""
        if self._live is not None:
            self._live.update(self._table(rows))
            return
        for row in rows:
            if row["status"] != self._shown.get(row["name"], "waiting"):
                self._shown[row["name"]] = row["status"]
                self._say(row, rows)

    def say(self, text: str) -> None:
        """A line above the table."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Leaves the table as it is."""
        if self._live is not None:
            self._live.stop()

    def _say(self, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        done = sum(other["status"] == "done" for other in rows)
        if row["status"] == "done":
            left = self._left(rows)
            rest = f", {duration(left)} left" if left else ""
            print(f"{row['name']}  loss {row['loss']:.4f}  ({done}/{len(rows)}{rest})", flush=True)
        else:
            print(f"{row['name']}  {row['status']}", flush=True)

    def _left(self, rows: Sequence[Mapping[str, Any]]) -> float | None:
        """Seconds, from the FLOPs done since the start; None before anything was."""
        total = sum(self._costs.values())
        left = sum(
            self._costs.get(row["name"], 0.0) * (1 - row["step"] / max(row["steps"], 1))
            for row in rows
            if row["status"] in ("waiting", "running")
        )
        elapsed = time.monotonic() - self._begun
        return left * elapsed / (total - left) if total - left > 0 else None

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        from rich.table import Table

        done = sum(row["status"] == "done" for row in rows)
        left = self._left(rows)
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
