"""Where a benchmark's rows come from: files of the user's own, or else TFDS."""

import dataclasses
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.benchmarks.corpora import Articles, Portions
from tasks.errors import SourceUnavailable
from tasks.sources import JsonLines, Source, TextFiles, Tfds
from tasks.sources.source import Row, check_files

SPLITS = ("train", "validation", "test", "dev")
# What a file of a split may be called after it.
_ENDINGS = {"rows": (".jsonl", ".jsonl.gz"), "texts": (".txt", ".txt.gz", "/*.txt")}


@dataclasses.dataclass(frozen=True)
class BenchmarkSource:
    """The rows of a benchmark, from `FILES_DIR/NAME/` where there is one, else of TFDS.

    Attributes:
      name: of the folder.
      columns: of the rows; of JSON lines the same keys, a nested one as `answer/aliases`.
      tfds: the dataset; None where TFDS has none, and files are needed.
      kind: what the files are: "rows" (JSON lines, `SPLIT.jsonl`), "texts" (each a document:
        `SPLIT.txt`, or the files of a folder `SPLIT/`), "lines" or "articles" of such files, or
        "portions" of one file called as the benchmark is.
      files_dir: FILES_DIR; None for TFDS.
    """

    name: str
    columns: tuple[str, ...]
    tfds: Tfds | None = None
    kind: str = "rows"
    files_dir: str | None = None

    def located(self, dataset: Callable[[Tfds], Tfds], files_dir: str | None) -> "BenchmarkSource":
        """The same source with other directories, the dataset's as `dataset` makes it."""
        tfds = None if self.tfds is None else dataset(self.tfds)
        return dataclasses.replace(self, tfds=tfds, files_dir=files_dir or self.files_dir)

    @property
    def chosen(self) -> Source:
        """The source that is read.

        Raises:
          SourceUnavailable: there are no files, and TFDS has no such dataset.
        """
        own = self._own
        if own is not None:
            return own
        if self.tfds is not None:
            return self.tfds
        raise SourceUnavailable(
            f"{self._lacking}'{self.name}' is not in TFDS: give FILES_DIR, a folder in which "
            f"{self._files} has {', '.join(self.columns)}."
        )

    @property
    def _lacking(self) -> str:
        """What is wrong with FILES_DIR, for the beginning of an error; "" where none is given."""
        if self.files_dir is None:
            return ""
        there = Path(os.path.expanduser(self.files_dir)).is_dir()
        what = f"has no {self._files}" if there else "is no folder"
        return f"FILES_DIR '{self.files_dir}' {what}; "

    @property
    def _endings(self) -> tuple[str, ...]:
        return _ENDINGS["rows" if self.kind == "rows" else "texts"]

    @property
    def _files(self) -> str:
        part = self.name if self.kind == "portions" else f"SPLIT{self._endings[0]}"
        return f"{self.name}/{part}"

    @property
    def _own(self) -> Source | None:
        if self.files_dir is None:
            return None
        folder = Path(os.path.expanduser(self.files_dir)) / self.name
        if self.kind == "portions":
            path = folder / self.name
            return (
                Portions(files=dict.fromkeys(SPLITS[:3], glob.escape(str(path))))
                if path.is_file()
                else None
            )
        files = {}
        for split in SPLITS:
            names = [f"{split}{ending}" for ending in self._endings]
            there = [name for name in names if any(folder.glob(name))]
            if there:
                files[split] = str(glob.escape(str(folder)) + "/" + there[0])
        if not files:
            return None
        make: dict[str, Callable[[], Source]] = {
            "rows": lambda: JsonLines(files=files, columns=self.columns),
            "texts": lambda: TextFiles(files=files),
            "lines": lambda: TextFiles(files=files, separator="\n"),
            "articles": lambda: Articles(files=files),
        }
        return make[self.kind]()

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of the source that is read; none where there is no source."""
        return self.chosen.splits if self.is_local else ()

    @property
    def is_local(self) -> bool:
        """Whether everything that is read is on this machine."""
        return self._own is not None or (self.tfds is not None and self.tfds.is_local)

    @property
    def is_users_own(self) -> bool:
        """Whether the rows are of the user's own files."""
        return self._own is not None

    @property
    def local_bytes(self) -> int | None:
        """The size of the user's own files; None where there are none."""
        return getattr(self._own, "local_bytes", None)

    def shards(self, split: str) -> Sequence[str]:
        """See `source.Source`."""
        return self.chosen.shards(split)

    def check_files(self, splits: Sequence[str] | None = None) -> None:
        """Those of the source that is read."""
        check_files(self.chosen, splits)

    def rows(self, split: str, shards: Sequence[str] | None = None) -> Iterator[Row]:
        """See `source.Source`."""
        return self.chosen.rows(split, shards)

    def fingerprint(self) -> str:
        """That of the source that is read.

        Raises:
          SourceUnavailable: it is not on this machine.
        """
        try:
            return self.chosen.fingerprint()
        except SourceUnavailable as error:
            if self.chosen is not self.tfds:
                raise
            raise SourceUnavailable(f"{self._lacking}{error}") from None

    def seqio(self) -> Any:
        """See `source.Source`."""
        return self.chosen.seqio()
