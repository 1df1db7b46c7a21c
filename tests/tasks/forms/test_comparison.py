"""Prompts with ranked answers."""

import json

import pytest

from tasks.errors import TaskError
from tasks.forms import Comparison, chat

ROW = {"prompt": "Who?", "completions": json.dumps([" Ann.", " Ben.", " Cy."]), "ranks": "[1,0,1]"}


def test_a_text_is_followed_by_the_answers_as_they_are():
    assert Comparison()(ROW) == {
        "inputs": "Who?", "answers": [" Ann.", " Ben.", " Cy."], "ranks": [1, 0, 1]
    }  # fmt: skip


def test_a_conversation_is_followed_by_replies():
    messages = [{"role": "user", "content": "Hi"}]
    found = Comparison(template=chat.chatml())(
        {"prompt": json.dumps(messages), "completions": ["a", "b"], "ranks": [0, 1]}
    )
    assert found == {
        "inputs": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "answers": ["a<|im_end|>", "b<|im_end|>"],
        "ranks": [0, 1],
    }


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"ranks": "[2, 2, 2]"}, "the rank 2 for every answer.*'Who\\?'"),
        ({"completions": '["a", " ", "b"]'}, "answer 2 of 3 has no text"),
        ({"ranks": "[0, 1]"}, "3 answers in 'completions' and 2 ranks in 'ranks'"),
        ({"ranks": "[0.5, 1, 2]"}, "no list of whole numbers"),
        ({"completions": '["a"]', "ranks": "[0]"}, "two answers or more"),
    ],
)
def test_what_compares_nothing_is_refused(changed, expected):
    with pytest.raises(TaskError, match=expected):
        Comparison()({**ROW, **changed})
