"""One process's share of writing a cache: seqio's examples into shards, TensorFlow inside.

A shard is written under a temporary name and renamed; then a small `.part` file with its counts
says that it is done.
"""

import contextlib
import multiprocessing
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from t5x_like.data.cache import layout, reader, token_stream
from t5x_like.data.cache.example_proto import encode_example
from t5x_like.data.cache.tfrecord import write_records
from t5x_like.errors import UserError
from t5x_like.host import disk_space, log_records
from t5x_like.protocols import Task

_SEED = 0  # what precedes the cache should draw nothing; if it does, always the same
_REPORT_EVERY = 64  # examples


def part_path(folder: Path, split: str, shard: int, shards: int) -> Path:
    """Where a finished shard's counts are kept until the whole cache is done."""
    return folder / f".{split}.part-{shard:05d}-of-{shards:05d}.json"


def _examples(data: Any, again: Callable[[], Iterable[Any]]) -> Iterator[dict[str, Any]]:
    """The examples of a `tf.data.Dataset`.

    Args:
      data: the examples.
      again: writes their text without TensorFlow, whose rows do not know where they are from.

    Raises:
      UserError: what a source or preprocessor said of the user's file, which TensorFlow
        passes on as text inside an error of its own.
    """
    import tensorflow as tf

    try:
        yield from data.as_numpy_iterator()
    except tf.errors.OpError as error:
        said = re.search(r"^tasks\.errors\.\w+: (.+)$", str(error), re.MULTILINE)
        if said is None:
            raise
        raise UserError(_placed(again, said[1])) from None


def _placed(again: Callable[[], Iterable[Any]], said: str) -> str:
    """What is said of the first row of which no text can be written, with its place."""
    try:
        for _ in again():
            pass
    except Exception as error:
        if getattr(error, "exit_code", None) == UserError.exit_code:
            return str(error)
    return said


def _mute() -> None:
    """Keeps TensorFlow's C++ from writing to this process's standard error from now on."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Keeps it from doing so for a while: what goes wrong reaches the user as an exception."""
    kept = os.dup(2)
    try:
        _mute()
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Worker:
    """Writes shards of one task; lives in a worker process.

    Attributes:
      task: the task.
      provider: the same as a `seqio.Task`.
      warnings: what the source warned of so far.
    """

    def __init__(self, task: Task):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's greetings
        self.task = task
        self.provider = task.seqio()
        self.warnings: list[str] = []

    def splits(self) -> list[str]:
        """Those that the source has."""
        return list(self.provider.splits or ())

    def dataset(self, split: str, shard: int, shards: int) -> Any:
        """One shard of what precedes the cache, as a `tf.data.Dataset`."""
        import seqio

        source = self.provider.source
        if self._divides(split, shards):
            info = seqio.ShardInfo(index=shard, num_shards=shards)
            data = source.get_dataset(split=split, shuffle=False, seed=_SEED, shard_info=info)
        else:
            data = source.get_dataset(split=split, shuffle=False, seed=_SEED)
            data = data.shard(shards, shard)
        if self.provider.supports_caching:
            return self.provider.preprocess_precache(data, seed=_SEED)
        # No placeholder: all of the task is computed once.
        return self.provider.preprocess_postcache(data, sequence_length=None, seed=_SEED)

    def _divides(self, split: str, shards: int) -> bool:
        """Whether the source itself can be read in so many parts; else each part reads all."""
        source = self.provider.source
        return source.supports_arbitrary_sharding or len(source.list_shards(split)) >= shards

    def write(
        self,
        folder: Path,
        split: str,
        shard: int,
        shards: int,
        fingerprint: str,
        report: Callable[[int], None],
    ) -> None:
        """Writes one shard and its `.part` file; `report` hears of examples as they come."""
        data = self.dataset(split, shard, shards)

        def again() -> Iterable[Any]:
            task: Any = self.task
            part = task.source.shards(split)[shard::shards]
            return task.examples(split, part if self._divides(split, shards) else None)

        counts = {"examples": 0}
        path = layout.shard_path(folder, split, shard, shards)
        heard: dict[str, None] = {}  # what sources warn of, once and not for every shard
        before = _dropped(self.task)
        with log_records.told("tasks", heard.setdefault):
            write_records(path, self._records(data, counts, report, again))
        dropped = _dropped(self.task) - before
        if shard and not self._divides(split, shards):
            dropped.clear()  # the first shard has read, and counted, the same rows
        counted = {
            kind(name)
            for name in self._text_features
            for kind in (_bytes_of, _words_of, _special_tokens_of)
        }
        spec = {k: v for k, v in data.element_spec.items() if k not in counted}
        features = _feature_info(spec)
        part = {
            "fingerprint": fingerprint,
            "bytes": path.stat().st_size,
            "stats": counts,
            "dropped": dict(dropped),
            "features": features,
        }
        file = reader.RecordFile(path, layout.index_path(folder, split, "records", shard, shards))
        if set(features) == {"targets"}:
            # Text alone, which objectives read as one stream: index it while it is at hand.
            token_stream.indexed(folder, split, "targets", shard, shards, file)
        with disk_space.explained(folder):
            layout.write_json(part_path(folder, split, shard, shards), part)
        self.warnings += heard

    @property
    def _text_features(self) -> list[str]:
        """Output features, and texts that become parts of one."""
        cached = getattr(self.task, "cached_vocabularies", ())
        return list(dict.fromkeys((*self.provider.output_features, *cached)))

    def _records(
        self,
        data: Any,
        counts: dict[str, int],
        report: Callable[[int], None],
        again: Callable[[], Iterable[Any]],
    ) -> Iterator[bytes]:
        features = self.provider.output_features
        first = next(iter(features.values()))
        ignored = {}
        for name in self._text_features:
            vocabulary = features.get(name, first).vocabulary
            ends = (vocabulary.eos_id, vocabulary.pad_id)
            ignored[name] = [i for i in ends if i is not None]
        for example in _examples(data, again):
            for name, ids in ignored.items():
                sizes = {key: example.pop(key, None) for key in (_bytes_of(name), _words_of(name))}
                text = example.get(f"{name}_pretokenized")
                if isinstance(text, bytes):
                    sizes = {_bytes_of(name): len(text), _words_of(name): len(text.split())}
                for key, size in sizes.items():
                    if size is not None:
                        counts[key] = counts.get(key, 0) + int(size)
                spelled = example.pop(_special_tokens_of(name), None)
                if spelled is not None:
                    key = layout.SPECIAL_TOKENS
                    counts[key] = counts.get(key, 0) + int(spelled)
                value = example.get(name)
                if isinstance(value, np.ndarray) and value.dtype.kind == "i":
                    tokens = value.size - sum(int(np.count_nonzero(value == i)) for i in ids)
                    counts[f"{name}_tokens"] = counts.get(f"{name}_tokens", 0) + tokens
                    key = f"{name}_max_tokens"
                    counts[key] = max(counts.get(key, 0), tokens)
            counts["examples"] += 1
            if counts["examples"] % _REPORT_EVERY == 0:
                report(_REPORT_EVERY)
            yield encode_example({k: _as_values(v) for k, v in example.items()})
        report(counts["examples"] % _REPORT_EVERY)


