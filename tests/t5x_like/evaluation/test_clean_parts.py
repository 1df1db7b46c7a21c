"""Values of examples that were in the training text, and of those that were not, apart."""

import json

import numpy as np
import pytest

import tasks
from t5x_like import cli
from t5x_like.data import DatasetConfig
from t5x_like.data.examples import sample_of
from t5x_like.errors import UserError
from t5x_like.evaluation import Finding, Generation, Loss, Overlap, Ranking
from t5x_like.evaluation.clean_parts import example_text
from t5x_like.evaluation.task import evaluate_params
from t5x_like.overlap import flags, scan
from t5x_like.overlap.index import Index
from t5x_like.overlap.rules import ExampleGrams
from tasks import sources
from tests.models.families import drawn, gpt2
from tests.t5x_like.evaluation.test_ranking import ROWS, written
from tests.t5x_like.evaluation.written_cache import write_cache
from tests.t5x_like.test_evaluate import TEXTS, Copying, Feature, cached

LENGTHS = {"inputs": 8, "targets": 8}
# Of ROWS: the context with the right option, or the context alone; the second and last are dirty.
WHOLE = ["abcdhij", "klmn", "pq", "uwxyz"]
DOCUMENTS = ["klmn and more", "here is uwxyz"]


@pytest.fixture(scope="module")
def gpt():
    model = gpt2(max_length=16)
    return model, drawn(model)


def flagged(directory, task, texts, documents, split="validation"):
    one = ExampleGrams(texts)
    index = Index.of(one.grams)
    found = one.found(index, scan.documents_with(index, documents), None)
    settings = {"train": ["corpus train"], "max_documents": None}
    flags.write(str(directory), task, split, texts, found, settings)


def test_the_values_of_both_parts_are_those_of_their_examples(gpt, tmp_path):
    dataset = written(tmp_path, ROWS)
    flagged(tmp_path, "options", WHOLE, DOCUMENTS)
    (result,) = evaluate_params(
        *gpt, dataset, measurements=[Ranking()], overlap=Overlap(str(tmp_path))
    )
    rows = result.predictions["ranking"]
    right = [100.0 * (row.predictions == row.targets) for row in rows]
    values = result.values
    assert (values["clean/rows"], values["dirty/rows"]) == (2, 2)
    assert values["clean/ranking_accuracy"] == right[0]  # the other clean one has no label
    assert values["dirty/ranking_accuracy"] == np.mean([right[1], right[3]])
    assert values["rows"] == 4 and "clean/split_rows" not in values
    assert result.settings["overlap"] == "gpt3, n 8, of corpus train"


def test_a_part_of_the_split_has_the_flags_of_its_examples(gpt, tmp_path):
    """Two of four are drawn, which are the dirty ones."""
    dataset = written(tmp_path, ROWS)
    flagged(tmp_path, "options", WHOLE, [f"here is {WHOLE[i]}" for i in sample_of(2, 4)])
    (result,) = evaluate_params(
        *gpt, dataset, measurements=[Ranking()], max_rows=2, overlap=Overlap(str(tmp_path))
    )
    assert (result.values["clean/rows"], result.values["dirty/rows"]) == (0, 2)
    assert result.values["dirty/ranking_accuracy"] == result.values["ranking_accuracy"]
    assert "clean/ranking_accuracy" not in result.values


def test_generated_text_has_both_parts(gpt, tmp_path):
    cached(Copying("copying"), tmp_path, TEXTS)
    texts = [text[::-1] for text in TEXTS]  # the cache keeps the targets' text alone
    flagged(tmp_path, "copying", texts, [texts[2]])
    (result,) = evaluate_params(
        *gpt, DatasetConfig(Copying("copying"), LENGTHS, str(tmp_path), "validation", 4),
        measurements=[Generation(max_new_tokens=1)], overlap=Overlap(str(tmp_path), "palm"),
    )  # fmt: skip
    values = result.values
    assert (values["count"], values["clean/count"], values["dirty/count"]) == (7, 6, 1)


def test_the_loss_has_both_parts_each_of_its_own_rows(gpt, tmp_path):
    """A limit of one takes a row of seven, which is the dirty one."""
    cached(Copying("copying"), tmp_path, TEXTS)
    texts = [text[::-1] for text in TEXTS]
    (drawn_row,) = sample_of(1, 7)
    flagged(tmp_path, "copying", texts, [texts[drawn_row]])
    dataset = DatasetConfig(Copying("copying"), LENGTHS, str(tmp_path), "validation", 4)
    whole, dirty = (
        evaluate_params(
            *gpt, dataset, measurements=[Loss()], max_rows=limit, overlap=Overlap(str(tmp_path))
        )[0].values
        for limit in (None, 1)
    )
    assert (whole["clean/rows"], whole["dirty/rows"], whole["rows"]) == (6, 1, 7)
    assert whole["dirty/loss"] == pytest.approx(dirty["loss"], rel=1e-5)
    tokens = [len(text) + 1 for text in TEXTS]  # and the end of each
    dirty_tokens, total = tokens[drawn_row], sum(tokens)
    parts = whole["clean/loss"] * (total - dirty_tokens) + whole["dirty/loss"] * dirty_tokens
    assert parts / total == pytest.approx(whole["loss"], rel=1e-5)
    assert "clean/loss" not in dirty and "clean/bits_per_byte" not in whole


