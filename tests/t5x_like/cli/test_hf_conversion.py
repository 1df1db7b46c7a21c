"""`import-hf` and `export-hf` as a user meets them, and what the other programs make of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from models.gpt import GPT2
from models.hf import load_hf, save_hf
from models.hf.tensor_files import TensorFiles
from t5x_like import cli, config, load_run
from t5x_like.cli import hf_conversion
from t5x_like.errors import UserError
from tasks import tokenizer_json
from tasks.vocabularies import train_sentencepiece

ROOT = Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "models" / "hf" / "fixtures"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A T5 of Hugging Face with a SentencePiece model of its own."""
    directory = tmp_path_factory.mktemp("hub") / "t5"
    shutil.copytree(FIXTURES / "t5_1_1", directory, ignore=shutil.ignore_patterns("*.npz"))
    texts = ["many hands make light work", "still waters run deep"] * 20
    train_sentencepiece(texts, str(directory / "spiece.model"), vocab_size=26)
    (directory / "tokenizer_config.json").write_text('{"extra_ids": 10}')
    return directory


@pytest.fixture(scope="module")
def imported(source, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("runs") / "t5"
    assert cli.main(["import-hf", str(source), f"--out={model_dir}"]) == 0
    return model_dir


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_imported_model_is_a_run_of_step_0(imported, source):
    run = load_run(str(imported))
    model, params = load_hf(source)
    assert run.steps == [0]
    assert type(run.model) is type(model)
    # Gin binds every field; the macro DROPOUT_RATE keeps its value.
    assert run.model == model
    same(run.params, params)
    vocabulary = run.codec.targets.vocabulary
    assert vocabulary.path == str(imported / "spiece.model")
    assert vocabulary.vocab_size == 36
    assert (imported / "model-info.txt").read_text().startswith("T5_1_1, ")
    assert not [path for path in imported.parent.iterdir() if path != imported]


def test_an_end_that_the_tokenizer_has_not_is_named(source, tmp_path, capsys):
    """40 is one of the model's 80 ids, and none of the tokenizer's 36."""
    shutil.copytree(source, tmp_path / "t5")
    config = json.loads((source / "config.json").read_text()) | {"eos_token_id": [1, 40]}
    (tmp_path / "t5" / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert cli.main(["import-hf", str(tmp_path / "t5"), f"--out={tmp_path}/run"]) == 0
    warning = "t5 ends a text with 40 too (eos_token_id), which its tokenizer does not have"
    assert warning in capsys.readouterr().err


def test_a_run_refuses_at_once_what_it_cannot_be_asked(imported, tmp_path):
    with pytest.raises(UserError, match="has no checkpoint of step 99; it has 0"):
        load_run(str(imported), step=99)
    run = load_run(str(imported))
    for call in (
        lambda: run.generate("light work"),
        lambda: run.score(targets="light", inputs=["work"]),
        lambda: run.attention("light work"),
        lambda: run.attention(["light work"], "light"),
    ):
        with pytest.raises(UserError, match=r"is one text, 'light.*: give a list of texts"):
            call()
    assert cli.main(["import-hf", str(FIXTURES / "bert_model"), f"--out={tmp_path}/bert"]) == 0
    with pytest.raises(UserError, match=r"no task, and so no vocabulary .* without a tokenizer"):
        load_run(f"{tmp_path}/bert").predict(["light work"])


@pytest.mark.slow
def test_infer_reads_it(imported, tmp_path):
    (tmp_path / "in.txt").write_text("light work\n")
    flags = [f"--gin_file={imported}/config.gin", "--gin_file=runs/infer.gin"]
    flags += [f"--gin.INPUT_PATH={tmp_path}/in.txt", f"--gin.OUTPUT_PATH={tmp_path}/out.jsonl"]
    assert cli.main(["infer", *flags, "--gin.MAX_NEW_TOKENS=4"]) == 0
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    run = load_run(str(imported))
    assert (
        json.loads(line)["predictions"]
        == run.generate(["light work"], temperature=0.0, max_new_tokens=4)[0]
    )


def test_it_is_exported_as_it_came(imported, source, tmp_path, capsys):
    capsys.readouterr()
    assert cli.main(["export-hf", str(imported), f"--out={tmp_path}/out", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["step"] == 0
    assert report["vocabulary"] == "spiece.model"
    before, after = TensorFiles(source), TensorFiles(tmp_path / "out")
    assert set(before) == set(after)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], strict=True)
    for name in ("spiece.model", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 1


def test_a_tokenizer_json_is_the_vocabulary(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    source, out = tmp_path / "gpt2", tmp_path / "run"
    shutil.copytree(FIXTURES / "gpt2", source)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, "?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["</s>", "<extra_id_1>", "<extra_id_0>"])
    tokenizer.save(str(source / "tokenizer.json"))
    assert cli.main(["import-hf", str(source), f"--out={out}"]) == 0
    vocabulary = load_run(str(out)).codec.targets.vocabulary
    assert vocabulary.path == str(out / "tokenizer.json")
    assert (vocabulary.encode("b a"), vocabulary.eos_id, vocabulary.extra_ids) == ([1, 0], 3, 2)
    assert cli.main(["export-hf", str(out), f"--out={tmp_path}/again"]) == 0
    assert (tmp_path / "again" / "tokenizer.json").is_file()
    # The fixture's own, and then the tokenizer's.
    assert json.loads((tmp_path / "again" / "config.json").read_text())["eos_token_id"] == [0, 3]


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("gpt_neox", {"bos_token_id": 0, "eos_token_id": 2}),
        ("gpt2", {"bos_token_id": 7, "eos_token_id": [5, 6], "pad_token_id": 4}),
        ("bart", {"bos_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 3,
                  "forced_eos_token_id": 3}),
    ],
)  # fmt: skip
def test_where_texts_begin_and_end_is_kept_without_a_tokenizer(name, ids, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(FIXTURES / name, source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | ids | {"initializer_range": 0.05}))
    # It overrules config.json, as where transformers generates.
    ids |= {"eos_token_id": [8, 9]}
    generation = {"eos_token_id": [8, 9], "do_sample": True, "top_p": 0.9}
    (source / "generation_config.json").write_text(json.dumps(generation))
    assert cli.main(["import-hf", str(source), f"--out={tmp_path}/run"]) == 0
    assert cli.main(["export-hf", f"{tmp_path}/run", f"--out={tmp_path}/out"]) == 0
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {key: written[key] for key in ids} == ids
    assert (written["initializer_range"], written["use_cache"]) == (0.05, True)
    generation_written = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation_written["top_p"] == 0.9
    assert {key: generation_written[key] for key in ids} == ids


@pytest.mark.slow
def test_generated_text_ends_at_each_of_a_directorys_end_tokens(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    source, out = tmp_path / "gpt2", tmp_path / "run"
    shutil.copytree(FIXTURES / "gpt2", source)
    words = {"</s>" if i == 3 else f"w{i}": i for i in range(80)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "w79"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(source / "tokenizer.json"))
    assert cli.main(["import-hf", str(source), f"--out={tmp_path}/plain"]) == 0
    plain = load_run(f"{tmp_path}/plain").generate(["w5"], temperature=0.0, max_new_tokens=6)
    first, second = (int(word[1:]) for word in plain[0].split()[:2])
    assert first != second
    ends = {"eos_token_id": [79, second]}
    (source / "generation_config.json").write_text(json.dumps(ends))
    assert cli.main(["import-hf", str(source), f"--out={out}"]) == 0
    run = load_run(str(out))
    assert run.codec.end_ids == (3, 79, second)
    assert run.generate(["w5"], temperature=0.0, max_new_tokens=6) == [f" w{first}"]
    assert cli.main(["export-hf", str(out), f"--out={tmp_path}/again"]) == 0
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "again" / name).read_text())
        assert written["eos_token_id"] == [79, second, 3]


def test_an_encoder_learns_hidden_tokens_of_its_word_pieces_and_goes_back(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    source, out = tmp_path / "bert", tmp_path / "run"
    shutil.copytree(FIXTURES / "bert_pretraining", source, ignore=shutil.ignore_patterns("*.npz"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "un", "##aff", "##able"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(pieces[:5])
    tokenizer.save(str(source / "tokenizer.json"))
    assert cli.main(["import-hf", str(source), f"--out={out}"]) == 0
    (tmp_path / "train.jsonl").write_text('{"text": "unaffable."}\n')
    run = load_run(str(out))
    task = run.task
    spec = task.output_features["targets"].vocabulary.spec()
    assert (spec["cls_id"], spec["sep_id"], spec["mask_id"]) == (2, 3, 4)
    assert type(task.learned).__name__ == "MaskedLM" and run.task_feature_lengths == {"targets": 40}
    assert cli.main(["export-hf", str(out), f"--out={tmp_path}/again"]) == 0
    before, after = TensorFiles(source), TensorFiles(tmp_path / "again")
    assert set(before) == set(after)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], strict=True)
    again = tmp_path / "again" / "tokenizer.json"
    assert again.read_bytes() == (source / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("settings", [{"do_lower_case": False, "strip_accents": True}, None])
def test_the_vocab_txt_of_an_old_directory_is_its_vocabulary_and_goes_back(tmp_path, settings):
    pytest.importorskip("tokenizers")
    source, out, again = (tmp_path / name for name in ("bert", "run", "again"))
    shutil.copytree(FIXTURES / "bert_pretraining", source, ignore=shutil.ignore_patterns("*.npz"))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "un", "##aff", "##able", "Un"]
    (source / "vocab.txt").write_text("\n".join(pieces))
    if settings is not None:
        (source / "tokenizer_config.json").write_text(json.dumps(settings))
    assert cli.main(["import-hf", str(source), f"--out={out}"]) == 0
    (tmp_path / "train.jsonl").write_text('{"text": "unaffable."}\n')
    vocabulary = load_run(str(out)).task.output_features["targets"].vocabulary
    assert vocabulary.path == str(out / "vocab.txt")
    assert vocabulary.encode("unaffable. Unaffable") == [6, 7, 8, 5, 9, 7, 8]
    assert cli.main(["export-hf", str(out), f"--out={again}"]) == 0
    assert (again / "vocab.txt").read_bytes() == (source / "vocab.txt").read_bytes()
    # transformers makes capitals small unless it is told not to, whatever the pieces are.
    written = json.loads((again / "tokenizer_config.json").read_text())
    assert written == (settings or {"do_lower_case": False})


@pytest.mark.parametrize("name", ["", "tokenizer.json", "other.json"])
def test_a_tokenizer_goes_to_hugging_face_by_the_name_it_has_there(tmp_path, name):
    """VOCABULARY_PATH may be the directory of the file, or a file of another name."""
    vocabulary = tokenizer_json.TokenizerVocabulary(str(tmp_path / "words" / name))
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / (name or "tokenizer.json")).write_text("{}")
    model = load_hf(FIXTURES / "bert_pretraining")[0]
    files = hf_conversion._tokenizer_files(vocabulary, model, tmp_path)
    assert files == {"tokenizer.json": tmp_path / "words" / (name or "tokenizer.json")}


def every_model_type():
    """One fixture of each model type in the fast suite; its other heads before a release."""
    seen = set()
    for path in sorted(FIXTURES.iterdir()):
        model_type = json.loads((path / "config.json").read_text())["model_type"]
        yield pytest.param(path.name, marks=pytest.mark.release if model_type in seen else ())
        seen.add(model_type)


@pytest.mark.parametrize("name", every_model_type())
def test_every_model_type_comes_back_from_its_gin_file(name, tmp_path):
    out = tmp_path / "run"
    assert cli.main(["import-hf", str(FIXTURES / name), f"--out={out}"]) == 0
    assert load_run(str(out)).model == load_hf(FIXTURES / name)[0]


def test_the_name_of_a_directory_adds_no_statement(tmp_path):
    source = tmp_path / "gpt2.\nSEED = 7\nimport this"
    shutil.copytree(FIXTURES / "gpt2", source)
    out = tmp_path / "run\nSEED = 7"
    assert cli.main(["import-hf", str(source), f"--out={out}"]) == 0
    with config.isolated():
        config.parse([str(out / "config.gin")])
        assert config.import_lines() == ["from models import gpt"]
        assert not config.has_macro("SEED")
        assert config.macro("MODEL_DIR") == str(out)


@pytest.mark.parametrize("name", ["a\nMODEL_DIR = 3\nimport os", "a'\"%B\\n", "a\udcff"])
def test_a_directorys_name_stays_a_name_in_what_is_written(name, tmp_path, capsys):
    source, out = tmp_path / name, tmp_path / "runs" / name
    shutil.copytree(FIXTURES / "gpt2", source)
    if "\udcff" in name:
        assert cli.main(["import-hf", str(source), f"--out={out}"]) == 2
        assert "is not UTF-8: give another name" in capsys.readouterr().err
        out = tmp_path / "run"
    assert cli.main(["import-hf", str(source), f"--out={out}"]) == 0
    text = (out / "config.gin").read_text()
    assert [line for line in text.splitlines() if line.startswith(("import", "MODEL_DIR"))] == [
        f"MODEL_DIR = {str(out)!r}"
    ]
    assert text.count("\nfrom models import gpt\n") == 1
    with config.isolated():
        config.parse([str(out / "config.gin")])
        assert config.macro("MODEL_DIR") == str(out)
    assert load_run(str(out)).steps == [0]


@pytest.mark.slow
def test_training_starts_from_it_and_its_result_is_exported(corpus, tmp_path):
    model = GPT2(vocab_size=384, embed_dim=16, num_heads=2, num_layers=2, max_length=32)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(5))["params"])
    save_hf(model, params, tmp_path / "hub")
    imported, tuned = tmp_path / "gpt2", tmp_path / "tuned"
    assert cli.main(["import-hf", str(tmp_path / "hub"), f"--out={imported}"]) == 0
    flags = [
        "train", corpus[1], f"--gin_file={imported}/model.gin", "--gin_file=runs/finetune.gin",
        f"--gin.INITIAL_CHECKPOINT_PATH={imported}", f"--gin.MODEL_DIR={tuned}",
        "--gin.TRAIN_STEPS=2", "--gin.WARMUP_STEPS=1", "--gin.DROPOUT_RATE=0.0",
        # So small that no parameter moves.
        "--gin.LEARNING_RATE=1e-30",
    ]  # fmt: skip
    assert cli.main(flags) == 0
    assert cli.main(["export-hf", str(tuned), f"--out={tmp_path}/out", "--step=2"]) == 0
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-20),
        load_hf(tmp_path / "out")[1],
        params,
    )
    # Bytes were learned: 1 ends a text, and 0 begins one.
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [written[f"{name}_token_id"] for name in ("eos", "bos", "pad")] == [1, 0, 0]


