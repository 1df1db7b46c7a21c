"""Options ranked by how likely a model finds them after a context, in text."""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from t5x_like.decoding.continuations import (
    ContinuationScore,
    room_for_context,
    score_continuations,
)
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.text import TextCodec
from t5x_like.errors import UserError
from t5x_like.host.journal import NO_JOURNAL, Journal
from t5x_like.protocols import Decodes, Vocabulary

Contexts = Literal["text", "inputs"]
Normalization = Literal["sum", "per_token", "per_character", "per_byte", "unconditional"]
# What GPT-3 compares answers by (Brown et al. 2020, section 2.4).
ANSWER = "Answer: "


@dataclasses.dataclass(frozen=True)
class Reading:
    """How contexts and options become tokens.

    Attributes:
      contexts: "text": a decoder reads context and option as one text, in one direction, as the
        papers on language models do: both are encoded together and cut at the context's length, so
        that a token may not cover the boundary but sees what is before it. "inputs": the context is
        read as the task's inputs are, encoded by itself, with their end token, in both directions
        where training does so, and by the encoder where there is one; the option is the target,
        without the white space before it.
      start_token: whether a decoder reads the vocabulary's start token before a text, as it does in
        training. An empty text always has it.
      end_token: whether each option ends with the end token, whose probability then counts.
    """

    contexts: Contexts = "text"
    start_token: bool = True
    end_token: bool = False

    def __post_init__(self) -> None:
        if self.contexts not in typing.get_args(Contexts):
            raise UserError(f"contexts is {self.contexts!r}: give 'text' or 'inputs'.")

    def of_model(self, model: Decodes) -> "Reading":
        """The same, of inputs where an encoder reads them."""
        if prompts_of(model).needs_inputs:
            return dataclasses.replace(self, contexts="inputs")
        return self

    def told(self, model: Decodes, codec: TextCodec) -> str:
        """How a model reads contexts, for a record and for a person."""
        direction = "causally"
        if prompts_of(model).needs_inputs:
            direction = "by the encoder"
        elif self.contexts == "inputs" and codec.bidirectional_prompt:
            direction = "as a prefix"
        parts = [f"contexts read as {self.contexts} {direction}"]
        parts += ["without start token"] * (not self.start_token)
        parts += ["with end token"] * self.end_token
        return " ".join(parts)


@dataclasses.dataclass(frozen=True)
class OptionScores:
    """The log-likelihoods of one question's options, natural, float64 `[options]`.

    Attributes:
      sums: of all tokens of each.
      tokens: how many those are, int64.
      characters: of each option, without the white space before it.
      bytes: of the same in UTF-8.
      unconditional: without the question, after `Answer: ` or the like; None where not asked for.
    """

    sums: np.ndarray
    tokens: np.ndarray
    characters: np.ndarray
    bytes: np.ndarray
    unconditional: np.ndarray | None = None

    @property
    def normalized(self) -> dict[str, np.ndarray]:
        """By each normalization: what options are ranked by, the highest first.

        "sum" and "per_character" are `acc` and `acc_norm` of lm-evaluation-harness, "per_byte" its
        `acc_bytes`; "per_token" and "unconditional", the sum less that of the option after
        `Answer: `, are GPT-3's (Brown et al. 2020, section 2.4).
        """
        found = {
            "sum": self.sums,
            "per_token": self.sums / self.tokens,
            "per_character": self.sums / self.characters,
            "per_byte": self.sums / self.bytes,
        }
        if self.unconditional is not None:
            found["unconditional"] = self.sums - self.unconditional
        return found

    def best(self, normalization: str) -> int:
        """The number of the likeliest option; of equal ones the first."""
        return int(np.argmax(self.normalized[normalization]))


