"""Means over seeds, and ties, by T5's tables."""

import numpy as np
import pandas as pd
import pytest

from t5x_like.scaling.comparison import compared, wide
from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.summary import as_json, report_text
from t5x_like.scaling.report.sweep_runs import from_frames
from t5x_like.scaling.report.tables import all_tables

# Raffel et al. 2020, table 5, objectives: GLUE's average and exact matches of SQuAD. The baseline's
# standard deviations are those of table 1.
OBJECTIVES = {
    "prefix_lm": (80.69, 77.99),
    "bert_style": (82.96, 80.65),
    "deshuffling": (73.17, 67.61),
    "mass_style": (82.32, 80.10),
    "replace_spans": (83.28, 80.88),
    "drop_tokens": (84.44, 80.52),
}
DEVIATIONS = (0.235, 0.343)


def measured():
    """The runs: two seeds of the baseline, a standard deviation apart about its mean over √2."""
    cells, rows = [], []
    for setting, scores in OBJECTIVES.items():
        for seed in (0, 1) if setting == "replace_spans" else (0,):
            name = f"{setting}-s{seed}"
            loss = 2.0 + len(cells) / 10
            cells.append({"name": name, "variant": setting, "seed": float(seed), "loss": loss})
            sign = 0 if setting != "replace_spans" else 1 if seed else -1
            for task, score, deviation in zip(("glue", "squad"), scores, DEVIATIONS, strict=True):
                value = score + sign * deviation / np.sqrt(2)
                about = {"split": "validation", "metric": "score", "value": value}
                rows.append({"name": name, "variant": setting, "task": task, **about})
    return pd.DataFrame(cells), pd.DataFrame(rows)


def of(table, task):
    return table[table["task"] == task].set_index("setting")


def test_ties_are_what_t5s_table_prints_in_bold():
    table = compared(*measured())
    glue, squad = of(table, "glue"), of(table, "squad")
    assert glue["pooled_deviation"].to_numpy() == pytest.approx(0.235)
    assert glue.index[glue["tied"]].tolist() == ["drop_tokens"]  # 83.28 is 1.16 below
    assert glue.index[glue["best"]].tolist() == ["drop_tokens"]
    assert squad.index[squad["best"]].tolist() == ["replace_spans"]
    assert squad.index[squad["tied"]].tolist() == ["bert_style", "replace_spans", "drop_tokens"]
    row = squad.loc["replace_spans"]
    assert (row["seeds"], row["mean"]) == (2, pytest.approx(80.88))
    assert row["deviation"] == pytest.approx(0.343)
    assert np.isnan(squad.loc["prefix_lm", "deviation"])


def test_the_deviation_is_pooled_over_settings_by_hand():
    """Two of 3 seeds, variances 1 and 4: the root of (2 1 + 2 4) / 4; the lowest loss is best."""
    losses = {"a": (1.0, 2.0, 3.0), "b": (4.0, 6.0, 8.0), "c": (9.0,)}
    cells = pd.DataFrame(
        [
            {"name": f"{name}-s{seed}", "variant": name, "seed": seed, "loss": loss}
            for name, found in losses.items()
            for seed, loss in enumerate(found)
        ]
    )
    table = of(compared(cells, pd.DataFrame()), "validation")
    assert table["pooled_deviation"].to_numpy() == pytest.approx(np.sqrt(2.5))
    assert table["mean"].tolist() == [2, 6, 9]
    assert table["best"].tolist() == [True, False, False]
    assert table["tied"].tolist() == [True, False, False]  # 4 is more than twice 1.58
    assert wide(compared(cells, pd.DataFrame()))["validation loss"].tolist() == [
        *("2 ± 1 *", "6 ± 2", "9"),
    ]


