"""Words with their counts, counted by hand."""

import pickle

import pytest

from tasks.errors import SourceUnavailable, TaskError
from tasks.objectives import CausalLM
from tasks.vocabularies import WordVocabulary, train_words

TEXTS = ["the cat saw The dog", "the dog saw the", "a cat . . ."]


@pytest.fixture
def counted(tmp_path):
    def count(texts=TEXTS, **settings):
        return train_words(texts, str(tmp_path / "w.txt"), **{"min_count": 1} | settings)

    return count


def test_words_are_numbered_from_3_by_falling_counts_and_then_by_their_characters(counted):
    vocabulary = counted()
    assert vocabulary.words == (".", "the", "cat", "dog", "saw", "The", "a")
    assert vocabulary.spec()["counts"] == [3, 3, 2, 2, 2, 1, 1]
    assert vocabulary.vocab_size == 3 + 7
    assert vocabulary.encode("the dog barks .") == [4, 6, 2, 3]
    assert vocabulary.decode([4, 6, 2, 0, 3, 1, 4]) == "the dog <unk> ."
    assert vocabulary.spec()["full_stop_ids"] == [3]


def test_the_file_is_that_of_word2vec_and_glove(counted, tmp_path):
    counted()
    assert (tmp_path / "w.txt").read_text().splitlines()[:3] == [". 3", "the 3", "cat 2"]


def test_the_line_ends_that_word2vec_counts_may_be_none(tmp_path):
    path = tmp_path / "w.txt"
    path.write_text("</s> 0\nthe 3\nof 2\n")
    assert WordVocabulary(str(path)).words == ("the", "of")


def test_a_mark_of_byte_order_is_no_part_of_the_first_word(tmp_path):
    path = tmp_path / "w.txt"
    path.write_bytes("\ufeffthe 3\nof 2\n".encode())
    assert WordVocabulary(str(path)).encode("the of the") == [3, 4, 3]


def test_rare_words_and_those_beyond_the_size_are_left_out(counted):
    assert counted(min_count=3).words == (".", "the")
    assert counted(vocab_size=6).words == (".", "the", "cat")


def test_how_text_is_split_stands_in_the_file(counted):
    vocabulary = counted(lower_case=True, pattern="[a-z]+")
    again = WordVocabulary(vocabulary.path)
    assert again.words == ("the", "cat", "dog", "saw", "a")
    assert again.encode("THE dog's") == [3, 5, 2]
    assert again.tag != counted().tag


def test_places_are_those_in_the_text_as_it_was(counted):
    vocabulary = counted(lower_case=True, pattern=r"\w+")
    # A small İ is an i and a dot above it, which is no letter and parts the word.
    ids, places = vocabulary.encode_with_offsets("İx, the Dog")
    assert ids == vocabulary.encode("İx, the Dog") == [2, 2, 3, 5]
    assert places == [(0, 1), (1, 2), (4, 7), (8, 11)]


def test_it_travels_without_its_words(counted):
    vocabulary = counted()
    again = pickle.loads(pickle.dumps(vocabulary))
    assert again == vocabulary and "_parsed" not in again.__dict__
    assert again.words == vocabulary.words


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no words"),
        ("the 5\ncat\n", "line 2 is 'cat'"),
        ("the 5\nthe 4\n", "line 2 is 'the' a second time"),
        ("the -1\n", "line 1 is 'the -1'"),
        ("the 0\n", "'the' occurs 0 times, where 1 or more"),
        ('#!{"case": 1}\nthe 5\n', "line 1 does not tell how text is split"),
        ('#!{"pattern": "("}\nthe 5\n', "is no regular expression"),
    ],
)
def test_what_is_no_vocabulary_is_told_in_a_line(content, said, tmp_path):
    path = tmp_path / "v.txt"
    path.write_text(content)
    with pytest.raises(TaskError, match=said) as told:
        WordVocabulary(str(path)).encode("the")
    assert "\n" not in str(told.value) and str(path) in str(told.value)


def test_no_file_and_no_text_are_told_in_a_line(counted, tmp_path):
    with pytest.raises(SourceUnavailable, match="not found: a word and its count"):
        WordVocabulary(str(tmp_path / "none.txt")).encode("a")
    with pytest.raises(TaskError, match="no text to count words in"):
        counted(["", " \n"])
    with pytest.raises(TaskError, match="no word occurs 9 times: the most frequent, 'the'"):
        counted(TEXTS[:2], min_count=9)
    for settings in ({"min_count": 0}, {"vocab_size": 3}, {"pattern": "["}):
        with pytest.raises(TaskError):
            counted(**settings)
    with pytest.raises(TaskError, match=r"w\.txt' cannot be written: "):
        train_words(TEXTS, "/proc/none/w.txt", min_count=1)
    with pytest.raises(TaskError, match=r"words are written to NAME\.txt"):
        train_words(TEXTS, str(tmp_path / "w.model"))


def test_an_objective_may_have_it(counted):
    assert CausalLM().bind({"targets": counted().spec()}).reads == ("targets",)
