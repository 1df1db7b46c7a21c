"""Conversations as context and replies by turns, by the templates of published models."""

import json

import pytest

from tasks.errors import TaskError
from tasks.forms import ChatTemplate, Conversation, Message, chat

MESSAGES = [
    Message("system", "Be brief."),
    Message("user", "Hi!"),
    Message("assistant", "Hello."),
    Message("user", "2 + 2?"),
    Message("assistant", "4"),
]


def test_a_plain_conversation():
    assert chat.plain().pieces(MESSAGES) == [
        "Be brief.\n\nHuman: Hi!\n\nAssistant:",
        " Hello.",
        "\n\nHuman: 2 + 2?\n\nAssistant:",
        " 4",
    ]


def test_chatml_learns_the_end_mark_and_not_the_line_after_it():
    assert chat.chatml().pieces(MESSAGES[1:]) == [
        "<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n",
        "Hello.<|im_end|>",
        "\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n",
        "4<|im_end|>",
    ]


def test_llama_2_has_the_system_message_within_the_first_of_the_user():
    assert chat.llama2().pieces(MESSAGES) == [
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi! [/INST]",
        " Hello.",
        " </s><s>[INST] 2 + 2? [/INST]",
        " 4",
    ]


@pytest.mark.parametrize("template", [chat.plain(), chat.chatml(), chat.llama2()])
def test_a_prompt_is_what_was_read_before_the_reply_in_training(template):
    pieces = template.pieces(MESSAGES)
    assert template.prompt(MESSAGES[:-1]) == "".join(pieces[:-1])
    assert template.prompt(MESSAGES[:2]) == pieces[0]
    # What was said without a reply is not learned of.
    assert template.pieces([*MESSAGES, Message("user", "Thanks.")]) == pieces


def test_a_template_of_ones_own_in_a_file_of_ones_own():
    template = ChatTemplate({"human": "Q: {content}\n", "gpt": "A:{content}\n"}, reply="gpt")
    form = Conversation(template, "turns", "from", "value")
    turns = [{"from": "human", "value": "{x}?"}, {"from": "gpt", "value": "y"}]
    assert form({"turns": json.dumps(turns)}) == {"targets": ["Q: {x}?\nA:", "y"]}
    assert form.inputs_of({"turns": turns[:1]}) == "Q: {x}?\nA:"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([("user", "Hi")], "no message of the role 'assistant'.*it begins 'Hi'"),
        ([("user", "Hi"), ("assistant", " \n")], "a reply of 'assistant' without text"),
        ([("tool", "5"), ("assistant", "a")], "role 'tool', for which the template has no text"),
        ([], "no message of the role 'assistant'.*it has no text"),
    ],
)
def test_what_nothing_can_be_learned_of_is_refused(messages, expected):
    with pytest.raises(TaskError, match=expected):
        chat.plain().pieces([Message(*one) for one in messages])


def test_a_system_message_that_belongs_to_no_user_is_refused():
    alone = [Message("system", "s"), Message("assistant", "a")]
    with pytest.raises(TaskError, match="'system' without one of a user after it"):
        chat.llama2().pieces(alone)


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ({"user": "{content}"}, "lacks 'assistant', the role that is learned"),
        ({"assistant": "{content}"}, "needs something before {content}"),
        ({"assistant": "A: "}, "'A: ', needs {content} once"),
    ],
)
def test_a_template_that_lacks_a_role_or_a_content_is_refused(roles, expected):
    with pytest.raises(TaskError, match=expected):
        ChatTemplate(roles)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("hello", "column 'messages' is no list of messages"),
        ('[{"role": "user"}]', "message 1: a text 'content' is needed, and it has role"),
        ('[{"role": "user", "content": null}]', "message 1: a text 'content' is needed"),
    ],
)
def test_a_column_without_messages_is_refused(value, expected):
    with pytest.raises(TaskError, match=expected):
        Conversation()({"messages": value})
