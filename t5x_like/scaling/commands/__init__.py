"""The laboratory's commands: each file adds its arguments and runs."""

import importlib
import importlib.util
from argparse import ArgumentParser
from collections.abc import Callable

TEXTS = {
    "plan": "The compute-optimal model for a budget, and how to train it.",
    "sweep": "Train the models of a scaling-law sweep.",
    "fit": "Fit a scaling law to training runs.",
    "report": "Tables, figures and a page of a sweep.",
}


def add(command: Callable[..., ArgumentParser]) -> None:
    """Adds every command to the command line.

    Args:
      command: makes a subparser from a name, what runs, and a line of help.
    """
    for name, text in TEXTS.items():
        home = f"{__name__}.{name}"
        if importlib.util.find_spec(home):
            module = importlib.import_module(home)
            module.add_arguments(command(name, module.run, text))
