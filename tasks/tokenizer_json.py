"""Vocabularies of Hugging Face's tokenizers: BERT's WordPiece, GPT-2's byte-level BPE, LLaMA 3's.

Read by the `tokenizers` library (the extra `[tokenizers]`), which is imported when a file is
opened; `transformers` is not needed. Files from before `tokenizer.json` are first written as one
(`tasks/vocabularies/published_tokenizers.py`).
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from tasks.errors import SourceUnavailable, TaskError
from tasks.vocabularies import Offsets, check_is_file, published_tokenizers, until_eos
from tasks.vocabularies.post_processor import ends_rows, put_before, put_between
from tasks.vocabularies.special_pieces import (
    continuations,
    full_stops,
    is_special,
    own_sentinels,
    spelled,
)
from tasks.vocabularies.tokenizer_config import named_tokens, options, special_token

# In a directory the first of these is read.
_FILES = ("tokenizer.json", published_tokenizers.WORDPIECE, published_tokenizers.BPE)
# The largest published vocabularies have a million.
_MOST_IDS = 2**24
# GPT-2 ends each text with this token, and so reads it before the next text.
_GPT2_END = "<|endoftext|>"


@dataclasses.dataclass(frozen=True)
class TokenizerVocabulary:
    """The vocabulary of a tokenizer's file, with the same ids, so that published weights fit.

    The file is a `tokenizer.json`; a `vocab.txt`, WordPiece as BERT's; or a `vocab.json` beside a
    `merges.txt`, byte-level BPE as GPT-2's and RoBERTa's.

    Id 0 is a token (GPT-2's "!", RoBERTa's `<s>`), although rows are padded with 0. Giving that
    token another id would move a row of the embeddings and change the order of the logits. So
    `zero_is_token` says that padding cannot be recognised by its value: loss weights and segment
    ids tell it from text. The tokenizer's own padding token is never written.

    `encode` adds nothing before or after a text, even where the file's post-processor does: the
    feature adds EOS, and the decoder `start_id`. Special tokens that are spelled out in a text are
    read as special tokens, as in `transformers`; `encode_as_text` leaves them text.

    Attributes:
      path: the file, or the directory of one of these names, local or remote.
      extra_ids: number of sentinels. A file that ends in `<extra_id_*>` has its own; otherwise
        they are added after its last id, and published weights have no rows for them.
      eos_token: ends a sequence; None takes the one that `tokenizer_config.json` or
        `special_tokens_map.json` in the same directory names, or else a usual name.
      mask_token: replaces masked text; found in the same way; there may be none.
      start_token: the decoder's first input; None takes the token that the file's
        post-processor puts before a text (LLaMA's `<s>`), or else GPT-2's `<|endoftext|>`
        where that is the EOS, or else token 0. BART's decoder begins with its EOS, `</s>`,
        which must be given here, because the file does not say so.
      further_eos_ids: tokens that end generated text besides the EOS, as the models that chat
        have them; nothing is trained with them.
      lower_case: of a `vocab.txt`, whether capitals are made small and accents removed; None does
        what `do_lower_case` in `tokenizer_config.json` says, or else keeps them if the vocabulary
        has capitals. A `tokenizer.json` says it itself.
      longest_word: of a `vocab.txt`, the characters beyond which a word is unknown; None is 100, as
        in `transformers`. BERT's released code has 200.
    """

    path: str
    extra_ids: int = 0
    eos_token: str | None = None
    mask_token: str | None = None
    start_token: str | None = None
    further_eos_ids: tuple[int, ...] = ()
    lower_case: bool | None = None
    longest_word: int | None = None

    zero_is_token: ClassVar[bool] = True

    @functools.cached_property
    def file(self) -> Any:
        """The file that is read, an `epath.Path`: `path`, or what it has of the three."""
        from etils import epath

        path = epath.Path(self.path)
        if not path.is_dir():
            return path
        found = (path / name for name in _FILES)
        return next((file for file in found if file.exists()), path / _FILES[0])

    @property
    def transformers_config(self) -> dict[str, Any] | None:
        """What `tokenizer_config.json` must say for transformers to read a `vocab.txt` as here.

        None where the one that is there says so, and for the files that say it themselves.
        """
        if not published_tokenizers.is_wordpiece_file(self.file):
            return None
        config = options(self.file.parent)
        lower_case = json.loads(self._octets)["normalizer"]["lowercase"]
        if config.get("do_lower_case") is lower_case:
            return None
        return {**config, "do_lower_case": lower_case}

    @functools.cached_property
    def _octets(self) -> bytes:
        """The `tokenizer.json`, as it is or made of the older files."""
        file, settings = self.file, (self.lower_case, self.longest_word)
        if published_tokenizers.is_published(file):
            return published_tokenizers.read(file, *settings)
        published_tokenizers.refuse_settings(file, *settings)
        try:
            check_is_file(file)
            return bytes(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise SourceUnavailable(
                f"vocabulary file '{file}' not found: a tokenizer.json is needed, as the "
                "`tokenizers` library saves it and `t5x-like vocab` makes it, or a vocab.txt, or "
                "a vocab.json beside its merges.txt."
            ) from None
        except OSError as error:
            raise SourceUnavailable(f"vocabulary file '{file}': {error}.") from None

    @functools.cached_property
    def _tokenizer(self) -> Any:
        try:
            import tokenizers
        except ImportError:
            raise TaskError(
                f"reading '{self.file}' needs the package tokenizers: "
                'pip install "t5x-like[tokenizers]".'
            ) from None
        octets = self._octets
        with self._one_line("is not a tokenizer.json"):
            file = json.loads(octets)  # the library also accepts some files that are not JSON
            tokenizer = tokenizers.Tokenizer.from_str(octets.decode("utf-8"))
        if file["model"].get("dropout"):
            raise TaskError(
                f"vocabulary file '{self.file}' has a BPE dropout of {file['model']['dropout']}: "
                "a text would have other ids each time, in a cache and in a prompt; set 'dropout' "
                "to null in a copy of it."
            )
        last = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if last >= _MOST_IDS:
            raise TaskError(
                f"vocabulary file '{self.file}' has a token of id {last}: ids up to {_MOST_IDS} "
                "are read, as a list of all of them is made."
            )
        # A file can ask for either, which would cut or pad texts.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        own = own_sentinels(_pieces(tokenizer))
        if own and own != self.extra_ids:
            raise TaskError(
                f"vocabulary file '{self.file}' has {own} sentinels: set extra_ids={own}, "
                f"not {self.extra_ids}."
            )
        first = len(_pieces(tokenizer))
        names = [f"<extra_id_{i}>" for i in reversed(range(0 if own else self.extra_ids))]
        tokenizer.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in names])
        ids = [tokenizer.token_to_id(name) for name in names]
        if ids != list(range(first, first + len(names))):
            raise TaskError(
                f"vocabulary file '{self.file}' has no room for sentinels after its last id "
                f"{first - 1}: it has some already, or ids without a token; set extra_ids=0."
            )
        return tokenizer

    @contextlib.contextmanager
    def _one_line(self, what: str) -> Iterator[None]:
        """What the library raises, as one line: `Exception` itself, and panics, which are none."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise TaskError(f"vocabulary file '{self.file}' {what} ({reason}).") from None

    @functools.cached_property
    def vocab_size(self) -> int:
        """The number of ids, the sentinels included."""
        return len(_pieces(self._tokenizer))

    @functools.cached_property
    def _named(self) -> Mapping[str, str]:
        """The special tokens that the configuration files in the same directory name."""
        return named_tokens(self.file.parent)

    def _special(self, role: str, given: str | None = None) -> int | None:
        """The id of the token that is given, named in a configuration file, or usual."""
        if given is not None:
            found = self._tokenizer.token_to_id(given)
            if found is None:
                raise TaskError(f"vocabulary file '{self.file}' has no token '{given}' ({role}).")
            return found
        find = self._tokenizer.token_to_id
        name = special_token(role, self._named, lambda token: find(token) is not None)
        return None if name is None else find(name)

    @functools.cached_property
    def eos_id(self) -> int:
        """The id that ends a sequence.

        Raises:
          TaskError: no setting and no file names it.
        """
        if self._own_eos_id is None:
            raise TaskError(
                f"vocabulary file '{self.file}' does not say which token ends a sequence: set "
                "TokenizerVocabulary.eos_token."
            )
        return self._own_eos_id

    @functools.cached_property
    def _own_eos_id(self) -> int | None:
        return self._special("eos_token", self.eos_token)

    @functools.cached_property
    def unk_id(self) -> int | None:
        """The id of unknown text; byte-level vocabularies need none."""
        return self._special("unk_token")

    @functools.cached_property
    def mask_id(self) -> int | None:
        """The id that replaces masked text, or None."""
        return self._special("mask_token", self.mask_token)

    @functools.cached_property
    def _post_processor(self) -> Mapping[str, Any]:
        return json.loads(self._octets).get("post_processor") or {}

    @functools.cached_property
    def start_id(self) -> int:
        """The id that a decoder begins with.

        Raises:
          TaskError: the file has no token `start_token`.
        """
        token = self.start_token
        if token is None:
            token = put_before(self._post_processor)
        if token is None and self._tokenizer.token_to_id(_GPT2_END) == self.eos_id:
            return self.eos_id
        found = 0 if token is None else self._special("start_token", token)
        assert found is not None  # a token that is given is found or an error
        return found

    def starting_with(self, start_id: int) -> "TokenizerVocabulary":
        """The same vocabulary with another start token, an id below `vocab_size`."""
        if start_id == self.start_id:
            return self
        return dataclasses.replace(self, start_token=self._tokenizer.id_to_token(start_id))

    def ending_with(self, eos_ids: Sequence[int]) -> "TokenizerVocabulary":
        """The same vocabulary with further tokens that end a text, ids below `vocab_size`.

        The first is the EOS where no file and no setting names one.
        """
        if self._own_eos_id is None and eos_ids:
            eos_token = self._tokenizer.id_to_token(eos_ids[0])
            return dataclasses.replace(self, eos_token=eos_token).ending_with(eos_ids)
        further = tuple(i for i in eos_ids if i != self._own_eos_id)
        return dataclasses.replace(self, further_eos_ids=further) if further else self

    @functools.cached_property
    def _sha256(self) -> str:
        return hashlib.sha256(self._octets).hexdigest()

    @property
    def tag(self) -> str:
        """Short name for folders."""
        return f"tokenizer-{self._sha256[:8]}-{self.extra_ids}"

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without EOS.

        Raises:
          TaskError: some of the text has no token, and there is no unknown token.
        """
        return list(self._encoded(self._tokenizer, text).ids)

    @functools.cached_property
    def special_tokens(self) -> re.Pattern[str] | None:
        """What is read as a special token where a text spells it; None for nothing."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return spelled([t.content for t in added if t.special or is_special(t.content)])

    def encode_as_text(self, text: str) -> list[int]:
        """The ids of a text, special tokens that it spells out taken apart like other words.

        Raises:
          TaskError: as `encode`.
        """
        return list(self._encoded(self._text_tokenizer, text).ids)

    @functools.cached_property
    def _text_tokenizer(self) -> Any:
        import tokenizers

        assert self._tokenizer  # it fails there with what is wrong with the file
        file = json.loads(self._octets)
        for token in file.get("added_tokens", ()):
            # What is not marked as special would still be found.
            token["special"] = token.get("special", False) or is_special(token["content"])
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        return tokenizer

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offsets]]:
        """`encode`, and the characters that each id stands for."""
        made = self._encoded(self._tokenizer, text)
        return list(made.ids), list(made.offsets)

    def encode_as_text_with_offsets(self, text: str) -> tuple[list[int], list[Offsets]]:
        """`encode_as_text`, and the characters that each id stands for."""
        made = self._encoded(self._text_tokenizer, text)
        return list(made.ids), list(made.offsets)

    def _encoded(self, tokenizer: Any, text: str) -> Any:
        with self._one_line(f"cannot encode {text[:40]!r}"):
            return tokenizer.encode(text, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first EOS, without special tokens and unused ids."""
        kept = [i for i in until_eos(ids, self.eos_id) if 0 <= i < self.vocab_size]
        tokenizer = self._tokenizer
        with self._one_line(f"cannot decode {kept[:10]}"):
            return str(tokenizer.decode(kept, skip_special_tokens=True))

    def spec(self) -> dict[str, Any]:
        """A description of the ids, as JSON; `sha256` is of the file's bytes, no id pads."""
        return {
            "kind": "tokenizer.json",
            "vocab_size": self.vocab_size,
            "extra_ids": self.extra_ids,
            "pad_id": None,
            "eos_id": self.eos_id,
            "unk_id": self.unk_id,
            "mask_id": self.mask_id,
            "cls_id": self._special("cls_token"),
            "sep_id": self._special("sep_token"),
            "pair_separators": put_between(self._post_processor),
            "cls_at_end": ends_rows(self._post_processor),
            "continuation_ids": continuations(_pieces(self._tokenizer)),
            "start_id": self.start_id,
            "special_ids": self._special_ids,
            "full_stop_ids": full_stops(_pieces(self._tokenizer)),
            "file": str(self.path),
            "sha256": self._sha256,
            "eos_token": self.eos_token,
            "mask_token": self.mask_token,
            "start_token": self.start_token,
            "lower_case": self.lower_case,
            "longest_word": self.longest_word,
        }

    @functools.cached_property
    def _special_ids(self) -> list[int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return sorted(i for i, token in added.items() if token.special)

    def seqio(self) -> Any:
        """The equal `seqio.Vocabulary`."""
        from tasks.seqio_interop.vocabularies import PythonVocabulary

        return PythonVocabulary(self)

    def __getstate__(self) -> dict[str, Any]:
        # Without what was read from the file: gin copies this object and processes pickle it.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _pieces(tokenizer: Any) -> list[str]:
    """The token of each id; "" where an id has none."""
    ids = tokenizer.get_vocab(with_added_tokens=True)
    pieces = [""] * (max(ids.values(), default=-1) + 1)
    for piece, i in ids.items():
        pieces[i] = piece
    return pieces
