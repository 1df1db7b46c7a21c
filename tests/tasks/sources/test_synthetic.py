"""Labelled rows that are made of plain text, by hand and in shares."""

import itertools
import json

import numpy as np
import pytest

from tasks import labelled, sources, spans
from tasks.errors import TaskError
from tasks.sources import ClozeQuestions, PerturbedSentences
from tasks.sources.synthetic.perturbed_sentences import perturbed, shared_words
from tasks.sources.synthetic.sentences import sentence_places

LONG = (" ".join(["word"] * 26),)
WORDS = [f"w{i}" for i in range(400)]


def source(tmp_path, *texts):
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in texts))
    return sources.TextFiles(files={"train": str(path)}, separator="\n")


def some(count, size):
    """Sentences of words that no other sentence has."""
    return [" ".join(f"s{i}w{j}" for j in range(size)) + "." for i in range(count)]


def test_sentences_end_before_a_capital_and_at_a_tab():
    text = ' It cost $2. 5 men paid.  "So what?" (Nothing.)\tit ended '
    assert [text[begin:end] for begin, end in sentence_places(text)] == [
        "It cost $2. 5 men paid.", '"So what?" (Nothing.)', "it ended"
    ]  # fmt: skip


def test_similarity_is_dices_coefficient_of_the_words():
    # {a, man, sings} and {the, man, sings, loudly}: 2 of 3 and of 4.
    assert shared_words("A man sings.", "The man, loudly, SINGS") == pytest.approx(4 / 7)
    assert shared_words("one", "one one") == 1 and shared_words("one", "two") == 0
    assert shared_words("...", "!") == 1


def test_a_copy_keeps_any_share_of_the_words_as_often_as_any_other():
    rng = np.random.default_rng(0)
    others = [f"x{i}" for i in range(50)]
    copies = [perturbed(" ".join(WORDS), others, rng).split() for _ in range(400)]
    shares = np.array([len(set(copy) & set(WORDS)) / len(WORDS) for copy in copies])
    # Even from 0 to 1: of 400 the mean's standard deviation is .0144.
    assert abs(shares.mean() - 0.5) < 0.05
    assert abs(np.quantile(shares, 0.25) - 0.25) < 0.08
    # Every word that is left has its place but for one turn of the whole.
    for copy in copies:
        kept = [WORDS.index(word) for word in copy if word in WORDS]
        assert sum(left > right for left, right in itertools.pairwise(kept)) <= 1
    assert {word for copy in copies for word in copy} - set(WORDS) == set(others)


def test_a_copy_has_a_word_at_least():
    rng = np.random.default_rng(0)
    assert all(perturbed("one two", [], rng) for _ in range(200))


def test_each_sentence_stands_beside_its_copies_and_the_next_sentence(tmp_path):
    text = source(
        tmp_path, "A dog runs home. The dog runs off.", "= Title =", "Cats sleep here.", *LONG
    )
    rows = list(PerturbedSentences(text, copies=3).rows("train"))
    # Of the first text 3 + 1 and 3, none of the heading, of the next 3, and none of 26 words.
    assert len(rows) == 10
    pairs = [{row["first"], row["second"]} for row in rows]
    assert pairs[3] == {"A dog runs home.", "The dog runs off."}
    # dog and runs of four words each, of 5.
    assert rows[3]["similarity"] == "2.500"
    assert ["A dog runs home." in pair for pair in pairs[:7]] == [True] * 4 + [False] * 3
    # Words in the place of others are of the texts before, of which the first has none.
    words = [{word for pair in part for text in pair for word in text.split()} for part in
             (pairs[:7], pairs[7:])]  # fmt: skip
    assert words[0] == set(["A", "dog", "runs", "home.", "The", "dog", "runs", "off."])
    assert words[1] <= words[0] | set(["=", "Title", "=", "Cats", "sleep", "here."])


def test_either_may_stand_first_and_rows_are_the_same_each_time(tmp_path):
    made = PerturbedSentences(source(tmp_path, *some(300, 6)))
    rows = list(made.rows("train"))
    firsts = [row["first"] in some(300, 6) for row in rows]
    assert 220 < sum(firsts) < 380
    assert list(made.rows("train", ("all",))) == rows
    assert list(made.rows("train", ())) == []
    assert list(PerturbedSentences(made.source, seed=1).rows("train")) != rows


def test_a_cloze_question_lacks_its_answer_which_stands_in_its_text(tmp_path):
    text = (
        "It began in the old town. There Ada Lovelace wrote 24 notes for a machine in 1843 . "
        "Few read them."
    )
    rows = list(ClozeQuestions(source(tmp_path, text), copies=600, named_share=1.0).rows("train"))
    answers = {}
    for row in rows:
        (answer,) = json.loads(row["answers"])
        found, start = answer["text"], answer["answer_start"]
        assert row["context"][start : start + len(found)] == found
        assert row["context"] in text and found not in row["question"]
        numbers, others = ("How many", "When", "What"), ("Who", "What", "Where", "Which")
        assert row["question"].startswith(numbers if found[0].isdigit() else others)
        answers.setdefault(found, []).append(row["question"].removeprefix("How many").rstrip("?"))
    # A word that begins its sentence is no name.
    assert set(answers) == {"Ada Lovelace", "24", "1843"}
    assert {row["context"].count(".") for row in rows} == {1, 2, 3}
    # Of nine words that are about 1843 and not of the question, three fifths are kept.
    about = {"There", "Ada", "Lovelace", "wrote", "24", "notes", "for", "a", "machine"}
    kept = [len(about & set(asked.split())) for asked in answers["1843"]]
    assert len(kept) > 100 and abs(np.mean(kept) / 9 - 0.6) < 0.05


def test_any_words_are_answers_too_and_long_sentences_are_left_out(tmp_path):
    short, long = "a small cat sat down here.", " ".join(["word"] * 76)
    made = ClozeQuestions(source(tmp_path, short, long), copies=300, named_share=0.0)
    answers = {json.loads(row["answers"])[0]["text"] for row in made.rows("train")}
    assert answers == {"small cat sat", "down here"}


def test_tasks_of_both_are_read_by_the_heads_that_they_are_for(tmp_path):
    text = source(tmp_path, "A dog ran to Rome in 1999.")
    pairs = labelled("pairs", PerturbedSentences(text), ("first", "second"), label="similarity")
    (first, *_) = pairs.examples("train")
    assert isinstance(first["label"], float) and 0 <= first["label"] <= 5
    (first, *_) = spans("cloze", ClozeQuestions(text, named_share=1.0)).examples("train")
    assert first["answers"][0] in ("Rome", "1999")


def test_the_fingerprint_knows_texts_and_settings(tmp_path):
    text = source(tmp_path, "One sentence is here.")
    made = [PerturbedSentences(text), PerturbedSentences(text, seed=1), ClozeQuestions(text)]
    made.append(ClozeQuestions(text, kept_share=0.5))
    prints = {one.fingerprint() for one in made}
    source(tmp_path, "Another sentence is here.")
    assert len(prints | {PerturbedSentences(text).fingerprint()}) == 5


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(TaskError, match=r"PerturbedSentences.source has a, b: a column 'text'"):
        PerturbedSentences(sources.TabSeparated(files={"train": "x"}, columns=("a", "b")))
    with pytest.raises(TaskError, match=r"ClozeQuestions.copies is 0"):
        ClozeQuestions(source(tmp_path, "x"), copies=0)
    with pytest.raises(TaskError, match=r"ClozeQuestions.kept_share is 1.5: from 0 to 1"):
        ClozeQuestions(source(tmp_path, "x"), kept_share=1.5)
