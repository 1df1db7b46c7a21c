"""Inference over files, with a real model and checkpoint."""

import dataclasses
import io
import json
import sys

import pytest

from models.gpt import GPT2
from t5x_like import infer as inference
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy
from t5x_like.decoding import BeamSearch, Sampling, Temperature, TextGeneration, generate
from t5x_like.errors import UserError
from t5x_like.evaluation import answering
from t5x_like.optimizers import adamw
from t5x_like.partitioning import Partitioner
from t5x_like.schedules import Constant
from t5x_like.training.state import create_state


class Letters:
    """a, b, c, … are 3, 4, 5, …"""

    vocab_size = 32
    extra_ids = 0
    eos_id = 1
    unk_id = 2

    def encode(self, text):
        return [ord(letter) - ord("a") + 3 for letter in text]

    def decode(self, ids):
        return "".join(chr(i + ord("a") - 3) if i >= 3 else "é" for i in ids)

    def spec(self):
        return {}


@dataclasses.dataclass
class Feature:
    vocabulary: Letters = dataclasses.field(default_factory=Letters)
    add_eos: bool = True


@dataclasses.dataclass
class Continuing:
    """Only targets: prompts are their beginnings."""

    name: str = "continuing"
    output_features: dict = dataclasses.field(default_factory=lambda: {"targets": Feature()})

    @property
    def tasks(self):
        return ((self, 1.0),)


MODEL = GPT2(vocab_size=32, embed_dim=16, num_heads=2, num_layers=1, max_length=32)
TEXTS = ["abc", "z", "", "hello", "qrstuvwxyz", "mn", "lo", "p", "k", "jih", "gfe"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    checkpointer = Checkpointer(str(directory), CheckpointPolicy())
    state = create_state(MODEL, adamw(Constant(1e-3)), Partitioner(), seed=0)
    checkpointer.save(state, 7, {}, {})
    checkpointer.close()
    return directory


@pytest.fixture
def infer(run_dir):
    def run(**arguments):
        return inference.infer(
            **{
                "model": MODEL, "model_dir": str(run_dir), "task": Continuing(),
                "task_feature_lengths": {"targets": 6}, "batch_size": 2, **arguments,
            }
        )  # fmt: skip

    return run


@pytest.fixture
def answered(monkeypatch):
    """Where what is generated does not matter, nothing is."""
    answer = TextGeneration("b", -1.0, True, [4])
    monkeypatch.setattr(
        answering, "answer_prompts", lambda model, params, codec, texts, **_: [answer] * len(texts)
    )


def lines_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_each_line_of_text_is_answered_in_order(infer, tmp_path):
    source, out = tmp_path / "prompts.txt", tmp_path / "deep" / "out.jsonl"
    source.write_text("\n".join(TEXTS) + "\n")
    assert infer(input_path=str(source), output_path=str(out)) == len(TEXTS)
    written = lines_of(out)
    assert [line["inputs"] for line in written] == TEXTS
    params = create_state(MODEL, adamw(Constant(1e-3)), Partitioner(), seed=0).params
    for line in written:
        prompt = Letters().encode(line["inputs"])
        (alone,) = generate(MODEL, params, [prompt], max_new_tokens=6, batch_size=1)
        assert line["predictions"] == Letters().decode(alone.tokens)
        assert line["scores"] == pytest.approx(alone.score, abs=1e-3)


def test_json_lines_keep_their_other_fields(infer, tmp_path):
    source, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"id": 5, "question": "ab"}\n\n{"question": "ba", "id": "ü"}\n', "utf-8")
    infer(input_path=str(source), output_path=str(out), field="question")
    written = lines_of(out)
    assert [(line["id"], line["question"]) for line in written] == [(5, "ab"), ("ü", "ba")]
    assert all(isinstance(line["predictions"], str) for line in written)


@pytest.mark.parametrize(
    ("columns", "arguments", "replaced"),
    [
        ({"inputs": "ab", "predictions": "gold", "scores": 1}, {}, "'predictions', 'scores'"),
        ({"inputs": "ab", "checkpoint": "c"}, {}, "'checkpoint'"),
        ({"predictions": "ab"}, {"field": "predictions"}, "'predictions'"),
        ({"decoding": "ab"}, {"field": "decoding"}, "'decoding'"),
        ({"inputs": "ab", "votes": 3}, {"samples": 2, "strategy": Sampling()}, "'votes'"),
    ],
)
def test_a_column_that_the_answer_would_replace_is_refused(
    infer, tmp_path, monkeypatch, columns, arguments, replaced
):
    source, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    field = arguments.get("field", "inputs")
    source.write_text(json.dumps({field: "a"}) + "\n" + json.dumps(columns) + "\n")
    if field != "inputs":
        source.write_text(json.dumps(columns) + "\n")
    message = rf"line {len(source.read_text().splitlines())}: the answer would replace {replaced} "
    with pytest.raises(UserError, match=message):
        infer(input_path=str(source), output_path=str(out), **arguments)
    assert not out.exists()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes())))
    with pytest.raises(UserError, match="standard input, " + message):
        infer(output_path=str(out), input_format="jsonl", **arguments)


