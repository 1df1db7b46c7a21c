"""`eval-harness` as a user meets it, beside lm_eval's backend for transformers on what is exported.

Tasks are YAML files with JSON lines, read offline.
"""

import json
import sys

import pytest

from models.gpt import GPT2
from t5x_like import cli

TEXTS = ["many hands make light work", "still waters run deep", "a watched pot never boils"] * 3
QUESTIONS = [
    {"question": "Q: many hands make", "options": ["light work", "deep pots", "boils"], "label": 0},
    {"question": "Q: still waters ", "options": ["run", "boil over and run deep"], "label": 1},
    {"question": "", "options": ["a watched pot", "many hands"], "label": 0},
    {"question": "Q: " + "a watched pot never boils " * 12, "options": ["so", "no"], "label": 1},
]
# Words that end texts are among those that a small random model repeats.
WRITTEN = [{"text": text} for text in ("many hands", "still waters run", "a watched pot " * 20)]
DOCUMENTS = [{"text": "many hands make light work " * 9}, {"text": "a pot"}]

CHOICES = """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{options}}"
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
"""
GENERATION = """
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{text}}"
generation_kwargs:
  until: ["ork", "\\n"]
  max_gen_toks: 12
  do_sample: false
metric_list:
  - metric: exact_match
"""
ROLLING = """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
"""
TASKS = {
    "choices": (CHOICES, QUESTIONS),
    "written": (GENERATION, WRITTEN),
    "documents": (ROLLING, DOCUMENTS),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A directory of YAML files."""
    folder = tmp_path_factory.mktemp("tasks")
    for name, (text, rows) in TASKS.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = (
            f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {folder}/{name}.jsonl"
        )
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{data}\ntest_split: test\n{text}")
    return folder


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A GPT-2 of transformers of 64 positions, with byte-level BPE."""
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("hub") / "gpt2"
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    end = "<|endoftext|>"
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[end],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=64, n_embd=32, n_layer=2, n_head=2,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def answers(samples):
    """What was asked and answered, by task and in order."""
    return {
        name: [
            (call, tuple(map(tuple, reply)) if isinstance(reply[0], list | tuple) else reply)
            for row in sorted(rows, key=lambda row: row["doc_id"])
            for call, reply in zip(row["arguments"], row["resps"], strict=True)
        ]
        for name, rows in samples.items()
    }


@pytest.mark.interop
def test_every_answer_is_that_of_lm_evals_backend_for_transformers(
    directory, tasks, tmp_path, capsys, monkeypatch
):
    lm_eval = pytest.importorskip("lm_eval")
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    run, exported = tmp_path / "run", tmp_path / "exported"
    assert cli.main(["import-hf", str(directory), f"--out={run}"]) == 0
    assert cli.main(["export-hf", str(run), f"--out={exported}"]) == 0
    capsys.readouterr()
    files = [str(tasks / f"{name}.yaml") for name in TASKS]
    flags = ["--batch_size=3", "--log_samples", "--json", "--tasks", *files]
    assert cli.main(["eval-harness", str(run), *flags]) == 0
    results = json.loads(capsys.readouterr().out)
    expected = lm_eval.simple_evaluate(
        model=huggingface.HFLM(pretrained=str(exported), device="cpu", dtype="float32"),
        tasks=files,
        task_manager=TaskManager(include_defaults=False),
    )
    assert set(results["results"]) == set(TASKS)
    for name, values in expected["results"].items():
        for metric, value in values.items():
            if isinstance(value, float):
                assert results["results"][name][metric] == pytest.approx(value, rel=1e-5), metric
    folder = run / "eval" / "lm_eval"
    (written,) = folder.glob("results_*.json")
    assert json.loads(written.read_text())["results"] == results["results"]
    samples = {
        name: [json.loads(line) for line in next(folder.glob(f"samples_{name}_*")).open()]
        for name in TASKS
    }
    found, wanted = answers(samples), answers(expected["samples"])
    for name in TASKS:
        for (call, reply), (asked, other) in zip(found[name], wanted[name], strict=True):
            assert list(map(str, call)) == list(map(str, asked))
            if name == "choices":
                assert reply[0][0] == pytest.approx(other[0][0], abs=1e-4)
                assert reply[0][1] == other[0][1]
            elif name == "documents":
                assert reply[0] == pytest.approx(other[0], abs=1e-4)
            else:
                assert reply == other
    assert len({text for (_, (text,)) in found["written"]}) > 1
    assert not list(folder.glob("*partial*"))
    assert results["config"]["model_class"] == GPT2.__name__


def test_without_lm_eval_a_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert cli.main(["eval-harness", str(tmp_path), "--tasks", "hellaswag"]) == 2
    assert 'pip install "t5x-like[lm-eval]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--gin.SEED=1"], "reads the run's config.gin alone: leave out --gin_file and --gin.NAME"),
        (["--num_fewshot=-1"], "--num_fewshot is -1: give 0 or more"),
        (["--limit=0"], "--limit is 0: give a number of examples, or a share"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(tmp_path, flags, said, capsys):
    assert cli.main(["eval-harness", str(tmp_path), "--tasks", "hellaswag", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.interop
def test_tasks_that_cannot_be_read_are_said_in_one_line(tasks, tmp_path, capsys, monkeypatch):
    pytest.importorskip("lm_eval")
    from lm_eval import tasks as own

    class Few(own.TaskManager):
        """Without the thousands of files of lm_eval."""

        def __init__(self, include_path, include_defaults):
            super().__init__(include_path=include_path, include_defaults=False)

    monkeypatch.setattr(own, "TaskManager", Few)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.yaml").write_text("task: broken\noutput_type: nonsense\n")
    for flags, said in [
        (["no_such_task"], "lm_eval knows no task 'no_such_task'"),
        ([f"{tmp_path}/none.yaml"], "none.yaml' is no file"),
        (["choices", f"--include_path={tmp_path}/none"], "none' is no directory"),
        ([f"{tmp_path}/broken.yaml", "--dry_run"], "lm_eval cannot load the tasks: "),
    ]:
        assert cli.main(["eval-harness", str(tmp_path), "--tasks", *flags]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    flags = ["--tasks", "choices", f"--include_path={tasks}", "--dry_run"]
    assert cli.main(["eval-harness", str(tmp_path), *flags]) == 0
    assert capsys.readouterr().out == "choices: 4 examples, multiple_choice\n"
