"""Optimizers, schedules, batches and periods with which no run can be trained."""

import pytest


@pytest.fixture
def train(train_flags, refused, tmp_path):
    """Trains with further flags, which must be refused."""

    def run(flags, *words):
        return refused([*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", *flags], *words)

    return run


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["LEARNING_RATE=0"], ["learning rate 0: it must be above 0"]),
        (["LEARNING_RATE=-0.1"], ["learning rate -0.1: it must be above 0"]),
        (["LEARNING_RATE=1e999"], ["LEARNING_RATE is '1e999'", "takes a number"]),
        (["LEARNING_RATE=nan"], ["LEARNING_RATE is 'nan'", "takes a number"]),
        (["WARMUP_STEPS=-5"], ["WARMUP_STEPS is -5: it must be 0 or more"]),
        (
            ["SCHEDULE=@schedules.Cosine()", "schedules.Cosine.total_steps=5"],
            ["ends at step 5, before TRAIN_STEPS 8", "lengthen its total_steps"],
        ),
        (
            ["SCHEDULE=@schedules.Linear()", "WARMUP_STEPS=9"],
            [
                "of 8 steps cannot hold 9 steps of warm-up",
                "lower WARMUP_STEPS",
                "raise TRAIN_STEPS to 9",
            ],
        ),
        (["SCHEDULE=@schedules.WarmupStableDecay()"], ["DECAY_STEPS", "is not set"]),
        (["SCHEDULE=@schedules.Cosin()"], ["'schedules.Cosin'", "Cosine"]),
        (["SCHEDULE=cosine"], ["SCHEDULE is 'cosine'", "takes a Schedule (@module.name())"]),
        (["OPTIMIZER=@optimizers.adamv()"], ["'optimizers.adamv'"]),
        (["OPTIMIZER=adamw"], ["OPTIMIZER is 'adamw'", "takes an Optimizer (@module.name())"]),
    ],
)
def test_a_learning_rate_that_cannot_be(train, flags, words):
    train([f"--gin.{flag}" for flag in flags], *words)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("NUM_MICROBATCHES=3", ["NUM_MICROBATCHES 3 does not divide BATCH_SIZE 4"]),
        ("NUM_MICROBATCHES=0", ["NUM_MICROBATCHES is 0", "1 or more"]),
        ("TRAIN_STEPS=0", ["TRAIN_STEPS is 0", "1 or more"]),
        ("train.train.log_period=0", ["log_period is 0", "1 or more"]),
        ("train.train.validation_period=-1", ["validation_period is -1", "1 or more"]),
        ("checkpoints.CheckpointPolicy.period=0", ["checkpoints every 0 steps"]),
        ("checkpoints.CheckpointPolicy.keep=0", ["keeping 0"]),
    ],
)
def test_counts_that_cannot_be(train, flag, words):
    train([f"--gin.{flag}"], *words)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("gpt.GPT2.remat_policy=som", ["remat_policy 'som'", "'none', 'dots', 'full'"]),
        ("gpt.GPT2.dtype=float33", ["dtype is 'float33'", "float32, bfloat16"]),
        ("gpt.GPT2.num_layers=0", ["num_layers is 0", "1 or more"]),
        ("gpt.GPT2.embed_dim=-16", ["embed_dim is -16", "1 or more"]),
        ("gpt.GPT2.num_heads=3", ["embed_dim 16 is not a multiple of num_heads 3"]),
        ("DROPOUT_RATE=2", ["dropout_rate is 2", "below 1"]),
        ("gpt.GPT2.label_smoothing=-0.1", ["label_smoothing is -0.1", "at least 0"]),
    ],
)
def test_a_model_that_cannot_be_built(train, flag, words):
    train([f"--gin.{flag}"], *words)
