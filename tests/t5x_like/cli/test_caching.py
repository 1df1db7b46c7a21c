"""`t5x-like cache` and `t5x-like vocab` on files of the user's own."""

import dataclasses
import io
import json
import sys

import pytest

from t5x_like import cli, data
from t5x_like.evaluation.loss import held_out
from tasks import sources, vocabularies
from tests.reliability import sums

TEXT = "--gin_file=tasks/text_files.gin"


@pytest.fixture
def files(tmp_path):
    """Flags of three short paragraphs, far too few to hold out one in a hundred."""
    (tmp_path / "text.txt").write_text("One paragraph.\n\nAnother one.\n\nA third.\n")
    return [f"--gin.TRAIN_FILES={tmp_path}/text.txt", f"--gin.CACHE_DIR={tmp_path}/cache"]


def refused(arguments, capsys):
    """The one line that a command ends with."""
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("command", [["cache"], ["vocab", "--out=v.model"]])
def test_the_name_of_a_task_that_a_gin_file_builds_says_which(command, capsys):
    line = refused([*command, "text_files"], capsys)
    assert "the task 'text_files' is built by a gin file: give --gin_file=tasks/text_files" in line


@pytest.mark.slow
def test_a_task_of_gin_files_is_known_by_its_name(files, tmp_path, capsys):
    cached = ["cache", "text_files", TEXT, *files, "--gin.HELD_OUT=0", "--num_workers=1"]
    assert cli.main(cached) == 0
    assert "text_files train: 3 examples" in capsys.readouterr().out
    model = tmp_path / "v.model"
    vocab = ["vocab", "text_files", TEXT, *files, f"--out={model}", "--vocab_size=20"]
    assert cli.main(vocab) == 0
    assert "120 tokens from text_files train" in capsys.readouterr().out  # with 100 sentinels


@pytest.mark.parametrize(
    ("kind", "name", "size", "said"),
    [
        ("bpe", "v.model", 20, "120 tokens"),  # SentencePiece's, with 100 sentinels
        ("bpe", "v/tokenizer.json", 262, "262 tokens"),  # 5 special tokens, 256 bytes, a merge
        # 3 special tokens, 10 letters, comma and full stop, each twice, and 7 merges: paragraph.
        ("word_bpe", "v/tokenizer.json", 50, "34 tokens from text_files train, not 50: no other"),
        # 3 special tokens, 10 letters, comma, full stop, space and the end of the line.
        ("character", "v/tokenizer.json", 50, "17 tokens from text_files train, not 50: there are"),
        # 5 special tokens, 11 characters, 9 of them within words, and 7 merges make paragraph.
        ("wordpiece", "v/tokenizer.json", 50, "32 tokens from text_files train, not 50: no other"),
        ("words", "v.txt", 50, "7 tokens from text_files train"),  # 3 of them special
    ],
)
def test_the_name_of_the_file_says_whose_vocabulary_it_is(
    files, tmp_path, capsys, kind, name, size, said
):
    pytest.importorskip("tokenizers")
    (tmp_path / "text.txt").write_text("One paragraph, another paragraph.\n")
    asked = [f"--out={tmp_path}/{name}", f"--model_type={kind}", f"--vocab_size={size}"]
    asked += ["--min_count=1"] if kind == "words" else []
    assert cli.main(["vocab", TEXT, *files, *asked]) == 0
    assert f"{tmp_path}/{name}: {said}" in capsys.readouterr().out


def test_a_vocabulary_of_a_mixture_is_of_all_its_tasks(tmp_path, capsys):
    words = ("forums", "clean_crawl", "code_documents", "wikipedia", "english_web", "other_web")
    flags = ["vocab", "--gin_file=tasks/mixtures/lamda.gin", "--gin.HELD_OUT=0"]
    for word in words:
        rows = (json.dumps({"text": f"{word} {kind}"}) + "\n" for kind in ("one", "two", "three"))
        (tmp_path / f"{word}.jsonl").write_text("".join(rows))
        flags.append(f"--gin.{word.upper()}_FILES={tmp_path}/{word}.jsonl")
    flags += [f"--out={tmp_path}/w.txt", "--model_type=words", "--min_count=1"]
    assert cli.main(flags) == 0
    said = capsys.readouterr().out
    found = dict(map(str.split, (tmp_path / "w.txt").read_text().splitlines()))
    kinds = {"one": "6", "two": "6", "three": "6"}
    assert found.items() >= ({word: "3" for word in words} | kinds).items()
    assert "w.txt: 12 tokens from lamda train (forums, " in said
    assert cli.main([*flags, "--max_examples=1"]) == 0  # of each
    found = dict(map(str.split, (tmp_path / "w.txt").read_text().splitlines()))
    assert found.items() >= ({word: "1" for word in words} | {"one": "6"}).items()
    assert "two" not in found
    assert "--max_examples=-1: give" in refused([*flags, "--max_examples=-1"], capsys)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out=v.json"], "--model_type=unigram is written to NAME.model (SentencePiece)"),
        (["--out=v.model", "--model_type=wordpiece"], "written to DIRECTORY/tokenizer.json (Word"),
        (["--out=v", "--model_type=bpe"], "is written to NAME.model (SentencePiece) or DIRECTORY"),
        (["--out=v.json", "--model_type=wordpiece"], "give DIRECTORY/tokenizer.json"),
        (["--out=tokenizer.json", "--model_type=bpe", "--split_digits"], "--split_digits is not"),
        (["--out=v.model", "--cased"], "--cased is not for v.model: it belongs to DIRECTORY/tok"),
        (["--out=tokenizer.json", "--model_type=bpe", "--cased"], "is for --model_type=wordpiece"),
        (["--out=tokenizer.json", "--model_type=wordpiece", "--max_characters=0"], "1 or more"),
        (["--out=tokenizer.json", "--model_type=bpe", "--ties=first"], "for --model_type=word_bpe"),
        (["--out=v.model", "--model_type=word_bpe"], "is written to DIRECTORY/tokenizer.json"),
        (["--out=v.json", "--model_type=words"], "--model_type=words is written to NAME.txt"),
        (["--out=v.model", "--min_count=2"], "--min_count is not for v.model: it belongs to NAME"),
        (["--out=v.txt", "--model_type=words", "--pattern=("], "is no regular expression"),
    ],
)
def test_a_vocabulary_is_refused_what_its_file_cannot_hold(files, capsys, flags, said):
    assert said in refused(["vocab", TEXT, *files, *flags], capsys)


