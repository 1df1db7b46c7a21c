"""Runs made of trained ones: `t5x-like average`, of parameters, and `ensemble`, of predictions."""

import argparse
from collections.abc import Callable

from t5x_like.cli.averaging import ensembles, parameters


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds both commands."""
    parameters.add_arguments(
        command("average", parameters.run, "Make a run of the mean of a run's checkpoints.")
    )
    ensembles.add_arguments(
        command("ensemble", ensembles.run, "Make a run of the mean of several runs' predictions.")
    )
