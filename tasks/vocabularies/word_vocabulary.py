"""Whole words as tokens, with how often each occurs in the text that they were counted in."""

import collections
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from tasks.errors import SourceUnavailable, TaskError
from tasks.vocabularies.vocabulary import PAD_ID, Offsets, check_is_file, until_eos

ENDING = ".txt"
_EOS, _UNK, _FIRST = 1, 2, 3
_UNKNOWN = "<unk>"
# How text is split is told in a first line `#!{…}`, which the files of other programs lack.
_SETTINGS = "#!"
_WHITE_SPACE = r"\S+"
_MOST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class WordVocabulary:
    """Words, most frequent first: 0 pads, 1 is EOS, 2 any other word, the first word is 3.

    The file is what word2vec's `-save-vocab` and GloVe's `vocab_count` write: a word and its count
    in each line. Where text is split other than at white space, or made small, a first line
    `#!{"lower_case": true, "pattern": "[a-z]+"}` says so.

    Attributes:
      path: the file, local or remote.
      extra_ids: number of sentinels.
    """

    # Texts are joined by words: a space is meant between two.
    whole_words: ClassVar[bool] = True

    path: str
    extra_ids: int = 0
    eos_id: int = dataclasses.field(default=_EOS, init=False)
    unk_id: int = dataclasses.field(default=_UNK, init=False)
    start_id: int = dataclasses.field(default=PAD_ID, init=False)

    @functools.cached_property
    def _bytes(self) -> bytes:
        from etils import epath

        try:
            check_is_file(self.path)
            return epath.Path(self.path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise SourceUnavailable(
                f"vocabulary file '{self.path}' not found: a word and its count in each line are "
                "needed, such as `t5x-like vocab --model_type=words` makes."
            ) from None
        except OSError as error:
            raise SourceUnavailable(f"vocabulary file '{self.path}': {error}.") from None

    @functools.cached_property
    def _parsed(self) -> tuple["WordSplitter", dict[str, int]]:
        """How text is split, and the words with their counts."""
        try:
            lines = self._bytes.decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise TaskError(f"vocabulary file '{self.path}' is not UTF-8: {error}.") from None
        splitter = WordSplitter()
        first = 0
        if lines[0].startswith(f"{_SETTINGS}{{"):
            splitter, first = self._splitter(lines[0]), 1
        counts: dict[str, int] = {}
        for i in range(first, len(lines)):
            line = lines[i].rstrip("\r")
            if not line:
                continue
            word, _, count = line.rpartition(" ")
            if not word or not count.isascii() or not count.isdigit() or word in counts:
                what = f"'{word}' a second time" if word in counts else f"'{line[:40]}'"
                raise TaskError(
                    f"vocabulary file '{self.path}', line {i + 1} is {what}: a word, a space and "
                    "how often it occurs are needed, each word once."
                )
            if word == "</s>" and int(count) == 0:
                continue  # what word2vec counts of line ends in text of one line
            counts[word] = int(count)
            if not 0 < counts[word] <= 2**62:
                raise TaskError(
                    f"vocabulary file '{self.path}', line {i + 1}: '{word}' occurs {count} times, "
                    "where 1 or more are needed."
                )
        if not counts:
            raise TaskError(f"vocabulary file '{self.path}' has no words.")
        return splitter, counts

    def _splitter(self, line: str) -> "WordSplitter":
        try:
            return WordSplitter(**json.loads(line.removeprefix(_SETTINGS)))
        except (ValueError, TypeError, RecursionError) as error:
            raise TaskError(
                f"vocabulary file '{self.path}', line 1 does not tell how text is split: {error}."
            ) from None

    @property
    def splitter(self) -> "WordSplitter":
        """How text becomes words."""
        return self._parsed[0]

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """The words, in the order of their ids."""
        return tuple(self._parsed[1])

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: _FIRST + i for i, word in enumerate(self.words)}

    @property
    def vocab_size(self) -> int:
        """The number of ids: 3 special ones, the words and the sentinels."""
        return _FIRST + len(self.words) + self.extra_ids

    @functools.cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return f"words-{self._sha256[:8]}-{self.extra_ids}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words, without EOS."""
        ids = self._ids
        return [ids.get(word, _UNK) for word in self.splitter(text)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offsets]]:
        """The ids of a text's words, and the characters of each."""
        found = list(self.splitter.places(text))
        return [self._ids.get(word, _UNK) for word, _ in found], [place for _, place in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The words of ids up to the first EOS, a space between them; `<unk>` for id 2."""
        words = self.words
        kept = (i for i in until_eos(ids, _EOS) if _UNK <= i < _FIRST + len(words))
        return " ".join(_UNKNOWN if i == _UNK else words[i - _FIRST] for i in kept)

    def spec(self) -> dict[str, Any]:
        """A description of the ids, as JSON.

        `sha256` is of the file's bytes; `counts` says how often each of the words occurs, by id
        from the first word's on, which is `first_word_id`.
        """
        words = self.words
        return {
            "kind": "words",
            "vocab_size": self.vocab_size,
            "extra_ids": self.extra_ids,
            "pad_id": PAD_ID,
            "eos_id": _EOS,
            "unk_id": _UNK,
            "start_id": PAD_ID,
            "full_stop_ids": [_FIRST + i for i, word in enumerate(words) if not word.strip(".")],
            "file": str(self.path),
            "sha256": self._sha256,
            "first_word_id": _FIRST,
            "counts": list(self._parsed[1].values()),
        }

    def seqio(self) -> Any:
        """The equal `seqio.Vocabulary`."""
        from tasks.seqio_interop.vocabularies import PythonVocabulary

        return PythonVocabulary(self)

    def __getstate__(self) -> dict[str, Any]:
        # Without what was read from the file: gin copies this object and processes pickle it.
        return {"path": self.path, "extra_ids": self.extra_ids, "eos_id": _EOS, "unk_id": _UNK,
                "start_id": PAD_ID}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class WordSplitter:
    """How a text becomes words.

    Attributes:
      lower_case: whether capitals are made small.
      pattern: a regular expression; its matches are the words, and what lies between is dropped.
        None splits at white space.

    Raises:
      TaskError: the pattern is no regular expression.
    """

    lower_case: bool = False
    pattern: str | None = None

    def __post_init__(self) -> None:
        try:
            self._compiled  # noqa: B018
        except (re.error, TypeError) as error:
            raise TaskError(
                f"pattern '{self.pattern}' is no regular expression: {error}."
            ) from None

    @functools.cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(_WHITE_SPACE if self.pattern is None else self.pattern)

    def __call__(self, text: str) -> list[str]:
        """The words of a text; none is empty or has white space in it."""
        text = text.lower() if self.lower_case else text
        if self.pattern is None:
            return text.split()
        # A match may hold white space, which would divide the lines of a file.
        return [word for found in self._compiled.finditer(text) for word in found[0].split()]

    def places(self, text: str) -> Iterable[tuple[str, Offsets]]:
        """The words, each with the characters that it stands for."""
        # A small letter may be two characters where its capital is one.
        origin: Sequence[int] = range(len(text))
        if self.lower_case:
            origin = [i for i, c in enumerate(text) for _ in c.lower()]
            text = text.lower()
        for found in self._compiled.finditer(text):
            for part in re.finditer(_WHITE_SPACE, found[0]):
                begin, end = found.start() + part.start(), found.start() + part.end()
                yield part[0], (origin[begin], origin[end - 1] + 1)

    def header(self) -> str:
        """The first line of a vocabulary's file; nothing where text is split at white space."""
        if self == WordSplitter():
            return ""
        return f"{_SETTINGS}{json.dumps(dataclasses.asdict(self), ensure_ascii=False)}\n"

    def __getstate__(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def train_words(
    texts: Iterable[str],
    path: str,
    *,
    vocab_size: int | None = None,
    min_count: int = 5,
    lower_case: bool = False,
    pattern: str | None = None,
) -> WordVocabulary:
    """Counts the words of texts and writes the most frequent ones with their counts.

    Words of one count are in the order of their characters: the same text gives the same file.

    Args:
      texts: documents.
      path: the file, `NAME.txt`, local or remote.
      vocab_size: most ids, the three special ones included; None is any number.
      min_count: words that are rarer are left out; 5 as in word2vec.
      lower_case: see `WordSplitter`.
      pattern: see `WordSplitter`.

    Raises:
      TaskError: no word is frequent enough, a number has no sense, or the pattern none.
    """
    from etils import epath

    if not os.fspath(path).endswith(ENDING):
        raise TaskError(f"'{path}': words are written to NAME{ENDING}.")
    if min_count < 1:
        raise TaskError(f"min_count={min_count}: 1 or more is needed.")
    if vocab_size is not None and not _FIRST < vocab_size <= _MOST:
        raise TaskError(
            f"vocab_size={vocab_size}: {_FIRST} special tokens and at least one word are needed."
        )
    splitter = WordSplitter(lower_case, pattern)
    counter: collections.Counter[str] = collections.Counter()
    for text in texts:
        counter.update(splitter(text))
    if not counter:
        raise TaskError("no text to count words in: every line was empty.")
    kept = [(word, count) for word, count in counter.items() if count >= min_count]
    if not kept:
        raise TaskError(
            f"no word occurs {min_count} times: the most frequent, "
            f"'{counter.most_common(1)[0][0]}', occurs {counter.most_common(1)[0][1]} times; lower "
            "--min_count."
        )
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    kept = kept[: None if vocab_size is None else vocab_size - _FIRST]
    lines = [f"{word} {count}\n" for word, count in kept]
    try:
        content = "".join([splitter.header(), *lines]).encode("utf-8")
    except UnicodeEncodeError as error:
        raise TaskError(f"the text is not Unicode that UTF-8 can write: {error}.") from None
    file = epath.Path(path)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(file)  # whole or not at all
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise TaskError(f"'{path}' cannot be written: {error.strerror or error}.") from None
    return WordVocabulary(path)
