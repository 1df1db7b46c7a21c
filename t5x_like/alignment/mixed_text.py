"""Prompts with rows of text beside them, for a policy that also learns the text (PPO-ptx)."""

from collections.abc import Mapping
from typing import Any

from t5x_like.data import DataIterator
from t5x_like.data.formats import ModelBatch
from t5x_like.data.iterator import State

TEXT = "pretraining/"
_POSITION = "pretraining"


class PromptsAndText:
    """Batches of two iterators in one, with one position; see `DataIterator`.

    Args:
      prompts: whose features keep their names.
      text: whose features are called `pretraining/NAME`; its position is the same in all processes.
    """

    def __init__(self, prompts: DataIterator, text: DataIterator) -> None:
        self._prompts, self._text = prompts, text
        self.making, self.epochs = prompts.making, prompts.epochs

    def __next__(self) -> ModelBatch:
        """The next batch of both."""
        text = next(self._text)
        return {**next(self._prompts), **{f"{TEXT}{name}": x for name, x in text.items()}}

    def is_ready(self) -> bool:
        """Whether both are."""
        return self._prompts.is_ready() and self._text.is_ready()

    def get_state(self) -> State:
        """That of the prompts, with that of the text in it."""
        return {**self._prompts.get_state(), _POSITION: self._text.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues where `get_state` was called.

        Raises:
          UserError: the state belongs to other data.
        """
        self._prompts.set_state(state)
        self._text.set_state(state[_POSITION])

    def close(self) -> None:
        """Stops the background threads of both."""
        self._prompts.close()
        self._text.close()


def parted(batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The prompts of a batch, and its text, each under the names that its format has."""
    text = {name: value for name, value in batch.items() if name.startswith(TEXT)}
    prompts = {name: value for name, value in batch.items() if name not in text}
    return prompts, {name.removeprefix(TEXT): value for name, value in text.items()}
