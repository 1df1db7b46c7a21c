"""`t5x-like ngram`: a MODEL_DIR like any other, measured on the same tokens as any other model."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from models.ngrams.smoothing import Smoothing
from t5x_like import cli, load_run
from t5x_like.checkpoints import host_params
from t5x_like.cli.corpus.ngram import SMOOTHINGS
from t5x_like.data import DatasetConfig, open_evaluation

ORDER = 3


@pytest.fixture(scope="module")
def flags(corpus):
    """The flags of the task of proverbs, without those of a model."""
    return corpus[1:]


@pytest.fixture(scope="module")
def counted(flags, tmp_path_factory):
    """The MODEL_DIR of Kneser-Ney trigrams of bytes, and their ARPA file."""
    folder = tmp_path_factory.mktemp("ngram")
    own = [f"--order={ORDER}", "--smoothing=kneser_ney", f"--arpa={folder}/model.arpa"]
    arguments = [
        *flags,
        *own,
        f"--gin.MODEL_DIR={folder}/run",
        "--gin.smoothing.KneserNey.discount=0.7",
    ]
    assert cli.main(["ngram", *arguments]) == 0
    return folder / "run", folder / "model.arpa"


def by_hand(rows, order, discount, predictable):
    """Interpolated Kneser-Ney of rows, each after the start token, from the equations."""
    kinds = [{} for _ in range(order + 1)]  # history -> token -> count, or tokens before it
    befores = [{} for _ in range(order + 1)]
    for row in rows:
        for end in range(1, len(row)):
            for size in range(1, min(order, end + 1) + 1):
                gram = tuple(row[end + 1 - size : end + 1])
                first = end + 1 - size
                at = kinds[size].setdefault(gram[:-1], {})
                if size == order or first == 0:
                    at[gram[-1]] = at.get(gram[-1], 0) + 1
                elif (row[first - 1], gram) not in befores[size]:
                    befores[size][row[first - 1], gram] = True
                    at[gram[-1]] = at.get(gram[-1], 0) + 1

    def p(history, token):
        lower = p(history[1:], token) if history else 1 / predictable
        after = kinds[len(history) + 1].get(tuple(history))
        if after is None:
            return lower
        total = sum(after.values())
        own = max(after.get(token, 0) - discount, 0) / total
        return own + discount * len(after) / total * lower

    return p


def rows_of(proverbs, split):
    """A split as any model is given it: the start token, then what it predicts."""
    task, cache_dir = proverbs
    config = DatasetConfig(
        task=task, task_feature_lengths={"targets": 24}, split=split, cache_dir=str(cache_dir),
        batch_size=4,
    )  # fmt: skip
    rows = []
    for batch in open_evaluation(config, batch_format="causal_language_model"):
        for i in range(4):
            size = int(batch.batch["decoder_loss_weights"][i].sum())
            targets = batch.batch["decoder_target_tokens"][i, :size]
            rows += [[0, *targets.tolist()]] if size else []
    return rows


def test_eval_gives_nats_a_token_of_the_rows_that_any_model_is_given(counted, proverbs, capsys):
    model_dir, _ = counted
    config = f"--gin_file={model_dir}/config.gin"
    assert cli.main(["eval", config, "--gin_file=runs/eval.gin", "--gin.BATCH_SIZE=4"]) == 0
    record = json.loads(Path(model_dir, "metrics.jsonl").read_text().splitlines()[-1])
    p = by_hand(rows_of(proverbs, "train"), ORDER, 0.7, 383)
    nats = [
        -math.log(p(row[max(0, i + 1 - ORDER) : i], row[i]))
        for row in rows_of(proverbs, "validation")
        for i in range(1, len(row))
    ]
    assert record["loss"] == pytest.approx(np.mean(nats), abs=1e-6)
    assert record["cross_entropy"] == record["loss"] and record["step"] == 0
    assert record["batch_format"] == "causal_language_model"


def test_a_run_scores_ranks_and_writes_text(counted, proverbs):
    run = load_run(str(counted[0]))
    p = by_hand(rows_of(proverbs, "train"), ORDER, 0.7, 383)
    ids = [0, *run.codec.encode_target("Measure", None)]
    expected = [math.log(p(ids[max(0, i + 1 - ORDER) : i], ids[i])) for i in range(1, len(ids))]
    (found,) = run.score(targets=["Measure"])
    assert found == pytest.approx(sum(expected), abs=1e-4)
    assert run.rank("Still wa", ["ters", "xxxx"], delimiter="")["option"][0] == "ters"
    assert run.generate(["Measure twic"], temperature=0.0, max_new_tokens=1) == ["e"]


def test_the_arpa_file_has_the_same_probabilities(counted):
    model_dir, path = counted
    text = path.read_text()
    sizes = load_run(str(model_dir)).model.num_ngrams
    assert text.startswith(
        f"\\data\\\nngram 1={sizes[0]}\nngram 2={sizes[1]}\nngram 3={sizes[2]}\n"
    )
    assert text.endswith("\\end\\\n")
    table = host_params.read_params(str(model_dir), load_run(str(model_dir)).model)[0]
    grams = dict(
        (fields[1], (float(fields[0]), *map(float, fields[2:])))
        for line in text.splitlines()
        if len(fields := line.split("\t")) > 1
    )
    assert grams["<s>"][0] == -99
    p, backoff = grams["104"]  # e, byte 101
    assert 10**p == pytest.approx(table["order_1"]["probability"][104], rel=1e-5)
    assert 10**backoff == pytest.approx(table["order_1"]["backoff"][104], rel=1e-5)
    level = table["order_2"]
    at = int(level["first"][104])
    assert 10 ** grams[f"104 {level['token'][at]}"][0] == pytest.approx(
        level["probability"][at], rel=1e-5
    )


def test_the_name_of_a_packaged_task_is_all_that_it_needs(capsys):
    assert cli.main(["ngram", "stdlib_lm", "--order", "5", "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "ORDER = 5" in text and "MODEL_DIR = 'runs/ngram/stdlib_lm'" in text
    assert "TASK_FEATURE_LENGTHS = {'targets': 512}" in text


def test_the_name_of_no_task_is_said(tmp_path, capsys):
    assert cli.main(["ngram", "stdlib_lmm", f"--gin.MODEL_DIR={tmp_path}/run"]) == 2
    said = capsys.readouterr().err
    assert "stdlib_lmm" in said and "stdlib_lm" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_smoothing_has_a_name():
    from models.ngrams import smoothing

    named = {getattr(smoothing, name) for name in SMOOTHINGS.values()}
    there = {
        one for one in vars(smoothing).values()
        if isinstance(one, type) and hasattr(one, "backs_off") and one is not Smoothing
    }  # fmt: skip
    assert named == there


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (["--order=10"], "order is 10: an n-gram has 1 to 9 tokens."),
        (["--order=9", "--gin.TASK_FEATURE_LENGTHS={'targets': 6}"], "no text has 9 tokens"),
        (["--smoothing=add_k", "--arpa=x.arpa"], "--arpa is for models that back off"),
        (["--gin.smoothing.AddK.k=0", "--smoothing=add_k"], "AddK.k is 0"),
        (["--smoothing=stupid"], "invalid choice: 'stupid'"),
    ],
)
def test_a_users_mistake_is_one_line_and_leaves_nothing(flags, tmp_path, capsys, own, said):
    assert cli.main(["ngram", *flags, *own, f"--gin.MODEL_DIR={tmp_path}/run"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in line and not list(tmp_path.iterdir())


def test_another_runs_directory_is_left_as_it_is(flags, tmp_path, capsys):
    (tmp_path / "config.gin").write_text("# mine")
    assert cli.main(["ngram", *flags, f"--gin.MODEL_DIR={tmp_path}"]) == 2
    assert "is there already: give a new or an empty directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.gin"]


def test_a_write_that_fails_leaves_no_part_of_a_run(flags, tmp_path, monkeypatch):
    def fails(*arguments, **settings):
        raise OSError("no space left")

    monkeypatch.setattr(host_params, "write_params", fails)
    assert cli.main(["ngram", *flags, "--order=2", f"--gin.MODEL_DIR={tmp_path}/run"]) != 0
    assert not list(tmp_path.iterdir())


def test_it_is_counted_and_not_trained(counted, train_flags, tmp_path, capsys):
    files = [f"--gin_file={counted[0]}/config.gin", "--gin_file=runs/pretrain.gin"]
    own = ["--gin.TRAIN_STEPS=2", f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main(["train", *files, *own]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "an n-gram model is counted and not trained: `t5x-like ngram` makes one" in line


def test_a_missing_cache_is_built_with_the_file_that_the_flags_are_for(
    flags, tmp_path, monkeypatch, capsys
):
    """`cache` by itself reads no file that knows orders and smoothing."""
    from t5x_like.cli import caching, child_process

    given = []
    monkeypatch.setattr(caching, "build_missing", lambda options, _: given.append(options))
    own = ["--order=2", "--smoothing=kneser_ney", f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main(["ngram", *flags, *own, "--gin.smoothing.KneserNey.discount=0.7"]) == 0
    assert load_run(f"{tmp_path}/run").model.order == 2
    started = ["cache", "--dry_run", f"--parent={os.getppid()}"]
    assert cli.main([*started, *child_process._configuration(given[0])]) == 0
    assert "would be cached" in capsys.readouterr().out


@pytest.mark.parametrize("order", [0, 10])
def test_an_order_that_cannot_be_is_told_before_a_cache_is_built(
    order, flags, tmp_path, monkeypatch, capsys
):
    from t5x_like.cli import caching

    monkeypatch.setattr(caching, "build_missing", lambda *_: pytest.fail("it is built"))
    own = [f"--order={order}", f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main(["ngram", *flags, *own]) == 2
    assert f"order is {order}" in capsys.readouterr().err


def test_a_model_comes_back_from_its_one_arpa_file(counted, flags, tmp_path, capsys):
    model_dir, path = counted
    own = [f"--from_arpa={path}", f"--gin.MODEL_DIR={tmp_path}/run"]
    assert cli.main(["ngram", *flags, *own]) == 0
    assert f"n-grams of {path} in" in capsys.readouterr().out
    first, second = load_run(str(model_dir)), load_run(f"{tmp_path}/run")
    texts = ["Still waters run", "xyz"]
    np.testing.assert_allclose(second.score(targets=texts), first.score(targets=texts), rtol=1e-5)
    assert cli.main(["ngram", *flags, *own, "--order=3"]) == 2
    assert "--order is for counting" in capsys.readouterr().err


def test_before_it_is_counted_there_is_nothing_to_inspect(capsys):
    assert cli.main(["inspect", "--gin_file=examples/ngram.gin"]) == 2
    assert "count it first (t5x-like ngram)" in capsys.readouterr().err


def test_nothing_is_said_of_what_only_training_reads(counted, flags, tmp_path, capsys):
    assert cli.main(["ngram", *flags, "--order=2", "--dry_run", "--gin.MODEL_DIR=x"]) == 0
    assert "warning" not in capsys.readouterr().err
    files = [f"--gin_file={counted[0]}/config.gin", "--gin_file=runs/eval.gin"]
    assert cli.main(["eval", *files, "--dry_run"]) == 0
    assert "warning" not in capsys.readouterr().err
