"""RoBERTa's rows of whole sentences, across the ends of documents or not."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from tasks.objectives.corruptions import SentencePermuter
from tasks.objectives.masked_lm import Boundaries, MaskedLM, Masker, ReadsTexts, longest_text
from tasks.objectives.objective import Example, VocabularySpecs
from tasks.objectives.special_tokens import find_full_stop_ids

Document = Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class PackedSentences(MaskedLM):
    """Masked language modelling of full sentences, as many as a row holds.

    FULL-SENTENCES of Liu et al. 2019, section 4.2: sentences that follow each other, and where a
    document ends, a separator and those of the next one. Without `crosses_documents`
    DOC-SENTENCES: a row ends with its document and may be short; the paper then has more rows in a
    batch, where here the rest of the row is padding. There is no second segment: all types are 0.
    The other two of the four, with next-sentence prediction, are `SentencePairs`.

    Each row is packed from a piece of the stream that is longer, so that what was cut off a
    sentence at either end is left out; the stream is cut anew in each epoch. A sentence that is
    longer than a row loses its end.

    Attributes:
      crosses_documents: whether a row may hold sentences of the next document too.
      full_stop_ids: tokens that end sentences; None takes the vocabulary's tokens of full stops
        alone. For source code the end of a line is a better one (13 in bytes).
    """

    crosses_documents: bool = True
    full_stop_ids: tuple[int, ...] | None = None

    def bind(self, specs: VocabularySpecs) -> "SentencePacker":
        """With the special tokens and full stops of the vocabulary of `targets`.

        Raises:
          TaskError: it lacks some of them.
        """
        spec = specs["targets"]
        stops = find_full_stop_ids(spec, self.full_stop_ids, "PackedSentences")
        return SentencePacker(*self._bound(spec), SentencePermuter(stops), self.crosses_documents)


@dataclasses.dataclass(frozen=True, eq=False)
class SentencePacker(ReadsTexts):
    """Packing with ids; made by `PackedSentences.bind`.

    Attributes:
      mask: hides tokens.
      boundaries: stand around documents.
      cut: knows where sentences end.
      crosses_documents: see `PackedSentences`.
    """

    mask: Masker
    boundaries: Boundaries
    cut: SentencePermuter
    crosses_documents: bool

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    writes: ClassVar[tuple[str, ...]] = PackedSentences.writes
    document_eos: ClassVar[bool] = True

    # Numerator and denominator of a piece's length beside the text of a row. A quarter more is
    # enough to begin with a whole sentence; a whole document that fits in a row is found in twice
    # as much.
    @property
    def _longer(self) -> tuple[int, int]:
        return (5, 4) if self.crosses_documents else (2, 1)

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int | None:
        """A quarter more than fits between [CLS] and [SEP], or twice as much in one document."""
        more, of = self._longer
        return longest_text(task_feature_lengths, 2, "PackedSentences") * more // of

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """A piece of the stream to its fullest row.

        Args:
          example: `targets`, int32 `[t]`.
          rng: of what is hidden.

        Returns:
          `MaskedLM.writes`, int32 `[n]`: n is at most what `chunk_length` was given.
        """
        piece = np.asarray(example["targets"], np.int32)
        more, of = self._longer
        longest = max(1, -(-piece.size * of // more)) + 2
        rows = self.rows(self._documents(piece), longest)
        row = max(rows, key=np.size, default=self.boundaries.row(piece[:0])[0])
        return {**self.mask(row, rng), "token_types": np.zeros_like(row)}

    def rows(self, documents: Iterable[Document], longest: int) -> list[np.ndarray]:
        """Packs sentences, in order, each into the row of the one before it if there is room.

        Args:
          documents: their sentences, each int32 `[t]`.
          longest: tokens of a row, special ones included.

        Returns:
          The rows, int32: `[CLS] sentences [SEP]`, and `[SEP]` between documents.
        """
        rows: list[list[np.ndarray]] = []
        room = 0
        for document in documents:
            begins = True
            for sentence in document:
                sentence = sentence[: longest - 2]
                fits = sentence.size + begins <= room and (self.crosses_documents or not begins)
                if not fits:
                    rows.append([sentence])
                    room = longest - 2 - sentence.size
                elif begins:
                    rows[-1].append(sentence)
                    room -= sentence.size + 1
                else:
                    rows[-1][-1] = np.concatenate([rows[-1][-1], sentence])
                    room -= sentence.size
                begins = False
        return [self.boundaries.row(*parts)[0] for parts in rows]

    def _documents(self, piece: np.ndarray) -> list[Document]:
        """The whole sentences of a piece, by document; where it has none, what there is."""
        (ends,) = np.nonzero(piece == self.boundaries.eos_id)
        parts = [part[part != self.boundaries.eos_id] for part in np.split(piece, ends + 1)]
        documents = [self.cut.sentences(part) if part.size else [] for part in parts]
        whole = [list(document) for document in documents]
        # The piece begins within a sentence, and ends within one unless it has its stop, or is the
        # document's last.
        del whole[0][:1]
        if whole[-1] and whole[-1][-1][-1] not in self.cut.full_stop_ids:
            del whole[-1][-1]
        return [document for document in (whole if any(whole) else documents) if document]
