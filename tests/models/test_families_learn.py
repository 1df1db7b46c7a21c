"""Every family's `tiny.gin` learns, by the command line, what bytes of source code look like."""

import json
import os
import shutil
from pathlib import Path

import gin
import numpy as np
import pytest

from t5x_like import checkpoints, cli
from tests.untimed import NO_TIMES

ROOT = Path(__file__).parents[2] / "gin_configs"
# MT-DNN learns labels: tests/t5x_like/evaluation/test_several_tasks.py. ELMo learns words:
# tests/t5x_like/test_spelled_runs.py; CVT learns tags: tests/t5x_like/test_tagged_words_runs.py.
OTHERS = {"mt_dnn", "elmo", "cvt"}
FAMILIES = sorted({path.parent.name for path in ROOT.glob("models/*/tiny.gin")} - OTHERS)

# Of the unigram entropy; what is below this share of it is clearly below.
SHARE = 0.85
DETECTED = "replaced_token_detection"
STEPS = {"albert": 400, "electra": 400, "spanbert": 300}

RUN = [
    "--gin_file=optimizers/muon.gin",
    "--gin_file=runs/pretrain.gin",
    "--gin.LEARNING_RATE=0.01",
    "--gin.WARMUP_STEPS=15",
    "--gin.train.train.tensorboard=False",
    "--gin.train.train.validation_batches=8",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Flags of a task on the first modules of the standard library, and their bytes."""
    library = Path(os.__file__).parent
    flags = [
        "--gin_file=tasks/text_files.gin",
        f"--gin.TRAIN_FILES={library}/[a-d]*.py",
        "--gin.SEPARATOR=None",
        "--gin.HELD_OUT=0.1",
        f"--gin.CACHE_DIR={tmp_path_factory.mktemp('cache')}",
    ]
    # In this process: workers would each import TensorFlow.
    assert cli.main(["cache", *flags, "--num_shards=1", "--num_workers=1"]) == 0
    return flags, b"".join(path.read_bytes() for path in sorted(library.glob("[a-d]*.py")))


def unigram_entropy(text):
    """Nats a byte, for a model that knows the bytes' frequencies and nothing else."""
    counts = np.bincount(np.frombuffer(text, np.uint8))
    p = counts[counts > 0] / counts.sum()
    return -(p * np.log(p)).sum()


def objective(family):
    """Flags of what the family learns: the next byte, hidden bytes, or spans of 20."""
    gin.clear_config()
    try:
        gin.parse_config_file(str(ROOT / f"models/{family}/tiny.gin"))
        model = gin.query_parameter("MODEL/macro.value").__deepcopy__({})
    finally:
        gin.clear_config()
    if "masked_language_model" in model.loss_terms:
        name = "replaced_tokens" if DETECTED in model.loss_terms else "masked_lm"
        name = "masked_spans" if "span_boundary" in model.loss_terms else name
        # In short rows, of which there are more, neighbours are found sooner.
        return [
            f"--gin_file=tasks/objectives/{name}.gin",
            "--gin.TASK_FEATURE_LENGTHS={'targets': 32}",
            "--gin.BATCH_SIZE=64",
            # One layer for all takes longer, and so do spans and a narrow generator.
            f"--gin.TRAIN_STEPS={STEPS.get(family, 220)}",
        ]
    if model.batch_format == "permutation_language_model":
        return [
            "--gin_file=tasks/objectives/permutation_lm.gin",
            "--gin.TASK_FEATURE_LENGTHS={'targets': 48}",
            "--gin.BATCH_SIZE=64",
            "--gin.TRAIN_STEPS=160",
        ]
    if model.batch_format != "encoder_decoder":
        return [
            "--gin_file=tasks/causal_lm.gin",
            "--gin.TASK_FEATURE_LENGTHS={'targets': 128}",
            "--gin.BATCH_SIZE=8",
            "--gin.TRAIN_STEPS=180",
        ]
    return [
        "--gin.objectives.SpanCorruption.mean_span_length=20.0",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 256, 'targets': 64}",
        "--gin.BATCH_SIZE=8",
        "--gin.TRAIN_STEPS=300",
    ]


# One in CI; a release, and a change of the family itself, trains the others too.
IN_CI = ("llama",)  # T5: `make quickstart`; encoders: test_own_vocabulary


