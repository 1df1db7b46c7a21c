"""`python -m t5x_like` and the console script: checks the ground, then hands over to the CLI."""

import os
import signal
import sys

OLDEST_PYTHON = (3, 11)
OLDEST_JAX = (0, 8)


def ground_fault():
    """What is too old to go on with, in one line; None if nothing is.

    Written without annotations and new syntax, so that an old Python can run it.
    """
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        return "Python " + found + " is too old: t5x-like needs 3.11 or newer."
    from importlib import metadata

    try:
        found = metadata.version("jax")
    except metadata.PackageNotFoundError:
        return "JAX is not installed: `pip install t5x-like` brings it."
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_JAX:
        return "JAX " + found + " is too old: t5x-like needs 0.8 or newer."
    return None


def user_directory_last():
    """Moves the working directory to the end of the path, where it can shadow nothing."""
    here = os.getcwd()
    sys.path[:] = [p for p in sys.path if p and os.path.abspath(p) != here] + [here]


def speak_utf8():
    """Starts this program again in Python's UTF-8 mode, where the locale has another encoding.

    Everything that is read and written is UTF-8: files, their names, arguments and output. In a
    locale such as C, or one of Latin-1, Python would take them for something else.
    """
    encoding = sys.getfilesystemencoding().replace("-", "").lower()
    if encoding != "utf8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def leave(number, frame):
    """Ends the process: there is nothing yet that could be saved."""
    name = signal.Signals(number).name
    os.write(2, ("t5x-like: error: " + name + " received: there was nothing to save.\n").encode())
    os._exit(128 + number)  # as a shell reports it: 143, and 130 for Ctrl-C


def main():
    """Runs the command line; returns its exit code."""
    # Until the command line answers them: an interrupt can get lost in an import.
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    fault = ground_fault()
    if fault is not None:
        sys.stderr.write("t5x-like: error: " + fault + "\n")
        return 2
    speak_utf8()
    user_directory_last()
    from t5x_like import cli

    code = cli.main(sys.argv[1:])
    if code in (128 + signal.SIGTERM, 128 + signal.SIGINT) and is_alone():
        # All is closed. Threads of XLA that still compute for a step or a measurement that the
        # signal interrupted would crash in the interpreter's own end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def is_alone():
    """Whether no other process of the run is told at the interpreter's end that this one leaves."""
    jax = sys.modules.get("jax")
    return jax is None or not jax.distributed.is_initialized()


if __name__ == "__main__":
    sys.exit(main())
