"""Who is told what a logger says."""

import contextlib
import logging
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def told(name: str, say: Callable[[str], object], level: int = logging.WARNING) -> Iterator[None]:
    """While the block runs, this logger and those below it speak to `say`, and to nobody else.

    What other libraries have hung on the root would print it a second time, in a form of theirs.

    Args:
      name: of the logger.
      say: is called with the text of each message.
      level: the least that is told.
    """
    logger, listener = logging.getLogger(name), _Listener(say, level)
    kept = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [listener], False
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.handlers, _, logger.propagate = kept
        logger.setLevel(kept[1])


class _Listener(logging.Handler):
    def __init__(self, say: Callable[[str], object], level: int) -> None:
        super().__init__(level)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        self._say(record.getMessage())
