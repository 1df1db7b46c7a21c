"""Dialogues written as one text."""

import json

import pytest

from tasks.errors import TaskError
from tasks.sources import Dialogues, JsonLines, PreferredDialogues

SAID = "\n\nHuman: Hi?\n\nAssistant: Yes.\n\nHuman: And?\n\nAssistant:"
ROWS = [
    {"chosen": SAID + " Fine.", "rejected": SAID + " Go away."},
    {"chosen": SAID, "rejected": SAID + " No words were better."},
    {"chosen": SAID + " a", "rejected": "\n\nHuman: Another?\n\nAssistant: b"},
]
TURNS = [
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "And?"},
]


def files(tmp_path, rows):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JsonLines(files={"train": str(path)}, columns=("chosen", "rejected"))


def test_a_dialogue_becomes_messages(tmp_path, caplog):
    found = list(Dialogues(files(tmp_path, ROWS[:2])).rows("train"))
    answer = {"role": "assistant", "content": "Fine."}
    assert [json.loads(row["messages"]) for row in found] == [[*TURNS, answer]]
    assert "1 rows left out, with a message without words" in caplog.text


def test_two_become_a_prompt_with_ranked_answers(tmp_path, caplog):
    (row,) = PreferredDialogues(files(tmp_path, ROWS)).rows("train")
    assert {name: json.loads(text) for name, text in row.items()} == {
        "prompt": TURNS,
        "completions": ["Fine.", "Go away."],
        "ranks": [0, 1],
    }
    assert "2 rows left out" in caplog.text


def test_a_text_without_marks_is_refused(tmp_path):
    source = files(tmp_path, [{"chosen": "Hello", "rejected": ""}])
    with pytest.raises(TaskError, match="'chosen' begins with 'Hello'"):
        list(Dialogues(source).rows("train"))
