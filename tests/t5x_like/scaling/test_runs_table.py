"""Runs as they are written down elsewhere: names of columns, holes, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from t5x_like.errors import UserError
from t5x_like.scaling import runs_table
from t5x_like.scaling.runs_table import from_frame, read_runs

ROWS = {"N": [10**8, 2 * 10**8], "D": [10**9, 3 * 10**9], "loss": [3.5, 3.25]}


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "header", ["N,D,loss", "params,tokens,Loss", "Model Size,Training Tokens,loss", "n,d,val-loss"]
)
def test_columns_are_known_by_their_usual_names(tmp_path, header):
    frame = read_runs(write(tmp_path / "runs.csv", f"{header}\n1e8,1e9,3.5\n")).frame
    assert frame[["parameters", "tokens", "flops", "loss"]].values.tolist() == [
        [1e8, 1e9, 6e17, 3.5]
    ]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_all_formats_give_the_same_table(tmp_path, suffix):
    frame, path = pd.DataFrame(ROWS), tmp_path / f"runs.{suffix}"
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "parquet": lambda: frame.to_parquet(path),
    }[suffix]()
    pd.testing.assert_frame_equal(read_runs(path).frame, from_frame(frame).frame)


def test_integers_do_not_overflow():
    # 6 · 7e10 · 1.4e12 = 5.88e23, beyond int64's 9.2e18.
    frame = from_frame(pd.DataFrame({"N": [70 * 10**9], "D": [14 * 10**11], "loss": [1.9]})).frame
    assert frame["flops"].item() == 5.88e23
    assert all(frame[name].dtype == np.float64 for name in ("parameters", "tokens", "flops"))


def test_the_one_of_n_d_and_c_that_is_missing_is_made_from_the_others():
    of_c = from_frame(pd.DataFrame({"N": [1e8], "C": [6e17], "loss": [3.0]}))
    assert of_c.frame["tokens"].item() == 1e9 and of_c.flops_given
    of_n = from_frame(pd.DataFrame({"D": [1e9], "C": [6e17], "loss": [3.0]}))
    assert of_n.frame["parameters"].item() == 1e8


def test_experts_that_a_token_does_not_pass_cost_no_flops():
    rows = {"N": [8e8], "active_parameters": [1e8], "D": [1e9], "loss": [3.0]}
    assert from_frame(pd.DataFrame(rows)).frame["flops"].item() == 6e17


def test_rows_that_cannot_be_used_are_listed_with_the_reason(tmp_path):
    path = write(
        tmp_path / "runs.csv",
        "name,N,D,loss\na,1e8,1e9,3.5\nb,1e8,1e9,nan\nc,,1e9,3.5\nd,1e8,-1,3.5\ne,1e8,1e9,inf\n",
    )
    table = read_runs(path)
    assert list(table.frame["name"]) == ["a"]
    assert table.left_out == [
        {"row": 2, "name": "b", "reason": "loss is missing or NaN"},
        {"row": 3, "name": "c", "reason": "N is missing or NaN"},
        {"row": 4, "name": "d", "reason": "D is -1, not above 0"},
        {"row": 5, "name": "e", "reason": "loss is infinite"},
    ]


def test_rows_say_what_they_count_as_n():
    columns = {**ROWS, "parameters_without_embeddings": [8 * 10**7, 19 * 10**7]}
    assert from_frame(pd.DataFrame(ROWS)).parameters_kind == "unknown"
    assert from_frame(pd.DataFrame(columns)).parameters_kind == "total"
    without = {name: values for name, values in columns.items() if name != "N"}
    assert from_frame(pd.DataFrame(without)).parameters_kind == "without_embeddings"
    # The second row's total is its count without embeddings again.
    columns["N"] = [10**8, 19 * 10**7]
    assert from_frame(pd.DataFrame(columns)).parameters_kind == "mixed"


def test_a_file_without_losses_says_what_it_found_and_what_is_accepted(tmp_path):
    path = write(tmp_path / "runs.csv", "N,D,perplexity\n1,2,3\n")
    with pytest.raises(UserError, match="no column of loss: found N, D, perplexity; accepted"):
        read_runs(path)
    path = write(tmp_path / "typo.csv", "N,D,losses\n1,2,3\n")
    with pytest.raises(UserError, match=r"is it 'losses'\?.*final_loss, val_loss"):
        read_runs(path)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("runs.csv", "N,D,loss\n1e8,1e9,3.5\n1e8,much,3\n", "row 2: 'much' in the column 'D'"),
        ("runs.csv", "D,loss\n1e9,3\n", "no column of model size"),
        ("runs.csv", "N,loss\n1e9,3\n", "no column of tokens or FLOPs"),
        ("runs.csv", "", "cannot be read"),
        ("runs.xlsx", "", "must be one of .csv, .tsv, .jsonl, .parquet"),
        ("runs.jsonl", "{", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, name, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_runs(write(tmp_path / name, text))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no file or directory .*nothing\.csv"):
        read_runs(tmp_path / "nothing.csv")


def test_one_variant_is_taken_out_of_a_table():
    table = from_frame(pd.DataFrame({**ROWS, "variant": ["serial", "parallel"]}))
    assert table.variants() == ["serial", "parallel"]
    assert list(table.of_variant("parallel").frame["loss"]) == [3.25]
    with pytest.raises(UserError, match="'moe'; there are 'serial', 'parallel'"):
        table.of_variant("moe")


def test_a_sweeps_cells_that_are_not_done_are_left_out(tmp_path, monkeypatch):
    from t5x_like.scaling.sweeps import results

    cells = pd.DataFrame(
        {
            "name": ["small", "large"], "variant": "", "status": ["done", "running"],
            "parameters": [1e8, 2e8], "tokens": [1e9, 1e9], "flops": [6e17, 1.2e18],
            "loss": [3.5, np.nan],
        }
    )  # fmt: skip
    monkeypatch.setattr(results, "sweep_results", lambda place: cells)
    monkeypatch.setattr(results, "training_curves", lambda place: cells.iloc[:0])
    table = runs_table.read_runs(tmp_path)
    assert list(table.frame["name"]) == ["small"]
    assert table.left_out == [{"row": 2, "name": "large", "reason": "the run is running"}]


def test_json_lines_may_have_holes(tmp_path):
    lines = [{"N": 1e8, "D": 1e9, "loss": 3.5}, {"N": 1e8, "D": None, "loss": 3.5}]
    path = write(tmp_path / "runs.jsonl", "\n".join(map(json.dumps, lines)))
    assert read_runs(path).left_out == [
        {"row": 2, "name": "row 2", "reason": "D is missing or NaN"}
    ]
