"""Which beginnings of texts are read once for all texts that begin so."""

from collections.abc import Sequence

import numpy as np

from t5x_like.data.formats.prompts import Tokens


def shared_prefixes(texts: Sequence[Tokens], most: Sequence[int], batch_size: int) -> np.ndarray:
    """How many tokens of each text are read together with those of other texts.

    Texts of the same beginning share what is read of it, and each reads the rest for itself. Which
    beginnings are worth it is decided by the number of tokens that are read in all: options share
    their question, and one-token answers to short questions their examples, too. In the tree of the
    texts, from its leaves to its root, either all below a branch share what they have in common, or
    each branch below has decided for itself, whichever reads less.

    Args:
      texts: token ids.
      most: how many tokens of each text may be shared, at least 1.
      batch_size: texts of a batch, each of which reads its beginnings anew.

    Returns:
      int64 `[texts]`, from 1 to `most`.
    """
    keys = [np.asarray(text, ">i4").tobytes() for text in texts]
    order = sorted(range(len(texts)), key=keys.__getitem__)
    bounds = [most[i] for i in order]
    read = np.concatenate([[0], np.cumsum([len(texts[i]) for i in order])])
    shared = np.array(bounds, np.int64)
    # Subtrees that are not complete yet: how much all texts share, the first one, and what is read.
    open_subtrees: list[tuple[int, int, int]] = []
    for last, i in enumerate(order):
        depth = -1
        if last + 1 < len(order):
            common = _common(keys[i], keys[order[last + 1]])
            depth = min(common, bounds[last], bounds[last + 1])
        first, total = last, len(texts[i])
        while open_subtrees and open_subtrees[-1][0] > depth:
            common, first, before = open_subtrees.pop()
            total += before
            count = last + 1 - first
            together = common * -(-count // batch_size) - count * common
            together += int(read[last + 1] - read[first])
            if together < total:
                total = together
                shared[first : last + 1] = common
        if open_subtrees and open_subtrees[-1][0] == depth:
            _, first, before = open_subtrees.pop()
            total += before
        open_subtrees.append((depth, first, total))
    found = np.empty_like(shared)
    found[order] = shared
    return found


def _common(one: bytes, other: bytes) -> int:
    """How many tokens two texts have in common at their beginnings."""
    size = min(len(one), len(other)) // 4
    differ = np.frombuffer(one, np.int32, size) != np.frombuffer(other, np.int32, size)
    return int(differ.argmax()) if differ.any() else size
