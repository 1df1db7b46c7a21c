"""Plain text files."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import ClassVar

from tasks.errors import TaskError
from tasks.sources import files, reading
from tasks.sources.source import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFiles(files.FileSource):
    r"""Plain text files, with the column `text`.

    Attributes:
      separator: text between documents: None makes each file one document, "\n" each line,
        "\n\n" each paragraph. CR LF is LF, in it as in files. Empty documents are skipped.
    """

    separator: str | None = None

    columns: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separator == "":
            raise TaskError("TextFiles.separator is empty: None makes each file one document.")

    def read(self, path: str) -> Iterator[Row]:
        """The documents of one file."""
        documents: Iterable[str]
        separator = self.separator and self.separator.replace("\r\n", "\n")
        if separator == "\n":
            lines = reading.lines(path, self.undecodable, self.limits)
            documents = (line for _, line in lines)
        else:
            documents = reading.documents(path, separator, self.undecodable, self.limits)
        for document in documents:
            if document.strip():
                yield {"text": document}
