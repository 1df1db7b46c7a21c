"""What an evaluation keeps while it runs, so that one which is killed goes on where it was."""

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from t5x_like.checkpoints import load_metadata
from t5x_like.checkpoints.checksums import checksums
from t5x_like.distributed.startup import gather_json
from t5x_like.host import files, journal
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import FrozenSource, Model, Params

_ENDING = ".partial.jsonl"


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
            line = f"step {step}  {task} {split}  goes on after {len(entries):,} batches"
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
