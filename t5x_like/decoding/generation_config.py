"""Everything that says how text is generated, in one object."""

import dataclasses
import math
import numbers
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from t5x_like.decoding.beam import BeamSearch
from t5x_like.decoding.choice import SampleAndRank
from t5x_like.decoding.constraints import checked_stop_strings
from t5x_like.decoding.strategies import Greedy, Strategy
from t5x_like.errors import UserError

Vote = Literal["likelihood", "vote"]
Choice = Vote | SampleAndRank


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How text is generated, apart from model and prompts.

    Attributes:
      max_new_tokens: most tokens of a text, the end token included.
      strategy: how tokens are chosen.
      min_new_tokens: how many tokens come before an end token; a stop string ends a text even so.
      repetition_penalty: divides the logits of tokens that prompt or text has already where they
        are above 0, and multiplies the others (Keskar et al. 2019, section 4.1); 1 for none.
      stop_strings: texts of which the first to be complete ends a text; it is cut off.
      eos_ids: tokens that end a text, beside the vocabulary's own.
      samples: how many texts are drawn for a prompt, of which one is chosen.
      choice: by "likelihood", the text whose tokens have the highest mean log-probability (best of
        n); or by "vote", the first of the texts with the most frequent answer (self-consistency,
        Wang et al. 2023, section 2). A text without an answer has no vote. Or by what the model
        says of its texts, see `SampleAndRank`, which may drop one that is the only one.
      seed: for strategies that draw.
    """

    max_new_tokens: int
    strategy: Strategy = Greedy()  # noqa: RUF009 (frozen)
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0
    stop_strings: Sequence[str] = ()
    eos_ids: Sequence[int] = ()
    samples: int = 1
    choice: Choice = "likelihood"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "samples"):
            _check_whole(name, getattr(self, name), least=1)
        _check_whole("min_new_tokens", self.min_new_tokens, least=0)
        if self.min_new_tokens > self.max_new_tokens:
            raise UserError(
                f"min_new_tokens is {self.min_new_tokens}, but max_new_tokens {self.max_new_tokens}"
                ": give a minimum that is no more."
            )
        penalty = self.repetition_penalty
        if not isinstance(penalty, int | float) or not 0 < penalty < math.inf:
            raise UserError(
                f"repetition_penalty is {penalty!r}: give a number above 0, 1 for no penalty."
            )
        object.__setattr__(self, "stop_strings", checked_stop_strings(self.stop_strings))
        if isinstance(self.eos_ids, str | int):
            raise UserError(f"eos_ids is {self.eos_ids!r}: give a list of token ids.")
        object.__setattr__(self, "eos_ids", tuple(self.eos_ids))  # lists, from gin
        for token in self.eos_ids:
            _check_whole("a token of eos_ids", token, least=0)
        ranked = isinstance(self.choice, SampleAndRank)
        if not ranked and self.choice not in typing.get_args(Vote):
            raise UserError(
                f"choice is {self.choice!r}: give 'likelihood', 'vote' or a SampleAndRank()."
            )
        if self.samples > 1 and not self.draws:
            raise UserError(
                f"samples is {self.samples}, but {self.strategy} draws nothing, and all would be "
                "the same: give a strategy that draws, such as one with a temperature "
                "(TEMPERATURE)."
            )

    @property
    def draws(self) -> bool:
        """Whether the seed has any effect."""
        return not isinstance(self.strategy, Greedy | BeamSearch)

    def __str__(self) -> str:
        """For comparison and for a person: what is not usual, and the seed where one is used."""
        parts = [f"{self.strategy}, max_new_tokens={self.max_new_tokens}"]
        usual = {field.name: field.default for field in dataclasses.fields(self)}
        for name in ("min_new_tokens", "repetition_penalty", "stop_strings", "eos_ids", "samples"):
            value = getattr(self, name)
            if value != usual[name]:
                parts.append(f"{name}={list(value) if isinstance(value, tuple) else value!r}")
        chosen = self.samples > 1 or isinstance(self.choice, SampleAndRank)
        parts += [f"choice={self.choice}"] * chosen
        parts += [f"seed={self.seed}"] * self.draws
        return ", ".join(parts)


def _check_whole(name: str, value: Any, *, least: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise UserError(f"{name} is {value!r}: it must be a whole number of at least {least}.")


def longest_answer(task_feature_lengths: Mapping[str, int], max_new_tokens: int | None) -> int:
    """The most tokens of an answer: those that are given, else of the task's `targets`.

    Raises:
      UserError: the task has prompts alone, and none are given.
    """
    if max_new_tokens is not None:
        return max_new_tokens
    if "targets" not in task_feature_lengths:
        raise UserError(
            "the task has prompts alone, which do not say how long an answer is: give "
            "max_new_tokens (MAX_NEW_TOKENS)."
        )
    return task_feature_lengths["targets"]
