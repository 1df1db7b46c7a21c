"""`t5x-like cooccur`: how often the words of a cached task stand near one another.

The counts are written as a sparse matrix, or as vectors of its largest singular values.
"""

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from t5x_like.errors import UserError

_MATRIX, _VECTORS = ".npz", (".txt", ".txt.gz", ".vec")
_OF_VECTORS = ("dimensions", "transform", "power", "form")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("task", nargs="?", help="name; MIXTURE_OR_TASK_NAME by default")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="NAME.npz, the counts, for scipy.sparse.load_npz; or with --dimensions NAME.txt, "
        "vectors of words as text",
    )
    parser.add_argument("--split", default="train", help="of the task")
    parser.add_argument(
        "--window", type=int, help="words to each side; by default the task's WINDOW, or 10"
    )
    parser.add_argument(
        "--weighting",
        choices=("harmonic", "ramp", "flat"),
        help="of a meeting at distance d: 1 / d, WINDOW + 1 - d, or 1; by default the task's "
        "WEIGHTING, or harmonic",
    )
    parser.add_argument(
        "--one_sided", action="store_true", default=None, help="count the words before alone"
    )
    parser.add_argument("--dimensions", type=int, help="write vectors of so many singular values")
    parser.add_argument(
        "--transform",
        choices=("none", "log", "ppmi", "correlation"),
        help="of the counts, before they are decomposed; ppmi by default",
    )
    parser.add_argument("--power", type=float, help="of the singular values; 1 by default")
    parser.add_argument("--form", choices=("word2vec", "glove"), help="of the text; word2vec")


def run(options: argparse.Namespace, config: Any) -> None:
    """Counts, and writes the counts or the vectors.

    Raises:
      UserError: the file's name is of neither, there are several tasks, the task has no cache, or
        no two words meet.
    """
    from t5x_like.cli.caching import tasks_of, verifies_source
    from t5x_like.data import check_source
    from t5x_like.data.cache.status import require_cache
    from t5x_like.data.cache.token_stream import TokenStream
    from t5x_like.data.cache.vocabularies import vocabulary_specs
    from t5x_like.data.cooccurrence import pair_counts

    _check(options)
    options.task = [options.task] if options.task else []
    task, *others = tasks_of(options, config)
    if others:
        names = ", ".join(one.name for one in (task, *others))
        raise UserError(f"words of one task are counted, and there are {names}: name one of them.")
    if "targets" not in task.output_features:
        raise UserError(f"task {task.name!r} has no feature 'targets', whose words are counted.")
    settings = _settings(options, task)
    verify = verifies_source(config)
    if options.dry_run:
        check_source(task, config.macro("CACHE_DIR"), verify_source=verify)
        print(f"the words of {task.name} {options.split} would be counted: {settings}")
        return
    folder = require_cache(task, config.macro("CACHE_DIR"), options.split, verify_source=verify)
    counting: Any = settings.bind(vocabulary_specs(task, folder))
    stream = TokenStream(folder, options.split, "targets", counting.eos_id)
    counts = pair_counts(folder, options.split, stream, counting)
    vocabulary = task.output_features["targets"].vocabulary
    ids = [i for i in range(counting.vocab_size) if i not in counting.no_words]
    words = [vocabulary.decode([i]).strip() for i in ids]
    matrix = counts.matrix()
    if options.dimensions is None:
        _write_matrix(matrix, dict(zip(ids, words, strict=True)), options.out)
        print(f"{options.out}: {matrix.nnz:,} pairs of words in {len(stream):,} tokens")
        return
    _write_vectors(matrix[ids][:, ids], words, options)


def _settings(options: argparse.Namespace, task: Any) -> Any:
    """What is counted: as the flags say, else as the task has it."""
    from tasks import objectives

    own = getattr(task, "learned", None)
    settings = own if isinstance(own, objectives.Cooccurrences) else objectives.Cooccurrences()
    sided = None if options.one_sided is None else not options.one_sided
    asked = {"window": options.window, "weighting": options.weighting, "symmetric": sided}
    given = {name: value for name, value in asked.items() if value is not None}
    return dataclasses.replace(settings, **given)


def _check(options: argparse.Namespace) -> None:
    out = str(options.out)
    if options.dimensions is None:
        given = [name for name in _OF_VECTORS if getattr(options, name) is not None]
        if given:
            raise UserError(f"--{given[0]} is of vectors: give --dimensions too.")
        if not out.endswith(_MATRIX):
            raise UserError(f"--out={out}: counts are written to NAME{_MATRIX}.")
    elif not out.endswith(_VECTORS):
        raise UserError(f"--out={out}: vectors are written to NAME{' or NAME'.join(_VECTORS)}.")


def _write_matrix(matrix: Any, words: Mapping[int, str], out: str) -> None:
    """The matrix as SciPy saves it, and `words`, the text of each row."""
    from t5x_like.host import files

    of_rows = [words.get(i, "") for i in range(matrix.shape[0])]
    where = files.location(out)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(where) as file:
            np.savez_compressed(
                file,
                format=np.array(b"csr"),
                shape=np.array(matrix.shape),
                data=matrix.data,
                indices=matrix.indices,
                indptr=matrix.indptr,
                words=np.array(of_rows),
            )
    except OSError as error:
        raise UserError(f"'{out}' cannot be written: {error.strerror or error}.") from None


def _write_vectors(matrix: Any, words: list[str], options: argparse.Namespace) -> None:
    from t5x_like import vectors

    # Words that never occur, and tokens without text, have no row.
    met = np.diff(matrix.indptr) > 0
    kept = [i for i, word in enumerate(words) if word and met[i]]
    matrix = vectors.transformed(matrix[kept][:, kept], options.transform or "ppmi")
    power = 1.0 if options.power is None else options.power
    found = vectors.WordVectors(
        tuple(words[i] for i in kept), vectors.svd_vectors(matrix, options.dimensions, power)
    )
    vectors.write_vectors(found, options.out, options.form or "word2vec")
    print(f"{options.out}: {len(kept):,} words, {options.dimensions} dimensions")
