"""Registers a task or mixture with seqio, from its parts.

`Task.seqio` and `Mixture.seqio` call these with their own parts, so that nothing here needs
to know either class.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from tasks.errors import TaskError
from tasks.forms import Form
from tasks.objectives import Objective
from tasks.seqio_interop import preprocessors
from tasks.vocabularies import Vocabulary

# What each name that this module registered stands for: a later task may take the name over.
_REGISTERED: dict[str, str] = {}


class SharedCacheTask(seqio.Task):
    """A `seqio.Task` whose cache may have another task's name, and has its fingerprint in it."""

    def __init__(self, *args: Any, cache_name: str, fingerprint: Callable[[], str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.cache_name = cache_name
        self._fingerprint = fingerprint

    @property
    def cache_dir(self) -> str | None:
        """The folder of the cache of this source, where one is complete.

        `t5x_like/data/cache/layout.py` names the folders. One without a fingerprint in its name is
        taken where seqio's own tools have written it, or the source cannot be seen from here.
        """
        plain = seqio.get_task_dir_from_name(self.cache_name)
        try:
            own = self._fingerprint()
        except OSError:
            own = None
        for root in seqio.get_global_cache_dirs():
            for name in [plain] if own is None else [f"{plain}-{own[:12]}", plain]:
                path = f"{root}/{name}"
                if tf.io.gfile.exists(f"{path}/COMPLETED") and own in (None, _of(path, own)):
                    return path
        return None


def _of(path: str, default: str | None) -> str | None:
    """The fingerprint in a cache's `task.json`, or the default where it has none."""
    try:
        with tf.io.gfile.GFile(f"{path}/task.json") as file:
            return json.load(file).get("fingerprint")
    except tf.errors.NotFoundError:
        return default


def register_task(
    name: str,
    *,
    cache_name: str,
    fingerprint: Callable[[], str],
    source: seqio.DataSource,
    form: Form,
    output_features: Mapping[str, seqio.Feature],
    ends_kept: Sequence[str],
    vocabularies: Mapping[str, Vocabulary],
    special_tokens: str,
    objective: Objective | None,
    postprocess: Callable[[str, Mapping[str, Any], bool], Any],
    metric_fns: Sequence[Callable[..., Any]],
    definition: str,
) -> seqio.Task:
    """Registers a task with seqio under its name, or gives the equal one that is there.

    Args:
      name: in `seqio.TaskRegistry`. A task that this function registered may be replaced.
      cache_name: folder of the cache, to which the fingerprint is added.
      fingerprint: computes the task's, when a cache is looked for.
      source: where rows come from.
      form: rows to text.
      output_features: after the objective.
      ends_kept: of these, the ones that lose their beginning where they are too long.
      vocabularies: of the same features, as this package has them.
      special_tokens: "text" or "ids", see `preprocessors.Tokenize`.
      objective: follows the cache; None for text that is inputs and targets as it is.
      postprocess: `(text, example, is_target)` to what the metrics compare.
      metric_fns: of targets and predictions.
      definition: a text that is equal for equal tasks.

    Raises:
      TaskError: a module of the user's has registered the name.
    """
    found = _registered(seqio.TaskRegistry, name, definition)
    if found is not None:
        return found
    after_cache: list[Callable[..., Any]] = []
    if objective is not None:
        after_cache.append(preprocessors.ApplyObjective(objective))
    if ends_kept:
        after_cache.append(preprocessors.KeepEnd(ends_kept))
    if not getattr(objective, "document_eos", False):
        after_cache.append(seqio.preprocessors.append_eos_after_trim)
    # The text of whole documents would only double an unsupervised cache.
    keeps_text = "inputs" in form.features

    def postprocess_fn(text: str, example: Any = None, is_target: bool = False) -> Any:
        return postprocess(text, example or {}, is_target)

    task = SharedCacheTask(
        name,
        source=source,
        output_features=dict(output_features),
        preprocessors=[
            preprocessors.ApplyForm(form),
            preprocessors.Tokenize(
                vocabularies,
                special_tokens,
                keeps_text,
                getattr(form, "listed", {}),
                getattr(form, "located", ()),
            ),
            seqio.CacheDatasetPlaceholder(),
            *after_cache,
        ],
        postprocess_fn=postprocess_fn,
        metric_fns=list(metric_fns),
        cache_name=cache_name,
        fingerprint=fingerprint,
    )
    seqio.TaskRegistry.add_provider(name, task)
    return task


def register_mixture(name: str, rates: Mapping[str, float]) -> seqio.Mixture:
    """Registers a mixture of registered tasks with seqio, or gives the equal one that is there.

    Args:
      name: in `seqio.MixtureRegistry`. A mixture that this function registered may be replaced.
      rates: how often each task is drawn, by name.

    Raises:
      TaskError: a module of the user's has registered the name.
    """
    found = _registered(seqio.MixtureRegistry, name, repr(sorted(rates.items())))
    return found or seqio.MixtureRegistry.add(name, list(rates.items()))


def is_ours(name: str) -> bool:
    """Whether this module has registered the name, and not a module of the user's."""
    return name in _REGISTERED


def _registered(registry: Any, name: str, definition: str) -> Any:
    """The provider of this definition, or None, after which the name is free.

    Raises:
      TaskError: the name is a user's.
    """
    digest = hashlib.sha256(definition.encode()).hexdigest()
    if name in registry.names():
        if name not in _REGISTERED:
            raise TaskError(
                f"'{name}' is registered with seqio by a module of yours: choose another name."
            )
        if _REGISTERED[name] == digest:
            return registry.get(name)
        registry.remove(name)
    _REGISTERED[name] = digest
    return None