def _marks(name):
    return pytest.mark.slow if name in IN_CI else (pytest.mark.slow, pytest.mark.release)


@pytest.mark.parametrize("family", [pytest.param(name, marks=_marks(name)) for name in FAMILIES])
def test_ends_clearly_below_the_unigram_entropy(family, corpus, tmp_path):
    flags, text = corpus
    model = f"--gin_file=models/{family}/tiny.gin"
    run = [*RUN, *objective(family), f"--gin.MODEL_DIR={tmp_path}"]
    assert cli.main(["train", model, *flags, *run]) == 0
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    last = [x for x in map(json.loads, lines) if x["split"] == "validation"][-1]
    assert last.get("masked_language_model", last["loss"]) < SHARE * unigram_entropy(text)
    if DETECTED in last:
        # What knows how many tokens are replaced, and that two of 32 never are, has their entropy.
        p = last["replaced_tokens"] * 32 / 30
        entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)) * 30 / 32
        assert last[DETECTED] < 0.96 * entropy


# Each kind of state and of batch; the others before a release.
RESUMED_IN_CI = ("gpt2", "t5_1_1")  # ELECTRA: test_encoder_runs


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=() if name in RESUMED_IN_CI else pytest.mark.release)
        for name in FAMILIES
    ],
)
def test_resumes_bit_for_bit(family, corpus, tmp_path):
    """Steps that were lost are made again: the same losses, and the same bits in every array."""
    flags, _ = corpus
    run = [
        *RUN,
        f"--gin_file=models/{family}/tiny.gin",
        *(flag for flag in objective(family) if "TRAIN_STEPS" not in flag),
        "--gin.TRAIN_STEPS=20",
        "--gin.train.train.log_period=1",
        "--gin.checkpoints.CheckpointPolicy.period=17",
        f"--gin.MODEL_DIR={tmp_path}",
    ]

    def state():
        assert cli.main(["train", *flags, *run]) == 0
        records = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        losses = {x["step"]: x["loss"] for x in records if x["split"] == "train"}
        # With a checksum of every array of parameters, optimizer and data.
        return losses, checkpoints.load_metadata(str(tmp_path)) | NO_TIMES

    whole = state()
    shutil.rmtree(tmp_path / "checkpoints/20")
    assert state() == whole


PERMUTATION = "--gin_file=tasks/objectives/permutation_lm.gin"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "objective"),
    [
        ("lstm", ["--gin_file=tasks/causal_lm.gin", "--gin.recurrent.RecurrentLM.carries=True"]),
        pytest.param(
            "transformer_xl",
            ["--gin_file=tasks/causal_lm.gin", "--gin.transformer_xl.TransformerXL.carries=True"],
            marks=pytest.mark.release,
        ),
        pytest.param(
            "xlnet",
            [
                PERMUTATION,
                "--gin.objectives.PermutationLM.two_segments=False",
                "--gin.xlnet.XLNet.carries=True",
            ],
            marks=pytest.mark.release,
        ),
    ],
    ids=["lstm", "transformer_xl", "xlnet"],
)
def test_a_run_resumes_with_the_state_that_its_rows_had(family, objective, corpus, tmp_path):
    """Over contiguous rows: the second half alone gives the losses of the whole run."""
    flags, _ = corpus
    run = [
        *RUN,
        f"--gin_file=models/{family}/tiny.gin",
        *objective,
        "--gin.TASK_FEATURE_LENGTHS={'targets': 16}",
        "--gin.TRAIN_STEPS=18",
        "--gin.train/data.DatasetConfig.pack=False",
        "--gin.train.train.log_period=1",
        "--gin.checkpoints.CheckpointPolicy.period=9",
        f"--gin.MODEL_DIR={tmp_path}",
    ]

    def losses():
        assert cli.main(["train", *flags, *run]) == 0
        lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
        return {line["step"]: line["loss"] for line in lines if line["split"] == "train"}

    whole = losses()
    shutil.rmtree(tmp_path / "checkpoints/18")
    (tmp_path / "metrics.jsonl").unlink()
    again = losses()
    assert min(again) == 10
    assert again == {step: loss for step, loss in whole.items() if step > 9}
