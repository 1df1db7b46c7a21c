"""What an evaluation keeps while it runs, so that one which is killed resumes where it was."""

import contextlib
import hashlib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from t5x_like.checkpoints import load_metadata
from t5x_like.checkpoints.checksums import checksums
from t5x_like.decoding.generate import fetched
from t5x_like.distributed.startup import gather_json
from t5x_like.host import files, journal
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Carry, FrozenSource, Model, Params

_ENDING = ".partial.jsonl"

# Batches after which the state that a model carries is kept.
STRETCH = 16
# Of a batch: the summed metrics with their weights, and the moments of the rows' losses.
Measured = tuple[dict[str, tuple[Any, Any]], dict[str, Any]]


class Journals:
    """The journals of an evaluation, one for each checkpoint, task and split.

    Those of another model, other parameters, or another machine have another name: nothing of them
    is taken, and they are gone once this evaluation is whole. What is measured, and how, needs no
    name of its own, since a result is known by all that decides it.

    Args:
      directory: where `eval/` is.
    """

    def __init__(self, directory: epath.Path) -> None:
        self._directory = directory
        self._opened: list[journal.FileJournal] = []

    def open(self, task: str, split: str, step: int, identity: str) -> journal.Journal:
        """The journal of one task's split; a collective.

        Args:
          task: its name.
          split: its name.
          step: of the checkpoint.
          identity: see `identity_of`.
        """
        leads = jax.process_index() == 0
        path = folder_of(self._directory, task, split) / f"{step}.{identity}{_ENDING}"
        entries = gather_json(journal.read(path) if leads else {})[0]
        if entries and leads:
            line = f"step {step}  {task} {split}  resumes after {len(entries):,} batches"
            print(f"{line} of an evaluation that was interrupted", file=sys.stderr, flush=True)
        opened = journal.FileJournal(path, entries, writes=leads)
        self._opened.append(opened)
        return opened

    def close(self) -> None:
        """Makes everything visible."""
        for one in self._opened:
            one.close()

    def remove(self) -> None:
        """Removes what this evaluation has kept, and what others of its checkpoints have left."""
        self.close()
        if jax.process_index() == 0:
            for one in self._opened:
                step = one.path.name.partition(".")[0]
                for path in one.path.parent.glob(f"{step}.*{_ENDING}"):
                    path.unlink(missing_ok=True)
                _remove_empty(one.path.parent, self._directory)
        self._opened.clear()


def key_of_parts(known: journal.Journal, settings: str, part: Mapping[str, Any]) -> str:
    """The key of a batch of which each process has a part, the same in all; a collective.

    Args:
      known: what the key is of.
      settings: see `Journal.key`.
      part: this process's arrays by name.
    """
    own = known.key(settings, part)
    if jax.process_count() == 1 or not own:
        return own
    return known.key(" ".join(gather_json(own)), {})


def as_arrays(measured: Sequence[Measured], carry: Carry = None) -> dict[str, np.ndarray]:
    """What batches give, and what is carried at their end, by names that tell them apart.

    Args:
      measured: of each batch, fetched.
      carry: in every process, whose parts are joined; a collective.
    """
    found: dict[str, Any] = {}
    for number, (metrics, moments) in enumerate(measured):
        for name, (value, weight) in metrics.items():
            found |= {f"value {number} {name}": value, f"weight {number} {name}": weight}
        found |= {f"moment {number} {name}": value for name, value in moments.items()}
    for number, leaf in enumerate(jax.tree.leaves(carry)):
        found[f"carry {number} "] = fetched(leaf)
    return {name: np.asarray(value) for name, value in found.items()}


def of_arrays(arrays: Mapping[str, np.ndarray]) -> list[Measured]:
    """What batches gave, of what `as_arrays` made of it."""
    found: list[Measured] = []
    for name, array in arrays.items():
        kind, number, own = name.split(" ", 2)
        if kind == "carry":
            continue
        if int(number) == len(found):
            found.append(({}, {}))
        metrics, moments = found[int(number)]
        if kind == "value":
            metrics[own] = array, arrays[f"weight {number} {own}"]
        elif kind == "moment":
            moments[own] = array
    return found


