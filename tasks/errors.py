"""Errors in what is learned from that the user can mend."""


class TaskError(ValueError):
    """A source, vocabulary, task or objective cannot be used as it was given.

    The message is one line: what was found, where, and what would be accepted. The
    command line recognises `exit_code` and prints the message without a traceback.
    """

    exit_code = 2


class SourceUnavailable(TaskError, OSError):
    """The text or vocabulary file that a task stands on is not on this machine.

    A cache made elsewhere can still be trained on, so whoever only compares
    fingerprints may go on, as after any other `OSError`.
    """
