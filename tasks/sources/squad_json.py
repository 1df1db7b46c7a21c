"""SQuAD's JSON: articles of paragraphs, each with the questions about it."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, ClassVar

from tasks.errors import TaskError
from tasks.sources import files, reading
from tasks.sources.source import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquadJson(files.FileSource):
    """A row for each question of files as SQuAD 1.1 and 2.0, XQuAD and many others have them.

    A row's `answers` are the JSON of a list of objects with `text` and `answer_start`, empty where
    `is_impossible` says so: SQuAD 2.0's plausible answers are none.
    """

    columns: ClassVar[tuple[str, ...]] = ("id", "title", "question", "context", "answers")

    def read(self, path: str) -> Iterator[Row]:
        """The questions of one file."""
        text = "".join(reading.documents(path, None, self.undecodable, self.limits))
        try:
            whole = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"file '{path}' is not JSON: {error}.") from None
        place = "the file"
        try:
            if not isinstance(whole, dict):
                raise KeyError("data")
            for i, article in enumerate(whole["data"]):
                for j, paragraph in enumerate(article["paragraphs"]):
                    for k, question in enumerate(paragraph["qas"]):
                        place = f"question {k} of paragraph {j} of article {i}"
                        yield _row(article, paragraph, question)
                    place = f"paragraph {j + 1} of article {i}"
                place = f"article {i + 1}"
        except (KeyError, TypeError, AttributeError) as error:
            raise TaskError(
                f"file '{path}' is not as SQuAD's JSON: {place} lacks {error}. "
                "data holds articles, these paragraphs, and these a context and qas."
            ) from None


def _row(article: Any, paragraph: Any, question: Any) -> Row:
    answers = [] if question.get("is_impossible") else question["answers"]
    texts = {
        "id": str(question.get("id", "")),
        "title": str(article.get("title", "")),
        "question": question["question"],
        "context": paragraph["context"],
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise TypeError(f"a text as {name}")
    return {**texts, "answers": json.dumps(answers, ensure_ascii=False)}
