"""Files of the user's that are not there: a dry run says, in one line, what the start says."""

import json
import re

import pytest

from t5x_like import cli, config
from t5x_like.cli import child_process
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.data.cache import layout
from t5x_like.scaling.sweeps.runner import _cache_is_ready
from tasks import registry, sources, unsupervised, vocabularies

ROOT = packaged_gin_configs()
# What files of tasks require beside the user's files.
SETTINGS = {
    "COLUMNS": "['text', 'label', 'question', 'context', 'answers', 'words', 'tags', 'options']",
    "INPUTS": "{text}",
    "TARGETS": "{label}",
    "TEXTS": "['text']",
    "LABELS": "['no', 'yes']",
    "CONTEXT": "question",
    "OPTIONS": "['text', 'label']",
    "ENTITIES": "['PER']",
}
FILES = re.compile(r"%(\w+_FILES|(?:TRAIN|VALIDATION)_(?:SOURCE|TARGET))\b")
# Made of other files of tasks, which stand before them.
PARTS = ("tasks/mixtures/two_languages.gin", "tasks/mixtures/unlabelled_text.gin")


def own_files(name):
    """The macros of a gin file of a task that stand for files, without those with a default."""
    with config.isolated():
        config.parse([name])
        macros = dict.fromkeys(FILES.findall((ROOT / name).read_text(encoding="utf-8")))
        return [macro for macro in macros if not config.has_macro(macro)]


OWN = {
    name: macros
    for name in sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tasks/**/*.gin"))
    if name not in PARTS and (macros := own_files(name))
}


@pytest.fixture
def said(capsys):
    """The line of a command that is refused, which is all that it says; "" of one that is not."""

    def run(arguments):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert (code, captured.err.count("\n")) in ((0, 0), (2, 1)), captured.err
        assert not (code and captured.out)
        return captured.err.removeprefix("t5x-like: error: ").rstrip("\n")

    return run


@pytest.mark.parametrize("name", OWN)
def test_the_files_of_a_task_are_looked_for_and_not_read(name, tmp_path, said):
    """All kinds of sources; what the files hold is no text of any of them."""
    flags = ["cache", f"--gin_file={name}", f"--gin.CACHE_DIR={tmp_path}/cache"]
    with config.isolated():
        config.parse([name])
        flags += [f"--gin.{k}={v}" for k, v in SETTINGS.items() if not config.has_macro(k)]
    places = [tmp_path / f"{macro}.file" for macro in OWN[name]]
    for place in places:
        place.write_bytes(b"\xff\0\xfe")
    flags += [f"--gin.{place.stem}={place}" for place in places]
    assert said([*flags, "--dry_run"]) == ""
    places[-1].unlink()
    assert said([*flags, "--dry_run"]) == f"file '{places[-1]}' not found."
    assert said(flags) == f"file '{places[-1]}' not found."


# -- Training ----------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """The plans of the runs that came as far as their first step, instead of which they end."""
    plans = []
    monkeypatch.setattr("t5x_like.train.train_plan", plans.append)
    return plans


@pytest.fixture
def built(monkeypatch):
    """The caches that are asked for, and are not built."""
    asked = []
    monkeypatch.setattr(child_process, "run", lambda *arguments: asked.append(arguments[0]))
    return asked


@pytest.fixture
def run(corpus, proverbs, tmp_path):
    """The flags of a run, but for its task."""
    own = [f"--gin.CACHE_DIR={tmp_path}/cache", f"--gin.MODEL_DIR={tmp_path}/run"]
    files = [corpus[0], "--gin_file=runs/pretrain.gin", f"--gin_file={proverbs[1].parent}/run.gin"]
    return ["train", *files, "--gin.BATCH_SIZE=4", *own]


PARALLEL = ("TRAIN_SOURCE", "TRAIN_TARGET", "VALIDATION_SOURCE", "VALIDATION_TARGET")


