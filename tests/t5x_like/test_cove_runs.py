"""CoVe from the command line: it begins with the vectors of a file, translates, and resumes."""

import json
import shutil

import numpy as np
import pytest

from t5x_like import checkpoints, cli, load_run
from t5x_like.vectors import WordVectors, write_vectors
from tests.untimed import NO_TIMES

ENGLISH = ("one", "two", "three", "four", "five", "six")
GERMAN = ("eins", "zwei", "drei", "vier", "fuenf", "sechs")


@pytest.fixture
def flags(tmp_path):
    """Of sentences of four numbers in two languages; all English ones but one have a vector."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 200), ("dev", 20)):
        numbers = rng.integers(0, len(ENGLISH), (count, 4))
        for name, words in (("en", ENGLISH), ("de", GERMAN)):
            lines = [" ".join(words[i] for i in row) for row in numbers]
            (tmp_path / f"{split}.{name}").write_text("\n".join(lines) + "\n")
    known = WordVectors(ENGLISH[:-1], rng.standard_normal((len(ENGLISH) - 1, 50)))
    write_vectors(known, tmp_path / "vectors.txt", "glove")
    task = ["--gin_file=tasks/parallel_text.gin", "--gin.INPUTS={source}"]
    for split, name in (("TRAIN", "train"), ("VALIDATION", "dev")):
        task += [f"--gin.{split}_SOURCE={tmp_path}/{name}.en"]
        task += [f"--gin.{split}_TARGET={tmp_path}/{name}.de"]
    words = ["--model_type=words", "--min_count=1", f"--out={tmp_path}/words.txt"]
    assert cli.main(["vocab", *task, *words]) == 0
    task += ["--gin_file=tasks/vocabularies/words.gin", f"--gin.CACHE_DIR={tmp_path}/cache"]
    task += [f"--gin.VOCABULARY_PATH={tmp_path}/words.txt"]
    # In this process: workers would each import TensorFlow.
    assert cli.main(["cache", *task, "--num_shards=1", "--num_workers=1"]) == 0
    return task


@pytest.mark.slow
def test_it_learns_to_translate_over_vectors_that_stay_and_resumes(flags, tmp_path):
    run = tmp_path / "run"
    command = [
        "train", "--gin_file=models/cove/tiny.gin", *flags, "--gin_file=optimizers/adamw.gin",
        "--gin_file=runs/from_vectors.gin", f"--gin.VECTORS_PATH={tmp_path}/vectors.txt",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 8}", "--gin.BATCH_SIZE=16",
        "--gin.LEARNING_RATE=0.01", "--gin.WARMUP_STEPS=5", "--gin.TRAIN_STEPS=60",
        "--gin.checkpoints.CheckpointPolicy.period=40", "--gin.train.train.tensorboard=False",
        "--gin.train.train.log_period=10", f"--gin.MODEL_DIR={run}",
    ]  # fmt: skip
    assert cli.main(command) == 0
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["split"] == "train"]
    assert losses[-1] < 0.7 * losses[0]
    whole = checkpoints.load_metadata(str(run)) | NO_TIMES
    shutil.rmtree(run / "checkpoints/60")
    assert cli.main(command) == 0
    assert checkpoints.load_metadata(str(run)) | NO_TIMES == whole

    found = load_run(str(run))
    expected = np.loadtxt(tmp_path / "vectors.txt", usecols=range(1, 51), dtype=np.float32)
    np.testing.assert_array_equal(found.word_vectors["one"], expected[0])
    assert not found.word_vectors["six"].any()
    # A word's vector, and what the encoder has of it.
    assert found.embed(["one two", "two one"]).shape == (2, 50 + 2 * 50)
