"""Which examples of a test are in the training text, on disk: `DIR/TASK/SPLIT.jsonl`.

The first line says what was compared and how, and each further line has an example:
`{"text": "9f31…", "words": 25, "gpt3": true, "gpt2": 0.61, "palm": false}`. An example is known by
a digest of its text, whatever its place in a cache.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from t5x_like.errors import UserError
from t5x_like.host import files
from t5x_like.overlap.rules import RULES, Found


def digest(text: str) -> str:
    """What an example is known by, 16 hexadecimal digits."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def path_of(directory: str, task: str, split: str) -> epath.Path:
    """The file of a test."""
    return files.location(directory) / task.replace(":", "/") / f"{split}.jsonl"


def write(
    directory: str,
    task: str,
    split: str,
    texts: Sequence[str],
    found: Found,
    settings: Mapping[str, Any],
) -> str:
    """Writes the flags of a test, all or none; returns the file's name.

    Args:
      directory: is made.
      task: name of the test.
      split: of it.
      texts: of its examples.
      found: of the same examples.
      settings: what was compared and how, as JSON.
    """
    path = path_of(directory, task, split)
    files.make_writable(path.parent, "--out")
    head = {"task": task, "split": split, "examples": len(texts), "n": found.n, **settings}
    lines = [json.dumps(head)]
    columns = found.words, found.gpt3, found.gpt2, found.palm
    for text, words, gpt3, gpt2, palm in zip(texts, *columns, strict=True):
        flags = {"gpt3": bool(gpt3), "gpt2": round(float(gpt2), 6), "palm": bool(palm)}
        lines.append(json.dumps({"text": digest(text), "words": int(words), **flags}))
    files.write_whole(path, "".join(f"{line}\n" for line in lines))
    return str(path)


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags of one test by one rule.

    Attributes:
      place: the file, for errors.
      dirty: by digest, whether the example is in the training text.
      described: what was compared and how, for a record.
    """

    place: str
    dirty: Mapping[str, bool]
    described: str

    def is_dirty(self, text: str) -> bool:
        """Whether the example of this text is in the training text.

        Raises:
          UserError: the file has no such example.
        """
        try:
            return self.dirty[digest(text)]
        except KeyError:
            begin = text[:60].replace("\n", " ")
            raise UserError(
                f"'{self.place}' has no flag of the example '{begin}…': its task has changed, so "
                "run `t5x-like overlap` again."
            ) from None


def read(directory: str, task: str, split: str, rule: str) -> Flags:
    """The flags of a test.

    Raises:
      UserError: there is no such rule, there are none, or the file is damaged.
    """
    if rule not in RULES:
        raise UserError(f"evaluation.Overlap.rule is {rule!r}: give one of {', '.join(RULES)}.")
    path = path_of(directory, task, split)
    if not path.exists():
        raise UserError(
            f"there are no flags of task {task!r}, split {split!r}, at '{path}': "
            f"`t5x-like overlap --train TASK --test {task} --test_split={split} "
            f"--out={directory}` makes them."
        )
    try:
        head, *lines = map(json.loads, files.read_whole(path).decode("utf-8").splitlines())
        dirty = {str(line["text"]): line[rule] for line in lines}
        wrong = len(lines) != head["examples"] or not {True, False} >= set(dirty.values())
        described = f"{rule}, n {head['n']}, of {', '.join(head['train'])}"
    except (ValueError, LookupError, TypeError, RecursionError):
        wrong = True
    if wrong:
        raise UserError(f"'{path}' is damaged: run `t5x-like overlap` again.")
    return Flags(str(path), dirty, described)