@dataclasses.dataclass(frozen=True)
class Question:
    """One context and its options, or as many contexts as options and what follows each.

    Attributes:
      contexts: of each option, or one of all.
      continuations: of each option, with what stands before it, or one after all contexts.
    """

    contexts: Sequence[str]
    continuations: Sequence[str]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Context and continuation of each option."""
        count = max(len(self.contexts), len(self.continuations))
        contexts, continuations = (
            list(texts) * (count if len(texts) == 1 else 1)
            for texts in (self.contexts, self.continuations)
        )
        return list(zip(contexts, continuations, strict=True))


class PairRefused(UserError):
    """A context and continuation that cannot be scored.

    Attributes:
      pair: its number, from 0; pairs after the unconditional context come after all others.
    """

    def __init__(self, pair: int, reason: str) -> None:
        super().__init__(reason)
        self.pair = pair


@dataclasses.dataclass
class Cut:
    """Contexts that lose their beginning: they are longer than what can be read.

    Attributes:
      contexts: how many were seen, those of each option by itself.
      cut: how many of them lose something.
      longest: tokens of the longest.
    """

    contexts: int = 0
    cut: int = 0
    longest: int = 0

    def see(self, length: int, room: int) -> None:
        """One context of so many tokens, with room for so many."""
        self.contexts += 1
        if length > room:
            self.cut += 1
            self.longest = max(self.longest, length)

    def __str__(self) -> str:
        return (
            f"{self.cut:,} of {self.contexts:,} contexts lose their beginning, which the model has "
            f"no room for: the longest has {self.longest:,} tokens."
        )


def score_options(
    model: Decodes,
    params: Any,
    codec: TextCodec,
    questions: Sequence[Question],
    reading: Reading = Reading(),
    *,
    unconditional_context: str | None = None,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
    journal: Journal = NO_JOURNAL,
) -> tuple[list[OptionScores], Cut]:
    """The log-likelihoods of every question's options.

    A context is read once for all its options, and options of similar length share a batch.

    Args:
      model: a `Decodes`.
      params: its parameters.
      codec: of the task.
      questions: each with one option or more.
      reading: how they become tokens.
      unconditional_context: after which options are scored once more; None for not at all.
      batch_size: options scored together.
      progress: called with the number of options done after each batch.
      journal: of results of batches that are known.

    Returns:
      For each question its scores; and what became of long contexts.

    Raises:
      PairRefused: an option without text or tokens, or longer than the model.
    """
    pairs = [pair for question in questions for pair in question.pairs]
    for number, (context, option) in enumerate(pairs):
        if not option.strip():
            raise PairRefused(number, f"an option after '{_end(context)}' has no text.")
    count = len(pairs)
    if unconditional_context is not None:
        pairs += [_after(unconditional_context, option) for _, option in pairs]
    scores, cut = score_pairs(
        model,
        params,
        codec,
        pairs,
        reading,
        batch_size=batch_size,
        progress=progress,
        journal=journal,
    )
    results = []
    first = 0
    for question in questions:
        own = slice(first, first + len(question.pairs))
        texts = [option.lstrip() for _, option in question.pairs]
        results.append(
            OptionScores(
                sums=np.array([one.total for one in scores[:count][own]]),
                tokens=np.array([len(one.tokens) for one in scores[:count][own]]),
                characters=np.array([len(text) for text in texts]),
                bytes=np.array([len(text.encode("utf-8")) for text in texts]),
                unconditional=None
                if unconditional_context is None
                else np.array([one.total for one in scores[count:][own]]),
            )
        )
        first = own.stop
    return results, cut


def score_pairs(
    model: Decodes,
    params: Any,
    codec: TextCodec,
    pairs: Sequence[tuple[str, str]],
    reading: Reading,
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
    journal: Journal = NO_JOURNAL,
    never_first: Sequence[int] = (),
) -> tuple[list[ContinuationScore], Cut]:
    """The log-likelihood of each text given the context before it.

    Args:
      model: a `Decodes`.
      params: its parameters.
      codec: of the task.
      pairs: context and continuation; equal contexts are read once.
      reading: how they become tokens.
      batch_size: continuations scored together.
      progress: called with the number of pairs done after each batch.
      journal: of results of batches that are known.
      never_first: see `score_continuations`.

    Returns:
      A score for each pair; and what became of long contexts.

    Raises:
      PairRefused: a continuation that adds no token to its context, or is longer than the model.
    """
    encode = OptionEncoder(model, codec, reading := reading.of_model(model))
    encoded = []
    for number, pair in enumerate(pairs):
        try:
            encoded.append(encode(*pair))
        except UserError as error:
            raise PairRefused(number, str(error)) from None
    scores = score_continuations(
        model,
        params,
        encoded,
        bos_id=encode.start_id,
        bidirectional=codec.bidirectional_prompt and reading.contexts == "inputs",
        batch_size=batch_size,
        progress=progress,
        journal=journal,
        never_first=never_first,
    )
    return scores, encode.cut


def _after(context: str, option: str) -> tuple[str, str]:
    """A context before an option, with one white space between them and not two."""
    return (context.rstrip() if option[:1].isspace() else context), option


class OptionEncoder:
    """Contexts and options in text to token ids, without start token unless they need it.

    Attributes:
      cut: what became of long contexts.
      start_id: what is put before every context; None for nothing.
    """

    def __init__(self, model: Decodes, codec: TextCodec, reading: Reading) -> None:
        self._model, self._codec, self._reading = model, codec, reading
        self._vocabulary = codec.targets.vocabulary
        self._known: dict[str, list[int]] = {}
        self._by_encoder = prompts_of(model).needs_inputs
        self._as_inputs = reading.contexts == "inputs" and codec.inputs is not None
        self.start_id = codec.start_id if reading.start_token or self._by_encoder else None
        self.cut = Cut()

    def __call__(self, context: str, option: str) -> tuple[list[int], list[int]]:
        """The tokens of a context, as many of the last as there is room for, and of an option."""
        before, tokens = self._whole(context, option)
        room = self._room(len(tokens))
        room = len(before) if room is None else room
        self.cut.see(len(before), room)
        return before[len(before) - min(room, len(before)) :], tokens

    def spare(self, question: Question) -> Callable[[str], int | None]:
        """Counts the tokens that are left, with a text put before a question's contexts.

        Below 0 where there are too few; None of a model that reads any number.
        """

        @functools.cache
        def rooms() -> Mapping[str, int]:
            found: dict[str, int] = {}
            for context, option in question.pairs:
                room = self._room(len(self._whole(context, option)[1]), self.start_id is not None)
                if room is not None:
                    found[context] = min(room, found.get(context, room))
            return found

        def left(text: str) -> int | None:
            lengths = {context: self._length(text + context) for context in rooms()}
            return min((room - lengths[context] for context, room in rooms().items()), default=None)

        return left

    def _whole(self, context: str, option: str) -> tuple[list[int], list[int]]:
        before, tokens = (self._apart if self._as_inputs else self._together)(context, option)
        if not tokens:
            raise UserError(
                f"option '{option.strip()}' adds no token to the context '{_end(context)}'."
            )
        if self._reading.end_token:
            tokens = [*tokens, self._vocabulary.eos_id]
        if self.start_id is None and not before:
            before = [self._codec.start_id]
        return before, tokens

    def _room(self, option_tokens: int, start_tokens: int = 0) -> int | None:
        """For a context, before an option of so many tokens; None for any number."""
        rooms = [self._codec.input_length] if self._as_inputs else []
        if not self._by_encoder:
            room = room_for_context(self._model, option_tokens)
            rooms.append(None if room is None else room - start_tokens)
        return min((one for one in rooms if one is not None), default=None)

    def _length(self, context: str) -> int:
        inputs = self._codec.inputs
        if self._as_inputs and inputs is not None:
            return len(inputs.vocabulary.encode(context)) + inputs.add_eos
        return len(self._vocabulary.encode(context.rstrip()))

    def _together(self, context: str, option: str) -> tuple[list[int], list[int]]:
        """One text, cut where the context's tokens end; its white space there is the option's."""
        whole = self._vocabulary.encode(context + option)
        before = self._encoded(context.rstrip(), self._vocabulary)
        return before, list(whole[len(before) :])

    def _apart(self, context: str, option: str) -> tuple[list[int], list[int]]:
        """Inputs with their end token, and a target."""
        inputs = self._codec.inputs
        assert inputs is not None
        end = [inputs.vocabulary.eos_id] if inputs.add_eos else []
        before = [*self._encoded(context, inputs.vocabulary), *end]
        return before, list(self._vocabulary.encode(option.lstrip()))

    def _encoded(self, context: str, vocabulary: Vocabulary) -> list[int]:
        """Once for all options of a context."""
        if context not in self._known:
            self._known = {context: list(vocabulary.encode(context))}
        return self._known[context]


def _end(text: str) -> str:
    return text if len(text) <= 60 else f"…{text[-60:]}"
