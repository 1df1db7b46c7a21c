"""GLUE's and SuperGLUE's averages, of rows of published tables and the average beside them."""

import pytest

from tasks.errors import TaskError
from tasks.glue import glue, super_glue
from tasks.glue.averages import (
    GLUE,
    SUPER_GLUE,
    bert_average,
    glue_task,
    leaderboard_score,
    super_glue_score,
    super_glue_task,
    t5_average,
)

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
# Raffel et al. 2020, table 14, test, in the leaderboard's order: means of the columns, printed as
# 77.4, 82.7, 86.4 and 88.5; of 11B 89.7 in the paper's first version and 90.3 in its last.
T5 = {
    "small": (
        (41.0, 91.8, 89.7, 86.6, 85.6, 85.0, 70.0, 88.0, 82.4, 82.3, 90.3, 69.9, 69.2), 77.44,
    ),
    "base": (
        (51.1, 95.2, 90.7, 87.5, 89.4, 88.6, 72.6, 89.4, 87.1, 86.2, 93.7, 80.1, 78.8), 82.74,
    ),
    "large": (
        (61.2, 96.3, 92.4, 89.9, 89.9, 89.2, 73.9, 89.9, 89.9, 89.6, 94.8, 87.2, 85.6), 86.38,
    ),
    "3B": (
        (67.1, 97.4, 92.5, 90.0, 90.6, 89.8, 74.4, 89.8, 91.4, 91.2, 96.3, 91.1, 89.7), 88.49,
    ),
    "11B": (
        (70.8, 97.1, 91.9, 89.2, 92.5, 92.1, 74.6, 90.4, 92.0, 91.7, 96.7, 92.5, 93.2), 89.72,
    ),
    "11B, later": (
        (71.6, 97.5, 92.8, 90.4, 93.1, 92.8, 75.1, 90.6, 92.2, 91.9, 96.9, 92.8, 94.5), 90.31,
    ),
}  # fmt: skip
# The same table: BoolQ, CB F1 and accuracy, COPA, MultiRC F1a and EM, ReCoRD F1 and accuracy, RTE,
# WiC, WSC. It prints 88.9 for the last, whose columns have a mean of 89.25.
SUPER_GLUE_OF_T5 = {
    "small": ((76.4, 56.9, 81.6, 46.0, 69.3, 26.3, 56.3, 55.4, 73.3, 66.9, 70.5), 63.25),
    "base": ((81.4, 86.2, 94.0, 71.2, 79.7, 43.1, 75.0, 74.2, 81.5, 68.3, 80.8), 76.16),
    "large": ((85.4, 91.6, 94.8, 83.4, 83.3, 50.7, 86.8, 85.9, 87.8, 69.3, 86.3), 82.34),
    "3B": ((89.9, 90.3, 94.4, 92.0, 86.8, 58.3, 91.2, 90.4, 90.7, 72.1, 90.4), 86.35),
    "11B": ((91.2, 93.9, 96.8, 94.8, 88.1, 63.3, 94.1, 93.4, 92.5, 76.9, 93.8), 89.25),
    # Table 16's baseline, validation.
    "baseline": (
        (76.62, 91.22, 91.96, 66.20, 66.13, 25.78, 69.05, 68.16, 75.34, 68.04, 78.56), 71.36,
    ),
}  # fmt: skip


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


def of_super_glue(row):
    boolq, cb_f1, cb, copa, f1a, em, record_f1, record, rte, wic, wsc = row
    return {
        "super_glue_boolq": {"accuracy": boolq},
        "super_glue_cb": {"macro_f1": cb_f1, "accuracy": cb},
        "super_glue_copa": {"accuracy": copa},
        "super_glue_multirc": {"f1a": f1a, "em": em},
        "super_glue_record": {"f1": record_f1, "em": record},
        "super_glue_rte": {"accuracy": rte},
        "super_glue_wic": {"accuracy": wic},
        "super_glue_wsc": {"accuracy": wsc},
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


@pytest.mark.parametrize("size", T5)
def test_t5s_scores_are_the_leaderboards(size):
    row, mean = T5[size]
    text = {name.removesuffix("_labels"): found for name, found in of_leaderboard(row).items()}
    assert leaderboard_score(text) == pytest.approx(mean, abs=0.005)


def test_t5_compares_without_wnli():
    # Table 16's baseline, validation: 83.28.
    row = (53.84, 92.68, 92.07, 88.92, 88.02, 87.94, 88.67, 91.56, 84.24, 84.57, 90.48, 76.28, 0)
    results = of_leaderboard(row)
    del results["glue_wnli_labels"]
    assert t5_average(results) == pytest.approx(83.28, abs=0.005)


@pytest.mark.parametrize("size", SUPER_GLUE_OF_T5)
def test_super_glues_score_is_of_eight_tasks(size):
    row, mean = SUPER_GLUE_OF_T5[size]
    assert super_glue_score(of_super_glue(row)) == pytest.approx(mean, abs=0.005)


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
    with pytest.raises(TaskError, match=r"needs accuracy of boolq, macro_f1 of cb, accuracy of cb"):
        super_glue_score({})


def test_the_names_are_those_of_the_registered_tasks():
    names = {glue_task(f"glue_{name}{end}") for name in glue.TASKS for end in ("", "_labels")}
    assert names == set(glue.TASKS)
    assert glue_task("glue_stsb_labels") == "stsb" and glue_task("glue_wnli_wsc") == "wnli"
    assert glue_task("mrpc") is glue_task("glue_x") is glue_task("super_glue_rte") is None
    assert set(GLUE.averages) == {"bert_average", "leaderboard_score", "t5_average"}
    learned = [super_glue_task(name) for name in super_glue.RATES]
    assert learned == ["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc", None]
    assert super_glue_task("super_glue_axb") is super_glue_task("glue_rte") is None
    assert set(SUPER_GLUE.averages) == {"super_glue_score"}
