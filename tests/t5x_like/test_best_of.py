"""Best of n, of given texts."""

import pytest

from t5x_like.decoding.text import TextGeneration
from t5x_like.errors import UserError
from t5x_like.runs.best_of import best_of, judge_of


def drawn(*texts):
    samples = [TextGeneration(text, 0.0, True, []) for text in texts]
    return TextGeneration(texts[0], 0.0, True, [], samples)


def test_each_prompt_has_the_text_of_the_highest_reward():
    rewards = {"a": 1.0, "b": 3.0, "c": 3.0, "d": -1.0}

    def judge(prompts, texts):
        assert prompts == ["p", "p", "p", "q"]
        return [rewards[text] for text in texts]

    found = best_of(["p", "q"], [drawn("a", "b", "c"), TextGeneration("d", 0.0, True, [])], judge)
    assert found["text"].tolist() == ["b", "d"] and found["reward"].tolist() == [3, -1]
    assert found["mean_reward"].tolist() == pytest.approx([7 / 3, -1])


def test_a_judge_that_is_none_or_gives_too_few_is_refused():
    with pytest.raises(UserError, match="judge is 7: give a run"):
        judge_of(7)
    with pytest.raises(UserError, match=r"gave \(1,\) rewards for 2 texts"):
        best_of(["p"], [drawn("a", "b")], lambda prompts, texts: [1.0])