@pytest.mark.parametrize("missing", PARALLEL)
def test_a_start_and_its_dry_run_name_the_file_that_is_missing(missing, run, tmp_path, said, built):
    flags = [*run, "--gin_file=tasks/parallel_text.gin"]
    for macro in PARALLEL:
        if macro != missing:
            (tmp_path / macro).write_text("one line\n")
        flags.append(f"--gin.{macro}={tmp_path / macro}")
    line = said([*flags, "--dry_run"])
    assert line == (
        f"file '{tmp_path / missing}' not found. There is no cache of 'parallel_text' at "
        f"{tmp_path}/cache/parallel_text: give the file, or a CACHE_DIR that has a whole cache of "
        "it."
    )
    assert said(flags) == line
    assert built == []
    assert {path.name for path in tmp_path.iterdir()} == {*PARALLEL} - {missing}


@pytest.fixture
def text_run(run, write_cache, tmp_path):
    """Flags of a run on a text file, whose cache there is and which itself is away."""
    (tmp_path / "here").mkdir()
    path = tmp_path / "here" / "text.txt"
    path.write_text("Measure twice.\n\nCut once.\n")
    source = sources.HoldOut(sources.TextFiles(files={"train": str(path)}, separator="\n\n"), 0.01)
    cached(write_cache, source, tmp_path, vocabularies.ByteVocabulary())
    path.unlink()
    files = [f"--gin_file=tasks/{name}.gin" for name in ("text_files", "causal_lm")]
    return [*run, *files, "--gin.TASK_FEATURE_LENGTHS={'targets': 24}"]


