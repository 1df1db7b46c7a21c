"""Examples before what is asked, drawn from a cache; no model is needed to write a prompt."""

import dataclasses
import json
from types import MappingProxyType

import pytest

import tasks
from t5x_like.data import DatasetConfig
from t5x_like.data.records import open_records
from t5x_like.errors import UserError
from t5x_like.evaluation import Shots
from tasks import forms, sources
from tasks.errors import TaskError
from tests.t5x_like.evaluation.written_cache import write_cache

OPTIONS = ("contexts", "continuations", "label")
TRAIN = [("2 + 2", 0), ("3 + 3", 1), ("4 + 4", 2), ("5 + 5", -1)]
FORM = forms.FewShot(separator="\n", description="Sums.")


def dataset(tmp_path, few_shot=FORM, train=TRAIN, form=None):
    """Sums, of which each is 4, 6 or 8; the label -1 says that nobody knows."""
    for split, rows in (("train", train), ("validation", [("1 + 3", 0), ("6 + 2", 2)])):
        lines = (json.dumps({"sum": text, "label": label}) for text, label in rows)
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation")}
    source = sources.JsonLines(files=files, columns=("sum", "label"))
    task = tasks.text_to_text("sums", source, form or Sums(), few_shot=few_shot)
    if not (tmp_path / "cache").exists():
        write_cache(task, tmp_path / "cache")
    lengths = {"inputs": 64, "targets": 8}
    return DatasetConfig(task, lengths, str(tmp_path / "cache"), "validation")


class Sums:
    """`2 + 2 =` to one of three."""

    columns, features = ("sum", "label"), ("inputs", "targets")
    kept = MappingProxyType(
        {"contexts": "texts", "continuations": "texts", "label": "integer", "group": "text"}
    )

    def __call__(self, row):
        made = forms.Options("{sum} =", ["a", "b", "c"], unlabelled="-1")(
            {**row, "a": "4", "b": "6", "c": "8"}
        )
        return {**made, "group": "low" if row["sum"] < "4" else "high"}

    def __repr__(self):
        return "Sums()"


def before(config, shots, room=None, context="1 + 3 =", features=OPTIONS):
    """What stands before the rows, with room for so many characters."""
    prompts = shots.of(config, features)
    records = open_records(config, features)

    def spare(text):
        return None if room is None else room - len(text + context)

    rows = zip(records.numbers, records, strict=True)
    return [prompts.before(number, row, spare) for number, row in rows], prompts


def test_a_prompt_is_a_description_examples_and_separators(tmp_path):
    """The low sums of the training split, the first ones, word for word."""
    form = dataclasses.replace(FORM, order="first", description="Sums, {group}.")
    (first, second), prompts = before(dataset(tmp_path, form), Shots(1))
    assert first == "Sums, low.\n2 + 2 = 4\n"
    assert second == "Sums, high.\n4 + 4 = 8\n"  # of the row's own group
    assert prompts.mean == 1
    (zero, _), _ = before(dataset(tmp_path, form), Shots(0))
    assert zero == "Sums, low.\n"


def test_examples_are_a_function_of_seed_and_row_and_more_begin_with_fewer(tmp_path):
    config = dataset(tmp_path, form=OneGroup())
    found = {
        (count, seed): before(config, Shots(count, seed=seed))[0]
        for count in (1, 2, 3)
        for seed in range(8)
    }
    for seed in range(8):
        one, two, three = (found[count, seed][0].split("\n") for count in (1, 2, 3))
        assert one[:2] == two[:2] == three[:2] and two[:3] == three[:3]
        assert sorted(three[1:-1]) == ["2 + 2 = 4", "3 + 3 = 6", "4 + 4 = 8"]
    assert len({texts[0] for texts in found.values()}) > 3  # other seeds draw others
    assert before(config, Shots(2))[0] == found[2, 0]
    assert any(first != second for first, second in found.values())  # and so do other rows


class OneGroup(Sums):
    """The same without groups."""

    kept = MappingProxyType({"contexts": "texts", "continuations": "texts", "label": "integer"})

    def __repr__(self):
        return "OneGroup()"


def test_a_row_is_no_example_of_its_own(tmp_path):
    config = dataset(tmp_path, form=OneGroup())
    (first, second), _ = before(config, Shots(1, split="validation"))
    assert (first, second) == ("Sums.\n6 + 2 = 8\n", "Sums.\n1 + 3 = 4\n")


