"""Text in, text out: a task's vocabularies around `generate`."""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any, TypeVar

from t5x_like.data import formats
from t5x_like.data.examples import keeps_end
from t5x_like.data.formats.prompts import Tokens
from t5x_like.decoding.choice import Ratings, SampleAndRank, likeliest, majority
from t5x_like.decoding.constraints import StopStrings, token_texts
from t5x_like.decoding.generate import Generation, generate
from t5x_like.decoding.generation_config import GenerationConfig
from t5x_like.errors import UserError
from t5x_like.host.journal import NO_JOURNAL, Journal
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
      input_length: longest prompt in tokens, end token included; longer ones are cut as in
        training; None: no bound.
      row_of_text: an encoder's row of a text, of its ids: `inputs`, and what else there is of each
        token; None where the text alone is the row.
    """

    inputs: Feature | None
    targets: Feature
    bidirectional_prompt: bool
    input_length: int | None = None
    row_of_text: Callable[[Sequence[int]], Mapping[str, Any]] | None = None

    @classmethod
    def for_task(
        cls,
        task: Task | Mixture,
        model: Model,
        task_feature_lengths: Mapping[str, int] | None = None,
    ) -> "TextCodec":
        """The codec of a task; of a mixture, that of its first task (all must share features).

        Raises:
          UserError: the task has no `targets`, and not `inputs` alone, or lacks the `inputs` that
            the model needs.
        """
        prompts = formats.find(model.batch_format).prompts
        task, _ = task.tasks[0]
        features = task.output_features
        if prompts is None and "targets" not in features and "inputs" in features:
            # An encoder's task with labels: there is one text, which is read.
            return cls(None, features["inputs"], False)
        length = (task_feature_lengths or {}).get("inputs")
        if prompts is not None and set(features) == {"inputs"}:
            # Prompts alone, as of a policy: answers are written in their vocabulary.
            return cls(features["inputs"], features["inputs"], prompts.bidirectional, length)
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
        length = length if inputs is not None else None
        if prompts is None:
            specs = {name: feature.vocabulary.spec() for name, feature in features.items()}
            row_of_text = getattr(task.objective(specs), "row_of_text", None)
            return cls(inputs, features["targets"], False, length, row_of_text)
        bidirectional = prompts.bidirectional and inputs is not None
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

    @functools.cached_property
    def _token_texts(self) -> list[str | None]:
        return token_texts(self.decode, self.targets.vocabulary.vocab_size)

    def stop(self, stop_strings: Sequence[str]) -> StopStrings | None:
        """What looks for these texts in the targets; None where there is none."""
        if not stop_strings:
            return None
        return StopStrings(tuple(stop_strings), self.decode, self._token_texts)

    def encode(self, text: str) -> list[int]:
        """A prompt's ids, with the end token where the task's inputs have one."""
        if self.inputs is None:
            return list(self.targets.vocabulary.encode(text))
        return _encoded(text, self.inputs, self.input_length)

    def row(self, text: str) -> Mapping[str, Any]:
        """What an encoder reads of a text, `inputs`, and what there is of each of its tokens."""
        ids = self.encode(text)
        return {"inputs": ids} if self.row_of_text is None else self.row_of_text(ids)

    def prompt_length(self, text: str) -> int:
        """Tokens of a prompt, the end token included, before it is cut to `input_length`."""
        if self.inputs is None:
            return len(self.encode(text))
        return len(_encoded(text, self.inputs, None))

    @property
    def lost_part(self) -> str:
        """What a prompt that is longer than `input_length` loses: "beginning" or "end"."""
        return "beginning" if self.inputs is not None and keeps_end(self.inputs) else "end"

    @property
    def read(self) -> Feature:
        """The feature that prompts are written in."""
        return self.targets if self.inputs is None else self.inputs

    @property
    def end_of_inputs(self) -> list[int]:
        """What ends a prompt, where the task's inputs have an end token."""
        return [self.read.vocabulary.eos_id] if self.inputs and self.inputs.add_eos else []

    def continued(self, prompt: Tokens, text: str) -> list[int]:
        """A prompt's ids and those of a text after it, as one text: no end token between them."""
        end = self.end_of_inputs
        read = list(
            prompt[: len(prompt) - len(end)] if end and list(prompt[-1:]) == end else prompt
        )
        return read + list(self.read.vocabulary.encode(f" {text.strip()}" if text.strip() else ""))

    def encode_target(self, text: str, end_token: bool | None = None) -> list[int]:
        """A target's ids, with the end token, without it, or (None) as the task has it."""
        return _encoded(text, self.targets, None, end_token)

    def encode_pair(
        self, text: str, target: str, end_token: bool | None = None
    ) -> tuple[list[int], list[int]]:
        """The ids of a prompt and of a target after it; `end_token` as in `encode_target`.

        Without inputs they are one text, joined as it stands, and whole words word by word. Where
        a target by itself would add a space, as SentencePiece does, both are encoded together.
        """
        vocabulary = self.targets.vocabulary
        before, after = self.encode(text), self.encode_target(target, end_token)
        alone = list(vocabulary.encode(target))
        apart = self.inputs is not None or getattr(vocabulary, "whole_words", False)
        if apart or self.decode([*before, *alone]) == text + target:
            return before, after
        whole = vocabulary.encode(text + target)
        shared = sum(itertools.takewhile(bool, map(operator.eq, before, whole)))
        return whole[:shared], [*whole[shared:], *after[len(alone) :]]

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids (without the end token) to text."""
        return self.targets.vocabulary.decode(ids)

    def decode_after(self, prompt: Tokens, ids: Sequence[int]) -> str:
        """What generated ids (without the end token) add to a prompt's text.

        Without inputs they are one text, at whose beginning alone SentencePiece drops a space.
        """
        if self.inputs is not None:
            return self.decode(ids)
        # `decode` stops at an end token, which a prompt may have too.
        last = max((i for i, token in enumerate(prompt, 1) if token == self.end_ids[0]), default=0)
        before, both = (self.decode([*prompt[last:], *more]) for more in ((), ids))
        return both[len(before) :] if both.startswith(before) else self.decode(ids)


def checked_texts(texts: Sequence[_Text], name: str) -> list[_Text]:
    """The texts of a call as a list.

    Raises:
      UserError: it is one text, whose characters would be taken for texts; or one of them is none,
        such as the NaN of a table.
    """
    if isinstance(texts, str | bytes):
        raise UserError(f"{name} is one text, {texts[:40]!r}: give a list of texts, [{name}].")
    found = list(texts)
    for number, text in enumerate(found):
        parts: Sequence[Any] = text if isinstance(text, list | tuple) else [text]
        for one in parts:
            if one is None or isinstance(one, Number):
                verb = "is" if one is text else "has"
                raise UserError(f"{name}[{number}] {verb} {one!r} where a text is needed.")
    return found


def _encoded(
    text: str, feature: Feature, length: int | None, end_token: bool | None = None
) -> list[int]:
    """Ids trimmed so that the end token still fits."""
    ids = list(feature.vocabulary.encode(text))
    ends = feature.add_eos if end_token is None else end_token
    end = [feature.vocabulary.eos_id] if ends else []
    room = len(ids) if length is None else max(0, length - len(end))
    first = max(0, len(ids) - room) if keeps_end(feature) else 0
    return ids[first : first + room] + end


@dataclasses.dataclass(frozen=True)
class TextGeneration:
    """One continuation as text.

    Attributes:
      text: without the stop string that ended it.
      score: as in `Generation`.
      finished: as in `Generation`.
      tokens: as in `Generation`.
      samples: all texts of which it was chosen, in the order in which they were drawn; empty of a
        text that was the only one.
      votes: how many of them have its answer, where it was chosen by these; else None.
      ratings: what the model says of it, where it was chosen by that; else None.
    """

    text: str
    score: float
    finished: bool
    tokens: list[int]
    samples: Sequence["TextGeneration"] = ()
    votes: int | None = None
    ratings: Ratings | None = None


# What votes are counted of: the number of a prompt and a text for it, to an answer.
AnswerOf = Callable[[int, str], Any]


def generate_text(
    model: Decodes,
    params: Any,
    codec: TextCodec,
    texts: Sequence[str],
    **arguments: Any,
) -> list[TextGeneration]:
    """Continues or answers every text, in order; the other arguments are `answer_prompts`'."""
    prompts = [codec.encode(text) for text in checked_texts(texts, "texts")]
    return answer_prompts(model, params, codec, prompts, **arguments)


