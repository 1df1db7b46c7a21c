"""Executes another program that dies with the process that started it.

    python parent_death.py PARENT CORES PROGRAM ARGUMENT ...

PARENT is a process id; CORES are numbers joined by commas, or `all`. This is a separate
program because a process with threads, such as JAX's, cannot safely do it between fork and exec.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """See above."""
    parent, cores, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # it died before this took hold
            sys.exit(1)
        if cores != "all":
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