def cached(write_cache, source, folder, vocabulary):
    """Writes a cache that says what it was made of, without TensorFlow."""
    task = unsupervised("text_files", source, vocabulary=vocabulary)
    write_cache(task, folder / "cache", {"train": ["Measure."] * 8, "validation": ["Cut."]})
    path = layout.task_path(layout.cache_path(folder / "cache", "text_files"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": repr(source)}))


def test_a_host_that_has_the_cache_alone_needs_no_files(text_run, tmp_path, said, started, built):
    for folder in ("here", "elsewhere"):
        flags = [*text_run, f"--gin.TRAIN_FILES={tmp_path}/{folder}/text.txt"]
        assert said([*flags, "--dry_run"]) == ""
        assert said(flags) == ""
    assert (len(started), built) == (2, [])


def test_a_cache_of_other_files_stands_in_only_where_that_is_asked_for(
    text_run, tmp_path, said, started, built
):
    flags = [*text_run, f"--gin.TRAIN_FILES={tmp_path}/here/test.txt"]
    line = said([*flags, "--dry_run"])
    assert line.startswith(
        f"file '{tmp_path}/here/test.txt' not found. The cache of 'text_files' in {tmp_path}/cache "
        "(text_files) is of other files or settings: give the file, or --gin.data.Da"
    )
    assert said(flags) == line
    assert (started, built) == ([], [])
    # As the line says; the cache is not built again.
    flags.append("--gin.data.DatasetConfig.verify_source=False")
    assert said([*flags, "--dry_run"]) == ""
    assert said(flags) == ""
    assert (len(started), built) == (1, [])


def test_a_cache_of_another_vocabulary_does_not_stand_in_for_a_missing_one(
    text_run, tmp_path, said, started, built
):
    flags = [
        *text_run,
        f"--gin.TRAIN_FILES={tmp_path}/here/text.txt",
        "--gin_file=tasks/vocabularies/sentencepiece.gin",
        f"--gin.VOCABULARY_PATH={tmp_path}/here/v.model",
    ]
    (tmp_path / "here" / "text.txt").write_text("Measure twice.\n\nCut once.\n")
    line = said([*flags, "--dry_run"])
    assert line.startswith(f"vocabulary file '{tmp_path}/here/v.model' not found: a SentencePiece")
    assert "is of other files or settings: give the file, or " in line
    assert said(flags) == line
    # One that was made with a file of this name does.
    path = layout.task_path(layout.cache_path(tmp_path / "cache", "text_files"))
    described = json.loads(path.read_text())
    own = {"kind": "sentencepiece", "file": "elsewhere/v.model", "sha256": "0"}
    described["features"]["targets"]["vocabulary"] |= own
    path.write_text(json.dumps(described))
    assert said([*flags, "--dry_run"]) == ""
    assert said(flags) == ""
    assert (len(started), built) == (1, [])


def test_what_is_not_built_is_not_said_to_be(text_run, tmp_path, said, built, capsys):
    """Without its source a cache cannot be built again, whatever is wrong with it."""
    folder = layout.cache_path(tmp_path / "cache", "text_files")
    (shard,) = folder.glob("train.tfrecord-*")
    shard.write_bytes(shard.read_bytes()[:-3])
    flags = [*text_run, f"--gin.TRAIN_FILES={tmp_path}/here/text.txt"]
    line = said(flags)
    assert line.startswith(f"file '{tmp_path}/here/text.txt' not found. Its cache cannot be read: ")
    assert built == []
    (tmp_path / "here" / "text.txt").write_text("Measure twice.\n\nCut once.\n")
    cli.main(flags)
    out = capsys.readouterr().out
    assert re.search(r"is corrupt at byte \d+: .*: building it\.$", out.splitlines()[0])
    assert built == ["cache"]


# -- Other commands ----------------------------------------------------------------------------


@pytest.fixture
def task(tmp_path):
    """Flags of a task whose training file is away."""
    (tmp_path / "dev.jsonl").write_text('{"text": "Cut."}\n')
    return [
        "--gin_file=tasks/jsonl.gin",
        "--gin_file=tasks/causal_lm.gin",
        f"--gin.TRAIN_FILES={tmp_path}/train.jsonl",
        f"--gin.VALIDATION_FILES={tmp_path}/dev.jsonl",
        f"--gin.CACHE_DIR={tmp_path}/cache",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ["ngram", "--gin.MODEL_DIR=OUT/run"],
        ["cooccur", "--out=OUT/counts.npz"],
        ["dedup", "--out=OUT"],
        ["dedup", "--lines", "--out=OUT"],
        ["clean", "--out=OUT"],
        ["overlap", "--train", "jsonl", "--test", "jsonl", "--out=OUT"],
        ["classifier", "--positive", "jsonl", "--negative", "OUT/none.txt", "--out=OUT/c.npz"],
        ["eval", "MODEL", "--gin_file=runs/eval.gin", "--gin.MODEL_DIR=OUT/run"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_commands_that_read_a_task_name_the_file_that_is_missing(
    command, task, corpus, tmp_path, said, built
):
    names = {"MODEL": corpus[0]}
    command = [names.get(one, one.replace("OUT", f"{tmp_path}/out")) for one in command]
    line = said([*command, *task, "--dry_run"])
    assert line.startswith(f"file '{tmp_path}/train.jsonl' not found.")
    if command[0] != "eval":  # which first looks for the run
        assert said([*command, *task]) == line
    assert built == []
    assert {path.name for path in tmp_path.iterdir()} == {"dev.jsonl"}


def test_augment_names_the_file_that_is_missing(tmp_path, said):
    flags = ["augment", "--gin_file=tasks/classification_tsv.gin", "--masked_lm=none"]
    flags += [f"--gin.{name}={SETTINGS[name]}" for name in ("TEXTS", "LABELS")]
    flags += ["--gin.COLUMNS=['text', 'label']", f"--out={tmp_path}/out.tsv"]
    flags += [f"--gin.{split}_FILES={tmp_path}/{split}.tsv" for split in ("TRAIN", "VALIDATION")]
    assert said([*flags, "--dry_run"]) == f"file '{tmp_path}/TRAIN.tsv' not found."
    assert said(flags) == f"file '{tmp_path}/TRAIN.tsv' not found."
    (tmp_path / "TRAIN.tsv").write_text("good\tyes\n")  # the other split is not read
    assert said([*flags, "--dry_run"]) == ""


@pytest.mark.parametrize(
    ("kind", "out"),
    [
        ("unigram", "v.model"),
        ("bpe", "v/tokenizer.json"),
        ("wordpiece", "v/tokenizer.json"),
        ("word_bpe", "v/tokenizer.json"),
        ("character", "v/tokenizer.json"),
        ("words", "v.txt"),
    ],
)
def test_a_vocabulary_is_not_trained_on_a_file_that_is_missing(kind, out, task, tmp_path, said):
    flags = ["vocab", *task, f"--out={tmp_path}/{out}", f"--model_type={kind}"]
    for more in (["--dry_run"], []):
        assert said([*flags, *more]) == f"file '{tmp_path}/train.jsonl' not found."
    path = tmp_path / "train.jsonl"
    path.mkdir()
    assert said(flags) == (
        f"JsonLines.files['train']: '{path}' is a folder: name its files, as '{path}/*'."
    )
    path.rmdir()
    path.write_text('{"text": "Measure twice."}\n\n{"text": "Cut \n')
    assert said([*flags, "--dry_run"]) == ""
    assert said(flags).startswith(f"file '{path}', line 3 is not JSON")
    assert {each.name for each in tmp_path.iterdir()} == {"dev.jsonl", "train.jsonl"}


def test_infer_looks_for_its_prompts_and_its_vocabulary(corpus, tmp_path, said):
    flags = ["infer", *corpus, "--gin_file=runs/infer.gin", f"--gin.MODEL_DIR={tmp_path}/run"]
    flags.append(f"--gin.INPUT_PATH={tmp_path}/prompts.txt")
    line = f"input_path: file '{tmp_path}/prompts.txt' not found."
    assert said([*flags, "--dry_run"]) == line
    assert said(flags) == line
    (tmp_path / "prompts.txt").write_bytes(b"\xff")
    assert said([*flags, "--dry_run"]) == ""
    (tmp_path / "v.gin").write_text(
        "from __gin__ import dynamic_registration\nimport tasks\nfrom tasks import vocabularies\n"
        "tasks.unsupervised.vocabulary = @vocabularies.SentencePieceVocabulary()\n"
        f"vocabularies.SentencePieceVocabulary.path = '{tmp_path}/v.model'\n"
    )
    (tmp_path / "prompts.txt").write_text("Measure\n")
    line = said([*flags, f"--gin_file={tmp_path}/v.gin", "--dry_run"])
    assert line.startswith(f"vocabulary file '{tmp_path}/v.model' not found")
    assert said([*flags, f"--gin_file={tmp_path}/v.gin"]) == line


def test_an_arpa_file_is_looked_for_before_a_cache_is_built(task, tmp_path, said, built):
    flags = ["ngram", *task, f"--from_arpa={tmp_path}/m.arpa", f"--gin.MODEL_DIR={tmp_path}/run"]
    for more in (["--dry_run"], []):
        assert said([*flags, *more]) == f"--from_arpa: file '{tmp_path}/m.arpa' not found."
    assert built == []


def test_a_sweep_takes_the_cache_that_a_run_would_take(text_run, tmp_path):
    """As it is said to, without the files that it was made of."""
    path = tmp_path / "cell.gin"
    files = [flag.removeprefix("--gin_file=") for flag in text_run if flag.startswith("--gin_f")]
    lines = [f"include '{file}'" for file in files]
    lines += [f"CACHE_DIR = '{tmp_path}/cache'", f"TRAIN_FILES = '{tmp_path}/here/test.txt'"]
    path.write_text("\n".join(lines))
    assert not _cache_is_ready(str(path))
    imported = "from __gin__ import dynamic_registration\nfrom t5x_like import data\n"
    lines.append("data.DatasetConfig.verify_source = False")
    path.write_text(imported + "\n".join(lines))
    assert _cache_is_ready(str(path))


def test_a_suite_names_the_file_that_is_missing_and_caches_nothing(
    corpus, tmp_path, said, built, monkeypatch
):
    source = sources.JsonLines(files={"train": f"{tmp_path}/train.jsonl"})
    monkeypatch.setitem(registry._REGISTERED, "mine", unsupervised("mine", source))
    rows = "[{'task': 'mine', 'value': 'bits_per_byte', 'split': 'train'}]"
    flags = ["eval", *corpus, "--gin_file=suites/defaults.gin", "--gin.SUITE_NAME=own"]
    flags += [f"--gin.ROWS={rows}", f"--gin.MODEL_DIR={tmp_path}/run"]
    flags.append("--gin.MIXTURE_OR_TASK_NAME=proverbs")
    line = said([*flags, "--dry_run"])
    assert line.startswith(f"file '{tmp_path}/train.jsonl' not found. There is no cache of 'mine'")
    assert said(flags) == line
    assert built == []