def test_the_text_of_an_example_is_all_that_is_read_and_expected():
    options = {"contexts": [b"Q: a", b"Q: b"], "continuations": [b" c."], "label": np.array([1])}
    assert example_text(options, {}) == "Q: b c."
    assert example_text({**options, "label": np.array([-1])}, {}) == "Q: a"
    pair = {"targets_pretokenized": b"no", "inputs_pretokenized": b"is it?", "inputs": [3]}
    assert example_text(pair, {}) == "is it?\nno"
    words = {"words_pretokenized": np.array([b"New", b"York"], object)}
    assert example_text(words, {}) == "New York"
    assert example_text({"targets": np.array([3, 4])}, {"targets": Feature()}) == "ab"
    with pytest.raises(UserError, match="keeps no text of the examples"):
        example_text({"targets": np.array([3])}, {})


def test_flags_of_other_examples_are_refused(gpt, tmp_path):
    dataset = written(tmp_path, ROWS)
    flagged(tmp_path, "options", WHOLE[:3], DOCUMENTS)
    with pytest.raises(UserError, match="no flag of the example 'uwxyz…'"):
        evaluate_params(*gpt, dataset, measurements=[Ranking()], overlap=Overlap(str(tmp_path)))
    # Flags that are not there are missed before anything is measured.
    overlap = Overlap(f"{tmp_path}/none")
    with pytest.raises(UserError, match="there are no flags of task 'options'"):
        evaluate_params(None, None, dataset, measurements=[Ranking()], overlap=overlap)
    assert Overlap("").parts(dataset, {"loss": Finding({})}) is None  # nothing to tell apart


@pytest.fixture
def corpus_gin(tmp_path):
    """Three questions, of which the training text has one whole, and the flags to name both."""
    question = "who wrote the book about the whale that a captain hunts for years"
    rows = [f"{question}\tMelville", "what is blue\tthe sky", f"why {question[4:]}\tnobody knows"]
    (tmp_path / "test.tsv").write_text("\n".join(rows) + "\n")
    text = f"A quiz. {question.title()}? Melville! And a whale.\nNothing else.\n"
    (tmp_path / "train.txt").write_text(text)
    source = sources.TabSeparated(
        files={"validation": f"{tmp_path}/test.tsv"}, columns=("inputs", "targets")
    )
    task = tasks.text_to_text("quiz", source, tasks.forms.Template("{inputs}", "{targets}"))
    write_cache(task, tmp_path / "cache")
    (tmp_path / "own.gin").write_text(
        "from __gin__ import dynamic_registration\nimport tasks\nfrom tasks import forms\n"
        "from tasks import sources\nfrom t5x_like import data\nfrom t5x_like import evaluation\n"
        "TASK = @tasks.unsupervised()\nMIXTURE_OR_TASK_NAME = 'corpus'\n"
        "tasks.unsupervised:\n  name = 'corpus'\n  source = @sources.TextFiles()\n"
        f"sources.TextFiles.files = {{'train': '{tmp_path}/train.txt'}}\n"
        f"CACHE_DIR = '{tmp_path}/cache'\nTASK_FEATURE_LENGTHS = {{'targets': 8}}\n"
        "EVALUATIONS = [@evaluation.Evaluation()]\n"
        "evaluation.Evaluation.dataset = @quiz/data.DatasetConfig()\n"
        "quiz/data.DatasetConfig.task = @tasks.text_to_text()\n"
        "tasks.text_to_text:\n  name = 'quiz'\n  source = @sources.TabSeparated()\n"
        "  form = @forms.Template()\n"
        "forms.Template:\n  inputs = '{inputs}'\n  targets = '{targets}'\n"
        f"sources.TabSeparated:\n  files = {{'validation': '{tmp_path}/test.tsv'}}\n"
        "  columns = ('inputs', 'targets')\n"
    )
    return f"--gin_file={tmp_path}/own.gin"