def test_what_a_seed_adds_to_all_settings_is_no_scatter_of_their_differences():
    """Rows (1, 3), (2, 6), columns' means 1.5 and 4.5: what is left is ±0.5, of 1 freedom."""
    cells = pd.DataFrame(
        [
            {"name": f"{name}-s{seed}", "variant": name, "seed": seed, "loss": loss}
            for name, found in {"a": (1.0, 3.0), "b": (2.0, 6.0)}.items()
            for seed, loss in enumerate(found)
        ]
    )
    table = compared(cells, pd.DataFrame())
    assert table["block_deviation"].to_numpy() == pytest.approx(1.0)
    assert table["block_freedom"].tolist() == [1, 1]
    assert table["difference"].tolist() == [0, 2]
    assert table["reach"].to_numpy() == pytest.approx([np.nan, 12.7062], rel=1e-4, nan_ok=True)
    assert wide(compared(cells, pd.DataFrame()))["against a"].tolist() == ["–", "+2 ± 13"]
    fewer = compared(cells.iloc[:3], pd.DataFrame())  # no second seed of b
    assert fewer["block_deviation"].isna().all() and fewer["block_freedom"].tolist() == [0, 0]


def test_another_baseline_may_be_asked_for_and_each_split_has_its_column():
    cells, rows = measured()
    table = compared(cells, rows, "drop_tokens")
    assert set(table["against"]) == {"drop_tokens"}
    glue = of(table, "glue")
    assert glue.loc["replace_spans", "difference"] == pytest.approx(83.28 - 84.44)
    assert glue["reach"].isna().tolist() == [name == "drop_tokens" for name in glue.index]
    assert wide(table)["against drop_tokens"].iloc[-1] == "–"
    test = rows[rows["task"] == "glue"].assign(split="test", value=10.0)
    shown = wide(compared(cells, pd.concat([rows, test])))
    assert {"glue validation score", "glue test score", "squad score"} <= set(shown.columns)
    assert shown["glue test score"].str.startswith("10").all()


def test_of_a_models_diagnostics_none_is_best():
    cells, rows = measured()
    load = rows[rows["task"] == "glue"].assign(metric="expert_load_max")
    table = compared(cells, pd.concat([rows, load]))
    assert "expert_load_max" not in set(table["metric"])
    term = rows[rows["task"] == "glue"].assign(metric="masked_language_model")
    lowest = compared(cells, term).query("metric == 'masked_language_model' and best")
    assert lowest["setting"].tolist() == [min(OBJECTIVES, key=lambda name: OBJECTIVES[name][0])]


def test_without_a_second_seed_nothing_ties():
    cells = pd.DataFrame(
        [{"name": n, "variant": n, "seed": 0.0, "loss": v} for n, v in (("a", 1.0), ("b", 1.0001))]
    )
    table = compared(cells, pd.DataFrame())
    assert table["tied"].tolist() == [True, False]
    assert compared(cells.iloc[:1], pd.DataFrame()).empty


def test_a_report_of_stages_compares_and_fits_nothing(sweeps):
    rows = [
        {
            **sweeps.cell(variant, 1e6, 1e7, loss),
            **{"name": f"{variant}-base-s{seed}", "seed": seed},
            **{"num_layers": None, "embed_dim": None, "num_heads": None},
            "start": {"cell": f"pretrain-base-s{seed}", "step": 8},
        }
        for variant, losses in {"all": (2.0, 2.1), "adapters": (2.5, 2.8)}.items()
        for seed, loss in enumerate(losses)
    ]
    cells = pd.DataFrame(rows)
    analysis = analyse(from_frames(cells, sweeps.curves_of(cells), name="methods"))
    assert not analysis.fits and analysis.multipliers is None and not analysis.notes
    tables = all_tables(analysis)
    assert tables["comparison"]["mean"].tolist() == pytest.approx([2.05, 2.65])
    text = page_text(analysis, tables)
    assert "methods: comparison" in text and "2.05 ± 0.0707 *" in text and "Laws" not in text
    said = report_text({**as_json(analysis), "files": ["index.html"]})
    assert "validation loss: all 2.05 ± 0.0707 (2 seeds, best)" in said
    # Differences of .5 and .7, whose standard error is .1, times Student's t of 1 freedom.
    against = "+0.6 ± 1.3 against all"
    assert f"validation loss: adapters 2.65 ± 0.212 (2 seeds; {against})" in said
