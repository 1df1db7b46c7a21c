"""GLUE's averages, of the rows of published tables and the last column beside them."""

import pytest

from tasks import glue
from tasks.errors import TaskError
from tasks.glue_averages import AVERAGES, bert_average, leaderboard_score, task_of

# Devlin et al. 2019, table 1, test: MNLI-m/mm, QQP, QNLI, SST-2, CoLA, STS-B, MRPC, RTE.
TABLE_1 = {
    "pre-OpenAI SOTA": ((80.6, 80.1, 66.1, 82.3, 93.2, 35.0, 81.0, 86.0, 61.7), 74.0),
    "OpenAI GPT": ((82.1, 81.4, 70.3, 87.4, 91.3, 45.4, 80.0, 82.3, 56.0), 75.1),
    "BERT base": ((84.6, 83.4, 71.2, 90.5, 93.5, 52.1, 85.8, 88.9, 66.4), 79.6),
    "BERT large": ((86.7, 85.9, 72.1, 92.7, 94.9, 60.5, 86.5, 89.3, 70.1), 82.1),
}
# The leaderboard as Liu et al. 2019 (MT-DNN) and StructBERT's authors print it: CoLA, SST-2, MRPC,
# STS-B, QQP, MNLI-m/mm, QNLI, RTE, WNLI.
LEADERBOARD = {
    "BERT large": (60.5, 94.9, 89.3, 85.4, 87.6, 86.5, 72.1, 89.3, 86.7, 85.9, 92.7, 70.1, 65.1),
    "MT-DNN, not fine-tuned": (
        58.9, 94.6, 90.1, 86.4, 89.5, 88.8, 72.7, 89.6, 86.5, 85.8, 93.1, 79.1, 65.1,
    ),
    "MT-DNN": (62.5, 95.6, 91.1, 88.2, 89.5, 88.8, 72.7, 89.6, 86.7, 86.0, 93.1, 81.4, 65.1),
    "StructBERT base": (
        57.2, 94.7, 89.9, 86.1, 88.5, 87.6, 72.0, 89.6, 85.5, 84.6, 92.6, 76.9, 65.1,
    ),
}  # fmt: skip
SCORES = dict(zip(LEADERBOARD, (80.5, 81.7, 82.7, 80.9), strict=True))


def of_table_1(row):
    mnli, mismatched, qqp, qnli, sst2, cola, stsb, mrpc, rte = row
    return {
        "glue_mnli": {"accuracy": mnli},
        "glue_mnli_mismatched": {"accuracy": mismatched},
        "glue_qqp": {"f1": qqp},
        "glue_qnli": {"accuracy": qnli},
        "glue_sst2": {"accuracy": sst2},
        "glue_cola": {"matthews_corrcoef": cola},
        "glue_stsb": {"spearman_corrcoef": stsb},
        "glue_mrpc": {"f1": mrpc},
        "glue_rte": {"accuracy": rte},
    }


def of_leaderboard(row):
    cola, sst2, f1, accuracy, pearson, spearman, qqp_f1, qqp, m, mm, qnli, rte, wnli = row
    return {
        "glue_cola_labels": {"matthews_corrcoef": cola},
        "glue_sst2_labels": {"accuracy": sst2},
        "glue_mrpc_labels": {"f1": f1, "accuracy": accuracy},
        "glue_stsb_labels": {"pearson_corrcoef": pearson, "spearman_corrcoef": spearman},
        "glue_qqp_labels": {"f1": qqp_f1, "accuracy": qqp},
        "glue_mnli_labels": {"accuracy": m},
        "glue_mnli_mismatched_labels": {"accuracy": mm},
        "glue_qnli_labels": {"accuracy": qnli},
        "glue_rte_labels": {"accuracy": rte},
        "glue_wnli_labels": {"accuracy": wnli},
    }


@pytest.mark.parametrize("system", TABLE_1)
def test_berts_average_is_of_nine_numbers(system):
    row, printed = TABLE_1[system]
    assert bert_average(of_table_1(row)) == pytest.approx(sum(row) / 9)
    assert bert_average(of_table_1(row)) == pytest.approx(printed, abs=0.051)


def test_the_row_of_elmo_is_rounded_up_in_print():
    row = (76.4, 76.1, 64.8, 79.8, 90.4, 36.0, 73.3, 84.9, 56.8)  # printed: 71.0
    assert bert_average(of_table_1(row)) == pytest.approx(70.94, abs=0.005)


@pytest.mark.parametrize("system", LEADERBOARD)
def test_the_leaderboards_score_is_of_nine_tasks(system):
    results = of_leaderboard(LEADERBOARD[system])
    assert leaderboard_score(results) == pytest.approx(SCORES[system], abs=0.05)


def test_the_two_differ_on_the_same_numbers():
    results = of_leaderboard(LEADERBOARD["BERT large"])
    assert leaderboard_score(results) == pytest.approx(724.7 / 9)  # by hand
    assert bert_average(results) == pytest.approx(738.7 / 9)


def test_what_is_missing_is_named_and_other_tasks_do_not_count():
    results = of_leaderboard(LEADERBOARD["MT-DNN"])
    del results["glue_wnli_labels"], results["glue_mrpc_labels"]["accuracy"]
    expected = bert_average(results)
    assert bert_average({**results, "squad": {"f1": 1.0}}) == expected
    with pytest.raises(TaskError, match=r"needs accuracy of mrpc, accuracy of wnli too"):
        leaderboard_score(results)


def test_the_names_are_those_of_the_registered_tasks():
    assert {task_of(f"glue_{name}{end}") for name in glue.TASKS for end in ("", "_labels")} == set(
        glue.TASKS
    )
    assert task_of("glue_stsb_labels") == "stsb" and task_of("mrpc") is task_of("glue_x") is None
    assert set(AVERAGES) == {"bert_average", "leaderboard_score"}
