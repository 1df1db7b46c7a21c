"""A task's examples as the model is to see them: pieces cut, objective drawn, trimmed, with EOS.

Built of grain's map-style datasets, in which everything is a function of an index: which example
stands at which place of which epoch, and the random numbers of its objective.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grain
import numpy as np

from t5x_like.data.cache import layout
from t5x_like.data.cache.reader import CachedExamples
from t5x_like.data.cache.token_stream import TokenStream
from t5x_like.data.cache.vocabularies import start_id_of, vocabulary_specs
from t5x_like.data.config import check_lengths
from t5x_like.data.cooccurrence import Cells, Counting, pair_counts
from t5x_like.data.long_examples import LongExamples, TrimLong, fitted, trimmed_together
from t5x_like.data.mixing import SAMPLED
from t5x_like.data.windows import Windows
from t5x_like.errors import UserError
from t5x_like.protocols import Example, Feature, Objective, Task


def derived_seed(seed: int, *names: str) -> int:
    """A 32-bit seed for one purpose, the same on every machine."""
    digest = hashlib.sha256("/".join([str(seed), *names]).encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "little")


def sample_of(count: int, total: int) -> np.ndarray:
    """Numbers of `count` of `total` examples: one at a drawn place of each of as many equal parts.

    Not each part's middle: of examples that alternate, between two labels or languages, those at
    one distance from each other may all be of one kind. The same numbers whenever it is asked.

    Args:
      count: how many, at most `total`.
      total: examples of the split.

    Returns:
      int64 `[count]`, ascending.
    """
    edges = np.arange(count + 1, dtype=np.int64) * total // max(1, count)
    rng = np.random.Generator(np.random.Philox(key=count, counter=[0, 0, 0, total]))
    return edges[:-1] + (rng.random(count) * np.diff(edges)).astype(np.int64)


class Pieces(grain.MapDataset):
    """A text corpus cut into pieces of equal length, anew in each epoch.

    The documents stand one after the other in a ring, which each epoch cuts at another place;
    so no document is always cut where it was before, and none is always left out at the end.
    An index counts through the epochs, as grain's `repeat` and `shuffle` hand it down.
    """

    def __init__(self, stream: TokenStream, length: int, seed: int | None):
        """Cuts a stream.

        Args:
          stream: the documents.
          length: tokens in a piece; fewer only where the whole corpus is shorter.
          seed: decides where the ring is cut; None starts at its beginning, does not close
            it, and keeps the short piece at the end, as an evaluation wants it.
        """
        super().__init__()
        self._stream, self._length = stream, length
        whole, rest = divmod(len(stream), length)
        self._pieces = whole + (rest > 0) if seed is None else max(1, whole)
        self._rotation = rotations(seed, len(stream)) if seed is not None else None

    def __len__(self) -> int:
        return self._pieces

    def __getitem__(self, index: int) -> Example:
        """`{"targets": int32 [length]}` of a piece."""
        total = len(self._stream)
        epoch, piece = divmod(index, self._pieces)
        start = piece * self._length
        if self._rotation is None:
            return {"targets": self._stream.read(start, min(start + self._length, total))}
        start = (start + self._rotation(epoch)) % total
        stop = start + min(self._length, total)
        if stop <= total:
            return {"targets": self._stream.read(start, stop)}
        parts = self._stream.read(start, total), self._stream.read(0, stop - total)
        return {"targets": np.concatenate(parts)}


def rotations(seed: int, tokens: int) -> Callable[[int], int]:
    """Where each epoch begins in the stream, drawn from the seed.

    A function, because a method that remembers would keep its object, and the files that this
    has open, until Python looks for cycles.
    """

    @functools.lru_cache(maxsize=2)
    def rotation(epoch: int) -> int:
        rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]))
        return int(rng.integers(tokens))

    return rotation


class Records(grain.MapDataset):
    """The cached examples as they are."""

    def __init__(self, examples: CachedExamples):
        super().__init__()
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index % len(self._examples)]


@dataclass(frozen=True)
class Finish:
    """What is done to an example last: the objective, trimming, EOS.

    As seqio's `append_eos_after_trim`, EOS takes the place of the last token where there is
    no room for both.

    Attributes:
      objective: drawn afresh each time, or None.
      lengths: longest length of each feature.
      eos: the EOS id of each feature that ends with one.
      positioned: features that come with `NAME_positions`; EOS stands after the last of them.
      others: where an objective that `draws_other` finds a text of another place.
      ends_kept: features that lose their beginning where they are too long, and not their end.
      text_length: the longest text of `objective`, which sees no more of it; None for any.
    """

    objective: Objective | None
    lengths: Mapping[str, int]
    eos: Mapping[str, int]
    positioned: tuple[str, ...] = ()
    others: grain.MapDataset | None = None
    ends_kept: tuple[str, ...] = ()
    text_length: int | None = None

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        """The features that a batch format takes; of those in `lengths`, none is longer."""
        finished: Example = {}
        if self.objective is not None:
            if self.others is not None:
                other = self.others[int(rng.integers(len(self.others)))]
                example = {**example, **{f"other_{name}": ids for name, ids in other.items()}}
            if self.text_length is not None:
                (text,) = self.objective.reads
                example = {**example, text: example[text][: self.text_length]}
            example = self.objective(example, rng)
            finished = {name: example[name] for name in self.objective.writes if name in example}
        for name, length in self.lengths.items():
            eos = self.eos.get(name)
            room = length - (eos is not None)
            first = max(0, len(example[name]) - room) if name in self.ends_kept else 0
            ids = example[name][first : first + room]
            if eos is None:
                finished[name] = ids
            else:
                ended = np.empty(ids.size + 1, np.int32)
                ended[:-1] = ids
                ended[-1] = eos
                finished[name] = ended
        for name in self.positioned:
            key = f"{name}_positions"
            finished[key] = _extended(example[key], finished[name].size)
        return finished


def keeps_end(feature: Feature) -> bool:
    """Whether a text that is too long for it loses its beginning, and not its end as in seqio."""
    return getattr(feature, "keeps", "beginning") == "end"


def _extended(positions: np.ndarray, size: int) -> np.ndarray:
    """So many positions: the first of those given, or all and one more for the EOS."""
    if positions.size >= size:
        return positions[:size]
    end = positions[-1] + 1 if positions.size else 0
    return np.append(positions, np.int32(end))


@dataclass(frozen=True)
class TaskExamples:
    """One task's split, opened.

    Attributes:
      name: of the task.
      source: what is indexed, before objective and shuffling.
      finish: what is done to an example last.
      chunked: whether all examples but the last have the same length.
      start_id: what a decoder reads before the targets.
      raw: all cached features of what `source[i]` is made of, or None where pieces are cut.
      stream: the documents one after the other, where pieces are cut of them.
      note: one line about examples that are longer than the model is given, or nothing.
      text_bytes: UTF-8 bytes of the targets' text in the whole split; None where targets are not
        text, or the cache did not count.
      text_words: words of the same text, as white space parts them; None as `text_bytes`.
      target_tokens: of the same, each end that is predicted included.
    """

    name: str
    source: grain.MapDataset
    finish: Finish
    chunked: bool
    start_id: int
    raw: Callable[[int], Mapping[str, Any]] | None
    stream: TokenStream | None = None
    note: str = ""
    text_bytes: int | None = None
    text_words: int | None = None
    target_tokens: int = 0

    @property
    def windows(self) -> Windows | None:
        """The source, where several of its items are made of one cached example."""
        return self.source if isinstance(self.source, Windows) else None

    def training(self, seed: int, shuffle: bool) -> grain.MapDataset:
        """Endless examples: shuffled as a whole in every epoch, the objective drawn anew."""
        data = self.source
        if shuffle:
            data = data.shuffle(seed=derived_seed(seed, self.name, "shuffle"))
        data = data.repeat()
        return data.random_map(self.finish, seed=derived_seed(seed, self.name, "objective"))

    def evaluation(self, seed: int) -> grain.MapDataset:
        """Each example once, in order; its objective depends on the seed and its number."""
        return self.source.random_map(self.finish, seed=derived_seed(seed, self.name, "objective"))

    def mean_tokens(self, seed: int) -> float:
        """Mean number of tokens of an example, in all features that the model is given.

        Of `sample_of` its examples, `mixing.SAMPLED` at most.
        """
        data = self.evaluation(seed)
        places = sample_of(min(len(data), SAMPLED), len(data))
        sizes = [
            sum(example[name].size for name in self.finish.lengths)
            for example in (data[int(place)] for place in places)
        ]
        return max(1.0, sum(sizes) / len(places))


_TRIM = TrimLong()


def for_lengths(objective: Objective | None, lengths: Mapping[str, int]) -> Objective | None:
    """The objective for features of these lengths, where its result depends on them."""
    of_length = getattr(objective, "of_length", None)
    return objective if of_length is None else of_length(lengths)


def _of_texts(
    source: grain.MapDataset, examples: CachedExamples, objective: Any
) -> tuple[grain.MapDataset, Callable[[int], Mapping[str, Any]], str]:
    """The rows that an objective makes of texts, what each is made of, and what is trimmed."""
    if not hasattr(objective, "row_counts"):
        return source, examples.raw, trimmed_together(examples, objective)
    sizes = {name: examples.lengths(name) for name in objective.texts}
    windows = Windows(source, objective.row_counts(sizes))
    note = trimmed_together(examples, objective)
    return windows, lambda index: examples.raw(windows.example_of(index)), note


def _check_size(size: int, split: str, task: Task, objective: Any) -> None:
    """Raises `UserError` where a split is too short a text for what is learned of it."""
    needed = getattr(objective, "shortest_text", 1)
    if 0 < size < needed:
        raise UserError(
            f"split {split!r} of task {task.name!r} has {size} tokens, and {needed} are needed for "
            "a word with its context: give more text."
        )


def open_task(
    task: Task,
    folder: Path,
    split: str,
    lengths: Mapping[str, int],
    *,
    seed: int | None,
    long_examples: LongExamples = _TRIM,
    first_tokens: int | None = None,
) -> TaskExamples:
    """Opens a cached split of a task.

    Args:
      task: the task.
      folder: its folder in the cache.
      split: name of the split.
      lengths: longest length of each feature that the model is given.
      seed: decides where pieces are cut; None for evaluation, in order.
      long_examples: what becomes of examples that are longer than `lengths`.
      first_tokens: how many tokens at the beginning of the split are all that there is; of whole
        examples those that have no more together. None for the whole split.

    Raises:
      UserError: the split is empty, lacks a feature, or is damaged; a length is 0 or belongs
        to no feature.
    """
    specs = vocabulary_specs(task, folder)
    check_lengths(task, lengths)
    objective = for_lengths(task.objective(specs), lengths)
    length = None if objective is None else objective.chunk_length(lengths)
    document_eos = objective is not None and length is not None and objective.document_eos
    eos = {
        name: specs[name]["eos_id"]
        for name, feature in task.output_features.items()
        if feature.add_eos and not document_eos
    }
    positioned = getattr(objective, "positioned", ())
    finish = Finish(
        objective,
        {name: lengths[name] for name in task.output_features},
        eos,
        positioned,
        ends_kept=tuple(
            name for name, feature in task.output_features.items() if keeps_end(feature)
        ),
    )
    note = ""
    stream = None
    if length is None:
        features = objective.reads if objective is not None else tuple(task.output_features)
        examples = CachedExamples(folder, split, features, first_tokens)
        source: grain.MapDataset = Records(examples)
        raw: Callable[[int], Mapping[str, Any]] | None = examples.raw
        size = len(examples)
        # An objective that writes other features than it reads decides itself how long they are.
        kept = objective is None or getattr(objective, "keeps_texts", False)
        if objective is None or kept or set(objective.reads) == set(objective.writes):
            room = {name: lengths[name] - (name in eos) for name in finish.lengths}
            source, note = fitted(source, examples, room, long_examples)
        elif hasattr(objective, "text_length"):
            longest = objective.text_length(lengths)
            (text,) = objective.reads
            source, note = fitted(source, examples, {text: longest}, long_examples)
            finish = dataclasses.replace(finish, text_length=longest)
        elif getattr(objective, "texts", ()):
            source, raw, note = _of_texts(source, examples, objective)
    else:
        end = specs["targets"]["eos_id"] if document_eos else None
        ends = getattr(objective, "document_ends", 1)
        stream = TokenStream(folder, split, "targets", end, first_tokens, ends)
        size = len(stream)
        _check_size(size, split, task, objective)
        order = None if seed is None else derived_seed(seed, task.name)
        if getattr(objective, "counts_pairs", False):
            if first_tokens is not None:
                raise UserError(
                    "first_tokens is of text, and pairs of words are counted in all of it"
                )
            pairs = pair_counts(folder, split, stream, cast(Counting, objective))
            source = Cells(pairs, length, order)
        else:
            source = Pieces(stream, length, order)
        raw = None
    if size == 0:
        raise UserError(
            f"split {split!r} of task {task.name!r} is empty in the cache {folder}: look at what "
            "its source and preprocessing leave, or name another split."
        )
    if getattr(objective, "draws_other", False):
        finish = dataclasses.replace(finish, others=source)
    if note:
        note = f"{task.name} {split}: {note}"
    text_bytes, text_words, target_tokens = None, None, 0
    if objective is None or getattr(objective, "targets_are_text", False):
        stats = layout.read_json(layout.stats_path(folder, split))
        text_bytes, text_words = stats.get("targets_bytes"), stats.get("targets_words")
        ends = size if "targets" in eos else 0
        target_tokens = size if stream is not None else stats.get("targets_tokens", 0) + ends
    return TaskExamples(
        task.name,
        source,
        finish,
        length is not None,
        start_id_of(task, folder),
        raw,
        stream,
        note,
        text_bytes,
        text_words,
        target_tokens,
    )
