"""Errors in tasks and their parts that the user can correct."""


class TaskError(ValueError):
    """A source, vocabulary, task or objective that cannot be used as it is given.

    The message is one line: what was found, where, and what would be accepted. The
    command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class SourceUnavailable(TaskError, OSError):
    """The text or the vocabulary file of a task is not on this machine.

    A cache that was made elsewhere can still be trained on: code that only compares
    fingerprints can ignore this error, like any other `OSError`.
    """
