"""Texts for language modelling as their published files are."""

import pytest

import tasks
from tasks import forms
from tasks.benchmarks.corpora import Articles, Portions
from tasks.benchmarks.language_modelling import PennTreebank, WikiText
from tasks.errors import TaskError

WIKI = """
 = Ann =

 Ann , a well @-@ known poet , had 1 @,@ 000 readers ( and 2 @.@ 5 dogs ) .

 = = Life = =

 She said " no " . It wasn 't Eve 's .

 = Bob =

 They met .

 = Rome =

 A city .
""".replace("\n", " \n")  # as every line of these files ends


def test_an_article_of_wikitext_begins_with_its_title(tmp_path):
    (tmp_path / "wiki.txt").write_text(WIKI)
    articles = [
        row["text"] for row in Articles(files={"test": f"{tmp_path}/wiki.txt"}).rows("test")
    ]
    assert [text.split()[:3] for text in articles] == [
        ["=", "Ann", "="], ["=", "Bob", "="], ["=", "Rome", "="]
    ]  # fmt: skip
    assert "".join(articles) == WIKI


def test_wikitext_is_read_as_people_write_and_counted_as_it_is():
    assert WikiText().detokenized(" Ann , a well @-@ known poet , had 1 @,@ 000 . \n") == (
        "Ann, a well-known poet, had 1,000.\n"
    )
    assert WikiText().detokenized(
        " She said \" no \" . It isn 't Eve 's ( or his ) . \n = = Life = = \n"
    ) == ("She said \"no\". It isn't Eve's (or his).\n== Life ==\n")
    text = " 1 @,@ 000 cafés . \n"
    made = WikiText()({"text": text})
    # 1, @,@, 000, cafés and the full stop; 20 characters, of which one is two bytes.
    assert made == {"targets": "1,000 cafés.\n", "targets_words": 5, "targets_bytes": 21}
    assert (len(text.split()), len(text.encode())) == (5, 21)


def test_penn_treebank_has_its_contractions_whole_and_what_it_lost_is_lost():
    """Words are counted in the file: it, 's, do, n't and so on are words of their own."""
    text = " it 's <unk> they do n't pay $ N or the banks ' N N % \n we 'll see # N \n"
    made = PennTreebank()({"text": text})
    assert made["targets"] == ("it's <unk> they don't pay $N or the banks' N N %\nwe'll see #N\n")
    assert made["targets_words"] == len(text.split()) == 21
    assert made["targets_bytes"] == len(text)


def test_texts_with_and_without_their_detokenizer_are_tasks_of_one_file(tmp_path):
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "test.txt").write_text(" it 's late \n")
    found = {}
    for name in ("ptb", "ptb_detokenized"):
        task = tasks.get_mixture_or_task(name, files_dir=str(tmp_path))
        ((found[name], _),) = [(row["targets"], task.cache_name) for row in task.examples("test")]
        assert task.cache_name == name
    assert found == {"ptb": " it 's late \n", "ptb_detokenized": "it's late\n"}
    assert isinstance(tasks.get_mixture_or_task("wikitext2").form, WikiText)
    assert tasks.get_mixture_or_task("wikitext2_tokenized").form == forms.PlainText()


def test_parts_of_one_file_are_splits_that_end_with_characters(tmp_path):
    """`aé` is three bytes: a part of two bytes ends after three, and the next begins there."""
    path = tmp_path / "text8"
    path.write_text("aébcdé", encoding="utf-8")  # a é é b c d é é
    source = Portions(
        files=dict.fromkeys(("train", "test"), str(path)), sizes={"train": 2, "test": 6}
    )
    assert [row["text"] for row in source.rows("train")] == ["aé"]
    assert [row["text"] for row in source.rows("test")] == ["bcdé"]
    short = Portions(files={"test": str(path)}, sizes={"train": 20, "test": 6})
    with pytest.raises(TaskError, match="ends before byte 20, where its 'test' begins"):
        list(short.rows("test"))


def test_long_parts_are_documents_of_a_million_bytes(tmp_path):
    (tmp_path / "text8").mkdir()
    (tmp_path / "text8" / "text8").write_text("a" * 2_500_000)
    task = tasks.get_mixture_or_task("text8", files_dir=str(tmp_path))
    assert task.splits == ("train", "validation", "test")
    assert [len(made["targets"]) for made in task.examples("train")] == [10**6, 10**6, 500_000]


@pytest.mark.parametrize(
    ("name", "file", "content", "documents"),
    [
        ("wikitext2", "test.txt", WIKI, 3),
        ("wikitext103", "validation.txt", WIKI, 3),
        ("ptb", "test.txt", " no it was n't \n black monday \n", 1),
        ("lm1b", "test.txt", "One sentence .\nAnother .\n", 2),
        ("pg19", "test/7.txt", "A long book.\n\nIts end.\n", 1),
    ],
)
def test_published_files_are_documents(name, file, content, documents, tmp_path):
    path = tmp_path / name / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    task = tasks.get_mixture_or_task(name, files_dir=str(tmp_path))
    (split,) = task.splits
    assert len(list(task.examples(split))) == documents
