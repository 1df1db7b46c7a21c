"""What the files beside a tokenizer's own say of it: its special tokens' names, and its options."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tasks.errors import TaskError

CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
# Files that name special tokens; the first that names one counts.
_FILES = (CONFIG, "special_tokens_map.json")
# Usual names of each special token, for those that no file names.
USUAL: Mapping[str, tuple[str, ...]] = {
    "eos_token": ("</s>", "<|endoftext|>", "<|end_of_text|>", "[SEP]"),
    "mask_token": ("<mask>", "[MASK]"),
    "cls_token": ("[CLS]", "<cls>", "<s>"),
    "sep_token": ("[SEP]", "<sep>", "</s>"),
    "unk_token": ("<unk>", "[UNK]"),
}


def options(directory: Any) -> Mapping[str, Any]:
    """What `tokenizer_config.json` in a directory holds; nothing without the file.

    Args:
      directory: an `epath.Path`.

    Raises:
      TaskError: the file is not a JSON object.
    """
    return _object(directory / CONFIG)


def named_tokens(directory: Any) -> dict[str, str]:
    """The special tokens that the files of a directory name, by the keys of `USUAL`.

    Args:
      directory: an `epath.Path`.

    Raises:
      TaskError: a file is malformed.
    """
    found: dict[str, str] = {}
    for path in (directory / name for name in _FILES):
        tokens = _object(path)
        for role in USUAL:
            token = tokens.get(role)
            if isinstance(token, dict):
                if "content" not in token:
                    raise _malformed(path, f"'{role}' has no 'content'")
                token = token["content"]
            if isinstance(token, str):
                found.setdefault(role, token)
    return found


def added_tokens(directory: Any, inside: Mapping[str, int]) -> dict[str, int]:
    """The tokens that a tokenizer's files add to its pieces, and their ids.

    Padding is left out: no text spells it.

    Args:
      directory: an `epath.Path`.
      inside: those that the tokenizer's own file adds.

    Raises:
      TaskError: a file is malformed.
    """
    found = {**inside, **_object(directory / ADDED)}
    if any(type(i) is not int for i in found.values()):
        raise _malformed(directory / ADDED, "it is not an object of tokens and their ids")
    try:
        for i, token in (options(directory).get("added_tokens_decoder") or {}).items():
            found[str(token["content"])] = int(i)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _malformed(
            directory / CONFIG, "added_tokens_decoder is not an object of ids and their tokens"
        ) from None
    for path in (directory / name for name in _FILES):
        padding = _object(path).get("pad_token")
        found.pop(str(padding.get("content") if isinstance(padding, dict) else padding), None)
    return found


def refuse_added(path: Any, names: Collection[str]) -> None:
    """Refuses a tokenizer's file to which others add tokens that are not read.

    Args:
      path: the file, an `epath.Path`.
      names: the tokens.

    Raises:
      TaskError: there are any.
    """
    if names:
        raise TaskError(
            f"file '{path.name}' in '{path.parent}' is without {len(names)} tokens that {ADDED} "
            f"or {CONFIG} add to it, such as {min(names)!r}: save the tokenizer as a "
            "tokenizer.json, which holds both."
        )


def special_token(
    role: str, named: Mapping[str, str], is_there: Callable[[str], bool]
) -> str | None:
    """The token of a role: the one that a file names, or else the first usual one there is.

    Args:
      role: a key of `USUAL`.
      named: what `named_tokens` gives.
      is_there: whether the vocabulary has a token.
    """
    names = [named[role]] if role in named else USUAL[role]
    return next((name for name in names if is_there(name)), None)


def _object(path: Any) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _malformed(path, str(error)) from None
    if not isinstance(content, dict):
        raise _malformed(path, "it is not an object")
    return content


def _malformed(path: Any, reason: str) -> TaskError:
    return TaskError(f"file '{path}' is not a tokenizer's configuration: {reason}.")
