"""Words and what stands near them: batches of word vectors' models."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_like.data.formats.batch_format import BoundFormat, DerivedFormat, TaskFacts
from t5x_like.data.formats.rows import (
    Item,
    Layout,
    ModelBatch,
    Row,
    companion,
    layout,
    row_continues,
)

# Characters of a word with the marks of its ends, as in ELMo's released code.
LONGEST_WORD = 50
# Digits that a word's code may have, as in word2vec's released code.
LONGEST_PATH = 40
_PATHS = ("path_nodes", "path_signs")
_TYPES, _PLACES, _BEGINS = "token_types", "word_places", "word_begins"


@dataclasses.dataclass(frozen=True)
class WordWindows:
    """Words with their windows, and what they are told from (Mikolov et al. 2013b).

    The objective gives `targets`, and for each of these words `segments`, the number of its
    document from 1, and `windows`, how many words to each side are its context. The batch, int32:

    * `encoder_input_tokens`, `encoder_segment_ids`, `word_windows` `[rows, length]`, 0 where there
      is no word;
    * without `paths`, `noise_tokens` `[rows, length]`: words drawn at random, of which those at
      places i to j are for the words at i to j;
    * with `paths`, `path_nodes` and `path_signs` `[rows, length, LONGEST_PATH]`: the nodes on each
      word's way through a tree, and 1 or -1 for where it goes, 0 beyond its end.

    Attributes:
      paths: which of the two.
    """

    paths: bool

    task_features: ClassVar[tuple[str, ...]] = ("targets",)
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    @property
    def reads(self) -> tuple[str, ...]:
        """See `BatchFormat`."""
        return ("targets", "segments", "windows", *(_PATHS if self.paths else ("noise",)))

    def bind(self, facts: TaskFacts) -> "BoundWordWindows":
        """See `BatchFormat`."""
        return BoundWordWindows(self.paths)


@dataclasses.dataclass(frozen=True)
class BoundWordWindows:
    """`WordWindows` for a task."""

    paths: bool

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The words of a row."""
        return (lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the words; what goes with each of them; the noise as a label."""
        names = ("segments", "windows", *(_PATHS if self.paths else ()))
        return Item(
            (example["targets"],),
            companions={name: example[name] for name in names},
            labels={} if self.paths else {"noise": example["noise"]},
        )

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `WordWindows`."""
        length = lengths["targets"]
        laid_out = layout(rows, 0, length)
        batch = {
            "encoder_input_tokens": laid_out.tokens,
            "encoder_segment_ids": companion(rows, "segments", laid_out.filled),
            "word_windows": companion(rows, "windows", laid_out.filled),
        }
        if not self.paths:
            batch["noise_tokens"] = np.zeros((len(rows), length), np.int32)
            for i, row in enumerate(rows):
                for item in row:
                    noise = item.labels["noise"][:length]
                    batch["noise_tokens"][i, : noise.size] = noise
            return batch
        for name in _PATHS:
            batch[name] = np.zeros((len(rows), length, LONGEST_PATH), np.int32)
            for i, row in enumerate(rows):
                for item in row:
                    table = item.companions[name][:length]
                    batch[name][i, : table.shape[0], : table.shape[1]] = table
        return batch


@dataclasses.dataclass(frozen=True)
class Cooccurrences:
    """Pairs of words, and how often they meet (Pennington et al. 2014).

    The objective gives `targets`, `contexts` and `cooccurrences`, equally long. The batch:
    `encoder_input_tokens` and `context_tokens`, int32, and `cooccurrences`, float32, 0 where there
    is no pair, `[rows, length]` each.
    """

    task_features: ClassVar[tuple[str, ...]] = ("targets",)
    reads: ClassVar[tuple[str, ...]] = ("targets", "contexts", "cooccurrences")
    may_read: ClassVar[tuple[str, ...]] = ()
    packs: ClassVar[bool] = False
    contiguous: ClassVar[bool] = False
    prompts: ClassVar[None] = None

    def bind(self, facts: TaskFacts) -> "BoundCooccurrences":
        """See `BatchFormat`."""
        return BoundCooccurrences()


@dataclasses.dataclass(frozen=True)
class BoundCooccurrences:
    """`Cooccurrences` for a task."""

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The pairs of a row."""
        return (lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the words; their contexts and counts."""
        names = ("contexts", "cooccurrences")
        return Item((example["targets"],), companions={name: example[name] for name in names})

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `Cooccurrences`."""
        laid_out = layout(rows, 0, lengths["targets"])
        return {
            "encoder_input_tokens": laid_out.tokens,
            "context_tokens": companion(rows, "contexts", laid_out.filled),
            "cooccurrences": companion(rows, "cooccurrences", laid_out.filled, np.float32),
        }


@dataclasses.dataclass(frozen=True)
class SpelledWords:
    """Words by their characters, and what stands before and after each (Peters et al. 2018).

    The objective gives `targets`, words with what begins and ends each text, and as long as these
    `characters` `[t, LONGEST_WORD]`, `segments`, the number of each word's document from 1, and
    `loss_weights`, 0 where a word is read and not predicted. The batch, int32:

    * `encoder_characters` `[rows, length, LONGEST_WORD]`, 0 where there is no word;
    * `encoder_input_tokens`, the words, `encoder_loss_weights` and `encoder_segment_ids` `[rows,
      length]`; documents of a row have different numbers, which need not follow one another;
    * of contiguous rows also `row_continues` `[rows]`, 0 where a text begins.

    Rows that continue one another are read as one text: what would stand around a text where it was
    cut, of weight 0, is left out, but before the first piece of a track. A row that begins where a
    document does begins anew. A word of several tokens that is cut
    through is in neither row, or without letters where the cut is after its first token.

    Attributes:
      contiguous: whether rows continue those of the batch before.
    """

    contiguous: bool = False

    task_features: ClassVar[tuple[str, ...]] = ("targets",)
    reads: ClassVar[tuple[str, ...]] = ("targets", "characters", "segments", "loss_weights")
    may_read: ClassVar[tuple[str, ...]] = ()
    prompts: ClassVar[None] = None
    # The format of a text at hand, which is whole.
    of_texts: ClassVar[str] = "spelled_words"

    @property
    def packs(self) -> bool:
        """See `BatchFormat`."""
        return not self.contiguous

    def bind(self, facts: TaskFacts) -> "BoundSpelledWords":
        """See `BatchFormat`."""
        return BoundSpelledWords(self.contiguous)


@dataclasses.dataclass(frozen=True)
class BoundSpelledWords:
    """`SpelledWords` for a task."""

    contiguous: bool = False

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The words of a row."""
        return (lengths["targets"],)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """One part, the words; what goes with each of them; whether it continues the row before."""
        targets = example["targets"]
        # The targets may be trimmed; what goes with each of them is not.
        names = ("characters", "segments", "loss_weights")
        given = {name: example[name][: targets.size] for name in names}
        if not self.contiguous:
            return Item((targets,), companions=given)
        weights, before = given["loss_weights"].copy(), example.get("before")
        # A text begins with the token that ends the one before it.
        if before is not None and before == targets[0]:
            weights[0] = 1
        given["loss_weights"] = weights
        continues = before is not None and weights[0] == 0
        kept = slice(int(continues), targets.size - int(weights[-1] == 0))
        return Item(
            (targets[kept],),
            companions={name: array[kept] for name, array in given.items()},
            labels={"continues": np.asarray(continues, np.int32)},
        )

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `SpelledWords`."""
        laid_out = layout(rows, 0, lengths["targets"])
        characters = _characters(rows, laid_out)
        # An item has no more documents than words.
        numbers = (laid_out.segment_ids - 1) * lengths["targets"]
        segments = companion(rows, "segments", laid_out.filled)
        batch = {
            "encoder_characters": characters,
            "encoder_input_tokens": laid_out.tokens,
            "encoder_loss_weights": companion(rows, "loss_weights", laid_out.filled),
            "encoder_segment_ids": np.where(laid_out.filled, numbers + segments, 0),
        }
        if self.contiguous:
            batch["row_continues"] = row_continues(rows)
        return batch


@dataclasses.dataclass(frozen=True)
class OfSpelledWords(DerivedFormat):
    """What a format of labelled texts has, for a model that reads words by their characters.

    The objective gives `inputs`, words, `characters` `[t, LONGEST_WORD]`, as long as these, and
    what the format reads beside its own tokens' types. The batch is the format's, without types,
    and with `encoder_characters`, int32 `[rows, length, LONGEST_WORD]`, 0 where there is no word;
    of tagged words `word_begins` says where one stands, tagged or not, `[rows, length]`.

    Attributes:
      format: of texts with labels, or of tagged words.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """See `BatchFormat`."""
        return (*(name for name in self.format.reads if name != _TYPES), "characters")

    def bind(self, facts: TaskFacts) -> "BoundOfSpelledWords":
        """See `BatchFormat`."""
        return BoundOfSpelledWords(self.format.bind(facts), _PLACES in self.format.reads)


@dataclasses.dataclass(frozen=True)
class BoundOfSpelledWords:
    """`OfSpelledWords` for a task.

    Attributes:
      format: of an encoder.
      tagged: whether its words have tags.
    """

    format: BoundFormat
    tagged: bool

    def capacities(self, lengths: Mapping[str, int]) -> tuple[int, ...]:
        """The words of a row."""
        return self.format.capacities(lengths)

    def item(self, example: Mapping[str, np.ndarray]) -> Item:
        """The format's, with the characters of each word."""
        words = example["inputs"]
        made = self.format.item({**example, _TYPES: np.zeros_like(words)})
        more = {"characters": example["characters"][: words.size]}
        if self.tagged:
            places = example[_PLACES]
            more[_BEGINS] = np.zeros_like(words)
            more[_BEGINS][places[places >= 0]] = 1
        return made._replace(companions={**made.companions, **more})

    def batch(self, rows: Sequence[Row], lengths: Mapping[str, int], pack: bool) -> ModelBatch:
        """See `OfSpelledWords`."""
        batch = self.format.batch(rows, lengths, pack)
        del batch["encoder_token_types"]
        laid_out = layout(rows, 0, lengths["inputs"])
        batch["encoder_characters"] = _characters(rows, laid_out)
        if self.tagged:
            batch[_BEGINS] = companion(rows, _BEGINS, laid_out.filled)
        return batch


def _characters(rows: Sequence[Row], laid_out: Layout) -> np.ndarray:
    """The characters of each word, int32 `[rows, length, LONGEST_WORD]`."""
    characters = np.zeros((*laid_out.filled.shape, LONGEST_WORD), np.int32)
    pieces = [item.companions["characters"] for row in rows for item in row]
    if pieces:
        characters[laid_out.filled] = np.concatenate(pieces)
    return characters