def test_as_many_examples_as_fit_are_whole(tmp_path):
    """`Sums.` and a line end are 6, each example 10, what is asked 7: 33 hold two, 32 one."""
    config = dataset(tmp_path, form=OneGroup())
    for room, count in ((33, 2), (32, 1), (23, 1), (22, 0), (1000, 3)):
        texts, prompts = before(config, Shots("fit"), room)
        assert [text.count("=") for text in texts] == [count] * 2 and prompts.mean == count
    texts, prompts = before(config, Shots(3), 33)
    assert [text.count("=") for text in texts] == [2, 2]  # and so of a number that does not fit


def test_fixed_examples_come_as_they_are(tmp_path):
    form = dataclasses.replace(FORM, examples=["1 = 1", "2 = 2"])
    config = dataset(tmp_path, form)
    assert before(config, Shots(1))[0] == ["Sums.\n1 = 1\n"] * 2
    assert before(config, Shots("fit"), 1000)[0] == ["Sums.\n1 = 1\n2 = 2\n"] * 2
    with pytest.raises(UserError, match=r"SHOTS is 3, but there are 2 examples \(fixed ones\)"):
        before(config, Shots(3))


def test_inputs_and_targets_make_examples_where_there_are_no_options(tmp_path):
    form = forms.Template("{sum} is", "{label}")
    config = dataset(tmp_path, dataclasses.replace(FORM, delimiter="-> "), TRAIN[:1], form)
    features = ("inputs_pretokenized", "targets_pretokenized")
    assert before(config, Shots(1), features=features)[0] == ["Sums.\n2 + 2 is-> 0\n"] * 2


@pytest.mark.parametrize(
    ("shots", "room", "said"),
    [
        (Shots(4), None, r"SHOTS is 4, but there are 3 examples \(split 'train'\)"),
        (Shots(2, split="validation"), None,
         r"there are 1 examples \(split 'validation', the row itself aside\)"),
        (Shots(1), 10, "row 1 of its 'validation' split: without any example the prompt is 3 "),
        (Shots("fit"), None, "this model reads texts of any length. Give SHOTS a number"),
        (Shots(1, split="test"), None, "has no split 'test'"),
    ],
)  # fmt: skip
def test_prompts_that_cannot_be_written_are_said_in_one_line(tmp_path, shots, room, said):
    config = dataset(tmp_path, form=OneGroup())
    with pytest.raises(UserError, match=said) as raised:
        before(config, shots, room)
    assert "\n" not in str(raised.value)


def test_too_long_a_prompt_may_be_cut_instead(tmp_path):
    config = dataset(tmp_path, form=OneGroup())
    assert before(config, Shots(1, cut=True), 10)[0] == ["Sums.\n"] * 2


def test_groups_with_too_few_examples_are_named(tmp_path):
    with pytest.raises(UserError, match=r"there are 1 examples \(split 'train', group 'high'\)"):
        before(dataset(tmp_path), Shots(2))


def test_more_examples_than_there_are_is_an_error_before_any_row_however_little_has_room(tmp_path):
    with pytest.raises(UserError, match=r"SHOTS is 20, but there are 4 examples \(split 'train'\)"):
        before(dataset(tmp_path, form=OneGroup()), Shots(20), 33)


def test_prompts_without_room_for_all_examples_are_counted(tmp_path, capsys):
    _, prompts = before(dataset(tmp_path, form=OneGroup()), Shots(3), 33)  # of which two fit
    prompts.tell()
    said = capsys.readouterr().err
    assert said == "sums: 2 of 2 prompts have no room for 3 examples: 2.0 in the mean\n"


def test_settings_that_say_nothing_are_refused(tmp_path):
    for count in (-1, 1.5, True, "all"):
        with pytest.raises(UserError, match=r"a whole number of 0 or more, or 'fit'"):
            Shots(count)
    with pytest.raises(TaskError, match=r"FewShot\.order is 'random'"):
        forms.FewShot(order="random")
    with pytest.raises(TaskError, match=r"FewShot\.stop is one text"):
        forms.FewShot(stop="\n")
    with pytest.raises(TaskError, match="example 2 has no text"):
        forms.FewShot(examples=["a", " "])
    config = dataset(tmp_path)
    config = dataclasses.replace(config, task=dataclasses.replace(config.task, few_shot=None))
    with pytest.raises(UserError, match="'sums' does not say how examples stand in a prompt"):
        before(config, Shots(1))


def test_a_record_says_which_examples_there_were():
    assert Shots(0).told(FORM) == "0 shots"
    assert Shots(5, seed=3).told(FORM) == "5 shots of 'train' by seed 3"
    first = dataclasses.replace(FORM, split="dev", order="first")
    assert Shots("fit").told(first) == "as many shots as fit of 'dev', its first"
    fixed = dataclasses.replace(FORM, examples=("a",))
    assert Shots(1).told(fixed) == "1 shot, always the same"
