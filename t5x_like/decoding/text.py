"""Text in, text out: a task's vocabularies around `generate`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from t5x_like.data import formats
from t5x_like.decoding.generate import generate
from t5x_like.decoding.strategies import Greedy, Strategy
from t5x_like.errors import UserError
from t5x_like.protocols import Decodes, Feature, Mixture, Model, Task

_Text = TypeVar("_Text")


@dataclasses.dataclass(frozen=True)
class TextCodec:
    """How a task's text becomes prompts, and generated ids become text.

    Attributes:
      inputs: the feature that prompts are written in; None where the task has only targets,
        and a prompt is then the beginning of a target.
      targets: the feature that is generated.
      bidirectional_prompt: whether training showed a decoder the whole input at once.
      input_length: longest prompt in tokens, end token included; longer ones lose their end
        as in training; None: no bound.
    """

    inputs: Feature | None
    targets: Feature
    bidirectional_prompt: bool
    input_length: int | None = None

    @classmethod
    def for_task(
        cls,
        task: Task | Mixture,
        model: Model,
        task_feature_lengths: Mapping[str, int] | None = None,
    ) -> "TextCodec":
        """The codec of a task; of a mixture, that of its first task (all must share features).

        Raises:
          UserError: the task has no `targets`, or lacks the `inputs` that the model needs.
        """
        prompts = formats.find(model.batch_format).prompts
        task, _ = task.tasks[0]
        features = task.output_features
        if prompts is None and "targets" not in features and "inputs" in features:
            # An encoder's task with labels: there is one text, which is read.
            return cls(None, features["inputs"], False)
        if "targets" not in features:
            raise UserError(
                f"task {task.name!r} has the features {sorted(features)}; "
                "generating needs 'targets'"
            )
        if prompts is not None and prompts.needs_inputs and "inputs" not in features:
            raise UserError(
                f"task {task.name!r} has the features {sorted(features)}; "
                f"{type(model).__name__} needs 'inputs' as well"
            )
        inputs = features.get("inputs")
        length = (task_feature_lengths or {}).get("inputs") if inputs is not None else None
        bidirectional = prompts is not None and prompts.bidirectional and inputs is not None
        return cls(inputs, features["targets"], bidirectional, length)

    @property
    def start_id(self) -> int:
        """What the decoder begins with, as in training."""
        return getattr(self.targets.vocabulary, "start_id", 0)

    @property
    def end_ids(self) -> tuple[int, ...]:
        """What ends a generated text; the first is what ends one in training."""
        vocabulary = self.targets.vocabulary
        return (vocabulary.eos_id, *getattr(vocabulary, "further_eos_ids", ()))

    def encode(self, text: str) -> list[int]:
        """A prompt's ids, with the end token where the task's inputs have one."""
        if self.inputs is None:
            return list(self.targets.vocabulary.encode(text))
        return _encoded(text, self.inputs, self.input_length)

    def prompt_length(self, text: str) -> int:
        """Tokens of a prompt, the end token included, before it is cut to `input_length`."""
        if self.inputs is None:
            return len(self.encode(text))
        return len(_encoded(text, self.inputs, None))

    def encode_target(self, text: str, end_token: bool | None = None) -> list[int]:
        """A target's ids, with the end token, without it, or (None) as the task has it."""
        return _encoded(text, self.targets, None, end_token)

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids (without the end token) to text."""
        return self.targets.vocabulary.decode(ids)


def checked_texts(texts: Sequence[_Text], name: str) -> list[_Text]:
    """The texts of a call as a list.

    Raises:
      UserError: it is one text, whose characters would be taken for texts.
    """
    if isinstance(texts, str | bytes):
        raise UserError(f"{name} is one text, {texts[:40]!r}: give a list of texts, [{name}].")
    return list(texts)


def _encoded(
    text: str, feature: Feature, length: int | None, end_token: bool | None = None
) -> list[int]:
    """Ids trimmed so that the end token still fits."""
    ids = list(feature.vocabulary.encode(text))
    ends = feature.add_eos if end_token is None else end_token
    end = [feature.vocabulary.eos_id] if ends else []
    return ids[: None if length is None else max(0, length - len(end))] + end


@dataclasses.dataclass(frozen=True)
class TextGeneration:
    """One continuation as text; `tokens`, `score`, `finished` as in `Generation`."""

    text: str
    score: float
    finished: bool
    tokens: list[int]


def generate_text(
    model: Decodes,
    params: Any,
    codec: TextCodec,
    texts: Sequence[str],
    *,
    max_new_tokens: int,
    strategy: Strategy = Greedy(),  # noqa: B008 (frozen)
    batch_size: int = 8,
    seed: int = 0,
    first_row: int = 0,
    decoding_params: Any = None,
    progress: Callable[[int], None] | None = None,
) -> list[TextGeneration]:
    """Continues or answers every text, in order; the arguments are those of `generate`."""
    found = generate(
        model,
        params,
        [codec.encode(text) for text in checked_texts(texts, "texts")],
        max_new_tokens=max_new_tokens,
        strategy=strategy,
        eos_id=codec.end_ids,
        bos_id=codec.start_id,
        bidirectional_prompt=codec.bidirectional_prompt,
        batch_size=batch_size,
        seed=seed,
        first_row=first_row,
        decoding_params=decoding_params,
        progress=progress,
    )
    return [
        TextGeneration(codec.decode(one.tokens), one.score, one.finished, one.tokens)
        for one in found
    ]
