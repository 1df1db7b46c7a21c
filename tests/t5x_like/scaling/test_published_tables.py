"""What T5's paper prints of its studies, and that every row has its variant."""

import json

import pandas as pd
import pytest

from t5x_like import config
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.errors import UserError
from t5x_like.scaling.comparison import beside, compared
from t5x_like.scaling.published_tables import COLUMNS, names, published
from t5x_like.scaling.report.analysis import analyse
from t5x_like.scaling.report.page import page_text
from t5x_like.scaling.report.summary import as_json, report_text
from t5x_like.scaling.report.sweep_runs import from_frames
from t5x_like.scaling.report.tables import all_tables
from t5x_like.scaling.sweeps.plan_format import mistake

# The columns that the paper prints in bold, of rows of tables 6, 7 and 10.
BOLD = {
    ("raffel2020_rates", "10%"): "GLUE SQuAD EnDe EnRo",
    ("raffel2020_rates", "15%"): "GLUE SQuAD SGLUE EnDe EnFr EnRo",
    ("raffel2020_rates", "25%"): "GLUE CNNDM SQuAD EnDe EnFr EnRo",
    ("raffel2020_rates", "50%"): "EnDe EnFr EnRo",
    ("raffel2020_spans", "Baseline (i.i.d.)"): "GLUE EnDe EnFr EnRo",
    ("raffel2020_spans", "3 tokens"): "GLUE CNNDM SQuAD SGLUE EnDe EnRo",
    ("raffel2020_finetuning", "Adapter layers, d = 128"): "",
    ("raffel2020_finetuning", "Gradual unfreezing"): "SGLUE",
}


@pytest.mark.parametrize(("place", "bold"), BOLD.items())
def test_ties_are_what_the_paper_prints_in_bold(place, bold):
    name, wanted = place
    (row,) = (row for row in published(name).rows if row.row == wanted)
    assert set(row.tied) == set(bold.split())


def test_a_score_exactly_two_deviations_away_is_no_tie():
    """Table 2: 83.28 - 82.81 = 0.47 of GLUE, 2 x .235; of SQuAD .25 < .686."""
    row = published("raffel2020_architectures").of("shared")
    assert row.scores["GLUE"] == 82.81 and "GLUE" not in row.tied
    assert "SQuAD" in row.tied and "EnDe" not in row.tied


def test_the_best_is_that_of_the_papers_own_table():
    """BERT-style is the best of table 4, and in table 5 held against the baseline."""
    objectives = published("raffel2020_objectives")
    assert objectives.of("bert").table == "5" and "GLUE" not in objectives.of("bert").tied
    of_table_4 = [row for row in objectives.rows if row.table == "4"]
    assert "GLUE" in next(row for row in of_table_4 if row.row == "BERT-style").tied
    assert objectives.deviations == dict(
        zip(COLUMNS, (0.235, 0.065, 0.343, 0.416, 0.112, 0.09, 0.108), strict=True)
    )
    assert objectives.source == "Raffel et al. 2020, tables 4 and 5"


def of_gin_file(name):
    """The study that a sweep's file names, and the names of its variants."""
    with config.isolated():
        config.parse([f"sweeps/{name}.gin"], [("SWEEP_DIR", "none"), ("TRAIN_FILES", "none")])
        sweep = config.macro("SWEEP")
    return sweep.published, [variant.name for variant in sweep.variants]


def test_every_row_is_that_of_a_variant_of_a_packaged_sweep():
    """A name that no variant has would leave out a row without a word."""
    found = {}
    for path in sorted((packaged_gin_configs() / "sweeps").glob("t5_*.gin")):
        if path.stem == "t5_study":  # what the others include
            continue
        study, variants = of_gin_file(path.stem)
        assert study is not None, path
        found[study] = variants
    assert found.keys() == set(names())
    for study, variants in found.items():
        rows = [row.variant for row in published(study).rows if row.variant]
        assert len(rows) == len(set(rows)) >= 2
        assert set(rows) <= set(variants), study


def test_an_unknown_study_is_one_line_with_the_nearest():
    with pytest.raises(UserError, match=r"no published study 'raffel2020_span': .*2020_spans"):
        published("raffel2020_span")
    plan = {"name": "x", "family": None, "cells": [], "published": 3}
    assert mistake(plan) == "its published is 3"


@pytest.fixture
def analysis(sweeps):
    losses = {"encoder_decoder": (2.0, 2.1), "shared": (2.05, 2.2), "sharde": (3.0, 3.1)}
    rows = [
        {
            **sweeps.cell(variant, 1e6, 1e7, loss),
            **{"name": f"{variant}-base-s{seed}", "seed": seed},
            **{"num_layers": None, "embed_dim": None, "num_heads": None},
            "start": {"cell": f"pretrain-base-s{seed}", "step": 8},
        }
        for variant, found in losses.items()
        for seed, loss in enumerate(found)
    ]
    cells = pd.DataFrame(rows)
    of_sweep = from_frames(
        cells,
        sweeps.curves_of(cells),
        name="architectures",
        published_name="raffel2020_architectures",
    )
    return analyse(of_sweep, bootstrap=0)


def test_the_papers_rows_stand_beside_ours(analysis):
    study = analysis.sweep.published
    table = beside(compared(analysis.sweep.done, pd.DataFrame()), study).set_index("setting")
    assert table.loc["shared", "validation loss"].startswith("2.125 ± 0.106")
    assert table.loc["shared", ["row of the paper", "GLUE", "SQuAD"]].tolist() == [
        *("Enc-dec, shared, denoising", "82.81", "80.63 *"),
    ]
    assert table.loc["encoder_decoder", "GLUE"] == "83.28 *"
    assert set(table.loc["sharde", ["row of the paper", *COLUMNS]]) == {"–"}


def test_page_terminal_and_json_say_whose_numbers_they_are(analysis):
    text = page_text(analysis, all_tables(analysis))
    assert "<h3>Beside Raffel et al. 2020, table 2</h3>" in text
    assert "at its size: an encoder-decoder of 220 million parameters" in text
    assert "Enc-dec, shared, denoising" in text and "80.63 *" in text
    found = json.loads(json.dumps(as_json(analysis)))["published"]
    assert [row["variant"] for row in found["rows"]] == ["encoder_decoder", "shared"]
    assert found["rows"][1]["scores"]["EnRo"] == 27.46 and "EnRo" in found["rows"][1]["tied"]
    lines = report_text({**as_json(analysis), "files": ["index.html"]}).splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("Raffel et al. 2020, table 2"))
    assert "at its size (an encoder-decoder of 220 million parameters" in lines[at]
    assert lines[at + 1].split() == ["variant", "row", "of", "the", "paper", *COLUMNS]
    of_shared = ("shared", "Enc-dec, shared, denoising", "82.81 ", "18.78 ", "80.63*")
    assert [text for text in of_shared if text not in lines[at + 3]] == []


def test_a_sweep_without_one_has_none(sweeps):
    cells = sweeps.shape_cells()
    found = as_json(analyse(from_frames(cells, sweeps.curves_of(cells), name="x"), bootstrap=0))
    assert found["published"] is None