@pytest.mark.usefixtures("answered")
def test_a_column_that_this_answer_has_not_is_kept_and_compared(infer, tmp_path):
    """`words` is a tagged text's, `votes` that of several samples."""
    source, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    asked = {"question": "ab", "words": 12, "votes": 3, "samples": "a", "queries": 0}
    source.write_text(json.dumps(asked) + "\n")
    infer(input_path=str(source), output_path=str(out), field="question")
    (line,) = lines_of(out)
    assert line.items() >= asked.items()
    assert infer(input_path=str(source), output_path=str(out), field="question") == 0
    source.write_text(json.dumps({**asked, "votes": 4}) + "\n")
    with pytest.raises(UserError, match=r"line 1 of .* is not the answer to prompt 1"):
        infer(input_path=str(source), output_path=str(out), field="question")


@pytest.mark.parametrize("cut", ["after a line", "inside a line"])
def test_an_interrupted_run_goes_on_to_the_same_output(infer, tmp_path, monkeypatch, cut):
    monkeypatch.setattr(inference, "BATCHES_AT_A_TIME", 2)
    source, whole, out = (tmp_path / name for name in ("prompts.txt", "whole", "out"))
    source.write_text("\n".join(TEXTS))
    arguments = dict(input_path=str(source), strategy=Sampling(), seed=5)
    infer(output_path=str(whole), **arguments)
    lines = whole.read_bytes().splitlines(keepends=True)
    begun = b"".join(lines[:5]) + (lines[5][:9] if cut == "inside a line" else b"")
    out.write_bytes(begun)
    assert infer(output_path=str(out), **arguments) == len(TEXTS) - 5
    resumed = lines_of(out)
    assert resumed[:5] == lines_of(whole)[:5]
    assert [line["predictions"] for line in resumed] == [
        line["predictions"] for line in lines_of(whole)
    ]
    assert infer(output_path=str(out), **arguments) == 0  # nothing is left to do
    assert lines_of(out) == resumed


