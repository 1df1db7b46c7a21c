"""The commands on the text and the tokens of tasks, for the command line."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from t5x_like.cli.configuration import configure
from t5x_like.cli.corpus import augment, classifier, clean, cooccur, dedup, ngram, overlap


def add(command: Callable[..., ArgumentParser]) -> None:
    """Adds the commands to the command line.

    Args:
      command: makes a subparser from a name, the function to run, and a line of help.
    """
    ngram.add_arguments(
        command("ngram", ngram.run, "Count an n-gram language model of a task's tokens.")
    )
    for module, line in (
        (cooccur, "Count which words of a cached task stand near one another."),
        (overlap, "Find examples of test sets in training text."),
        (clean, "Write the documents of a task that its filters keep as files."),
        (dedup, "Find near duplicates among the documents of a task."),
        (augment, "Write the rows of a task with words replaced, as TinyBERT was trained on."),
        (classifier, "Fit a classifier of documents that filters judge their quality by."),
    ):
        name = module.__name__.rpartition(".")[2]
        module.add_arguments(command(name, _reading(module.run), line))


def _reading(run: Callable[[Namespace, Any], None]) -> Callable[[Namespace], None]:
    """A command that reads what `t5x-like cache` reads."""
    return lambda options: run(options, configure(options, "runs/cache.gin"))
