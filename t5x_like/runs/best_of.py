"""Best of n: of several texts for a prompt the one that a judge likes best."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from t5x_like.decoding.text import TextGeneration
from t5x_like.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

# Prompts and as many texts to the reward of each text.
Judge = Callable[[Sequence[str], Sequence[str]], Sequence[float] | np.ndarray]


def judge_of(judge: Any) -> Judge:
    """A run that gives rewards as a judge; a function is one as it is."""
    if hasattr(judge, "reward"):
        return lambda prompts, texts: judge.reward(texts, prompts)
    if callable(judge):
        return judge
    raise UserError(
        f"judge is {judge!r}: give a run that has learned comparisons, or a function of prompts "
        "and texts."
    )


def best_of(
    prompts: Sequence[str], found: Sequence[TextGeneration], judge: Judge
) -> "pd.DataFrame":
    """The text of the highest reward for each prompt, the first of equals.

    Args:
      prompts: texts.
      found: of each prompt a generation with its `samples`.
      judge: see `judge_of`.

    Returns:
      A row for each prompt: `prompt`, `text`, `reward`, and `mean_reward` of its samples.

    Raises:
      UserError: the judge gives more or fewer rewards than there are texts, or none that is a
        number.
    """
    import pandas as pd

    texts = [[one.text for one in generation.samples or (generation,)] for generation in found]
    asked = [prompt for prompt, own in zip(prompts, texts, strict=True) for _ in own]
    flat = [text for own in texts for text in own]
    rewards = np.asarray(judge(asked, flat), np.float64)
    if rewards.shape != (len(flat),) or not np.isfinite(rewards).all():
        raise UserError(
            f"the judge gave {rewards.shape} rewards for {len(flat)} texts: a finite number for "
            "each is needed."
        )
    rows = []
    for prompt, own in zip(prompts, texts, strict=True):
        mine, rewards = rewards[: len(own)], rewards[len(own) :]
        best = int(mine.argmax())
        row = {"prompt": prompt, "text": own[best], "reward": mine[best]}
        rows.append({**row, "mean_reward": mine.mean()})
    return pd.DataFrame(rows, columns=["prompt", "text", "reward", "mean_reward"])