def answer_prompts(
    model: Decodes,
    params: Any,
    codec: TextCodec,
    prompts: Sequence[Tokens],
    *,
    config: GenerationConfig,
    batch_size: int = 8,
    first_row: int = 0,
    rows: Sequence[int] | None = None,
    decoding_params: Any = None,
    progress: Callable[[int], None] | None = None,
    answer_of: AnswerOf = lambda number, text: text,
    journal: Journal = NO_JOURNAL,
) -> list[TextGeneration]:
    """The text for each prompt, in order; the arguments are those of `generate`.

    Args:
      model: a `Decodes`.
      params: its parameters.
      codec: of the task.
      prompts: token ids, as `codec.encode` gives them.
      config: how text is generated.
      batch_size: texts decoded together.
      first_row: index of the first prompt.
      rows: see `generate`.
      decoding_params: see `generate`.
      progress: called with the number of texts done after each batch.
      answer_of: where samples vote, what each has to say.
      journal: of results of batches that are known.

    Raises:
      UserError: as `generate`; or one of `config.eos_ids` that the model has not.
    """
    for token in config.eos_ids:
        if token >= model.vocab_size:
            raise UserError(
                f"eos_ids has {token}, but the ids of the model end with {model.vocab_size - 1}."
            )
    stop = codec.stop(config.stop_strings)
    found = generate(
        model,
        params,
        prompts,
        max_new_tokens=config.max_new_tokens,
        strategy=config.strategy,
        eos_id=tuple(dict.fromkeys((*codec.end_ids, *config.eos_ids))),
        bos_id=codec.start_id,
        bidirectional_prompt=codec.bidirectional_prompt,
        seed=config.seed,
        batch_size=batch_size,
        first_row=first_row,
        rows=rows,
        min_new_tokens=config.min_new_tokens,
        repetition_penalty=config.repetition_penalty,
        stop=stop,
        samples=config.samples,
        decoding_params=decoding_params,
        progress=progress,
        journal=journal,
    )

    def as_text(prompt: Tokens, one: Generation) -> TextGeneration:
        text = codec.decode_after(prompt, one.tokens)
        before = None if stop is None else stop.cut(text)
        return TextGeneration(
            text if before is None else before, one.score, one.finished, one.tokens
        )

    every = [as_text(prompts[i // config.samples], one) for i, one in enumerate(found)]
    if isinstance(config.choice, SampleAndRank):
        each = [every[i : i + config.samples] for i in range(0, len(every), config.samples)]
        rank = config.choice
        return ranked(
            model, params, codec, prompts, each, rank, batch_size=batch_size, journal=journal
        )
    if config.samples == 1:
        return every
    answers = []
    for number in range(len(prompts)):
        drawn = slice(number * config.samples, (number + 1) * config.samples)
        texts = every[drawn]
        votes = None
        if config.choice == "vote":
            chosen, votes = majority([answer_of(number, one.text) for one in texts])
        else:
            chosen = likeliest(found[drawn])
        answers.append(dataclasses.replace(texts[chosen], samples=texts, votes=votes))
    return answers


def ranked(
    model: Decodes,
    params: Any,
    codec: TextCodec,
    prompts: Sequence[Tokens],
    found: Sequence[Sequence[TextGeneration]],
    rank: SampleAndRank,
    *,
    batch_size: int = 8,
    journal: Journal = NO_JOURNAL,
) -> list[TextGeneration]:
    """Of each prompt's texts the best by the model's own judgement, with all of them as samples.

    Args:
      model: a `Decodes`.
      params: its parameters.
      codec: of the task.
      prompts: token ids, as `codec.encode` gives them.
      found: one text or more for each prompt.
      rank: by what they are judged.
      batch_size: texts judged together.
      journal: of results of batches that are known.
    """
    contexts = [
        codec.continued(prompt, one.text)
        for prompt, own in zip(prompts, found, strict=True)
        for one in own
    ]
    judged = rank.judged(
        model,
        params,
        contexts,
        encode=codec.read.vocabulary.encode,
        encode_rating=codec.targets.vocabulary.encode,
        end=codec.end_of_inputs,
        bos_id=codec.start_id,
        bidirectional=codec.bidirectional_prompt,
        batch_size=batch_size,
        journal=journal,
    )
    answers = []
    for own in found:
        ratings, judged = judged[: len(own)], judged[len(own) :]
        rated = [
            dataclasses.replace(one, ratings=said) for one, said in zip(own, ratings, strict=True)
        ]
        best = rank.best(ratings)
        # Nobody has written the fallback: its score is that of no token.
        taken = TextGeneration(rank.fallback, 0.0, True, []) if best is None else rated[best]
        answers.append(dataclasses.replace(taken, samples=rated))
    return answers
