"""Tasks, splits, lengths and vocabularies that do not go with the model or the data."""

import json
from types import SimpleNamespace

import pytest

from t5x_like import data
from t5x_like.cli import preflight

T5 = """
from __gin__ import dynamic_registration
from models import t5
MODEL = @t5.T5()
t5.T5:
  vocab_size = 384
  embed_dim = 16
  mlp_dim = 32
  num_heads = 2
  head_dim = 8
  num_encoder_layers = 1
  num_decoder_layers = 1
"""


@pytest.fixture
def train(train_flags, refused, tmp_path):
    """Trains with further flags, which must be refused."""

    def run(flags, *words):
        return refused([*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", *flags], *words)

    return run


# -- Tasks and splits ------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["cache", "stdlib_span_coruption"], ["vocab", "stdlib_lmm"]])
def test_an_unknown_task_is_answered_with_the_nearest(refused, tmp_path, command):
    out = [f"--out={tmp_path}/v.model"] if command[0] == "vocab" else []
    near = "stdlib_span_corruption" if command[0] == "cache" else "stdlib_lm"
    refused([*command, *out], f"called '{command[1]}'", f"nearest names: {near}")


def test_training_on_an_unknown_task_writes_nothing(refused, corpus, tmp_path):
    flags = ["--gin_file=tasks/registered.gin", "--gin_file=runs/pretrain.gin"]
    bindings = {
        "MIXTURE_OR_TASK_NAME": "stdlib_span_coruption",
        "TASK_FEATURE_LENGTHS": "{'targets': 24}",
        "TRAIN_STEPS": "8",
        "MODEL_DIR": f"{tmp_path}/run",
    }
    flags += [f"--gin.{name}={value}" for name, value in bindings.items()]
    refused(["train", corpus[0], *flags], "stdlib_span_coruption", "stdlib_span_corruption")


@pytest.mark.parametrize("which", ["train", "validation"])
def test_a_split_that_is_not_there_is_answered_with_those_there_are(train, which):
    # The validation split would be read for the first time after the last step.
    flag = f"--gin.{which}/data.DatasetConfig.split=dev"
    train([flag], "no split 'dev'", "it has train, validation")


def test_vocab_of_an_unknown_split_names_those_there_are(refused, corpus, tmp_path):
    flags = [*corpus, f"--out={tmp_path}/v.model", "--split=dev"]
    refused(["vocab", *flags], "split 'dev' not found", "train, validation")


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_an_empty_split_is_named(proverbs, write_cache, train, tmp_path_factory, empty):
    task, _ = proverbs
    cache = tmp_path_factory.mktemp("cache")  # where reading leaves its indices
    write_cache(
        task, cache, {"train": ["Measure twice."] * 8, "validation": ["Cut."]} | {empty: []}
    )
    train([f"--gin.CACHE_DIR={cache}"], f"split '{empty}'", "'proverbs'", "is empty")


def test_a_task_without_the_feature_that_the_model_reads(train, tmp_path):
    (tmp_path / "t5.gin").write_text(T5)
    words = ["needs the feature 'inputs'", "choose a task with 'inputs'"]
    train([f"--gin_file={tmp_path}/t5.gin"], *words)


# -- Lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ("{'targets': 0}", ["['targets'] is 0", "a whole number above 0"]),
        ("{'targets': -4}", ["['targets'] is -4", "a whole number above 0"]),
        ("{'targets': 33}", ["rows of 33 tokens", "max_length is 32", "shorten them"]),
        ("{'inputs': 24}", ["['inputs']", "the features ['targets']"]),
        ("{'inputs': 8, 'targets': 8}", ["['inputs', 'targets']", "the features ['targets']"]),
        ("{}", ["task_feature_lengths has []", "the features ['targets']"]),
    ],
)
def test_lengths_that_do_not_fit_task_and_model(train, lengths, words):
    train([f"--gin.TASK_FEATURE_LENGTHS={lengths}"], *words)


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing(train, size):
    train([f"--gin.BATCH_SIZE={size}"], f"BATCH_SIZE is {size}", "1 or more")


