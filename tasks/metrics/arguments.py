"""What metrics ask of their arguments."""

from collections.abc import Sized

from tasks.errors import TaskError


def check_lengths(targets: Sized, predictions: Sized) -> None:
    """Checks that there is a prediction for each target, and at least one.

    Raises:
      TaskError: there is not.
    """
    if len(targets) != len(predictions) or not len(targets):
        raise TaskError(
            f"a metric got {len(targets)} targets and {len(predictions)} predictions: "
            "the same number of both, and at least one, is needed."
        )
