"""Tables that no law can be fitted to, and questions that have no plan."""

import pytest

HEAD = "parameters,tokens,loss\n"
RUNS = [(n * 1e6, d * 1e7, 2 + n**-0.3 + d**-0.3) for n in (1, 2, 4) for d in (1, 2, 4)]


def table(*rows):
    return HEAD + "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (table(*RUNS[:2]), ["2 runs can be used", "it needs 5"]),
        (table(), ["no run that can be used"]),
        ("", ["cannot be read", "No columns"]),
        (table(*((n, d, "nan") for n, d, _ in RUNS)), ["all 9 rows", "loss is missing or NaN"]),
        (table(*((n, -d, loss) for n, d, loss in RUNS)), ["no run", "not above 0"]),
        (table(*((n, d, "inf") for n, d, _ in RUNS)), ["no run", "loss is infinite"]),
        (table((1e6, "many", 3), *RUNS), ["row 1: 'many' in the column 'tokens' is not a number"]),
        (table(*RUNS, (1e6, 1e7, "low")), ["row 10: 'low' in the column 'loss' is not a number"]),
        (table(*RUNS).replace("loss", "los"), ["no column of loss (is it 'los'?)"]),
        (table(*RUNS).replace("parameters", "width"), ["no column of model size"]),
        ("\x00\x01\x02", ["no column of loss"]),
    ],
)
def test_a_table_that_no_law_can_be_fitted_to(refused, tmp_path, text, words):
    path = tmp_path / "runs.csv"
    path.write_text(text)
    refused(["fit", path], "runs.csv" if "runs can" not in words[0] else "", *words)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("runs.jsonl", b'{"loss": 3\n', "cannot be read"),
        ("runs.parquet", b"PAR1 but no more", "cannot be read"),
        ("runs.csv", b"loss\xff\n", "cannot be read"),
        ("runs.txt", b"loss\n3\n", "must be one of .csv, .tsv, .jsonl, .parquet"),
    ],
)
def test_a_file_that_holds_no_table(refused, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    refused(["fit", path], str(path), said)


def test_a_table_that_is_not_there(refused, tmp_path):
    refused(["fit", tmp_path / "nowhere.csv"], f"no file or directory {tmp_path}/nowhere.csv")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method=approach4"], ["no method 'approach4'", "nearest: approach3"]),
        (["--variant=wide"], ["no run is of the variant 'wide'"]),
        (["--at_flops=many"], ["--at_flops takes FLOPs like 1e21,1e22, not 'many'"]),
        (["--drop_highest=9"], ["runs"]),
        (["--bootstrap=-1"], ["bootstrap", "-1"]),
        (["--huber_delta=0"], ["huber_delta", "0"]),
        (["--bootstrap=few"], ["--bootstrap: invalid int value: 'few'"]),
    ],
)
def test_a_fit_that_cannot_be_made(refused, tmp_path, flags, words):
    path = tmp_path / "runs.csv"
    path.write_text(table(*RUNS))
    refused(["fit", path, *flags], *words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["one of --flops, --parameters, --tokens and --loss", "found none"]),
        (["--flops=-3"], ["--flops: '-3' is not a number above 0", "1.4T"]),
        (["--flops=1e21", "--law=hofman"], ["no law 'hofman'", "hoffmann2022_approach1"]),
        (
            ["--flops=1e21", "--family=bert"],
            ["'bert' has no file of shapes", "those that have"],
        ),
        (["--flops=1e21", "--family=gofer"], ["no family 'gofer'", "Did you mean gopher"]),
        (["--flops=1e21", "--chips=v5p-3"], ["--chips=v5p-3", "a multiple of 2"]),
        (["--flops=1e21", "--mfu=0"], ["mfu"]),
        (["--flops=1e21", "--row_tokens=0"], ["--row_tokens=0: at least 1"]),
        (["--loss=0.1"], ["0.1"]),
    ],
)
def test_a_question_that_has_no_plan(refused, flags, words):
    refused(["plan", *flags], *words)
