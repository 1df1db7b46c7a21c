"""Our tasks as seqio's own, for building caches and for seqio's own users.

Imports seqio and TensorFlow: only what builds a cache or wants a `seqio.Task` comes here.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks.errors import TaskError
from tasks.forms import Form
from tasks.objectives import BoundObjective, Objective
from tasks.sources.tfds import pick
from tasks.task import Mixture, Task

# Documents that are concatenated at a time, T5's number.
_CONCATENATED = 128
_KINDS = {"text": (tf.string, []), "texts": (tf.string, [None])}


class SharedCacheTask(seqio.Task):
    """A `seqio.Task` whose cache may have another task's name."""

    def __init__(self, *args: Any, cache_name: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.cache_name = cache_name

    @property
    def cache_dir(self) -> str | None:
        """The folder of the shared cache, where one is complete."""
        folder = seqio.get_task_dir_from_name(self.cache_name)
        for root in seqio.get_global_cache_dirs():
            path = f"{root}/{folder}"
            if tf.io.gfile.exists(f"{path}/COMPLETED"):
                return path
        return None


class ApplyForm:
    """A preprocessor: rows of the source to the text of the features.

    Not a dataclass, nor the next: seqio would set their fields instead of passing
    arguments.
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
    """A preprocessor: an objective in NumPy, after `seqio.CacheDatasetPlaceholder`.

    Concatenates and splits documents where the objective wants it, in groups of 128 as
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
        """Tokenized documents to examples of the objective."""
        specs = {name: _spec(feature.vocabulary) for name, feature in output_features.items()}
        bound = self.objective.bind(specs)
        length = bound.chunk_length(sequence_length) if sequence_length else None
        if bound.document_eos:
            dataset = seqio.preprocessors.append_eos(dataset, output_features)
        if length is not None:
            dataset = concatenate_and_split(dataset, bound.reads[0], length)
        return _map_objective(dataset, bound)


def _spec(vocabulary: seqio.Vocabulary) -> dict[str, Any]:
    from tasks.from_seqio import vocabulary_from_seqio

    return vocabulary_from_seqio(vocabulary).spec()


def concatenate_and_split(dataset: tf.data.Dataset, feature: str, length: int) -> tf.data.Dataset:
    """Joins 128 documents at a time and cuts them; the last piece of each is short."""

    def pieces(group: tf.RaggedTensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(group.values).batch(length)

    groups = dataset.map(lambda example: example[feature]).ragged_batch(_CONCATENATED)
    return groups.flat_map(pieces).map(lambda tokens: {feature: tokens})


def _map_objective(dataset: tf.data.Dataset, objective: BoundObjective) -> tf.data.Dataset:
    # seqio's converters leave what they do not know aside; a converter of the user's may not.
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


def seqio_task(task: Task) -> SharedCacheTask:
    """The `seqio.Task` of one of ours, not registered."""
    after_cache: list[Callable[..., Any]] = []
    if task.learned is not None:
        after_cache.append(ApplyObjective(task.learned))
    if not getattr(task.learned, "document_eos", False):
        after_cache.append(seqio.preprocessors.append_eos_after_trim)
    text_to_text = "inputs" in task.form.features
    return SharedCacheTask(
        task.name,
        source=task.source.seqio(),
        output_features={
            name: seqio.Feature(feature.vocabulary.seqio(), add_eos=feature.add_eos)
            for name, feature in task.output_features.items()
        },
        preprocessors=[
            ApplyForm(task.form),
            # The text of whole documents would only double an unsupervised cache.
            _tokenize_and_keep_text if text_to_text else _tokenize,
            seqio.CacheDatasetPlaceholder(),
            *after_cache,
        ],
        postprocess_fn=_postprocess_fn(task),
        metric_fns=list(task.metric_fns),
        cache_name=task.cache_name,
    )


def _tokenize(dataset: tf.data.Dataset, output_features: Any) -> tf.data.Dataset:
    return seqio.preprocessors.tokenize(dataset, output_features, copy_pretokenized=False)


def _tokenize_and_keep_text(dataset: tf.data.Dataset, output_features: Any) -> tf.data.Dataset:
    return seqio.preprocessors.tokenize(dataset, output_features, copy_pretokenized=True)


def _postprocess_fn(task: Task) -> Callable[..., Any]:
    def postprocess(text: str, example: Any = None, is_target: bool = False) -> Any:
        return task.postprocess(text, example or {}, is_target)

    return postprocess


# What each of our registrations stands for: the same name may come to mean another task.
_DEFINITIONS: dict[str, str] = {}


def register_task(task: Task) -> SharedCacheTask:
    """The task under its name in `seqio.TaskRegistry`, where it may replace one of ours.

    Raises:
      TaskError: the name is that of a task which is not ours.
    """
    definition = hashlib.sha256(repr(task).encode()).hexdigest()
    known = seqio.TaskRegistry.names()
    if task.name in known and _DEFINITIONS.get(task.name) == definition:
        return seqio.TaskRegistry.get(task.name)
    if task.name in known:
        if task.name not in _DEFINITIONS:
            raise TaskError(f"a module has registered its own '{task.name}' with seqio.")
        seqio.TaskRegistry.remove(task.name)
    made = seqio_task(task)
    seqio.TaskRegistry.add_provider(task.name, made)
    _DEFINITIONS[task.name] = definition
    return made


def register_mixture(mixture: Mixture) -> seqio.Mixture:
    """The mixture and its tasks in seqio's registries."""
    for task, _ in mixture.tasks:
        register_task(task)
    if mixture.name in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.remove(mixture.name)
    rates = [(task.name, rate) for task, rate in mixture.tasks]
    return seqio.MixtureRegistry.add(mixture.name, rates)