# -- Vocabularies ----------------------------------------------------------------------------


def test_a_vocabulary_with_more_tokens_than_the_model(train):
    words = ["259 tokens and 125 sentinels", "vocab_size is 64", "raise it to 384"]
    train(["--gin.gpt.GPT2.vocab_size=64"], *words)


def test_a_vocabulary_whose_sentinels_the_objective_writes(refused, tmp_path):
    (tmp_path / "t5.gin").write_text(T5)
    flags = [
        "train",
        f"--gin_file={tmp_path}/t5.gin",
        "--gin_file=tasks/stdlib_span_corruption_byt5.gin",
        "--gin_file=runs/pretrain.gin",
        f"--gin.MODEL_DIR={tmp_path}/run",
        f"--gin.CACHE_DIR={tmp_path}/cache",
        "--gin.TRAIN_STEPS=8",
        "--gin.t5.T5.vocab_size=300",
    ]
    refused(flags, "259 tokens and 125 sentinels", "vocab_size is 300", "raise it to 384")
    assert not (tmp_path / "cache").exists()


def test_a_vocabulary_whose_sentinels_are_never_met_may_be_larger(proverbs):
    task, cache_dir = proverbs
    config = data.DatasetConfig(task, {"targets": 8}, cache_dir, batch_size=4)
    preflight._check_vocabulary(config, SimpleNamespace(vocab_size=259))


@pytest.fixture
def text_files(corpus, tmp_path):
    """Flags that train a SentencePiece task from text files, but for the vocabulary's file."""
    (tmp_path / "text.txt").write_text("Many hands make light work.\n" * 9)
    bindings = {
        "TRAIN_FILES": f"{tmp_path}/text.txt",
        "TRAIN_STEPS": "8",
        "TASK_FEATURE_LENGTHS": "{'targets': 24}",
        "MODEL_DIR": f"{tmp_path}/run",
        "CACHE_DIR": f"{tmp_path}/cache",
    }
    files = ["text_files", "causal_lm", "vocabularies/sentencepiece"]
    return [
        "train",
        corpus[0],
        *[f"--gin_file=tasks/{name}.gin" for name in files],
        "--gin_file=runs/pretrain.gin",
        *[f"--gin.{name}={value}" for name, value in bindings.items()],
    ]


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizer"])
def test_a_vocabulary_file_that_is_not_there(refused, text_files, tmp_path, kind):
    flags = [flag.replace("/sentencepiece", f"/{kind}") for flag in text_files]
    path = tmp_path / "nowhere"
    words = [f"vocabulary file '{path}' not found", "is needed"]
    refused([*flags, f"--gin.VOCABULARY_PATH={path}"], *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a model, not at all", ["is not a SentencePiece model", "spm_train"]),
        (b"", ["is not a SentencePiece model (it has no pieces)"]),
        (b"\x0a\x05\x0a\x03abc", ["is not a SentencePiece model"]),
    ],
)
def test_a_vocabulary_file_that_is_no_model(refused, text_files, tmp_path, content, words):
    path = tmp_path / "spm.model"
    path.write_bytes(content)
    flags = [*text_files, f"--gin.VOCABULARY_PATH={path}"]
    refused(flags, f"vocabulary file '{path}'", *words)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not JSON", "is not a tokenizer.json"),
        ("{}", "is not a tokenizer.json"),
        (json.dumps({"model": {"type": "BPE", "vocab": {}}}), "is not a tokenizer.json"),
    ],
)
def test_a_tokenizer_file_that_is_none(refused, text_files, tmp_path, content, said):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    flags = [flag.replace("/sentencepiece", "/tokenizer") for flag in text_files]
    refused([*flags, f"--gin.VOCABULARY_PATH={path}"], f"'{path}'", said)


def test_a_vocabulary_larger_than_its_text_can_fill(refused, corpus, tmp_path):
    flags = [*corpus, f"--out={tmp_path}/v.model", "--vocab_size=100000"]
    refused(["vocab", *flags], "vocab_size=100000", "too high", "a value <=")
