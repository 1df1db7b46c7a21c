"""How often words occur: what word2vec draws, drops and orders words by."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tasks.errors import TaskError

Subsampling = Literal["released", "paper"]
# As in the released code; a longer code needs counts that grow as the Fibonacci numbers do.
LONGEST_CODE = 40


def word_counts(spec: Mapping[str, Any], name: str) -> np.ndarray:
    """How often each id's word occurs, int64 `[vocab_size]`; 0 where an id is no word.

    Args:
      spec: of a vocabulary.
      name: of who asks, for errors.

    Raises:
      TaskError: the vocabulary has no counts.
    """
    found, size = spec.get("counts"), spec["vocab_size"]
    first: Any = spec.get("first_word_id")
    if not found:
        raise TaskError(
            f"{name} needs to know how often each word occurs, and the vocabulary does not tell: "
            "make one by `t5x-like vocab --model_type=words`, and give "
            "--gin_file=tasks/vocabularies/words.gin and its VOCABULARY_PATH."
        )
    try:
        counts = np.zeros(size, np.int64)
        counts[first : first + len(found)] = found
        if min(found) > 0:
            return counts
    except (TypeError, ValueError, OverflowError):
        pass
    raise TaskError(
        f"{name}: the counts of words that the cache's task.json has are not {size} numbers above "
        "0: build the cache again."
    )


def keep_probabilities(counts: np.ndarray, threshold: float, rule: Subsampling) -> np.ndarray:
    """With which probability a word stays in its text, float64 of the shape of `counts`.

    Args:
      counts: how often each word occurs, int; of 0, the probability is 0.
      threshold: t, of the share f of a word in the text; 0 keeps all.
      rule: "released", `(sqrt(f / t) + 1) t / f`, or "paper", `sqrt(t / f)` (Mikolov et al. 2013b,
        section 2.3, equation 5).
    """
    if not threshold:
        return (counts > 0).astype(np.float64)
    share = np.where(counts > 0, counts / counts.sum(), np.inf)
    ratio = threshold / share
    kept = np.sqrt(ratio) + (ratio if rule == "released" else 0)
    return np.minimum(kept, 1.0)


def noise_distribution(counts: np.ndarray, exponent: float) -> np.ndarray:
    """How likely each word is drawn as noise: in proportion to a power of its count, float64.

    Args:
      counts: how often each word occurs; of 0, it is never drawn.
      exponent: 0.75 in word2vec (Mikolov et al. 2013b, section 2.2).
    """
    weights = np.where(counts > 0, counts.astype(np.float64) ** exponent, 0.0)
    return weights / weights.sum()


def huffman_paths(counts: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each word's path from the root of a Huffman tree: the nodes, and which way it leaves them.

    The tree is that of the released code: of equal counts a node is taken before a word, and of
    two words the later one first.

    Args:
      counts: of the words, falling; at least two.

    Returns:
      Nodes, int32 `[words, longest]`, numbered from 0 as they were made, so that the root is
      `words - 2`; and signs, int32 of this shape: 1 where the code is 0, -1 where it is 1, and 0
      beyond the word.

    Raises:
      TaskError: fewer than two words, or a code is longer than `LONGEST_CODE`.
    """
    words = len(counts)
    if words < 2:
        raise TaskError(f"hierarchical softmax needs two words; the vocabulary has {words}.")
    order = np.argsort(-np.asarray(counts, np.int64), kind="stable").tolist()
    size = [int(counts[i]) for i in order]
    node_size: list[int] = []
    parent = [0] * (2 * words - 1)
    bit = [0] * (2 * words - 1)
    word, node = words - 1, 0
    for new in range(words - 1):
        pair = []
        for _ in range(2):
            if word >= 0 and (node >= len(node_size) or size[word] < node_size[node]):
                pair.append((word, size[word]))
                word -= 1
            else:
                pair.append((words + node, node_size[node]))
                node += 1
        (first, small), (second, large) = pair
        node_size.append(small + large)
        parent[first] = parent[second] = words + new
        bit[second] = 1
    return _paths(words, order, parent, bit)


def _paths(
    words: int, order: Sequence[int], parent: Sequence[int], bit: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    root = 2 * words - 2
    found: dict[int, list[tuple[int, int]]] = {}
    for i in range(words):
        path: list[tuple[int, int]] = []
        at = i
        while at != root:
            path.append((parent[at] - words, 1 - 2 * bit[at]))
            at = parent[at]
        found[order[i]] = path[::-1]
    longest = max(map(len, found.values()))
    if longest > LONGEST_CODE:
        raise TaskError(
            f"a word's code in the Huffman tree has {longest} digits, above {LONGEST_CODE}: leave "
            "the rarest words out (t5x-like vocab --min_count)."
        )
    nodes, signs = (np.zeros((words, longest), np.int32) for _ in range(2))
    for i, path in found.items():
        nodes[i, : len(path)] = [node for node, _ in path]
        signs[i, : len(path)] = [sign for _, sign in path]
    return nodes, signs
