"""Metrics of candidates in order."""

from collections.abc import Sequence

import numpy as np

from tasks.errors import TaskError
from tasks.metrics.arguments import Numbers, check_lists, numbers, refused

_LISTS = "a list of numbers is needed, one for each of what is ranked, as {} has it"


def ndcg(
    targets: Sequence[Sequence[float]],
    predictions: Sequence[Sequence[float]],
    k: int | None = 10,
    exponential: bool = False,
) -> dict[str, float]:
    """Normalized discounted cumulative gain of each query's first `k` candidates: `ndcg@10`.

    A candidate at place r, counted from 1, gains its relevance by log2(r + 1); the sum is divided
    by that of the best order (Järvelin and Kekäläinen 2002). Candidates of equal score share the
    mean of their gains. A query without a relevant candidate counts 0.

    Args:
      targets: the relevance of each candidate of each query, 0 or more.
      predictions: their scores, the best one the highest.
      k: how many places count; None for all, and the name `ndcg`.
      exponential: whether the gain is 2^relevance − 1 (Burges et al. 2005), and not the relevance.

    Raises:
      TaskError: a query has not as many scores as candidates, or a negative relevance.
    """
    check_lists("ndcg", targets, predictions, _LISTS.format("a ranker that is called in Python"))
    if k is not None and k < 1:
        raise TaskError(f"ndcg got k {k}: 1 or more places count, or all (None).")
    found = []
    for relevance, scores in zip(targets, predictions, strict=True):
        gains, values = numbers("ndcg", relevance), numbers("ndcg", scores)
        if (gains < 0).any():
            raise refused("ndcg", float(gains.min()), "relevances of 0 or more are needed")
        if exponential:
            gains = 2**gains - 1
        discounts = 1 / np.log2(np.arange(len(gains)) + 2)
        discounts[len(gains) if k is None else k :] = 0
        best = _cumulative(gains, gains, discounts)
        found.append(_cumulative(gains, values, discounts) / best if best else 0.0)
    return {"ndcg" if k is None else f"ndcg@{k}": 100 * float(np.mean(found))}


def pairwise_accuracy(
    targets: Sequence[Sequence[float]], predictions: Sequence[Sequence[float]]
) -> dict[str, float]:
    """How often the better one of two answers to a prompt has the higher reward.

    Over all pairs of answers of different rank, of which equal rewards count a half; and with
    `prompt_accuracy` the mean over prompts, of which each counts as much as another.

    Args:
      targets: the rank of each answer to each prompt, the lowest of the best.
      predictions: their rewards.

    Raises:
      TaskError: a prompt has not as many rewards as answers.
    """
    check_lists(
        "pairwise_accuracy", targets, predictions, _LISTS.format("tasks/comparisons_jsonl.gin")
    )
    right, pairs = np.zeros(len(targets)), np.zeros(len(targets))
    for i, (ranks, rewards) in enumerate(zip(targets, predictions, strict=True)):
        rank, reward = (numbers("pairwise_accuracy", each) for each in (ranks, rewards))
        better = rank[:, None] < rank
        pairs[i] = better.sum()
        right[i] = (better * (0.5 + 0.5 * np.sign(reward[:, None] - reward))).sum()
    told = pairs > 0
    if not told.any():
        return {}
    return {
        "pairwise_accuracy": 100 * float(right.sum() / pairs.sum()),
        "prompt_accuracy": 100 * float((right[told] / pairs[told]).mean()),
    }


def _cumulative(gains: Numbers, scores: Numbers, discounts: Numbers) -> float:
    """The discounted gains in the order of scores, those of equal scores averaged; NaN of NaN."""
    if np.isnan(scores).any():
        return float("nan")
    _, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    means = np.bincount(group, gains, len(sizes)) / sizes
    until = np.concatenate([[0.0], np.cumsum(discounts)])
    ends = np.cumsum(sizes)
    return float(means @ (until[ends] - until[ends - sizes]))
