"""Failures of reading and writing data that are nobody's wrong input."""


class DataFault(RuntimeError):
    """A disk, process or thread that data pass through has failed.

    The message is one line: what failed, where, and what would do. The command line prints it
    without a traceback; the exit code is that of a fault.
    """

    exit_code = 1
