"""A suite on files of one's own, from the command to the report."""

import json
import math

import pytest

from t5x_like import cli, config
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy
from t5x_like.optimizers import adamw
from t5x_like.partitioning import Partitioner
from t5x_like.schedules import Constant
from t5x_like.suites.tables import read_results
from t5x_like.training.state import create_state

QUESTION = {"goal": "to sail", "sol1": "raise the sail", "sol2": "eat the sail", "label": 0}
TRIVIA = {"question": "What is red?", "answer": {"value": "A rose", "aliases": ["rose"]}}
FILES = {
    "piqa/train.jsonl": [QUESTION],
    "piqa/validation.jsonl": [QUESTION, {**QUESTION, "label": 1}],
    "lambada/test.jsonl": [{"passage": "the ship is at sea"}],
    "trivia_qa/train.jsonl": [TRIVIA],
    "trivia_qa/validation.jsonl": [TRIVIA],
}
RUN = """
from __gin__ import dynamic_registration
from models import gpt
include 'models/gpt2/tiny.gin'
MIXTURE_OR_TASK_NAME = 'piqa'
gpt.GPT2.num_layers = 1
gpt.GPT2.max_length = 96
MODEL_DIR = '{}'
"""
MINE = """
include 'suites/defaults.gin'
SUITE_NAME = 'mine'
ROWS = [
    {'task': 'piqa', 'value': 'ranking_accuracy', 'shots': 1, 'published': {'GPT-3 175B': 80.5}},
    {'task': 'lambada', 'value': 'continuation_perplexity', 'split': 'test'},
    {'task': 'trivia_qa', 'value': 'em', 'shots': 'fit', 'longest': 4},
    {'task': 'ptb', 'value': 'word_perplexity', 'split': 'test'},
    {'task': 'siqa', 'value': 'ranking_accuracy'},
]
"""


@pytest.mark.slow
def test_a_suite_of_ones_own_files_goes_from_the_command_to_the_report(tmp_path, capsys):
    """All four kinds of measurements, of tasks that are tokenized first, and one without files."""
    for name, rows in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb/test.txt").write_text("no it was n't black monday \n but it was dark \n")
    model_dir = tmp_path / "run"
    (tmp_path / "run.gin").write_text(RUN.format(model_dir))
    (tmp_path / "mine.gin").write_text(MINE)
    with config.isolated():
        config.parse([str(tmp_path / "run.gin")])
        model = config.macro("MODEL")
    checkpointer = Checkpointer(str(model_dir), CheckpointPolicy())
    checkpointer.save(create_state(model, adamw(Constant(1e-3)), Partitioner(), seed=1), 1, {}, {})
    checkpointer.close()
    command = [
        "eval", f"--gin_file={tmp_path}/run.gin", f"--gin_file={tmp_path}/mine.gin",
        f"--gin.FILES_DIR={tmp_path}", f"--gin.CACHE_DIR={tmp_path}/cache",
    ]  # fmt: skip
    assert cli.main(command) == 0
    (found,) = read_results(str(model_dir))
    assert [row["task"] for row in found["rows"]] == ["piqa", "lambada", "trivia_qa", "ptb"]
    assert [row["rows"] for row in found["rows"]] == [2, 1, 1, 1]
    # Words are those of the file, which has 10.
    text = found["rows"][3]["values"]
    nats = text["bits_per_byte"] * math.log(2) * len((tmp_path / "ptb/test.txt").read_bytes())
    assert text["word_perplexity"] == pytest.approx(math.exp(nats / 10), rel=1e-5)
    ((asked, why),) = found["missing"].items()
    assert asked == "siqa 0 validation ranking_accuracy"
    assert f"FILES_DIR '{tmp_path}' has no siqa/SPLIT.jsonl" in why
    assert cli.main(command) == 0
    assert "trivia_qa, fit shots, validation: em is known from before" in capsys.readouterr().err
    assert cli.main(["report", str(model_dir)]) == 0
    assert "80.5" in capsys.readouterr().out.splitlines()[2]
