"""From text to an encoder on a vocabulary of its own: `vocab`, `cache`, batches, `train`."""

import itertools
import json

import numpy as np
import pytest

from t5x_like import cli, config, data
from tests.conftest import PROVERBS

tokenizers = pytest.importorskip("tokenizers")

OBJECTIVES = {"wordpiece": "sentence_pairs", "bpe": "masked_lm"}
# Ids of what stands before and after a text, of the mask, and of the tokenizers' own padding.
SPECIAL = {"wordpiece": (2, 3, 4, 0), "bpe": (0, 2, 4, 1)}


@pytest.fixture(scope="module", params=OBJECTIVES)
def own(request, tmp_path_factory):
    """The kind, flags of a task on a vocabulary that was trained on its text, and its folder."""
    kind, folder = request.param, tmp_path_factory.mktemp("own")
    texts = [" ".join(sentences) for sentences in itertools.permutations(PROVERBS)] * 2
    (folder / "text.txt").write_text("\n\n".join(texts))
    flags = ["--gin_file=tasks/text_files.gin", f"--gin.TRAIN_FILES={folder}/text.txt"]
    flags += ["--gin.HELD_OUT=0.1", f"--gin.CACHE_DIR={folder}/cache"]
    out = folder / kind / "tokenizer.json"
    asked = [f"--model_type={kind}", "--vocab_size=300", f"--out={out}"]
    assert cli.main(["vocab", *flags, *asked]) == 0
    flags += [
        f"--gin_file=tasks/objectives/{OBJECTIVES[kind]}.gin",
        f"--gin_file=tasks/vocabularies/{kind}.gin",
        f"--gin.VOCABULARY_PATH={out.parent}",
        "--gin.TASK_FEATURE_LENGTHS={'targets': 48}",
    ]
    assert cli.main(["cache", *flags, "--num_shards=1", "--num_workers=1"]) == 0
    return kind, flags, folder


def test_rows_of_an_own_vocabulary_begin_and_end_with_its_special_tokens(own):
    """RoBERTa's `<s>` is id 0, with which rows are padded: segment ids tell them apart."""
    kind, flags, folder = own
    cls, sep, mask, padding = SPECIAL[kind]
    with config.isolated():
        bindings = [flag.removeprefix("--gin.").split("=", 1) for flag in flags if "gin." in flag]
        files = [flag.removeprefix("--gin_file=") for flag in flags if "gin_file=" in flag]
        config.parse(files, [(name, value) for name, value in bindings])
        task = config.macro("TASK")
    vocabulary = task.output_features["targets"].vocabulary
    dataset = data.DatasetConfig(task, {"targets": 48}, folder / "cache", batch_size=64)
    batch = next(data.open_dataset(dataset, batch_format="masked_language_model"))
    inputs, targets = batch["encoder_input_tokens"], batch["encoder_target_tokens"]
    filled, hidden = batch["encoder_segment_ids"] == 1, batch["encoder_loss_weights"] == 1
    assert (inputs[:, 0] == cls).all() and filled[:, 0].all()
    sizes = filled.sum(1)
    np.testing.assert_array_equal(filled, np.arange(48) < sizes[:, None])
    assert (targets[np.arange(64), sizes - 1] == sep).all()
    assert not hidden[~filled].any() and not inputs[~filled].any()
    np.testing.assert_array_equal(hidden.sum(1), np.maximum(1, np.round(sizes * 0.15)))
    assert not np.isin(targets[hidden], (cls, sep)).any()
    assert 0.7 < (inputs[hidden] == mask).mean() < 0.9
    assert not (targets[filled] == mask).any()
    if padding:
        assert not (targets == padding).any()
    text = vocabulary.decode(targets[0, 1 : sizes[0] - 1])
    assert any(word in text for word in ("waters", "twice", "hands", "nine"))


@pytest.mark.slow
def test_an_encoder_learns_on_an_own_vocabulary(own, tmp_path):
    kind, flags, folder = own
    run = [
        *flags,
        "--gin_file=models/bert/tiny.gin",
        "--gin_file=optimizers/muon.gin",
        "--gin_file=runs/pretrain.gin",
        "--gin.VOCAB_SIZE=300",
        "--gin.BATCH_SIZE=16",
        "--gin.TRAIN_STEPS=200",
        "--gin.LEARNING_RATE=0.01",
        "--gin.WARMUP_STEPS=5",
        "--gin.train.train.log_period=20",
        "--gin.train.train.tensorboard=False",
        f"--gin.MODEL_DIR={tmp_path}/run",
    ]
    assert cli.main(["train", *run]) == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    loss = json.loads(lines[-1])["masked_language_model"]
    assert loss < 0.85 * unigram_entropy(folder, kind)


def unigram_entropy(folder, kind):
    """Nats a token, for a model that knows the tokens' frequencies and nothing else."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / kind / "tokenizer.json"))
    texts = (folder / "text.txt").read_text().split("\n\n")
    counts = np.bincount([i for t in texts for i in tokenizer.encode(t, None, False, False).ids])
    p = counts[counts > 0] / counts.sum()
    return -(p * np.log(p)).sum()
