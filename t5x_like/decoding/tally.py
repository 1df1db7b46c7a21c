"""How far a long generation is, for whoever watches standard error."""

import sys
import time


class Tally:
    """`label: done of total, rate` on standard error.

    On a terminal one line that is rewritten; elsewhere one line at the end. Standard output
    stays free for results.

    Args:
      label: what is being done.
      total: how many; None where nobody knows.
      shown: whether to show anything.
      done: how many an earlier run has done.
    """

    def __init__(self, label: str, total: int | None, shown: bool = True, done: int = 0) -> None:
        self._label = label
        self._total = total
        self._shown = shown
        self._live = shown and sys.stderr.isatty()
        self._first = self._done = done
        self._started = time.monotonic()

    def add(self, count: int) -> None:
        """`count` more are done."""
        self._done += count
        if self._live:
            print(f"\r{self._text()}\033[K", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """The last word."""
        if self._shown:
            print(f"{chr(13) if self._live else ''}{self._text()}", file=sys.stderr, flush=True)

    def _text(self) -> str:
        of = "" if self._total is None else f" of {self._total}"
        seconds = time.monotonic() - self._started
        rate = (self._done - self._first) / seconds if seconds > 0 else 0.0
        return f"{self._label}: {self._done}{of}, {rate:.1f}/s"
