"""MultiRC: several answers to a question, of which any number is right."""

from collections.abc import Hashable, Sequence

from tasks.metrics.arguments import check_lengths, is_list, numbers, refused
from tasks.metrics.classification import f1

_BY = "needed, as postprocessors.GroupedLabel makes it of a text"


def multirc(
    targets: Sequence[tuple[Hashable, int]], predictions: Sequence[int]
) -> dict[str, float]:
    """MultiRC's `f1a`, of all answers, and `em`, the share of questions of which all are right.

    As SuperGLUE reports it (Khashabi et al. 2018, section 4; Wang et al. 2019). Of a part of a
    question's answers the exact match is too high: evaluation leaves it out where rows are left
    out, as `of_whole_groups` says.

    Args:
      targets: for each answer its question, whatever tells it from others, and 1 where it is right,
        else 0.
      predictions: 0 or 1; anything else is wrong.
    """
    check_lengths(targets, predictions)
    for target in targets:
        if not is_list(target) or len(target) != 2:
            raise refused("multirc", target, f"a pair of question and label is {_BY}")
    numbers("multirc", [*predictions, *(label for _, label in targets)], f"a label is {_BY}")
    questions: dict[Hashable, bool] = {}
    for (question, label), prediction in zip(targets, predictions, strict=True):
        questions[question] = questions.get(question, True) and label == prediction
    return {
        "f1a": f1([label for _, label in targets], predictions)["f1"],
        "em": 100 * sum(questions.values()) / len(questions),
    }


multirc.of_whole_groups = ("em",)  # type: ignore[attr-defined]
