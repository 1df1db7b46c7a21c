"""GLUE and SuperGLUE as one number each. Papers print several of GLUE, all as "GLUE".

| | `bert_average` | `leaderboard_score` | `t5_average` |
|---|---|---|---|
| of | nine numbers | nine tasks | eight tasks |
| MNLI | matched and mismatched, a number each | one task: the mean of both | one task |
| WNLI | left out | counted | left out |
| MRPC, QQP | F1 | the mean of F1 and accuracy | that mean |
| STS-B | Spearman's correlation | the mean of Pearson's and Spearman's | that mean |

They differ by a point or more. Of SuperGLUE there is one, `super_glue_score`: the mean of eight
tasks, of CB the mean of F1 and accuracy, of MultiRC that of F1a and exact match, of ReCoRD that of
F1 and exact match. The diagnostic sets (AX) are in none of them.
"""

import dataclasses
from collections.abc import Callable, Mapping

from tasks.errors import TaskError

Results = Mapping[str, Mapping[str, float]]
"""Task to metric to value, in percent; names as those of `glue_mrpc` or `glue_mrpc_labels`."""
Metrics = Mapping[str, tuple[str, ...]]
"""Of each task the metrics whose mean it counts with."""

_ACCURACY, _F1, _MATTHEWS = ("accuracy",), ("f1",), ("matthews_corrcoef",)
_SPEARMAN, _BOTH = ("spearman_corrcoef",), ("pearson_corrcoef", "spearman_corrcoef")

_OF_BERT: Metrics = {
    "mnli": _ACCURACY, "mnli_mismatched": _ACCURACY, "qqp": _F1, "qnli": _ACCURACY,
    "sst2": _ACCURACY, "cola": _MATTHEWS, "stsb": _SPEARMAN, "mrpc": _F1, "rte": _ACCURACY,
}  # fmt: skip
_OF_T5: Metrics = {
    "cola": _MATTHEWS, "sst2": _ACCURACY, "mrpc": (*_F1, *_ACCURACY), "stsb": _BOTH,
    "qqp": (*_F1, *_ACCURACY), "mnli": _ACCURACY, "mnli_mismatched": _ACCURACY,
    "qnli": _ACCURACY, "rte": _ACCURACY,
}  # fmt: skip
_OF_LEADERBOARD: Metrics = {**_OF_T5, "wnli": _ACCURACY}
_OF_SUPER_GLUE: Metrics = {
    "boolq": _ACCURACY, "cb": ("macro_f1", *_ACCURACY), "copa": _ACCURACY, "multirc": ("f1a", "em"),
    "record": (*_F1, "em"), "rte": _ACCURACY, "wic": _ACCURACY, "wsc": _ACCURACY,
}  # fmt: skip


def bert_average(results: Results) -> float:
    """The "Average" of BERT's table 1 (Devlin et al. 2019), and of papers that compare with it.

    Args:
      results: of nine tasks, MNLI's two included.

    Raises:
      TaskError: a task or a metric is missing.
    """
    return _mean(_numbers(results, _OF_BERT, glue_task))


def leaderboard_score(results: Results) -> float:
    """The score of GLUE's leaderboard (Wang et al. 2019), the last column of its table.

    Args:
      results: of all tasks, MNLI's two and WNLI included.

    Raises:
      TaskError: a task or a metric is missing.
    """
    return _mean(_mnli_once(_numbers(results, _OF_LEADERBOARD, glue_task)))


def t5_average(results: Results) -> float:
    """The "GLUE" of T5's comparisons on validation splits (Raffel et al. 2020, section 3).

    Args:
      results: of all tasks but WNLI, MNLI's two included.

    Raises:
      TaskError: a task or a metric is missing.
    """
    return _mean(_mnli_once(_numbers(results, _OF_T5, glue_task)))


def super_glue_score(results: Results) -> float:
    """The score of SuperGLUE's leaderboard (Wang et al. 2019b), and of T5's tables.

    Args:
      results: of the eight tasks.

    Raises:
      TaskError: a task or a metric is missing.
    """
    return _mean(_numbers(results, _OF_SUPER_GLUE, super_glue_task))


def glue_task(name: str) -> str | None:
    """Which of GLUE's tasks a registered one is, `mrpc` of `glue_mrpc_labels`; None of another.

    `glue_wnli_wsc` is WNLI too.
    """
    found = name.removeprefix("glue_").removesuffix("_labels").removesuffix("_wsc")
    return found if found in _OF_LEADERBOARD and name.startswith("glue_") else None


def super_glue_task(name: str) -> str | None:
    """Which of SuperGLUE's tasks a registered one is, `cb` of `super_glue_cb`; None of another."""
    found = name.removeprefix("super_glue_")
    return found if found in _OF_SUPER_GLUE and name.startswith("super_glue_") else None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A benchmark with its averages.

    Attributes:
      title: what it is called.
      example: the name of one of its tasks.
      task_of: which of its tasks a registered one is, or None.
      averages: by name.
    """

    title: str
    example: str
    task_of: Callable[[str], str | None]
    averages: Mapping[str, Callable[[Results], float]]


GLUE = Benchmark(
    "GLUE",
    "glue_mrpc_labels",
    glue_task,
    {
        "bert_average": bert_average,
        "leaderboard_score": leaderboard_score,
        "t5_average": t5_average,
    },
)
SUPER_GLUE = Benchmark(
    "SuperGLUE", "super_glue_cb", super_glue_task, {"super_glue_score": super_glue_score}
)


def _numbers(
    results: Results, wanted: Metrics, task_of: Callable[[str], str | None]
) -> dict[str, float]:
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


def _mnli_once(numbers: Mapping[str, float]) -> dict[str, float]:
    once = dict(numbers)
    once["mnli"] = (once["mnli"] + once.pop("mnli_mismatched")) / 2
    return once


def _mean(numbers: Mapping[str, float]) -> float:
    return sum(numbers.values()) / len(numbers)