def test_a_run_does_not_go_on_from_parameters_alone(corpus, tmp_path, capsys):
    out = tmp_path / "gpt2"
    assert cli.main(["import-hf", str(FIXTURES / "gpt2"), f"--out={out}"]) == 0
    (out / "checkpoints" / "0").rename(out / "checkpoints" / "3")
    flags = [corpus[1], f"--gin_file={out}/model.gin", "--gin_file=runs/pretrain.gin"]
    flags += ["--gin.TRAIN_STEPS=5", f"--gin.MODEL_DIR={out}"]
    assert cli.main(["train", *flags]) == 2
    assert "holds parameters alone: start from it with INITIAL_CHECKPOINT_PATH" in (
        capsys.readouterr().err
    )


def test_mistakes_are_one_line_and_leave_nothing(imported, source, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    config = json.loads((broken / "config.json").read_text()) | {"num_layers": 7}
    (broken / "config.json").write_text(json.dumps(config))
    small = tmp_path / "small"
    shutil.copytree(source, small)
    (small / "tokenizer_config.json").write_text('{"extra_ids": 100}')
    new = f"--out={tmp_path}/new"
    other = tmp_path / "other"
    shutil.copytree(FIXTURES / "gpt2", other)
    (other / "tokenizer.json").write_text("[]")
    for flags, message in (
        (
            ["import-hf", str(other), new],
            "tokenizer.json' is not a tokenizer's configuration: TypeError",
        ),
        (["import-hf", str(tmp_path / "nothing"), new], "there is no directory"),
        (["import-hf", str(broken), new], "is missing"),
        (["import-hf", str(small), new], "has 126 ids, but the model has 80"),
        (["import-hf", str(source), f"--out={imported}"], "is there already"),
        (["import-hf", str(source), "--out=gs://bucket/run"], "is remote"),
        (["export-hf", str(tmp_path / "nothing"), new], "no run in"),
        (["export-hf", str(imported), new, "--step=4"], "has no checkpoint of step 4; it has 0"),
        (["export-hf", str(imported), f"--out={source}"], "is there already"),
    ):
        capsys.readouterr()
        assert cli.main(flags) == 2, flags
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert {path.name for path in tmp_path.iterdir()} == {"broken", "small", "other"}


def peak_of(*arguments):
    """Bytes of memory that a `t5x-like` of its own took at most."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "t5x_like", *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return 1024 * used.ru_maxrss


@pytest.mark.release
def test_memory_stays_below_1_3_models(tmp_path):
    model = GPT2(vocab_size=32_000, num_layers=12, max_length=512)  # 440 MB
    shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    save_hf(model, params, tmp_path / "hub")
    del params
    # The program itself, with a model of 130 kB.
    small = FIXTURES / "gpt2"
    program = peak_of("import-hf", small, "--out", tmp_path / "small")
    assert peak_of("import-hf", tmp_path / "hub", "--out", tmp_path / "run") < program + 1.3 * size
    program = peak_of("export-hf", tmp_path / "small", "--out", tmp_path / "small_out")
    assert peak_of("export-hf", tmp_path / "run", "--out", tmp_path / "out") < program + 1.3 * size
