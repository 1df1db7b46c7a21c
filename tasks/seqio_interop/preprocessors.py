"""Forms and objectives as seqio preprocessors."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks.errors import TaskError
from tasks.forms import Form
from tasks.objectives import BoundObjective, Objective
from tasks.seqio_interop import vocabularies
from tasks.sources.tfds import pick

# Documents that are concatenated at a time; T5 uses the same number.
_CONCATENATED = 128
_KINDS = {"text": (tf.string, []), "texts": (tf.string, [None])}


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
        outputs = {
            **{name: _KINDS["text"] for name in form.features},
            **{name: _KINDS[kind] for name, kind in form.kept.items()},
        }
        columns = {column: pick(dataset.element_spec, column) for column in form.columns}

        def plain(*values: Any) -> list[Any]:
            made = form(dict(zip(columns, values, strict=True)))
            return [np.asarray(_encoded(made[name]), object) for name in outputs]

        def mapped(example: Mapping[str, Any]) -> dict[str, tf.Tensor]:
            values = [pick(example, column) for column in columns]
            made = tf.numpy_function(plain, values, [dtype for dtype, _ in outputs.values()])
            return {
                name: tf.ensure_shape(value, shape)
                for (name, (_, shape)), value in zip(outputs.items(), made, strict=True)
            }

        return dataset.map(mapped, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


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
          TaskError: the objective compares a text with another one.
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
        length = bound.chunk_length(sequence_length) if sequence_length else None
        if bound.document_eos:
            # Between documents, also if no EOS follows what the objective writes.
            ended = {n: dataclasses.replace(f, add_eos=True) for n, f in output_features.items()}
            dataset = seqio.preprocessors.append_eos(dataset, ended)
        if length is not None:
            dataset = concatenate_and_split(dataset, bound.reads[0], length)
        return _map_objective(dataset, bound)


def concatenate_and_split(dataset: tf.data.Dataset, feature: str, length: int) -> tf.data.Dataset:
    """Joins 128 documents at a time and cuts them; the last piece of each group is short."""

    def pieces(group: tf.RaggedTensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(group.values).batch(length)

    groups = dataset.map(lambda example: example[feature]).ragged_batch(_CONCATENATED)
    return groups.flat_map(pieces).map(lambda tokens: {feature: tokens})


def _map_objective(dataset: tf.data.Dataset, objective: BoundObjective) -> tf.data.Dataset:
    # seqio's converters ignore features that they do not know; a user's converter may use them.
    written = [
        *objective.writes,
        *(f"{name}_positions" for name in getattr(objective, "positioned", ())),
    ]

    def plain(seed: np.ndarray, *features: np.ndarray) -> list[np.ndarray]:
        rng = np.random.default_rng([int(s) & 0xFFFFFFFF for s in seed])
        example = objective(dict(zip(objective.reads, features, strict=True)), rng)
        return [np.asarray(example[name], np.int32) for name in written]

    @seqio.map_over_dataset(num_seeds=1)
    def mapped(example: Mapping[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        features = [example[name] for name in objective.reads]
        made = tf.numpy_function(plain, [seed, *features], [tf.int32] * len(written))
        return {
            name: tf.ensure_shape(value, [None]) for name, value in zip(written, made, strict=True)
        }

    return mapped(dataset)


def tokenize(dataset: tf.data.Dataset, output_features: Any) -> tf.data.Dataset:
    """Text to ids; of the text, its number of bytes is kept as `NAME_bytes`, int32."""

    def counted(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        texts = {n: v for n, v in example.items() if n in output_features and v.dtype == tf.string}
        return {**example, **{f"{name}_bytes": tf.strings.length(v) for name, v in texts.items()}}

    dataset = dataset.map(counted, num_parallel_calls=tf.data.AUTOTUNE)
    return seqio.preprocessors.tokenize(dataset, output_features, copy_pretokenized=False)


def tokenize_and_keep_text(dataset: tf.data.Dataset, output_features: Any) -> tf.data.Dataset:
    """Text to ids, the text kept as `NAME_pretokenized`."""
    return seqio.preprocessors.tokenize(dataset, output_features, copy_pretokenized=True)