@pytest.mark.slow
def test_a_corpus_too_small_to_hold_out_its_share_names_the_setting(files, tmp_path, capsys):
    line = refused(["cache", TEXT, *files, "--num_workers=1"], capsys)
    assert "text_files: split 'validation' of the source has no examples" in line
    assert "takes 1.00% of the rows" in line
    assert "raise HELD_OUT (0.2 takes a fifth), set it to 0" in line
    assert not (tmp_path / "cache").exists()


def test_a_task_that_holds_nothing_out_is_not_measured(proverbs):
    task, cache_dir = proverbs
    lengths = {"targets": 24}
    measured = data.DatasetConfig(task, lengths, cache_dir, "validation", batch_size=4)

    everything = dataclasses.replace(task, source=sources.HoldOut(task.source, validation=0))
    nothing = data.DatasetConfig(everything, lengths, cache_dir, "validation", batch_size=4)
    assert held_out([nothing, measured]) == [measured]


def test_a_missing_cache_says_how_it_is_built(tmp_path, capsys):
    sums.write_corpus(tmp_path)
    task = sums.task(folder=tmp_path)
    config = data.DatasetConfig(task, {"inputs": 8, "targets": 8}, tmp_path / "none")
    with pytest.raises(ValueError, match="with `t5x-like cache` and this run's --gin_file and"):
        data.open_dataset(config, batch_format="encoder_decoder")


def test_each_vocabulary_has_a_cache_of_its_own_for_own_files_too(files, tmp_path, capsys):
    flags = ["cache", TEXT, *files, "--gin.HELD_OUT=0", "--num_workers=1", "--num_shards=1"]
    assert cli.main(flags) == 0
    other = "--gin.vocabularies.ByteVocabulary.extra_ids=7"
    assert cli.main([*flags, other]) == 0
    built = [path.name for path in (tmp_path / "cache").iterdir() if not path.is_symlink()]
    assert len([name for name in built if name.startswith("text_files-")]) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "which stay text; SPECIAL_TOKENS='ids'"),
        (["--gin.SPECIAL_TOKENS='ids'"], "which became these tokens; SPECIAL_TOKENS='text'"),
    ],
)
def test_special_tokens_in_own_text_are_counted_and_said(tmp_path, capfd, given, said):
    (tmp_path / "text.txt").write_text("One <extra_id_0> and <extra_id_1>.\n\nAnother </s> one.\n")
    model = str(tmp_path / "v.model")
    vocabularies.train_sentencepiece(["One and another. " * 9], model, vocab_size=15)
    flags = ["--num_workers=1", "--gin.HELD_OUT=0", f"--gin.VOCABULARY_PATH={model}", *given]
    spm = "--gin_file=tasks/vocabularies/sentencepiece.gin"
    place = [f"--gin.TRAIN_FILES={tmp_path}/text.txt", f"--gin.CACHE_DIR={tmp_path}/cache"]
    assert cli.main(["cache", TEXT, spm, *place, *flags]) == 0
    # `</s>` is no token of SentencePiece's in any text.
    line = "text_files train: the text spells out 2 special tokens (as <extra_id_0>), "
    assert line + said in capfd.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("name", ["c\u00e4che", "c\udce9che"])
def test_names_that_the_terminal_cannot_show_are_escaped(tmp_path, monkeypatch, encoding, name):
    """The second is a file name of the byte 0xe9, as Python gives it."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding))
    (tmp_path / name).mkdir()
    assert cli.main(["cache", "--list", f"--gin.CACHE_DIR={tmp_path / name}"]) == 0
    assert b"0 caches in " in shown.getvalue()
