"""Words by their characters: the vocabulary that keeps them, and ELMo's rows, by hand."""

import pickle

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import SpelledWords
from tasks.vocabularies import SpelledWordVocabulary, WordVocabulary

BOW, EOW, NONE = 259, 260, 261
# The marks of a text's beginning and end, each the one character of a word.
BEGIN, END = (BOW, 257, EOW), (BOW, 258, EOW)


def spelled(word):
    """The characters of a word: its bytes plus 1, between two marks."""
    return (BOW, *(byte + 1 for byte in word.encode()), EOW)


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("the 5\ncat 2\n", encoding="utf-8")  # ids 3 and 4, byte 0 is 5
    return SpelledWordVocabulary(str(path))


def bound(vocabulary, row=12, **settings):
    return SpelledWords(**settings).bind({"targets": vocabulary.spec()}).of_length({"targets": row})


def made(objective, ids):
    return objective({"targets": np.array(ids, np.int32)}, np.random.default_rng(0))


def words_of(example):
    """The characters of each word, without what fills them up."""
    rows = [tuple(row[row != NONE].tolist()) for row in example["characters"]]
    assert all((row != 0).all() and row.size == 50 for row in example["characters"])
    return rows


# -- The vocabulary --------------------------------------------------------------------------------


def test_a_word_that_is_not_in_the_vocabulary_is_spelled(vocabulary):
    assert vocabulary.encode("the dé cat") == [3, 2, 5 + 100, 5 + 195, 5 + 169, 4]
    assert vocabulary.decode([3, 2, 105, 200, 174, 4, 1, 3]) == "the dé cat"
    assert vocabulary.vocab_size == WordVocabulary(vocabulary.path).vocab_size + 256
    assert vocabulary.tag != WordVocabulary(vocabulary.path).tag


def test_every_text_comes_back(vocabulary):
    for text in ("", "the", "dog dog", "ß 日本 the"):
        assert vocabulary.decode(vocabulary.encode(text)) == text
    # An unknown word without bytes is one; half a character is what UTF-8 makes of it.
    assert vocabulary.decode([2, 3, 2, 200]) == "<unk> the �"


def test_all_tokens_of_a_spelled_word_have_its_place(vocabulary):
    ids, places = vocabulary.encode_with_offsets("the do")
    assert ids == vocabulary.encode("the do")
    assert places == [(0, 3), (4, 6), (4, 6), (4, 6)]


def test_it_travels_without_its_words(vocabulary):
    vocabulary.encode("the")
    again = pickle.loads(pickle.dumps(vocabulary))
    assert again == vocabulary and again.encode("cat x") == [4, 2, 5 + 120]


# -- Rows ------------------------------------------------------------------------------------------


def test_a_sentence_stands_between_its_ends(vocabulary):
    example = made(bound(vocabulary, concatenate=False), vocabulary.encode("the dog cat"))
    assert words_of(example) == [BEGIN, spelled("the"), spelled("dog"), spelled("cat"), END]
    assert example["targets"].tolist() == [1, 3, 2, 4, 1]
    assert example["segments"].tolist() == [1] * 5
    assert example["loss_weights"].tolist() == [1] * 5
    assert {name: array.dtype for name, array in example.items()} == dict.fromkeys(
        SpelledWords.writes, np.dtype(np.int32)
    )


def test_of_a_long_word_the_first_48_bytes_count(vocabulary):
    example = made(bound(vocabulary, concatenate=False), vocabulary.encode("x" * 47 + "yzzz"))
    assert words_of(example)[1] == spelled("x" * 47 + "y") and len(words_of(example)[1]) == 50