def _carry_of_arrays(arrays: Mapping[str, np.ndarray], like: Carry) -> Carry:
    """What was carried, placed as `like` is."""
    leaves, tree = jax.tree.flatten(like)
    placed = [
        jax.make_array_from_callback(
            leaf.shape, leaf.sharding, arrays[f"carry {number} "].__getitem__
        )
        for number, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, placed)


def of_batches(
    measured: Callable[..., Any],
    batches: Iterable[Mapping[str, np.ndarray]],
    known: journal.Journal,
) -> Iterator[tuple[str | None, Measured]]:
    """What each batch gives, and under which key that is to be kept; None where it is kept.

    Args:
      measured: gives a batch's metrics, moments, and what is carried.
      batches: this process's rows of each.
      known: what is known of them.
    """
    for rows in batches:
        key = key_of_parts(known, "loss", rows)
        if kept := known.get(key):
            yield None, of_arrays(kept)[0]
        else:
            yield key, measured(rows)[:2]


def of_carried(
    measured: Callable[..., Any],
    begun: Callable[[Mapping[str, np.ndarray]], Carry],
    batches: Iterable[Mapping[str, np.ndarray]],
    known: journal.Journal,
) -> Iterator[tuple[str | None, Measured]]:
    """The same of a model that carries a state from batch to batch, which has been kept already.

    What a stretch of batches gives depends on all before it, and is kept with the state at its end.

    Args:
      measured: see `of_batches`; takes what is carried too.
      begun: what the first batch begins with.
      batches: see `of_batches`.
      known: see `of_batches`.
    """
    key, carry, left = "", None, iter(batches)
    length = 1 if known is journal.NO_JOURNAL else STRETCH
    while stretch := list(itertools.islice(left, length)):
        part = {f"{n} {name}": x for n, rows in enumerate(stretch) for name, x in rows.items()}
        key = key_of_parts(known, f"loss after {key}", part)
        carry = begun(stretch[0]) if carry is None else carry
        if kept := known.get(key):
            found, carry = of_arrays(kept), _carry_of_arrays(kept, carry)
        else:
            found = []
            for rows in stretch:
                *one, carry = measured(rows, carry)
                found.append((one[0], one[1]))
            if known is not journal.NO_JOURNAL:
                known.put(key, as_arrays(jax.device_get(found), carry))
        yield from ((None, one) for one in found)


def folder_of(directory: epath.Path, task: str, split: str) -> epath.Path:
    """Where the predictions of a task's split are, below the directory of `eval/`."""
    return directory / "eval" / task.replace(":", "/") / split


def _remove_empty(folder: epath.Path, below: epath.Path) -> None:
    """Removes a folder and those around it, below a directory, as far as nothing is in them."""
    if files.is_remote(folder):
        return  # a store has no folders
    with contextlib.suppress(OSError):
        while folder != below:
            Path(folder).rmdir()
            folder = folder.parent


def identity_of(
    model: Model,
    params: Params,
    path: str,
    step: int | None,
    partitioner: Partitioner,
    frozen: Mapping[str, FrozenSource],
) -> str:
    """A digest of everything that decides what a batch gives, but the batch and what is asked.

    Args:
      model: any.
      params: its parameters, which were read from `path`.
      path: a run, or one checkpoint below it.
      step: of the checkpoint; None for the newest, or the one that `path` is.
      partitioner: the mesh.
      frozen: where the parameters of other models are read.
    """
    recorded = load_metadata(path, step).get("checksums", {}).get("params")
    devices = partitioner.mesh.devices
    parts: list[Any] = [
        re.sub(r" at 0x[0-9a-f]+", "", repr(model)),
        checksums(params) if recorded is None else recorded,
        {name: source.fingerprint() for name, source in frozen.items()},
        [jax.__version__, os.environ.get("XLA_FLAGS", ""), os.environ.get("LIBTPU_INIT_ARGS", "")],
        [devices.flat[0].device_kind, jax.process_count(), dict(partitioner.mesh.shape)],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
