"""Taggers that read words by their characters, from the command line, on files of one's own."""

import json
import shutil

import jax
import numpy as np
import pytest

from t5x_like import checkpoints, cli, load_run
from tests.untimed import NO_TIMES

SYLLABLES = ("ba", "do", "ki", "lu", "mo", "ne")


def sentences(count, seed):
    """Words with tags: names begin with a capital, and every second one is of two words."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = ["".join(rng.choice(SYLLABLES, 2)) for _ in range(6)]
        tags = ["O"] * 6
        place = int(rng.integers(5))
        words[place], tags[place] = words[place].capitalize(), "B-name"
        if rng.integers(2):
            words[place + 1], tags[place + 1] = words[place + 1].capitalize(), "I-name"
        made.append((words, tags))
    return made


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Of a task of tags with untagged text beside it."""
    folder = tmp_path_factory.mktemp("tagged")
    for split, count, seed in (("train", 60, 0), ("dev", 40, 1)):
        rows = ["\n".join(map("\t".join, zip(*one, strict=True))) for one in sentences(count, seed)]
        (folder / f"{split}.conll").write_text("\n\n".join(rows) + "\n")
    text = "\n".join(" ".join(words) for words, _ in sentences(200, 2))
    (folder / "text.txt").write_text(text)
    vocab = ["vocab", "--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={folder}/text.txt"]
    words = ["--gin.SEPARATOR=\n", "--model_type=words", f"--out={folder}/words.txt"]
    assert cli.main([*vocab, *words]) == 0
    made = [
        "--gin_file=tasks/ner_conll.gin",
        "--gin_file=tasks/vocabularies/spelled_words.gin",
        f"--gin.VOCABULARY_PATH={folder}/words.txt",
        f"--gin.TRAIN_FILES={folder}/train.conll",
        f"--gin.VALIDATION_FILES={folder}/dev.conll",
        "--gin.ENTITIES=['name']",
        f"--gin.CACHE_DIR={folder}/cache",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 8}",
        "--gin_file=optimizers/adamw.gin",
        "--gin.LEARNING_RATE=0.01",
        "--gin.WARMUP_STEPS=5",
        "--gin.train.train.tensorboard=False",
        "--gin.train.train.log_period=10",
    ]
    # In this process: workers would each import TensorFlow.
    both = [
        "--gin_file=tasks/mixtures/unlabelled_text.gin",
        f"--gin.UNLABELLED_FILES={folder}/text.txt",
    ]
    assert cli.main(["cache", *made[:7], *both, "--num_shards=1", "--num_workers=1"]) == 0
    return made, folder / "text.txt"


def trained(folder, *flags):
    assert cli.main(["train", *flags, f"--gin.MODEL_DIR={folder}"]) == 0
    records = list(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()))
    return records, checkpoints.load_metadata(str(folder)) | NO_TIMES


@pytest.mark.slow
def test_cross_view_training_learns_resumes_and_tags(flags, tmp_path, capsys):
    flags, text = flags
    run = [
        "--gin_file=models/cvt/tiny.gin", *flags, "--gin_file=tasks/mixtures/unlabelled_text.gin",
        "--gin_file=runs/pretrain.gin", f"--gin.UNLABELLED_FILES={text}", "--gin.BATCH_SIZE=16",
        "--gin.TRAIN_STEPS=120", "--gin.checkpoints.CheckpointPolicy.period=80",
    ]  # fmt: skip
    records, whole = trained(tmp_path, *run)
    first, *_, last = (record for record in records if record["split"] == "train")
    assert last["supervised"] < 0.7 * first["supervised"]
    # Of either kind of row there are eight; the loss is the sum of both means.
    assert last["loss"] == pytest.approx(last["supervised"] + last["cross_view"], rel=1e-5)
    assert last["cross_view"] > 0
    shutil.rmtree(tmp_path / "checkpoints/120")
    assert trained(tmp_path, *run)[1] == whole

    # Words that the vocabulary has not.
    found = load_run(str(tmp_path)).predict([["xaxa", "Xexe", "xixi"]])
    assert [len(one) for one in found["tags"]] == [3]
    assert set(found["tags"][0]) <= {"O", "B-name", "I-name"}
    assert cli.main(["eval", f"--gin_file={tmp_path}/config.gin", "--gin_file=runs/eval.gin"]) == 0
    values = capsys.readouterr().err
    assert "entity_f1" in values


@pytest.mark.slow
@pytest.mark.release
def test_a_head_is_learned_on_an_elmo_that_stays_as_it_is(flags, tmp_path):
    flags, text = flags
    words = next(flag for flag in flags if "VOCABULARY_PATH" in flag)
    cache = next(flag for flag in flags if "CACHE_DIR" in flag)
    language = [
        "--gin_file=models/elmo/tiny.gin", "--gin_file=tasks/text_files.gin",
        "--gin_file=tasks/objectives/spelled_words.gin",
        "--gin_file=tasks/vocabularies/spelled_words.gin", words, cache,
        f"--gin.TRAIN_FILES={text}", "--gin.SEPARATOR=\n",
        "--gin.TASK_FEATURE_LENGTHS={'targets': 16}",
        "--gin_file=optimizers/adamw.gin", "--gin_file=runs/pretrain.gin", "--gin.BATCH_SIZE=8",
        "--gin.TRAIN_STEPS=10", "--gin.train.train.tensorboard=False",
    ]  # fmt: skip
    trained(tmp_path / "elmo", *language)
    head = [
        "--gin_file=models/elmo/tiny.gin", *flags, "--gin_file=runs/finetune_elmo.gin",
        f"--gin.INITIAL_CHECKPOINT_PATH={tmp_path}/elmo", "--gin.BATCH_SIZE=16",
        "--gin.TASK_DIM=16", "--gin.TRAIN_STEPS=60",
    ]  # fmt: skip
    records, _ = trained(tmp_path / "tags", *head)
    values = [record["loss"] for record in records if record["split"] == "train"]
    assert values[-1] < values[0]
    below, above = (load_run(str(tmp_path / name)) for name in ("elmo", "tags"))
    for name in ("words", "forward_0", "backward_1"):
        for one, other in zip(*map(_leaves, (below.params[name], above.params[name])), strict=True):
            np.testing.assert_array_equal(one, other)
    assert np.abs(np.asarray(above.params["mix"]["scores"])).max() > 0.01
    assert set(above.predict([["xaxa", "Xexe"]])["tags"][0]) <= {"O", "B-name", "I-name"}


def _leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