def test_what_a_piece_of_a_stream_is_cut_by_is_read_and_not_told(vocabulary):
    the, cat, eos = 3, 4, 1
    objective = bound(vocabulary, row=10)
    assert objective.chunk_length({"targets": 10}) == 8
    example = made(objective, [the, cat, eos, cat, the, the, cat, cat])
    assert example["targets"].tolist() == [1, the, cat, 1, 1, cat, the, the, cat, cat]
    assert example["segments"].tolist() == [1] * 4 + [2] * 6
    # The text began before the first word, and both ends of what is in between are its own.
    assert example["loss_weights"].tolist() == [0] + [1] * 9
    assert words_of(example)[3:5] == [END, BEGIN]
    example = made(objective, [the, cat, cat, the])
    assert example["targets"].tolist() == [1, the, cat, cat, the, 1]
    assert example["loss_weights"].tolist() == [0, 1, 1, 1, 1, 0]
    # After the end of another document, the beginning is a document's own.
    assert made(objective, [eos, the, cat])["loss_weights"].tolist() == [1, 1, 1, 0]
    assert made(objective, [eos, eos, cat, eos])["loss_weights"].tolist() == [1, 1, 1]
    assert made(objective, [eos, eos])["loss_weights"].tolist() == [0, 0]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_pieces_of_documents_lose_no_word(vocabulary, size):
    """Each has two ends in the stream, so that pieces have room for what begins and ends it."""
    objective = SpelledWords().bind({"targets": vocabulary.spec()}).of_length({"targets": 16})
    chunk = objective.chunk_length({"targets": 16})
    ends = [vocabulary.eos_id] * objective.document_ends
    stream = np.array(([3] * size + ends) * (4 * chunk // size + 1))
    read = 0
    for start in range(0, 4 * chunk, chunk):
        made = objective({"targets": stream[start : start + chunk]}, None)["targets"]
        assert len(made) <= 16
        read += (made == 3).sum()
    assert read == (stream[: 4 * chunk] == 3).sum()


def test_a_word_that_a_piece_cuts_through_is_left_out(vocabulary):
    d, o, g = (5 + byte for byte in b"dog")
    objective = bound(vocabulary, row=8)  # pieces of 6 tokens
    assert made(objective, [o, g, 3, 2, d, o])["targets"].tolist() == [1, 3, 1]
    # A text that is shorter than a piece was not cut.
    example = made(objective, [3, 2, d, o])
    assert words_of(example)[1:3] == [spelled("the"), spelled("do")]
    # A whole word at the end may be the whole of it.
    assert made(objective, [3, 3, 2, d, o, 4])["targets"].tolist() == [1, 3, 3, 2, 4, 1]
    assert made(objective, [d, o])["targets"].tolist() == [1, 1]


def test_documents_without_words_are_none(vocabulary):
    for ids in ([1, 1, 3, 1, 1, 4, 1], [3, 1, 4, 1, 1]):
        example = made(bound(vocabulary), ids)
        assert example["targets"].tolist() == [1, 3, 1, 1, 4, 1]
        assert example["segments"].tolist() == [1, 1, 1, 2, 2, 2]
    assert made(bound(vocabulary), [])["targets"].tolist() == [1, 1]


def test_words_without_room_are_counted(vocabulary):
    objective = bound(vocabulary, row=4, concatenate=False)
    example = {"targets": np.array(vocabulary.encode("the dog cat"), np.int32)}
    assert objective.excess(example) == 1
    assert made(objective, example["targets"])["targets"].tolist() == [1, 3, 2, 4]
    assert bound(vocabulary, row=6, tokens_per_word=1.5).chunk_length({"targets": 6}) == 6


def test_settings_and_vocabularies_that_cannot_be_are_refused(vocabulary):
    with pytest.raises(TaskError, match=r"tokens_per_word is 0\.5: 1 to 50 is"):
        SpelledWords(tokens_per_word=0.5)
    with pytest.raises(TaskError, match="is 2: 3 or more"):
        bound(vocabulary, row=2)
    plain = WordVocabulary(vocabulary.path).spec()
    told = r"^SpelledWords reads words by their characters, .*vocabularies/spelled_words\.gin"
    with pytest.raises(TaskError, match=told):
        SpelledWords().bind({"targets": plain})