def test_standard_input_and_output(infer, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\ncd\n")))
    assert infer() == 2
    printed = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["inputs"] for line in printed] == ["ab", "cd"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"inputs": "a"}\n{"inputs": \n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'{"inputs": "a"}\n\n["b"]\n', "a.jsonl, line 3: found list"),
        ("a.jsonl", b'{"text": "a"}\n', r"line 1: no field 'inputs'; it has \['text'\]"),
        ("a.jsonl", b'{"inputs": 3}\n', "line 1: the field 'inputs' is int"),
        ("a.jsonl", b'{"inputs": "\\ud800"}\n', "line 1: an escape is half of a surrogate"),
        ("a.txt", b"a\nb\n\xe9t\xe9\n", "a.txt, line 3: byte 1 is not UTF-8"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_generated(infer, tmp_path, name, content, message):
    source = tmp_path / name
    source.write_bytes(content)
    out = tmp_path / "out.jsonl"
    with pytest.raises(UserError, match=message) as error:
        infer(input_path=str(source), output_path=str(out))
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_an_output_of_another_input_is_not_continued(infer, tmp_path):
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("ab\ncd\nef\n")
    out.write_text('{"inputs": "zz", "predictions": "", "scores": 0}\n')
    with pytest.raises(UserError, match="made from another input"):
        infer(input_path=str(source), output_path=str(out))
    out.write_text("{}\n" * 4)
    with pytest.raises(UserError, match=r"already has 4 lines, but .* has 3 prompts"):
        infer(input_path=str(source), output_path=str(out))


def test_standard_input_shorter_than_the_output_is_refused(infer, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    out.write_text("{}\n" * 2)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\n")))
    with pytest.raises(UserError, match="already has 2 lines, but '-' has 1 prompts"):
        infer(output_path=str(out))


def test_each_line_is_compared_with_its_prompt(infer, tmp_path):
    source, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    asked = [{"inputs": text, "id": number} for number, text in enumerate(["ab", "cd", "ef"])]
    source.write_text("".join(json.dumps(one) + "\n" for one in asked))
    asked[1]["id"] = 7  # the last line agrees
    out.write_text("".join(json.dumps({**one, "predictions": ""}) + "\n" for one in asked))
    with pytest.raises(UserError, match=r"line 2 of .* is not the answer to prompt 2"):
        infer(input_path=str(source), output_path=str(out))


def test_answers_of_another_checkpoint_are_not_continued(infer, tmp_path):
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("ab\ncd\n")
    infer(input_path=str(source), output_path=str(out))
    first, _ = lines_of(out)
    assert first["checkpoint_step"] == 7
    out.write_text(json.dumps({**first, "checkpoint_step": 3}) + "\n")
    with pytest.raises(UserError, match=r"step 3, and this is step 7: give infer.step=3"):
        infer(input_path=str(source), output_path=str(out))
    out.write_text(json.dumps({**first, "checkpoint": "of another run"}) + "\n")
    with pytest.raises(
        UserError, match=r"other parameters than step 7 of this run \(of another run"
    ):
        infer(input_path=str(source), output_path=str(out))


DRAWN = {"strategy": Sampling((Temperature(0.5),)), "seed": 3}


@pytest.mark.parametrize(
    ("earlier", "now", "said"),
    [
        ({}, DRAWN, r"Greedy\(\), max_new_tokens=6, and this is Sampling\(.*=0.5.*=6, seed=3:"),
        ({}, {"max_new_tokens": 5}, "tokens=6, and this is .*tokens=5: give the same settings"),
        (DRAWN, {**DRAWN, "seed": 4}, "seed=3, and this is .*seed=4: give the same settings"),
        (DRAWN, {"strategy": BeamSearch(2)}, r"and this is BeamSearch\(beams=2, alpha=0.6"),
    ],
)
@pytest.mark.usefixtures("answered")
@pytest.mark.parametrize("finished", [True, False])
def test_answers_of_other_settings_are_not_continued(infer, tmp_path, earlier, now, said, finished):
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("ab\ncd\n")
    infer(input_path=str(source), output_path=str(out), **earlier)
    if not finished:
        out.write_text(out.read_text().splitlines()[0] + "\n")
    before = out.read_text()
    with pytest.raises(UserError, match=f"line 1 of .* was decoded by .*{said}"):
        infer(input_path=str(source), output_path=str(out), **now)
    assert out.read_text() == before
    # The seed of a strategy that draws nothing is none of its settings.
    same = earlier if earlier else {"seed": 9}
    assert infer(input_path=str(source), output_path=str(out), **same) == (0 if finished else 1)


def test_answers_that_do_not_say_how_they_were_decoded_are_not_continued(infer, tmp_path):
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("ab\ncd\n")
    out.write_text('{"inputs": "ab", "predictions": "", "scores": 0, "checkpoint_step": 7}\n')
    with pytest.raises(UserError, match=r"line 1 of .* not say which parameters .* output_path"):
        infer(input_path=str(source), output_path=str(out))
    named = tmp_path / "named.jsonl"
    infer(input_path=str(source), output_path=str(named))
    line = {**lines_of(named)[0]}
    del line["decoding"]
    out.write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=r"line 1 of .* does not say how .* another output_path"):
        infer(input_path=str(source), output_path=str(out))


def test_processes_without_a_shared_file_system_agree(infer, tmp_path, monkeypatch):
    """What the first process told is told again to one that has neither input nor output."""
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("\n".join(TEXTS))
    told = []
    monkeypatch.setattr(inference, "gather_json", lambda value: told.append(value) or [value])
    prompts = []
    decode = answering.answer_prompts
    monkeypatch.setattr(
        answering,
        "answer_prompts",
        lambda *args, **kwargs: prompts.append(args[3]) or decode(*args, **kwargs),
    )
    assert infer(input_path=str(source), output_path=str(out)) == len(TEXTS)
    first, prompts = prompts, []
    replayed = iter(told)
    monkeypatch.setattr(inference, "gather_json", lambda value: [next(replayed)])
    monkeypatch.setattr(inference, "_is_first", lambda: False)
    nowhere = str(tmp_path / "nowhere")
    assert infer(input_path=nowhere, output_path=nowhere) == len(TEXTS)
    assert prompts == first
    assert not (tmp_path / "nowhere").exists()


def test_an_error_of_the_first_process_is_all_processes(infer, monkeypatch):
    monkeypatch.setattr(inference, "_is_first", lambda: False)
    monkeypatch.setattr(inference, "gather_json", lambda value: [{"error": "line 3: not JSON"}])
    with pytest.raises(UserError, match="line 3: not JSON"):
        infer(input_path="a.jsonl")


def test_a_remote_output_is_refused_without_its_packages(infer, tmp_path, monkeypatch):
    monkeypatch.setattr("t5x_like.host.files._installed", lambda module: False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("ab\n")
    with pytest.raises(UserError, match=r"'gs://bucket/out.jsonl' needs"):
        infer(input_path="prompts.txt", output_path="gs://bucket/out.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["prompts.txt"]


@pytest.mark.parametrize("name", ["max_new_tokens", "batch_size"])
def test_nothing_to_do_is_refused(infer, name):
    with pytest.raises(UserError, match=r"is 0: it must be at least 1"):
        infer(**{name: 0})


def test_a_prompt_too_long_for_the_model_is_named_before_anything_is_answered(infer, tmp_path):
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    # 32 positions: the start token and 31 more.
    source.write_text("\n".join(["ab", "a" * 31, "b" * 32]))
    with pytest.raises(
        UserError, match=r"prompts.txt, line 3: it takes 33 positions, .* is 32: short"
    ):
        infer(input_path=str(source), output_path=str(out))
    assert not out.exists()


@dataclasses.dataclass
class Asking:
    """`ask: Q` is answered."""

    name: str = "asking"
    output_features: dict = dataclasses.field(
        default_factory=lambda: {"inputs": Feature(), "targets": Feature()}
    )
    input_columns = ("q",)
    inputs_begin = "ask"

    @property
    def tasks(self):
        return ((self, 1.0),)

    @property
    def inputs_form(self):
        return self

    def inputs_of(self, row):
        return f"ask{row['q']}"


ASKING = {"task": Asking(), "task_feature_lengths": {"inputs": 8, "targets": 6}}


def test_columns_become_prompts_by_the_tasks_form(infer, tmp_path, capsys):
    source, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"q": "b"}\n{"inputs": "askc", "q": "d"}\n')
    infer(input_path=str(source), output_path=str(out), **ASKING)
    assert [line["inputs"] for line in lines_of(out)] == ["askb", "askc"]
    assert "warning" not in capsys.readouterr().err
    source.write_text('{"r": "b"}\n')
    with pytest.raises(UserError, match=r"line 1: no field 'inputs'; .* or give the columns q"):
        infer(input_path=str(source), **ASKING)


def test_prompts_that_are_not_written_as_in_training_are_said(infer, tmp_path, capsys):
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("b\nc\n")
    infer(input_path=str(source), output_path=str(out), **ASKING)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning")]
    assert "no prompt begins with 'ask'" in line and "the columns q" in line


@pytest.mark.usefixtures("answered")
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['{"inputs": "b"}', "", '{"inputs": "c"}'], True),
        (['{"inputs": "b"}', "c"], False),
        (["{b}", '["c"]'], False),
    ],
)
def test_a_text_of_json_objects_is_said(infer, tmp_path, capsys, lines, said):
    source = tmp_path / "prompts.txt"
    source.write_text("\n".join(lines) + "\n")
    lengths = {"inputs": 20, "targets": 6}
    infer(input_path=str(source), task=Asking(), task_feature_lengths=lengths)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning")]
    assert (f"every line of {source} is a JSON object" in line) is said
    assert ("no prompt begins with 'ask'" in line) is not said