def _dropped(task: Task) -> Counter[str]:
    """Why the filters of a task's source have dropped documents and lines, since it was made."""
    found, source = Counter[str](), getattr(task, "source", None)
    while source is not None:
        found.update(getattr(source, "dropped", {}))
        source = getattr(source, "source", None)
    return found


def _bytes_of(name: str) -> str:
    """The bytes of a feature's text: of an example while it is written, of a split in its stats."""
    return f"{name}_bytes"


def _words_of(name: str) -> str:
    """The words of a feature's text, as white space parts them; counted as its bytes are."""
    return f"{name}_words"


def _special_tokens_of(name: str) -> str:
    """How many special tokens a feature's text spells out, of an example while it is written."""
    return f"{name}_{layout.SPECIAL_TOKENS}"


def _as_values(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [item if isinstance(item, bytes) else item.encode() for item in value.ravel()]
    return value if isinstance(value, (bytes, str)) else np.asarray(value)


def _feature_info(spec: Any) -> dict[str, dict[str, Any]]:
    info = {}
    for name, feature in spec.items():
        if not hasattr(feature, "shape") or type(feature).__name__ == "RaggedTensorSpec":
            raise UserError(
                f"feature {name!r} is a {type(feature).__name__}; a cache holds dense tensors"
            )
        shape = feature.shape.as_list()
        info[name] = {"shape": [None, *shape[1:]] if shape else [], "dtype": feature.dtype.name}
    return info


_worker: Worker | Exception | None = None
_counter: Any = None


def start(task: Task, counter: Any) -> None:
    """Makes this process's worker, for the functions below."""
    global _worker, _counter
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _mute()  # what goes wrong reaches the user as an exception, through the pool
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # tokenizing must not take an accelerator's memory
    _counter = counter
    try:
        _worker = Worker(task)
    except Exception as error:
        _worker = error  # raised here it would only break the pool, without its text


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ours() -> Worker:
    if isinstance(_worker, Exception):
        raise _worker
    assert _worker is not None
    return _worker


def _report(examples: int) -> None:
    with _counter.get_lock():
        _counter.value += examples


def splits_of() -> list[str]:
    """`Worker.splits` of this process."""
    return _ours().splits()


def write(folder: Path, split: str, shard: int, shards: int, fingerprint: str) -> list[str]:
    """`Worker.write` of this process, counted for the progress bar; returns the warnings."""
    worker = _ours()
    worker.write(folder, split, shard, shards, fingerprint, _report)
    warnings, worker.warnings = worker.warnings, []
    return warnings
