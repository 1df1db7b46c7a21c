"""Datasets of TensorFlow Datasets."""

import contextlib
import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import SourceUnavailable, TaskError
from tasks.sources import source as source_lib


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A dataset of TensorFlow Datasets, by name.

    Attributes:
      name: with configuration and version, such as `c4/en:3.1.0`.
      columns: features to read; a nested one is written `answers/text`.
      data_dir: where TFDS finds or prepares it, local or remote; None takes the
        environment's `TFDS_DATA_DIR`, else TFDS's own default.
      split_names: the dataset's split, or a slice of it, for each split of the source:
        `{"train": "train[:99%]", "validation": "train[99%:]"}`; None takes the dataset's.
      each: features that are lists, as long as one another, of which each entry is in a row of its
        own, such as the questions on an article; none where an example is a row.
    """

    name: str
    columns: tuple[str, ...]
    data_dir: str | None = None
    split_names: Mapping[str, str] | None = None
    each: tuple[str, ...] = ()

    @property
    def directory(self) -> str:
        """The data directory, from the setting, the environment or TFDS's default."""
        default = os.path.join("~", "tensorflow_datasets")
        given = self.data_dir or os.environ.get("TFDS_DATA_DIR") or default
        return os.path.expanduser(given)

    @property
    def _prepared(self) -> Path | None:
        """The dataset's own folder, if it is prepared in a local directory."""
        name, _, version = self.name.partition(":")
        folder = Path(self.directory, name)
        versions = [folder / version] if version else sorted(folder.glob("*.*.*"))
        found = [path for path in versions if (path / "dataset_info.json").is_file()]
        return found[-1] if found else None

    @property
    def is_local(self) -> bool:
        """Whether it is prepared on this machine; preparing it may download gigabytes."""
        return self._prepared is not None

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the setting, or else the dataset's, which needs TensorFlow.

        There are none before the dataset is prepared.
        """
        return tuple(self.split_names or self._builder().info.splits)

    def _check_split(self, split: str) -> None:
        if self.splits:
            source_lib.check_split(self, split)

    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        try:
            return tfds.builder(self.name, data_dir=self.directory)
        except (
            tfds.core.DatasetNotFoundError,
            tfds.core.registered.PackageNotFoundError,
            AssertionError,
            ValueError,
        ) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise TaskError(f"TFDS dataset '{self.name}': {reason}") from None

    def shards(self, split: str) -> Sequence[str]:
        """The dataset's files."""
        self._check_split(split)
        return self.seqio().list_shards(split)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[source_lib.Row]:
        """The examples as NumPy arrays and bytes, with nested features flattened.

        Shards that are asked for come in their order, each as it is in its file.
        """
        self._check_split(split)
        source = self.seqio()
        import seqio  # which greets, and was imported there

        parts: list[seqio.ShardInfo | None] = [None]
        if shards is not None:
            names = list(source.list_shards(split))
            parts = [seqio.ShardInfo(names.index(shard), len(names)) for shard in shards]
        for part in parts:
            dataset = source.get_dataset(split, shuffle=False, shard_info=part)
            for example in dataset.as_numpy_iterator():
                yield {column: pick(example, column) for column in self.columns}

    def fingerprint(self) -> str:
        """Hex digest of the settings and of TFDS's description of the dataset.

        Raises:
          SourceUnavailable: it is not prepared on this machine.
        """
        if self._prepared is None:
            prepare = f"tfds.builder({self.name!r}, data_dir={self.directory!r})"
            raise SourceUnavailable(
                f"TFDS dataset '{self.name}' is not prepared in '{self.directory}': give "
                "--tfds_data_dir, or prepare it where it may be downloaded, in Python: "
                f"`import tensorflow_datasets as tfds; {prepare}.download_and_prepare()`."
            )
        settings: tuple[Any, ...] = (
            self.name, self.columns, sorted((self.split_names or {}).items()),
            *filter(None, [self.each]),
        )  # fmt: skip
        digest = hashlib.sha256(repr(settings).encode())
        digest.update((self._prepared / "dataset_info.json").read_bytes())
        return digest.hexdigest()

    def seqio(self) -> Any:
        """The dataset as a `seqio.TfdsDataSource`."""
        with without_greetings():
            import seqio
            import tensorflow as tf

        splits = dict(self.split_names) if self.split_names else None
        if not self.each:
            return seqio.TfdsDataSource(self.name, tfds_data_dir=self.directory, splits=splits)
        each = self.each

        def rows_of(example: Mapping[str, Any]) -> tf.data.Dataset:
            def row(i: Any) -> dict[str, Any]:
                return {**example, **{name: example[name][i] for name in each}}

            first = example[each[0]]
            count = first.nrows() if isinstance(first, tf.RaggedTensor) else tf.shape(first)[0]
            return tf.data.Dataset.range(tf.cast(count, tf.int64)).map(row)

        class RowSource(seqio.TfdsDataSource):
            def get_dataset(self, *args: Any, **kwargs: Any) -> tf.data.Dataset:
                return super().get_dataset(*args, **kwargs).flat_map(rows_of)

        return RowSource(self.name, tfds_data_dir=self.directory, splits=splits)


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """Keeps what is written to standard error from the user: TensorFlow, as it is imported.

    What goes wrong there is an exception.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def pick(example: Mapping[str, Any], column: str) -> Any:
    """A feature of a nested example: `answers/text` is `example["answers"]["text"]`.

    Rows of files have such columns as they are named.

    Raises:
      TaskError: there is no such feature.
    """
    if column in example:
        return example[column]
    value: Any = example
    for part in column.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            have = ", ".join(value) if isinstance(value, Mapping) else "no nested feature"
            raise TaskError(f"the dataset has no feature '{column}': it has {have}.")
        value = value[part]
    return value