def test_the_command_writes_flags_and_says_how_many_are_dirty(corpus_gin, tmp_path, capsys):
    """Of 14 words and of 15: n is 8 of the three, and all of the third but its first word is there.

    Seven 8-grams of the first are there; of the third those without its first word and its answer,
    five of eight.
    """
    flags_of = ["overlap", corpus_gin, "--train", "corpus", "--test", "quiz", f"--out={tmp_path}/o"]
    assert cli.main([*flags_of, "--num_workers=0", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert (found["examples"], found["n"], found["gpt3"], found["palm"]) == (3, 8, 2, 1)
    lines = [json.loads(x) for x in (tmp_path / "o/quiz/validation.jsonl").read_text().splitlines()]
    assert [line["gpt3"] for line in lines[1:]] == [True, False, True]
    assert [line["palm"] for line in lines[1:]] == [True, False, False]
    assert lines[0]["train"] == ["corpus train"]
    assert cli.main([*flags_of, "--num_workers=0", "--n=13"]) == 0
    said = capsys.readouterr().out
    assert "quiz validation\n  GPT-3: 1 of 3 examples (33.3%)" in said and "n 13" in said


def test_a_question_and_its_answer_are_one_document_of_training_text(corpus_gin, tmp_path, capsys):
    """A model that learned the pairs read "What is blue? The sky" as one text."""
    flags_of = ["overlap", corpus_gin, "--train", "quiz", "--train_split=validation"]
    flags_of += ["--test", "quiz", f"--out={tmp_path}/o", "--num_workers=0", "--json"]
    assert cli.main(flags_of) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert (found["gpt3"], found["palm"], found["gpt2"]) == (3, 3, 1.0)


@pytest.fixture
def lossy_gin(tmp_path):
    """A corpus in words of a vocabulary that changes and forgets them."""
    text = ["don't", "can't", "U.S.", "3.14", "well-known", "river", "of", "the", "stone", "it"]
    rows = [" ".join([*text[i:], *text[:i]]) for i in range(4)]
    (tmp_path / "text.txt").write_text("\n".join(rows))
    (tmp_path / "words.txt").write_text("the 9\nof 8\nriver 5\n")
    (tmp_path / "own.gin").write_text(
        "from __gin__ import dynamic_registration\nimport tasks\nfrom tasks import sources\n"
        "from tasks import vocabularies\n"
        "TASK = @tasks.unsupervised()\nMIXTURE_OR_TASK_NAME = 'corpus'\n"
        "tasks.unsupervised:\n  name = 'corpus'\n  source = @sources.TextFiles()\n"
        "  vocabulary = @vocabularies.WordVocabulary()\n"
        f"vocabularies.WordVocabulary.path = '{tmp_path}/words.txt'\n"
        f"sources.TextFiles:\n  files = {{'validation': '{tmp_path}/text.txt'}}\n"
        f"  separator = '\\n'\nCACHE_DIR = '{tmp_path}/cache'\n"
    )
    source = sources.TextFiles(files={"validation": f"{tmp_path}/text.txt"}, separator="\n")
    vocabulary = tasks.vocabularies.WordVocabulary(f"{tmp_path}/words.txt")
    write_cache(tasks.unsupervised("corpus", source, vocabulary=vocabulary), tmp_path / "cache")
    return f"--gin_file={tmp_path}/own.gin"


def test_text_that_ids_do_not_give_back_is_compared_as_it_was(lossy_gin, tmp_path, capsys):
    """Each of four rows is in the training text, which is the same."""
    flags_of = ["overlap", lossy_gin, "--train", "corpus", "--train_split=validation"]
    flags_of += ["--test", "corpus", f"--out={tmp_path}/o", "--num_workers=0", "--json"]
    assert cli.main(flags_of) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert (found["examples"], found["gpt3"], found["palm"], found["gpt2"]) == (4, 4, 4, 1.0)
    known = flags.read(f"{tmp_path}/o", "corpus", "validation", "gpt3")
    vocabulary = tasks.vocabularies.WordVocabulary(f"{tmp_path}/words.txt")
    for row in (tmp_path / "text.txt").read_text().splitlines():
        assert known.is_dirty(vocabulary.decode(vocabulary.encode(row)))  # as `eval` asks


def test_text_that_nothing_gives_back_is_refused(lossy_gin, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("another text")
    flags_of = ["overlap", lossy_gin, "--train", "corpus", "--train_split=validation"]
    flags_of += ["--test", "corpus", f"--out={tmp_path}/o", "--num_workers=0"]
    flags_of += ["--gin.data.DatasetConfig.verify_source=False"]
    assert cli.main(flags_of) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the cache of task 'corpus' has no text, and its vocabulary does not give it" in line


def test_bad_flags_of_the_command_are_one_line(corpus_gin, tmp_path, capsys):
    flags_of = ["overlap", corpus_gin, "--train", "corpus", "--test"]
    for more, said in (
        (["quizz"], "quizz"),
        (["quiz", "--test_split=test"], "'test'"),
        (["quiz", "--train_split=dev"], "split 'dev' not found"),
        (["quiz", "--n=0"], "--n=0: give a whole number of 1 or more"),
        (["quiz", "--num_workers=-1"], "--num_workers=-1: give a whole number of 0 or more"),
        (["quiz", "--max_documents=0"], "--max_documents=0"),
    ):
        assert cli.main([*flags_of, *more, f"--out={tmp_path}/o"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
        assert line.startswith("t5x-like: error: ") and said in line
    assert cli.main([*flags_of, "quiz", "--dry_run"]) == 0
    assert capsys.readouterr().out == "quiz validation: 3 examples would be compared\n"
    assert not (tmp_path / "o").exists()