def test_prompts_that_are_cut_are_said(infer, tmp_path, capsys):
    source = tmp_path / "prompts.txt"
    # Of 8 tokens the end token is one.
    source.write_text("ask\naskbcde\naskbcdef\naskbcdefg\n")
    infer(input_path=str(source), output_path=str(tmp_path / "out.jsonl"), **ASKING)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("warning")]
    assert line.startswith("warning: 2 of 4 prompts lose their end: they are longer than the 8 ")
    assert "line 3 with 9 tokens" in line


def test_output_is_utf8_whatever_the_locale(infer, tmp_path, monkeypatch):
    source, written = tmp_path / "prompts.jsonl", io.BytesIO()
    source.write_text('{"inputs": "ab", "id": "日本"}\n', "utf-8")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    infer(input_path=str(source))
    assert json.loads(written.getvalue().decode("utf-8"))["id"] == "日本"


def test_file_names_need_not_be_utf8(infer, tmp_path):
    source, out = tmp_path / "pr\udcffmpts.txt", tmp_path / "o\udcfft.jsonl"
    source.write_text("ab\n")
    assert infer(input_path=str(source), output_path=str(out)) == 1
    assert infer(input_path=str(source), output_path=str(out)) == 0
    assert len(lines_of(out)) == 1


def test_a_byte_order_mark_is_no_part_of_the_prompt():
    (record,) = inference.read_records([b"\xef\xbb\xbfab\r\n"], "a.txt", "text", "inputs")
    assert record == {"inputs": "ab"}


def test_a_missing_input_is_one_line(infer, tmp_path):
    with pytest.raises(UserError, match=r"nothing.txt' not found\."):
        infer(input_path=str(tmp_path / "nothing.txt"))
