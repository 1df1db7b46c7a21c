"""Errors of the user's making: a model that cannot be built or loaded as asked."""


class ModelError(ValueError):
    """A model, its sizes or its weights cannot be used as asked.

    The message is one line: what was found, where, and what would be accepted. The
    command line recognises `exit_code` and prints the message without a traceback.
    """

    exit_code = 2
