"""Errors that end a command with one line: the user's (exit code 2) and the machine's (1)."""


class UserError(ValueError):
    """Something that the user gave cannot be used.

    The message is one line: what was found, where (the gin binding, file or flag), and what would
    be accepted. The command line prints it without a traceback.

    `exit_code` is how the command line recognises such an error. `models` and
    `tasks` cannot import this module, so their own errors carry the attribute too.
    """

    exit_code = 2


class DataFault(RuntimeError):
    """A disk, process or thread that data pass through has failed.

    The message is one line: what failed, where, and what to do. The command line prints it without
    a traceback, and exits with code 1.
    """

    exit_code = 1


def on_one_line(text: str) -> str:
    """A text that a user gave as messages and comments show it: control characters as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
