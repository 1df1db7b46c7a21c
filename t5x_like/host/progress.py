"""Progress of long work: redrawn in place on a terminal, plain lines everywhere else."""

import contextlib
import contextvars
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

_REFRESHES_PER_SECOND = 4
_MIN_BAR = 8  # columns; a shorter one says nothing, and is left out
# Where nothing can be redrawn: seconds before the first line, and most seconds between two.
_FIRST_INTERVAL, _LONGEST_INTERVAL = 10.0, 300.0
_GAP = "  "
_hidden = contextvars.ContextVar("hidden", default=False)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Draws nothing that is begun in the block, as what it is a part of shows its own progress.

    Nor is there a line at the end of it; only what takes long says how far it is.
    """
    before = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(before)


class Display:
    """Writes lines to a stream and, on a terminal, redraws something in place below them.

    The terminal's state is never changed, and the cursor not hidden. So a process that ends without
    `close`, by a second Ctrl-C or SIGKILL, leaves a usable terminal.

    Args:
      stream: to write to; standard output when None.
      shown: whether to show anything.
    """

    def __init__(self, stream: TextIO | None = None, shown: bool = True) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._shown = shown
        self._live: Any = None
        self.on_terminal = shown and not _hidden.get() and _can_redraw(self._stream)

    def say(self, text: str) -> None:
        """Writes lines, above what is drawn."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._shown:
            print(text, file=self._stream, flush=True)

    def draw(self, renderable: Any) -> None:
        """Draws a rich renderable in place of the previous one; terminals only."""
        if not self.on_terminal:
            return
        if self._live is None:
            self._live = _live(renderable, self._stream)
            self._live.start(refresh=True)
        else:
            self._live.update(renderable)

    def close(self) -> None:
        """Leaves the drawing as it is, and ends its line."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class ProgressBar:
    """A progress bar with count, rate and time left.

    On a terminal it is one line. Where that is too narrow, the least important fields are dropped
    first, then the bar; the count and the time left stay. Elsewhere it is one line at the end, and
    before it others while the work goes on: the first after 10 seconds, the next at intervals that
    double, up to 5 minutes.

    Args:
      total: how much there is to do; None if unknown.
      done: how much an earlier process has done.
      label: what is being done.
      unit: what is counted.
      fields: what else to show until `update` says otherwise.
      stream: to write to; standard output when None.
      shown: whether to show anything.
      estimate: whether to estimate the time left from the mean rate. Otherwise it comes from
        `update`, and the elapsed time is shown before that.
      summary: whether to write a line at the end where the stream is no terminal.
    """

    def __init__(
        self,
        total: int | None,
        *,
        done: int = 0,
        label: str = "",
        unit: str = "",
        fields: Sequence[str] = (),
        stream: TextIO | None = None,
        shown: bool = True,
        estimate: bool = True,
        summary: bool = True,
    ) -> None:
        self.display = Display(stream, shown)
        self._total, self._label, self._unit = total, label, unit
        self._first = self._done = done
        self._fields = fields
        self._estimate = estimate
        self._summary = summary and shown and not _hidden.get()
        self._begun = time.monotonic()
        self._interval = _FIRST_INTERVAL
        self._next_line = self._begun + self._interval
        self._end: float | None = None  # estimated by `update`
        self.display.draw(self)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._summary = False
        self.close()

    def add(self, count: int, fields: Sequence[str] | None = None) -> None:
        """Moves the bar by `count`, see `update`."""
        self.update(self._done + count, fields)

    def update(
        self, done: int, fields: Sequence[str] | None = None, seconds_each: float | None = None
    ) -> None:
        """Moves the bar.

        Args:
          done: how much is done by now.
          fields: what else to show, the most important first; None keeps the last ones.
          seconds_each: time that one takes, for the time left.
        """
        self._done = done
        if fields is not None:
            self._fields = fields
        if seconds_each is not None and self._total is not None:
            self._end = time.monotonic() + (self._total - done) * seconds_each
        if not self.display.on_terminal and done != self._total:
            self._say_how_far()

    def _say_how_far(self) -> None:
        """A line, unless it is too early for one."""
        now = time.monotonic()
        if now < self._next_line:
            return
        self._interval = min(2 * self._interval, _LONGEST_INTERVAL)
        self._next_line = now + self._interval
        rate = [f"{self._rate():.1f}/s"] if self._estimate else []
        self.display.say(", ".join([self._count(), *self._fields, *rate, self._time()]))

    def close(self) -> None:
        """Leaves the bar as it is, or writes the line at the end."""
        self.display.close()
        if self._summary and not self.display.on_terminal:
            self.display.say(f"{self._count()}, {self._rate():.1f}/s")
        self._summary = False

    def _count(self) -> str:
        """How much is done, for a line."""
        unit = f" {self._unit}" if self._unit else ""
        of = "" if self._total is None else f" of {self._total}"
        return f"{self._label}: {self._done}{of}{unit}"

    def line(self, width: int, glyphs: str = "━╌") -> str:
        """The line for a terminal of `width` columns; `glyphs` draw what is done, and the rest."""
        total = "" if self._total is None else f"/{self._total}"
        count, left = f"{self._done}{total} {self._unit}".rstrip(), self._time()
        parts = [part for part in (self._label, count) if part]
        fields = list(self._fields)
        if self._estimate:
            fields.append(f"{self._rate():.1f}/s")
        # In order of importance: none is shown without those before it.
        while fields and _width([*parts, *fields, left]) + _MIN_BAR + len(_GAP) > width:
            fields.pop()
        parts += [*fields, left]
        room = width - _width(parts) - len(_GAP)
        if self._total and room >= _MIN_BAR:
            full = round(room * min(max(self._done / self._total, 0.0), 1.0))
            parts.insert(1 if self._label else 0, glyphs[0] * full + glyphs[1] * (room - full))
        return _GAP.join(parts)

    def __rich_console__(self, console: Any, options: Any) -> Any:
        """What rich draws, at each refresh."""
        from rich.text import Text

        line = self.line(options.max_width, "#-" if options.ascii_only else "━╌")
        text = Text(line, no_wrap=True, overflow="crop")
        text.highlight_regex("━+|#+", "bar.complete")
        text.highlight_regex("╌+|-{2,}", "bar.back")
        yield text

    def _rate(self) -> float:
        seconds = time.monotonic() - self._begun
        return (self._done - self._first) / seconds if seconds > 0 else 0.0

    def _time(self) -> str:
        now = time.monotonic()
        if self._end is not None:
            return f"{duration(max(self._end - now, 0.0))} left"
        if self._estimate and self._total is not None and (rate := self._rate()) > 0:
            return f"{duration((self._total - self._done) / rate)} left"
        return duration(now - self._begun)


def duration(seconds: float) -> str:
    """Writes a time as `2 h 05 min`, `3 min 20 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _width(parts: Sequence[str]) -> int:
    return len(_GAP.join(parts))


def _can_redraw(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _live(renderable: Any, stream: TextIO) -> Any:
    """A `rich.live.Live` that leaves the cursor alone."""
    from rich.console import Console
    from rich.live import Live

    class VisibleCursor(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return False

    # What others print to a terminal goes above; what they print to a file stays there.
    return Live(
        renderable,
        console=VisibleCursor(file=stream, force_terminal=True),
        refresh_per_second=_REFRESHES_PER_SECOND,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=sys.stderr.isatty(),
    )
