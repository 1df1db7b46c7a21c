"""The code of docs/loop.md runs: training, evaluation and a fit without gin."""

import re
from pathlib import Path

import numpy as np
import pytest

from t5x_like import checkpoints

PAGE = Path(__file__).parents[2] / "docs" / "loop.md"


@pytest.fixture(scope="module")
def page():
    found: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, found)
    return found


def test_training_lowers_the_loss_and_leaves_a_checkpoint_and_evaluation_agrees(
    page, proverbs, tmp_path
):
    task, cache_dir = proverbs
    model, params, losses = page["train"](task, str(cache_dir), str(tmp_path), 12)
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 1 < np.log(384)
    assert checkpoints.checkpoint_steps(str(tmp_path)) == [12]
    # The validation split has the proverbs that were trained on.
    found = page["held_out"](model, params, task, str(cache_dir))
    assert abs(found["loss"] - losses[-1]) < 0.5


def test_the_training_loop_is_thirty_lines():
    (first, *_) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in first.splitlines() if line.strip()]) <= 30


def test_the_fit_finds_the_law_that_made_the_losses(page):
    sizes, tokens = np.meshgrid([1e8, 4e8, 1.6e9, 6.4e9], [2e9, 8e9, 3.2e10, 1.28e11])
    sizes, tokens = sizes.ravel(), tokens.ravel()
    # Besiroglu et al. 2024, equation 4.
    losses = 1.8172 + 482.01 / sizes**0.3478 + 2085.43 / tokens**0.3658
    found, _ = page["compute_optimal"](sizes, tokens, losses, 1e21)
    assert found["alpha"] == pytest.approx(0.3478, rel=0.02)
    assert found["beta"] == pytest.approx(0.3658, rel=0.02)
