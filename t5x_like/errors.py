"""Errors that the user can mend: one line on standard error and exit code 2."""


class UserError(ValueError):
    """What the user gave cannot be used.

    The message is one line: what was found, where (the gin binding, file or flag),
    and what would be accepted. The command line prints it without a traceback.

    `exit_code` is how the command line recognises such an error. `models` and
    `tasks` cannot import this module, so their own errors carry the attribute too.
    """

    exit_code = 2
