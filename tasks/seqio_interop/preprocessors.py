"""Forms and objectives as seqio preprocessors."""

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks.errors import TaskError
from tasks.forms import Form
from tasks.objectives import BoundObjective, Objective
from tasks.seqio_interop import vocabularies
from tasks.sources.tfds import pick
from tasks.vocabularies import Vocabulary, encode_counted, encode_each, encode_located

# Documents that are concatenated at a time; T5 uses the same number.
_CONCATENATED = 128
_LOG = logging.getLogger(__name__)
_INDENTED = re.compile(r"\n(\t|  )")
_LAYOUT = "a:\n\tb\n    c"
# By the names of `Form.kept`.
_KINDS = {
    "text": (tf.string, []),
    "texts": (tf.string, [None]),
    "integer": (tf.int32, []),
    "integers": (tf.int32, [None]),
    "number": (tf.float32, []),
}


class ApplyForm:
    """A preprocessor that turns rows of a source into the text of the features.

    Neither this class nor `ApplyObjective` is a dataclass: seqio would set the fields of one
    instead of passing arguments.
    """

    def __init__(self, form: Form):
        self.form = form

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Maps the form, which is plain Python, over the dataset."""
        form = self.form
        lists = getattr(form, "listed", {})
        outputs = {
            **{name: _KINDS["texts" if name in lists else "text"] for name in form.features},
            **{name: _KINDS[kind] for name, kind in form.kept.items()},
        }
        columns = {column: pick(dataset.element_spec, column) for column in form.columns}

        def plain(*values: Any) -> list[Any]:
            made = form(dict(zip(columns, values, strict=True)))
            return [_as_array(made[name], dtype) for name, (dtype, _) in outputs.items()]

        def mapped(example: Mapping[str, Any]) -> dict[str, tf.Tensor]:
            values = [_dense(pick(example, column)) for column in columns]
            made = tf.numpy_function(plain, values, [dtype for dtype, _ in outputs.values()])
            return {
                name: tf.ensure_shape(value, shape)
                for (name, (_, shape)), value in zip(outputs.items(), made, strict=True)
            }

        return dataset.map(mapped, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _dense(value: Any) -> tf.Tensor:
    """A list of lists, whose ends "" or 0 fills up, as NumPy takes it."""
    return value.to_tensor() if isinstance(value, tf.RaggedTensor) else value


def _as_array(value: Any, dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        return np.asarray(_encoded(value), object)
    return np.asarray(value, dtype.as_numpy_dtype)


def _encoded(value: Any) -> Any:
    return value.encode("utf-8") if isinstance(value, str) else [_encoded(v) for v in value]


class ApplyObjective:
    """A preprocessor that applies an objective, after `seqio.CacheDatasetPlaceholder`.

    Concatenates and splits documents where the objective asks for it, in groups of 128 as
    T5 does, and draws all randomness from seqio's seed.

    Attributes:
      objective: the objective's settings.
    """

    def __init__(self, objective: Objective):
        self.objective = objective

    def __call__(
        self,
        dataset: tf.data.Dataset,
        output_features: Mapping[str, seqio.Feature],
        sequence_length: Mapping[str, int] | None = None,
    ) -> tf.data.Dataset:
        """Turns tokenized documents into examples of the objective.

        Raises:
          TaskError: the objective compares a text with another one, or counts a split.
        """
        specs = {
            name: vocabularies.from_seqio(feature.vocabulary).spec()
            for name, feature in output_features.items()
        }
        bound = self.objective.bind(specs)
        if getattr(bound, "draws_other", False):
            raise TaskError(
                f"{type(self.objective).__name__} compares a text with one of another place, which "
                "seqio's preprocessors do not give: use `t5x-like train`, which does."
            )
        if getattr(bound, "counts_pairs", False):
            raise TaskError(
                f"{type(self.objective).__name__} counts the words of the whole split, which "
                "seqio's preprocessors do not see: use `t5x-like train`, which does."
            )
        if sequence_length and hasattr(bound, "of_length"):
            bound = bound.of_length(sequence_length)
        length = bound.chunk_length(sequence_length) if sequence_length else None
        if bound.document_eos:
            # Between documents, also if no EOS follows what the objective writes.
            ended = {n: dataclasses.replace(f, add_eos=True) for n, f in output_features.items()}
            for _ in range(getattr(bound, "document_ends", 1)):
                dataset = seqio.preprocessors.append_eos(dataset, ended)
        if length is not None:
            dataset = concatenate_and_split(dataset, bound.reads[0], length)
        elif sequence_length and hasattr(bound, "text_length"):
            (text,), longest = bound.reads, bound.text_length(sequence_length)
            dataset = dataset.map(lambda example: {**example, text: example[text][:longest]})
        if hasattr(bound, "row_counts"):
            dataset = _each_row(dataset, bound)
        return _map_objective(dataset, bound)


class KeepEnd:
    """Leaves out the beginning of what is too long, before seqio would leave out its end.

    Attributes:
      features: that lose their beginning.
    """

    def __init__(self, features: Sequence[str]):
        self.features = features

    def __call__(
        self,
        dataset: tf.data.Dataset,
        output_features: Mapping[str, seqio.Feature],
        sequence_length: Mapping[str, int] | None = None,
    ) -> tf.data.Dataset:
        """The examples, with room for EOS where they end with one."""
        lengths = sequence_length or {}
        rooms = {
            name: lengths[name] - output_features[name].add_eos
            for name in self.features
            if name in lengths
        }

        def ends(example: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
            cut = {
                name: example[name][tf.maximum(0, tf.size(example[name]) - room) :]
                for name, room in rooms.items()
            }
            return {**example, **cut}

        return dataset.map(ends, num_parallel_calls=tf.data.AUTOTUNE)


def concatenate_and_split(dataset: tf.data.Dataset, feature: str, length: int) -> tf.data.Dataset:
    """Joins 128 documents at a time and cuts them; the last piece of each group is short."""

    def pieces(group: tf.RaggedTensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(group.values).batch(length)

    groups = dataset.map(lambda example: example[feature]).ragged_batch(_CONCATENATED)
    return groups.flat_map(pieces).map(lambda tokens: {feature: tokens})


def _each_row(dataset: tf.data.Dataset, objective: Any) -> tf.data.Dataset:
    """An example for each row that an objective makes of it, which `row` numbers."""

    def count(*texts: np.ndarray) -> np.int64:
        sizes = {n: np.array([ids.size]) for n, ids in zip(objective.texts, texts, strict=True)}
        return np.int64(objective.row_counts(sizes)[0])

    def rows(example: Mapping[str, tf.Tensor]) -> tf.data.Dataset:
        texts = [example[name] for name in objective.texts]
        number = tf.ensure_shape(tf.numpy_function(count, texts, tf.int64), [])
        return tf.data.Dataset.range(number).map(lambda row: {**example, "row": row})

    return dataset.flat_map(rows)


def _map_objective(dataset: tf.data.Dataset, objective: BoundObjective) -> tf.data.Dataset:
    # seqio's converters ignore features that they do not know; a user's converter may use them.
    written = [
        *objective.writes,
        *(f"{name}_positions" for name in getattr(objective, "positioned", ())),
    ]

    reads = (*objective.reads, *(["row"] if hasattr(objective, "row_counts") else []))
    scalars = getattr(objective, "scalars", {})
    tables = getattr(objective, "tables", ())
    kinds = {
        name: (tf.dtypes.as_dtype(scalars[name]), [])
        if name in scalars
        else (tf.int32, [None, None] if name in tables else [None])
        for name in written
    }

    def plain(seed: np.ndarray, *features: np.ndarray) -> list[np.ndarray]:
        rng = np.random.default_rng([int(s) & 0xFFFFFFFF for s in seed])
        example = objective(dict(zip(reads, features, strict=True)), rng)
        return [np.asarray(example[name], kinds[name][0].as_numpy_dtype) for name in written]

    @seqio.map_over_dataset(num_seeds=1)
    def mapped(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        features = [example[name] for name in reads]
        made = tf.numpy_function(plain, [seed, *features], [kinds[name][0] for name in written])
        return {
            name: tf.ensure_shape(value, kinds[name][1])
            for name, value in zip(written, made, strict=True)
        }

    return mapped(dataset)


class Tokenize:
    """Text to ids.

    Of the text, `NAME_bytes`, `NAME_words` (as white space parts them) and, where the vocabulary
    has special tokens that a text can spell, `NAME_spelled_special` are kept, all int32: how many
    bytes, words, and of those tokens. Of a list of texts, the ids stand one after the other, and
    `NAME_sizes` says how many each has. Of a feature that is located, `NAME_begins` and
    `NAME_ends`, int32: the characters of the text from which and to before which each token stands.

    Attributes:
      vocabularies: of the features that are tokenized, of which some may only be parts of an
        output feature.
      special_tokens: "ids" where spelled-out special tokens become the tokens themselves, as
        with seqio's own preprocessor, "text" where they are text like any other.
      keeps_text: whether the text is kept as `NAME_pretokenized`, in place of its bytes and
        words.
      listed: features that are lists, to their kind, see `Form.listed`.
      located: the features whose tokens' places are kept, none of which is a list.
    """

    def __init__(
        self,
        vocabularies: Mapping[str, Vocabulary],
        special_tokens: str,
        keeps_text: bool,
        listed: Mapping[str, str],
        located: Sequence[str] = (),
    ):
        self.vocabularies = vocabularies
        self.special_tokens = special_tokens
        self.keeps_text = keeps_text
        self.listed = listed
        self.located = tuple(located)

    def __call__(self, dataset: tf.data.Dataset, output_features: Any) -> tf.data.Dataset:
        """Tokenizes the features that are text."""
        texts = [
            name
            for name, spec in dataset.element_spec.items()
            if name in self.vocabularies and spec.dtype == tf.string
        ]
        if not self.keeps_text:

            def counted(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
                counts = {}
                for name in texts:
                    listed = tf.reshape(example[name], [-1])
                    counts[f"{name}_bytes"] = tf.reduce_sum(tf.strings.length(listed))
                    counts[f"{name}_words"] = tf.size(tf.strings.split(listed).flat_values)
                return {**counts, **example}  # a form may count them before it changes a text

            dataset = dataset.map(counted, num_parallel_calls=tf.data.AUTOTUNE)
        own = (*self.listed, *self.located)
        ours = [
            name
            for name in texts
            if name in own or getattr(self.vocabularies[name], "special_tokens", None)
        ]
        for name in ours:
            made = self._tokenized_list if name in self.listed else self._tokenized
            dataset = made(dataset, name)
        # What is no output feature has the vocabulary of what it becomes a part of.
        first = next(iter(output_features.values()))
        features = {**dict.fromkeys(self.vocabularies, first), **output_features}
        others = {name: f for name, f in features.items() if name not in ours}
        return seqio.preprocessors.tokenize(dataset, others, copy_pretokenized=self.keeps_text)

    def _tokenized(self, dataset: tf.data.Dataset, name: str) -> tf.data.Dataset:
        located = name in self.located
        if located and not hasattr(self.vocabularies[name], "encode_with_offsets"):
            raise TaskError(
                f"{type(self.vocabularies[name]).__name__} does not say where its tokens stand in "
                "a text, which answers need: choose bytes, SentencePiece or a tokenizer.json."
            )
        encoder = _Encoder(self.vocabularies[name], self.special_tokens)
        encode = encoder.located if located else encoder
        keys = (f"{name}_begins", f"{name}_ends") if located else ()

        def mapped(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            text = example[name]
            kinds = [tf.int32] * (2 + len(keys))
            ids, count, *places = tf.numpy_function(encode, [text], kinds)
            kept = {f"{name}_pretokenized": text} if self.keeps_text else {}
            for key, value in zip(keys, places, strict=True):
                kept[key] = tf.ensure_shape(value, [None])
            return {
                **example,
                **kept,
                name: tf.ensure_shape(ids, [None]),
                f"{name}_spelled_special": tf.ensure_shape(count, []),
            }

        return dataset.map(mapped, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def _tokenized_list(self, dataset: tf.data.Dataset, name: str) -> tf.data.Dataset:
        encoder, kind = _Encoder(self.vocabularies[name], self.special_tokens), self.listed[name]

        def plain(texts: np.ndarray) -> list[np.ndarray]:
            spelled = 0

            def encode(text: str) -> Sequence[int]:
                nonlocal spelled
                ids, count = encoder(text.encode("utf-8"))
                spelled += int(count)
                return ids.tolist()

            found = encode_each([text.decode("utf-8") for text in texts], kind, encode)
            return [np.asarray(value, np.int32) for value in (*found, spelled)]

        def mapped(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            ids, sizes, count = tf.numpy_function(plain, [example[name]], [tf.int32] * 3)
            kept = {f"{name}_pretokenized": example[name]} if self.keeps_text else {}
            return {
                **example,
                **kept,
                name: tf.ensure_shape(ids, [None]),
                f"{name}_sizes": tf.ensure_shape(sizes, [None]),
                f"{name}_spelled_special": tf.ensure_shape(count, []),
            }

        return dataset.map(mapped, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


class _Encoder:
    """Texts to ids and the number of special tokens that each spells out."""

    def __init__(self, vocabulary: Any, special_tokens: str):
        self._vocabulary, self._special_tokens = vocabulary, special_tokens
        self._layout_is_known = False

    def __call__(self, octets: bytes | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a text, without EOS, int32, and the number."""
        ids, count = encode_counted(self._vocabulary, self._text(octets), self._special_tokens)
        return np.asarray(ids, np.int32), np.asarray(count, np.int32)

    def located(self, octets: bytes | np.ndarray) -> list[np.ndarray]:
        """The same, and the characters from which and to before which each token stands, int32."""
        text = self._text(octets)
        ids, offsets, count = encode_located(self._vocabulary, text, self._special_tokens)
        places = np.asarray(offsets, np.int32).reshape(-1, 2)
        return [np.asarray(ids, np.int32), np.asarray(count, np.int32), *places.T.copy()]

    def _text(self, octets: bytes | np.ndarray) -> str:
        text = (octets if isinstance(octets, bytes) else octets.item()).decode("utf-8")
        self._check_layout(text)
        return text

    def _check_layout(self, text: str) -> None:
        """Warns once where indented lines lose their line ends."""
        if self._layout_is_known or not _INDENTED.search(text):
            return
        self._layout_is_known = True
        if self._vocabulary.decode(self._vocabulary.encode(_LAYOUT)) != _LAYOUT:
            _LOG.warning(
                "the vocabulary '%s' loses line ends and indentation, which this text has: train "
                "one that keeps them with `t5x-like vocab --byte_fallback`, or byte-level bpe.",
                self._vocabulary.path,
            )
