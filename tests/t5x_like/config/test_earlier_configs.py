"""A `config.gin` that an earlier version wrote still runs, evaluates and infers.

The files of `fixtures/` were written by commit 5148b6e, whose run files included nothing: by
`train` for a few steps on small texts, by `import-hf` of a GPT-2 of 2 layers, and by one run of a
sweep. `DIRECTORY` stands for the place of their data, caches and runs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import gin
import jax
import numpy as np
import pytest

from models import switch
from t5x_like import cli, config, load_run, train
from t5x_like.config import gin_internals

FIXTURES = Path(__file__).parent / "fixtures"
IMPORTED = "imported"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.gin"))
TRAINED = [name for name in NAMES if name != IMPORTED]
# Trained here too; the sweep's run reads the whole standard library.
RUN = [name for name in TRAINED if name != "sweep_cell"]
ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(autouse=True)
def nothing_left_over():
    with config.isolated():
        yield


def write_data(directory):
    """The texts that the fixtures read."""
    words = ["the", "old", "river", "wrote", "a", "small", "song", "in", "paper", "over", "stone"]
    lines = [" ".join(np.roll(words, i)) for i in range(len(words))]
    (directory / "text.txt").write_text("\n\n".join(lines * 12), encoding="utf-8")
    for split in ("train", "dev"):
        pairs = "".join(f"{line[:20]}\t{line[:20].upper()}\n" for line in lines)
        (directory / f"{split}.tsv").write_text(pairs, encoding="utf-8")
    for split in ("train", "validation"):
        (directory / f"{split}.jsonl").write_text('{"text": "the old river"}\n', encoding="utf-8")


def write_tokenizer(run):
    """The vocabulary of what was imported."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<|endoftext|>": 0, "the": 1}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="the"))
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(run / "tokenizer.json"))


def write_config(name, directory):
    """Writes a fixture as the `config.gin` of a run in `directory`; its path."""
    run = directory / name
    text = (FIXTURES / f"{name}.gin").read_text(encoding="utf-8")
    text = text.replace("DIRECTORY/run", str(run)).replace("DIRECTORY", str(directory))
    run.mkdir(exist_ok=True)
    (run / "config.gin").write_text(text, encoding="utf-8")
    return str(run / "config.gin")


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A directory with the texts, the runs to be, and the tokenized text, of one process."""
    directory = tmp_path_factory.mktemp("earlier")
    write_data(directory)
    paths = [write_config(name, directory) for name in RUN]
    program = """
import sys
from t5x_like import cli
for path in sys.argv[1:]:
    assert cli.main(["cache", f"--gin_file={path}", "--num_workers=1", "--num_shards=1"]) == 0
