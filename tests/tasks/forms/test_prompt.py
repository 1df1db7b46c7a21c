"""Prompts without answers: texts, and conversations up to the next reply."""

import json

import pytest

import tasks
from tasks.errors import TaskError
from tasks.forms import Prompt
from tasks.forms.chat import ChatTemplate
from tasks.sources import Brackets


def test_a_text_is_the_prompt_as_it_is():
    assert Prompt()({"prompt": "Once upon "}) == {"inputs": "Once upon "}


def test_messages_are_written_up_to_where_the_reply_begins():
    messages = [{"role": "user", "content": "Hi"}]
    expected = {"inputs": "\n\nHuman: Hi\n\nAssistant:"}
    assert Prompt()({"prompt": messages}) == expected
    assert Prompt()({"prompt": json.dumps(messages)}) == expected


def test_no_token_ends_a_prompt():
    task = tasks.prompts("asked", Brackets(), Prompt("opened"))
    assert list(task.output_features) == ["inputs"]
    assert not task.output_features["inputs"].add_eos
    assert task.output_features["inputs"].keeps == "end"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("  ", "column 'prompt': a prompt has no text"),
        ([{"role": "system", "content": "Be brief."}], "system"),
        ([{"role": "user"}], "a text 'content' is needed"),
        (3, "no list of messages"),
    ],
)
def test_what_is_no_prompt_is_refused(value, said):
    template = ChatTemplate(roles={"user": "Q: {content}\n", "assistant": "A: {content}\n"})
    with pytest.raises(TaskError, match=said):
        Prompt(template=template)({"prompt": value})
