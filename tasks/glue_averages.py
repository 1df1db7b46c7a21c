"""GLUE as one number. Papers print two that differ by a point or more, both as "GLUE".

| | `bert_average` | `leaderboard_score` |
|---|---|---|
| of | nine numbers | nine tasks |
| MNLI | matched and mismatched, a number each | one task: the mean of both |
| WNLI | left out | counted |
| MRPC, QQP | F1 | the mean of F1 and accuracy |
| STS-B | Spearman's correlation | the mean of Pearson's and Spearman's |

The diagnostic set (AX) is in neither.
"""

from collections.abc import Callable, Mapping

from tasks.errors import TaskError

Results = Mapping[str, Mapping[str, float]]
"""Task to metric to value, in percent; names as those of `glue_mrpc` or `glue_mrpc_labels`."""

_ACCURACY, _F1, _MATTHEWS = ("accuracy",), ("f1",), ("matthews_corrcoef",)
_SPEARMAN, _BOTH = ("spearman_corrcoef",), ("pearson_corrcoef", "spearman_corrcoef")

# Tasks of each average with the metrics whose mean a task counts with.
_OF_BERT: Mapping[str, tuple[str, ...]] = {
    "mnli": _ACCURACY, "mnli_mismatched": _ACCURACY, "qqp": _F1, "qnli": _ACCURACY,
    "sst2": _ACCURACY, "cola": _MATTHEWS, "stsb": _SPEARMAN, "mrpc": _F1, "rte": _ACCURACY,
}  # fmt: skip
_OF_LEADERBOARD: Mapping[str, tuple[str, ...]] = {
    "cola": _MATTHEWS, "sst2": _ACCURACY, "mrpc": (*_F1, *_ACCURACY), "stsb": _BOTH,
    "qqp": (*_F1, *_ACCURACY), "mnli": _ACCURACY, "mnli_mismatched": _ACCURACY,
    "qnli": _ACCURACY, "rte": _ACCURACY, "wnli": _ACCURACY,
}  # fmt: skip


def bert_average(results: Results) -> float:
    """The "Average" of BERT's table 1 (Devlin et al. 2019), and of papers that compare with it.

    Args:
      results: of nine tasks, MNLI's two included.

    Raises:
      TaskError: a task or a metric is missing.
    """
    numbers = _numbers(results, _OF_BERT)
    return sum(numbers.values()) / len(numbers)


def leaderboard_score(results: Results) -> float:
    """The score of GLUE's leaderboard (Wang et al. 2019), the last column of its table.

    Args:
      results: of all tasks, MNLI's two and WNLI included.

    Raises:
      TaskError: a task or a metric is missing.
    """
    numbers = _numbers(results, _OF_LEADERBOARD)
    numbers["mnli"] = (numbers["mnli"] + numbers.pop("mnli_mismatched")) / 2
    return sum(numbers.values()) / len(numbers)


AVERAGES: Mapping[str, Callable[[Results], float]] = {
    "bert_average": bert_average,
    "leaderboard_score": leaderboard_score,
}


def task_of(name: str) -> str | None:
    """Which of GLUE's tasks a registered one is, `mrpc` of `glue_mrpc_labels`; None of another."""
    found = name.removeprefix("glue_").removesuffix("_labels")
    return found if found in _OF_LEADERBOARD and name.startswith("glue_") else None


def _numbers(results: Results, wanted: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """What each task counts with.

    Raises:
      TaskError: names all that is missing.
    """
    found = {task: values for name, values in results.items() if (task := task_of(name))}
    missing = [
        f"{metric} of {task}"
        for task, metrics in wanted.items()
        for metric in metrics
        if metric not in found.get(task, {})
    ]
    if missing:
        raise TaskError(f"this average needs {', '.join(missing)} too.")
    return {
        task: sum(found[task][metric] for metric in metrics) / len(metrics)
        for task, metrics in wanted.items()
    }
