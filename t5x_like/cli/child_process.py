"""Another command of ours in a process of its own, with this one's configuration."""

import argparse
import os
import subprocess
import sys
from pathlib import Path


def run(command: str, options: argparse.Namespace, *flags: str) -> None:
    """Runs `t5x-like COMMAND`, which shows its progress and says what is wrong itself.

    It ends when this process does, even by SIGKILL.

    Args:
      command: its name; it has the flag `--parent`.
      options: this command line, parsed; its gin files and bindings are handed on.
      *flags: further ones.

    Raises:
      SystemExit: it has failed, with its exit code; there is nothing to add to what it said.
    """
    arguments = [sys.executable, "-m", "t5x_like", command, f"--parent={os.getpid()}"]
    arguments += [*_configuration(options), *flags]
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    # The accelerator is this process's.
    environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
    # Killed with this process it leaves semaphores, of whose removal Python would tell the user.
    quiet = "ignore:resource_tracker:UserWarning"
    environment["PYTHONWARNINGS"] = ",".join(
        filter(None, [os.environ.get("PYTHONWARNINGS"), quiet])
    )
    # Ctrl-C is answered by this process, which ends the child. It must not meet the child itself,
    # whose Python may still be starting and would print a traceback.
    done = subprocess.run(arguments, env=environment, check=False, process_group=0)
    if done.returncode:
        raise SystemExit(done.returncode)


def _configuration(options: argparse.Namespace) -> list[str]:
    arguments = [f"--gin_file={name}" for name in options.gin_file]
    arguments += [f"--gin.{name}={value}" for name, value in options.bindings]
    arguments += [f"--module_import={name}" for name in options.module_import]
    if options.gin_search_paths:
        arguments.append(f"--gin_search_paths={options.gin_search_paths}")
    return arguments
