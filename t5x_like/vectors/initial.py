"""Starts a run with a table of tokens that is read from a file of words' vectors."""

import dataclasses

import jax
import numpy as np

from t5x_like.errors import UserError
from t5x_like.optimizers import Optimizer
from t5x_like.partitioning import Partitioner, path_name
from t5x_like.protocols import Mixture, Model, Task
from t5x_like.training import state
from t5x_like.training.state import TrainState
from t5x_like.vectors.text_format import read_vectors


@dataclasses.dataclass(frozen=True)
class InitialVectors:
    """The file from which a table of tokens takes its rows; other parameters start fresh.

    A token has the vector of the word that it stands for, and zeros where the file has none, as
    words have that GloVe does not know in CoVe (McCann et al. 2017). The run's first line says how
    many have one.

    Attributes:
      path: text of word2vec's or GloVe's form, gzipped if the name ends with .gz.
      parameter: name of the table, such as `token_embedder/embedding`.
      feature: of the task, whose vocabulary the table is of; None is its first.
      lower_case: a word that the file has not as it is has the vector of its lower-cased form, for
        files of lower-cased words such as GloVe's of Wikipedia.
    """

    path: str
    parameter: str
    feature: str | None = None
    lower_case: bool = False


@dataclasses.dataclass(frozen=True)
class InitialTable:
    """A table of tokens and where its rows come from.

    Attributes:
      values: float32 of the parameter's shape.
      origin: the file, and how many of the vocabulary's tokens it has, in words.
    """

    values: np.ndarray
    origin: str


def initial_table(source: InitialVectors, model: Model, task: Task | Mixture) -> InitialTable:
    """Reads a table of tokens.

    Args:
      source: what is asked for.
      model: which has the table.
      task: whose tokens it is of; of a mixture the first counts.

    Raises:
      UserError: the model has no such table, the task no such feature, vectors are of another
        size, or there is none for any token.
    """
    leaves = jax.tree_util.tree_leaves_with_path(
        model.abstract_params(), is_leaf=lambda leaf: hasattr(leaf, "names")
    )
    tables = {
        path_name(path): leaf.value.shape
        for path, leaf in leaves
        if leaf.names == ("vocab", "embed")
    }
    if source.parameter not in tables:
        raise UserError(
            f"InitialVectors.parameter is '{source.parameter}': the tables of tokens of "
            f"{type(model).__name__} are {', '.join(sorted(tables)) or 'none'}."
        )
    first, _ = task.tasks[0]
    features = first.output_features
    feature = next(iter(features)) if source.feature is None else source.feature
    if feature not in features:
        raise UserError(
            f"InitialVectors.feature is '{feature}': task '{first.name}' has {', '.join(features)}."
        )
    vectors = read_vectors(source.path)
    rows, size = tables[source.parameter]
    if vectors.vectors.shape[1] != size:
        raise UserError(
            f"'{source.path}' has vectors of {vectors.vectors.shape[1]} numbers, where "
            f"'{source.parameter}' has {size}: set the model's embed_dim to as many."
        )
    vocabulary = features[feature].vocabulary
    num_tokens = min(rows, vocabulary.vocab_size)
    table, num_known = np.zeros((rows, size), np.float32), 0
    for i in range(num_tokens):
        word = vocabulary.decode([i]).strip()
        row = vectors.index.get(word)
        if row is None and source.lower_case:
            row = vectors.index.get(word.lower())
        if row is not None:
            table[i] = vectors.vectors[row]
            num_known += 1
    if not num_known:
        raise UserError(
            f"'{source.path}' has no vector of any token of '{feature}': its words must be those "
            "of the task's vocabulary, such as tasks/vocabularies/words.gin gives it."
        )
    origin = f"{source.path}, which has {num_known:,} of {num_tokens:,} tokens"
    return InitialTable(table, origin)


def vectors_state(
    source: InitialVectors,
    model: Model,
    task: Task | Mixture,
    optimizer: Optimizer,
    partitioner: Partitioner,
    seed: int,
) -> tuple[TrainState, str]:
    """Makes a state at step 0 with one table of `source`, and says where that comes from.

    Raises:
      UserError: see `initial_table`.
    """
    table = initial_table(source, model, task)

    def chosen(path: jax.tree_util.KeyPath, leaf: jax.Array) -> jax.Array:
        if path_name(path) != source.parameter:
            return leaf
        return jax.device_put(table.values.astype(leaf.dtype), leaf.sharding)

    made = state.create_state(model, optimizer, partitioner, seed).params
    params = jax.tree_util.tree_map_with_path(chosen, made)
    return state.state_from_params(params, model, optimizer, partitioner), table.origin
