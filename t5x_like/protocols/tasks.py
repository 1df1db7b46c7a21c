"""What the engine asks of a task, its vocabularies and its objective."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from t5x_like.protocols.models import Example


@runtime_checkable
class Objective(Protocol):
    """What a tokenized example is turned into afresh in every epoch, in pure NumPy.

    Attributes:
      reads: features that it takes from the cache.
      writes: features that it gives, int32 `[length]` without EOS.
      document_eos: whether EOS ends every document before documents are joined, and so
        none ends the objective's features.

    Where the tokens of a feature do not stand at 0, 1, 2, … its name is in `positioned`, a
    tuple that other objectives need not have, and the objective gives `NAME_positions` too.
    One that compares a text with another, drawn anywhere in the split, has `draws_other = True`,
    and finds `other_NAME` for each feature that it reads. One whose `targets` are the whole text,
    token by token, has `targets_are_text = True`: their loss can be told per byte. What it writes
    beyond a task's output features (weights, types, labels) goes to the batch format as it is.
    One whose result depends on how long rows may be has `of_length(task_feature_lengths)`, which
    gives the objective for these. One that labels texts has `texts`, the features that it reads
    of these, and needs nothing else to make a row; `excess(example)` counts tokens without room.
    One for encoders whose examples have no labels has `row_of_text(ids)`, for a text at hand.
    One that hands on what it reads as it is, and gives more, has `keeps_texts = True`. One that is
    given the pairs of words that stand near one another has `counts_pairs = True`, and says which
    as `data.cooccurrence.Counting`. One whose documents stand between two tokens of their ends has
    `document_ends = 2`: so many EOS end every document before documents are joined. One of pieces
    that needs a text of some length has `shortest_text`, in tokens. One of documents that may stay
    whole has `text_length(task_feature_lengths)`, the most tokens of one whose rows fit: longer
    ones are cut to it, or split, before.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    document_eos: bool

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """What the model is shown; the same `rng` state gives the same."""

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """Tokens of the pieces into which joined documents are cut; None keeps documents."""


class Vocabulary(Protocol):
    """Text to ids and back, without TensorFlow.

    0 pads. A vocabulary in which 0 is a token all the same has `zero_is_token = True`, and
    batches then tell tokens from padding by loss weights and segment ids, not by value.

    Generated text ends with `eos_id`, or with one of `further_eos_ids` where a vocabulary has them.
    A decoder's rows, and every segment of packed rows, begin with `start_id`; 0 where a
    vocabulary has no such attribute.
    """

    vocab_size: int  # with the extra (sentinel) ids, which are the highest
    extra_ids: int
    eos_id: int
    unk_id: int | None

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, up to the first EOS."""

    def spec(self) -> dict[str, Any]:
        """JSON for `task.json`: kind, sizes, ids, file and its SHA-256.

        `start_id` is among the ids where the vocabulary has one, and its `start_token`, the
        setting that names it, beside it.
        """


def vocabulary_differences(vocabulary: Vocabulary, other: Vocabulary) -> list[str]:
    """What another vocabulary has otherwise, in words; nothing where both read the same tokens.

    Files of the same bytes are one, wherever they are.

    Args:
      vocabulary: that is wanted.
      other: that is there.
    """
    wanted, found = vocabulary.spec(), other.spec()
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if wanted.get("sha256") is not None and "sha256" not in names:
        names = [name for name in names if name != "file"]
    return [f"{name} {found.get(name)!r}, not {wanted.get(name)!r}" for name in names]


class Feature(Protocol):
    """One output feature of a task.

    One whose `keeps` is "end" loses its beginning where a text is too long, and others, with
    "beginning" or without the attribute, their end, as in seqio.
    """

    vocabulary: Vocabulary
    add_eos: bool


class InputsForm(Protocol):
    """How a task's inputs are written of a row's columns.

    Attributes:
      input_columns: names of the columns.
      inputs_begin: what every input begins with; "" where that is a column's text.
    """

    @property
    def input_columns(self) -> Sequence[str]:
        """See above."""

    @property
    def inputs_begin(self) -> str:
        """See above."""

    def inputs_of(self, row: Mapping[str, Any]) -> str:
        """The inputs of a row with these columns."""


class FewShot(Protocol):
    """How worked examples stand before what a model is asked; `tasks.forms.FewShot` says more.

    Attributes:
      separator: between what a prompt is made of.
      description: in front; `{group}` stands for the row's.
      delimiter: between the inputs and the targets of an example.
      examples: texts that are always the same; none where they are drawn.
      split: of which they are drawn.
      order: "drawn", or "first".
      stop: what ends an answer.
    """

    separator: str
    description: str
    delimiter: str
    examples: tuple[str, ...]
    split: str
    order: str
    stop: tuple[str, ...]


class Task(Protocol):
    """What is learned from; `tasks` declares them, free of TensorFlow until asked.

    Attributes:
      name: as registered with seqio.
      cache_name: folder under the cache directory, to which the engine adds the fingerprint's
        first digits; tasks that differ only in their objective share it.
      output_features: what a model is given, after the objective.
      metric_fns: `(targets, predictions) -> {name: value}`.

    A task whose objective has `positioned` has the same, known without vocabularies. One whose
    inputs are written of columns has `inputs_form`, an `InputsForm` or None; one whose prompts may
    have examples has `few_shot`, a `FewShot`. One that labels texts
    has `tokenized(feature, text)`, which gives what its cache holds of these, and `listed`,
    features that are lists of texts, to "words" where they are those of one text. One whose source
    is in files has `check_files()`, which raises `OSError` where one of them, or a vocabulary's, is
    not on this machine, and reads nothing of the source.
    """

    name: str
    cache_name: str
    output_features: Mapping[str, Feature]
    metric_fns: Sequence[Callable[[Sequence[Any], Sequence[Any]], Mapping[str, float]]]

    @property
    def tasks(self) -> Sequence[tuple["Task", float]]:
        """The task itself with rate 1, as a mixture lists its tasks."""

    @property
    def example_features(self) -> tuple[str, ...]:
        """What every example has after the objective: output features, and weights and labels."""

    def objective(self, vocabularies: Mapping[str, Mapping[str, Any]]) -> Objective | None:
        """The objective for these vocabularies (specs as in `task.json`), if there is one.

        Taking the specs and not the vocabularies, it needs no tokenizer installed.
        """

    def postprocess(self, text: str, example: Mapping[str, Any], is_target: bool) -> Any:
        """Decoded text to what the metrics compare."""

    def fingerprint(self) -> str:
        """Hex digest of everything that decides the cache: source, vocabularies, preprocessing."""

    @property
    def source_is_local(self) -> bool:
        """Whether `train` may build a missing cache by itself."""

    def seqio(self) -> Any:
        """The `seqio.Task`; imports seqio, and so TensorFlow."""


class Mixture(Protocol):
    """Tasks with the rates at which their examples are drawn."""

    name: str
    tasks: Sequence[tuple[Task, float]]
