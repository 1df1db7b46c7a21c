"""A model with a head for each of several tasks, as it is for one of them."""

from typing import Protocol, runtime_checkable

from t5x_like.errors import UserError
from t5x_like.protocols import Mixture, Model, Task


@runtime_checkable
class ServesTasks(Model, Protocol):
    """A model that is another one for each task: its batches, its loss, what it predicts."""

    def of_task(self, task: str) -> Model:
        """The model for a task of this name, with the same parameters.

        It need not make parameters.
        """


def for_task(model: Model, task: Task | Mixture) -> Model:
    """The model as it is for a task; any but `ServesTasks` is the same for all.

    Raises:
      UserError: the task is a mixture of several, and the model tells them apart.
    """
    if not isinstance(model, ServesTasks):
        return model
    members = [member.name for member, _ in task.tasks]
    if len(members) > 1:
        raise UserError(
            f"{type(model).__name__} has a head for each of {', '.join(members)}: choose one of "
            "them, with MIXTURE_OR_TASK_NAME, or task=NAME in Python."
        )
    return model.of_task(members[0])