"""
    subprocess.run([sys.executable, "-c", program, *paths], check=True, env=ENVIRONMENT)
    return directory


def test_there_is_one_of_each_kind():
    assert set(NAMES) >= {
        "causal_lm",
        "imported",
        "pairs_decoder",
        "pairs_encoder_decoder",
        "palm_adafactor",
        "prefix_lm",
        "span_corruption",
        "sweep_cell",
        "switch",
    }


@pytest.mark.parametrize("name", NAMES)
def test_its_model_is_built_as_it_was_and_every_binding_is_known(name, tmp_path):
    config.parse([write_config(name, tmp_path)])
    model = config.macro("MODEL")
    bound = gin_internals.CONFIG["", f"{type(model).__module__}.{type(model).__name__}"]
    plain = {field: value for field, value in bound.items() if not hasattr(value, "scopes")}
    assert len(plain) > 10
    assert {field: getattr(model, field) for field in plain} == plain
    assert jax.tree.leaves(model.abstract_params())
    assert isinstance(model, switch.Switch) == (name == "switch")


@pytest.mark.parametrize("name", TRAINED)
def test_every_argument_of_its_training_is_built(name, tmp_path):
    config.parse([write_config(name, tmp_path)])
    config.check(train.train)
    arguments = gin.get_bindings(train.train)
    assert arguments["train_steps"] > 0 and Path(arguments["model_dir"]).is_relative_to(tmp_path)
    lengths = config.macro("TASK_FEATURE_LENGTHS")
    assert arguments["dataset"].task_feature_lengths == lengths
    assert set(arguments["dataset"].task.output_features) == set(lengths)


def test_another_optimizer_or_schedule_may_follow_it(tmp_path):
    """Their files bind or include all that the earlier one does not."""
    path = write_config("span_corruption", tmp_path)
    warmup = ("WARMUP_STEPS", "1")
    config.parse([path, "optimizers/adamw.gin"], [warmup])
    config.check(train.train)
    assert config.macro("OPTIMIZER").name == "AdamW"
    config.parse([path, "optimizers/defaults.gin"], [warmup, ("SCHEDULE", "@schedules.Linear()")])
    config.check(train.train)
    made = config.macro("OPTIMIZER")
    assert (made.name, type(made.schedule).__name__) == ("Adafactor", "Linear")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("program", ["eval", "infer"])
def test_it_goes_before_the_files_of_evaluation_and_inference(
    name, program, tmp_path, capsys, monkeypatch
):
    """What it binds holds over the defaults that these include."""
    path = write_config(name, tmp_path)
    write_data(tmp_path)
    if name == IMPORTED:
        write_tokenizer(tmp_path / name)
        monkeypatch.chdir(tmp_path)
    config.parse([path])
    bound = {key: values for key, values in gin_internals.CONFIG.items() if key[1] == "gin.macro"}
    config.parse([path, f"runs/{program}.gin"])
    assert {key: gin_internals.CONFIG[key] for key in bound} == bound
    files = [f"--gin_file={name}" for name in (path, f"runs/{program}.gin")]
    assert cli.main([program, *files, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "MODEL_DIR = " in text and f"  # {path}:" in text


def evaluated_and_inferred(path, directory, *more):
    """Runs `eval` and `infer` as their files say; what they wrote."""
    files = [f"--gin_file={path}", *more]
    limit = "--gin.evaluate.evaluate.max_batches=1"
    assert cli.main(["eval", *files, "--gin_file=runs/eval.gin", limit, "--gin.BATCH_SIZE=2"]) == 0
    (directory / "inputs.txt").write_text("the old river\n", encoding="utf-8")
    flags = [
        f"--gin.INPUT_PATH={directory / 'inputs.txt'}",
        f"--gin.OUTPUT_PATH={directory / 'outputs.jsonl'}",
        "--gin.MAX_NEW_TOKENS=4",
    ]
    assert cli.main(["infer", *files, "--gin_file=runs/infer.gin", *flags]) == 0
    return json.loads((directory / "outputs.jsonl").read_text(encoding="utf-8"))


# A decoder's and an encoder-decoder's; the others before a release.
IN_CI = ("span_corruption", "palm_adafactor")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in IN_CI else pytest.mark.release) for name in RUN],
)
def test_it_trains_evaluates_and_infers(name, cached):
    path = str(cached / name / "config.gin")
    assert cli.main(["train", f"--gin_file={path}", "--gin.TRAIN_STEPS=2"]) == 0
    run = load_run(str(cached / name))
    assert run.steps == [2] and np.isfinite(run.metrics["loss"].dropna()).all()
    assert evaluated_and_inferred(path, cached / name).keys() >= {"inputs", "predictions"}


@pytest.mark.slow
def test_an_imported_one_evaluates_and_infers(tmp_path, monkeypatch):
    """The directory is made by today's `import-hf`, and its `config.gin` is the earlier one."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    source, model_dir = tmp_path / "gpt2", tmp_path / IMPORTED
    sizes = {"vocab_size": 257, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    configuration = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(configuration).save_pretrained(source)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    ids = {piece: i for i, piece in enumerate(["<|endoftext|>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(ids, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(source / "tokenizer.json"))
    (source / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    assert cli.main(["import-hf", str(source), f"--out={model_dir}"]) == 0

    path = write_config(IMPORTED, tmp_path)
    for split in ("train", "validation"):
        rows = [json.dumps({"text": "the old river wrote a song"})] * 4
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    cache = f"--gin.CACHE_DIR={tmp_path / 'cache'}"
    assert cli.main(["cache", f"--gin_file={path}", cache]) == 0
    written = evaluated_and_inferred(path, tmp_path, cache)
    assert written.keys() >= {"inputs", "predictions"}
