"""What a model is given to go on from; it is written here without one."""

import dataclasses
import json

import pytest

import tasks
from models.t5 import T5_1_1
from t5x_like.data import DatasetConfig
from t5x_like.decoding import TextCodec, TextGeneration
from t5x_like.decoding.generation_config import longest_answer
from t5x_like.decoding.options import OptionEncoder, Question, Reading
from t5x_like.errors import UserError
from t5x_like.evaluation import Generation, Shots, generation
from t5x_like.evaluation.prompts.text_prompts import text_prompts
from t5x_like.evaluation.task import evaluate_params
from tasks import forms, metrics, sources
from tests.models.families import gpt2, t5
from tests.t5x_like.evaluation.written_cache import write_cache

FORM = forms.FewShot(separator="\n", stop=("\n", "Q:"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Questions in bytes, of which one has the answer 4."""
    directory = tmp_path_factory.mktemp("sums")
    for split, rows in (("train", ["1 + 1"]), ("validation", ["2 + 2", "3 + 3"])):
        lines = (json.dumps({"sum": text, "is": str(int(text[0]) * 2)}) for text in rows)
        (directory / f"{split}.jsonl").write_text("\n".join(lines))
    files = {split: str(directory / f"{split}.jsonl") for split in ("train", "validation")}
    source = sources.JsonLines(files=files, columns=("sum", "is"))
    form = forms.Template("Q: {sum}?\nA:", "{is}")
    task = tasks.text_to_text("sums", source, form, metrics=[metrics.exact_match], few_shot=FORM)
    write_cache(task, directory / "cache")
    lengths = {"inputs": 64, "targets": 4}
    return DatasetConfig(task, lengths, str(directory / "cache"), "validation")


def asked(model, dataset, reading, shots=Shots(0), longest=4):  # noqa: B008
    codec = TextCodec.for_task(dataset.task, model, dataset.task_feature_lengths)
    examples = [{"inputs_pretokenized": f"Q: {n} + {n}?\nA:"} for n in (2, 3)]
    return text_prompts(
        model, codec, dataset, examples, [0, 1], reading.of_model(model), shots, longest
    )


def decoded(tokens):
    return "".join(chr(i - 3) if i >= 3 else "|" for i in tokens)


def test_a_text_is_gone_on_from_causally_without_an_end(dataset):
    found = asked(gpt2(vocab_size=384, max_length=64), dataset, Reading("text"), Shots(1))
    assert found.texts[0] == "Q: 1 + 1?\nA: 2\nQ: 2 + 2?\nA:"
    assert [decoded(tokens) for tokens in found.tokens] == found.texts
    assert not found.codec.bidirectional_prompt and found.shots.mean == 1


def test_inputs_have_their_end_and_an_encoder_reads_nothing_else(dataset):
    found = asked(gpt2(vocab_size=384, max_length=64), dataset, Reading("inputs"), Shots(1))
    assert decoded(found.tokens[0]) == "Q: 1 + 1?\nA: 2\nQ: 2 + 2?\nA:|"
    found = asked(t5(T5_1_1, vocab_size=384), dataset, Reading("text"))
    assert decoded(found.tokens[1]) == "Q: 3 + 3?\nA:|"


def test_a_text_without_room_loses_its_beginning_and_with_examples_is_refused(dataset):
    """The start token and 12 characters are 13, and 4 are to be written: the last is not read."""
    model = gpt2(vocab_size=384, max_length=15)
    assert asked(gpt2(vocab_size=384, max_length=16), dataset, Reading("text")).cut.cut == 0
    found = asked(model, dataset, Reading("text"))
    assert [decoded(tokens) for tokens in found.tokens] == [": 2 + 2?\nA:", ": 3 + 3?\nA:"]
    assert "2 of 2 contexts lose their beginning" in str(found.cut)
    with pytest.raises(UserError, match="the prompt is 1 tokens longer than the model can read"):
        asked(model, dataset, Reading("text"), Shots(1))


def test_inputs_without_room_lose_their_beginning_where_that_is_asked_for(dataset):
    """And not the question, which stands at their end."""
    short = dataclasses.replace(dataset, task_feature_lengths={"inputs": 8, "targets": 4})
    model = t5(T5_1_1, vocab_size=384)
    found = asked(model, short, Reading("inputs"), Shots(1, cut=True))
    assert [decoded(tokens) for tokens in found.tokens] == ["+ 2?\nA:|", "+ 3?\nA:|"]
    assert "2 of 2 contexts lose their beginning" in str(found.cut)
    with pytest.raises(UserError, match="longer than"):
        asked(model, short, Reading("inputs"), Shots(1))


def test_generated_text_ends_at_the_tasks_stop_strings_and_the_record_says_what_was_read(
    dataset, monkeypatch, capsys
):
    given = {}

    def answers(model, params, codec, prompts, *, config, **_):
        given.update(codec=codec, prompts=[decoded(prompt) for prompt in prompts], config=config)
        return [TextGeneration(text, -1.0, True, []) for text in (" 4", " 7 ")]

    monkeypatch.setattr(generation, "answer_prompts", answers)
    model = gpt2(vocab_size=384, max_length=64)
    measured = Generation(contexts="text", shots=Shots(1))
    (result,) = evaluate_params(model, None, dataset, measurements=[measured])
    assert "do not end" not in capsys.readouterr().err
    assert given["config"].stop_strings == ("\n", "Q:")
    assert given["prompts"][1] == "Q: 1 + 1?\nA: 2\nQ: 3 + 3?\nA:"
    assert result.values["exact_match"] == 50 and result.values["shots"] == 1
    told = "1 shot of 'train' by seed 0, contexts read as text causally"
    assert result.settings["prompts"] == told
    first, second = result.predictions["generation"]
    assert (first.inputs, first.predictions) == (given["prompts"][0], "4")
    assert (second.targets, second.predictions) == ("6", "7")

    # As in training, where nothing else is said.
    (result,) = evaluate_params(model, None, dataset, measurements=[Generation()])
    assert given["prompts"] == ["Q: 2 + 2?\nA:|", "Q: 3 + 3?\nA:|"]
    assert given["config"].stop_strings == () and given["codec"].bidirectional_prompt
    assert result.settings["prompts"] == "0 shots, contexts read as inputs as a prefix"
    assert result.values["exact_match"] == 0  # " 4" is not "4"
    own = dataclasses.replace(measured, stop_strings=["?"])
    evaluate_params(model, None, dataset, measurements=[own])
    assert given["config"].stop_strings == ("?",)

    def unended(*arguments, **options):
        first, second = answers(*arguments, **options)
        return [dataclasses.replace(first, finished=False), second]

    monkeypatch.setattr(generation, "answer_prompts", unended)
    evaluate_params(model, None, dataset, measurements=[Generation()])
    assert "1 of 2 answers do not end within max_new_tokens=4" in capsys.readouterr().err


def test_the_room_before_a_question_is_that_of_its_longest_option(dataset):
    """Of 16 and one that is not read ` cd` takes 3, `ab` and the start token 3: 11 are left."""
    question = Question(["ab"], [" c", " cd"])
    lengths = {"inputs": 8, "targets": 4}

    def left(model, text, reading=Reading("text")):  # noqa: B008
        codec = TextCodec.for_task(dataset.task, model, lengths)
        return OptionEncoder(model, codec, reading.of_model(model)).spare(question)(text)

    decoder = gpt2(vocab_size=384, max_length=16)
    assert [left(decoder, text) for text in ("", "x" * 11, "x" * 12)] == [11, 0, -1]
    # An encoder has 8 tokens for inputs and their end.
    assert left(t5(T5_1_1, vocab_size=384), "xy") == 3
    assert left(decoder, "xy", Reading("inputs")) == 3
    blank = Question(["ab", "abcdef"], [" x"])
    codec = TextCodec.for_task(dataset.task, decoder, lengths)
    assert OptionEncoder(decoder, codec, Reading("text")).spare(blank)("") == 17 - 2 - 7


def test_a_policys_task_of_prompts_alone_is_answered_in_their_vocabulary():
    # As a run of `align` has it: load_run(...).generate and infer go on from its prompts.
    source = sources.JsonLines(files={"train": "none.jsonl"}, columns=("prompt",))
    task = tasks.prompts("asked", source, forms.Prompt("prompt"))
    decoder = gpt2(vocab_size=384, max_length=64)
    codec = TextCodec.for_task(task, decoder, {"inputs": 16})
    assert codec.targets is codec.inputs is task.output_features["inputs"]
    assert codec.input_length == 16 and not codec.end_of_inputs
    assert decoded(codec.encode("Q: 2")) == "Q: 2"
    assert longest_answer({"inputs": 16}, 8) == 8 == longest_answer({"targets": 8}, None)
    with pytest.raises(UserError, match=r"prompts alone.*give max_new_tokens"):
        longest_answer({"inputs": 16}, None)
