"""Words with their contexts: what word2vec learns from."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from tasks.errors import TaskError
from tasks.objectives.objective import BoundObjective, Example, VocabularySpecs, feature_length
from tasks.objectives.word_counts import (
    Subsampling,
    huffman_paths,
    keep_probabilities,
    noise_distribution,
    word_counts,
)

Contrast = Literal["noise", "paths"]


@dataclasses.dataclass(frozen=True)
class ContextWindows:
    """The words of a text, each with a window of its own drawn width (Mikolov et al. 2013a, 2013b).

    What is no word (the end of a document, words that are not in the vocabulary) is left out, and
    so are frequent words at random, before windows are drawn: they reach over the gaps, and never
    over the end of a document.

    Attributes:
      window: widest window, in words to each side; widths are drawn evenly from 1 to this.
      subsample: threshold of the shares above which words are left out at random; 0 keeps all.
      subsampling: "released", as the released code and gensim, or "paper"; see
        `word_counts.keep_probabilities`. They differ by `t / f`.
      contrast: what words are told from: "noise", words drawn at random, or "paths", their ways
        through a Huffman tree.
      noise_exponent: of the counts that noise is drawn by.
    """

    window: int = 5
    subsample: float = 1e-3
    subsampling: Subsampling = "released"
    contrast: Contrast = "noise"
    noise_exponent: float = 0.75

    output_features: ClassVar[tuple[str, ...]] = ("targets",)
    adds_eos: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if type(self.window) is not int or self.window < 1:
            raise TaskError(
                f"ContextWindows.window is {self.window}: a whole number of 1 or more is needed."
            )
        if not 0 <= self.subsample < 1:
            raise TaskError(
                f"ContextWindows.subsample is {self.subsample}: a share below 1 is needed, or 0."
            )
        for name, kinds in (("subsampling", Subsampling), ("contrast", Contrast)):
            choices = kinds.__args__  # type: ignore[attr-defined]
            if getattr(self, name) not in choices:
                raise TaskError(
                    f"ContextWindows.{name} is {getattr(self, name)!r}: {' or '.join(choices)}."
                )
        if not math.isfinite(self.noise_exponent):
            raise TaskError(
                f"ContextWindows.noise_exponent is {self.noise_exponent}: a number is needed."
            )

    @property
    def writes(self) -> tuple[str, ...]:
        """The words, their documents from 1, their windows; and noise, or paths."""
        more = ("noise",) if self.contrast == "noise" else ("path_nodes", "path_signs")
        return ("targets", "segments", "windows", *more)

    def bind(self, specs: VocabularySpecs) -> BoundObjective:
        """With the counts of the vocabulary of `targets`.

        Raises:
          TaskError: it has none.
        """
        spec = specs["targets"]
        counts = word_counts(spec, "ContextWindows")
        kept = keep_probabilities(counts, self.subsample, self.subsampling)
        noise, paths = None, None
        if self.contrast == "noise":
            noise = np.cumsum(noise_distribution(counts, self.noise_exponent))
            noise /= noise[-1]  # 1, that no number is drawn beyond
        else:
            ids = np.flatnonzero(counts)
            tables = huffman_paths(counts[ids])
            paths = tuple(np.zeros((counts.size, table.shape[1]), np.int32) for table in tables)
            for table, of_words in zip(paths, tables, strict=True):
                table[ids] = of_words
        share = float((counts / counts.sum() * kept).sum())
        return BoundContextWindows(
            self.window, kept.astype(np.float32), share, int(spec["eos_id"]), noise, paths, 0
        )


@dataclasses.dataclass(frozen=True, eq=False)
class BoundContextWindows:
    """`ContextWindows` with a vocabulary's counts.

    Attributes:
      window: see `ContextWindows`.
      kept: probability of each id to stay, float32; 0 of what is no word.
      share: of the words that stay, in the text that was counted.
      eos_id: what ends a document.
      noise: cumulated probabilities of the ids; None with paths.
      paths: nodes and signs of each id's path, int32 `[ids, longest]`; None with noise.
      row: words of a row.
    """

    window: int
    kept: np.ndarray
    share: float
    eos_id: int
    noise: np.ndarray | None
    paths: tuple[np.ndarray, ...] | None
    row: int

    reads: ClassVar[tuple[str, ...]] = ("targets",)
    document_eos: ClassVar[bool] = True

    @property
    def writes(self) -> tuple[str, ...]:
        """See `ContextWindows.writes`."""
        more = ("noise",) if self.paths is None else self.tables
        return ("targets", "segments", "windows", *more)

    @property
    def tables(self) -> tuple[str, ...]:
        """What has rank 2."""
        return () if self.paths is None else ("path_nodes", "path_signs")

    @property
    def shortest_text(self) -> int:
        """A word and the widest window to one side."""
        return self.window + 1

    def of_length(self, task_feature_lengths: Mapping[str, int]) -> "BoundContextWindows":
        """The objective for rows of so many words."""
        return dataclasses.replace(self, row=feature_length(task_feature_lengths, "targets"))

    def chunk_length(self, task_feature_lengths: Mapping[str, int]) -> int:
        """So much text that what stays of it nearly fills a row, and seldom more."""
        row = feature_length(task_feature_lengths, "targets")
        if row <= self.window:
            raise TaskError(
                f"TASK_FEATURE_LENGTHS['targets'] is {row}, and ContextWindows.window "
                f"{self.window}: a row must be longer than a window."
            )
        # Two standard deviations of the number of words that stay.
        spread = 2 * math.sqrt(row * (1 - self.share))
        return max(row, int((row - spread) / self.share))

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """`targets` int32 `[t]` to `ContextWindows.writes`.

        Returns:
          `targets`, `segments` and `windows`, int32 `[n]`, at most a row; `noise`, int32 `[row]`,
          or `path_nodes` and `path_signs`, int32 `[n, longest]`.
        """
        ids = np.asarray(example["targets"], np.int32)
        segments = np.cumsum(ids == self.eos_id, dtype=np.int32) + np.int32(1)
        stays = rng.random(ids.size, np.float32) < self.kept[ids]
        words, segments = ids[stays][: self.row], segments[stays][: self.row]
        windows = rng.integers(1, self.window + 1, words.size, np.int32)
        made = {"targets": words, "segments": segments, "windows": windows}
        if self.noise is not None:
            drawn = self.noise.searchsorted(rng.random(self.row), "right")
            made["noise"] = drawn.astype(np.int32)
        else:
            assert self.paths is not None
            for name, table in zip(self.tables, self.paths, strict=True):
                made[name] = table[words]
        return made
