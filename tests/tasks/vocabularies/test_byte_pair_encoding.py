"""Byte-pair encoding as published, its ties, and vocabularies of characters."""

import collections
import json

import pytest

from tasks import vocabularies
from tasks.errors import TaskError
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies.byte_pair_encoding import encode_word, learn_merges

# The worked words of Sennrich et al. 2016, section 3.2.
WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}
RAIN = (
    "the rain in spain stays mainly in the plain ; in the main the rain remains plain rain , and "
    "again the train strains in vain"
)


def pairs(text):
    return [tuple(pair.split()) for pair in text.split(",")]


def test_the_worked_merges_of_which_the_first_met_of_equals_is_taken():
    """es 9, est 9, lo 7, low 7, ne 6, new 6, newest 6, wi 3, wid 3, widest 3.

    At 6 the pairs (n, e), (e, w) and (w, est) are equally frequent.
    """
    merges = learn_merges(WORDS, 10, ties="first", end_of_word="")
    assert merges == pairs("e s,es t,l o,lo w,n e,ne w,new est,w i,wi d,wid est")
    found = [encode_word(word, merges, "") for word in (*WORDS, "lowest")]
    assert found == [("low",), ("low", "e", "r"), ("newest",), ("widest",), ("low", "est")]


def test_the_greatest_of_equals_is_taken_as_subword_nmt_does():
    """What subword-nmt 0.3.8 prints for these words, and stops at for this text."""
    theirs = "s t</w>,e st</w>,l o,w est</w>,n e,ne west</w>,lo w</w>,w i,wi d,wid est</w>"
    assert learn_merges(WORDS, 10) == pairs(theirs)
    theirs = "i n</w>,a in</w>,t h,th e</w>,r ain</w>,i n,a in,s t,p l,pl ain</w>,m ain"
    merges = learn_merges(collections.Counter(RAIN.split()), 100)
    assert merges == pairs(theirs)
    # And what its apply-bpe makes of other words.
    assert encode_word("trainer", merges) == ("t", "r", "ain", "e", "r</w>")
    assert encode_word("the", merges) == ("the</w>",)


def test_the_earliest_of_equals_is_taken_as_the_tokenizers_library_does():
    tokenizers = pytest.importorskip("tokenizers")
    words = collections.Counter(RAIN.split())
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    size = len(set("".join(words))) + 12
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, show_progress=False, min_frequency=2)
    theirs.train_from_iterator([RAIN], trainer)
    expected = [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]
    assert len(expected) == 9
    assert learn_merges(words, 12, ties="earliest", end_of_word="") == expected
    assert learn_merges(words, 12, ties="greatest", end_of_word="") != expected


def test_a_pair_of_equal_symbols_is_merged_from_the_left():
    assert learn_merges({"aaa": 2}, 3, end_of_word="") == [("a", "a"), ("aa", "a")]
    assert encode_word("aaaaa", [("a", "a")], "") == ("aa", "aa", "a")


def test_rare_pairs_are_left_apart():
    assert learn_merges({"ab": 1, "cd": 2}, 5) == [("c", "d</w>")]
    assert learn_merges({"ab": 1, "cd": 2}, 5, min_frequency=1) == [("c", "d</w>"), ("a", "b</w>")]


def test_a_trained_file_reads_text_as_the_published_algorithm_does(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    texts = [" ".join([word] * count) for word, count in WORDS.items()]
    # 3 special tokens, 10 letters, each also as the end of a word, and 10 merges.
    size = vocabularies.train_tokenizer(texts, str(path), model_type="word_bpe", vocab_size=33)
    vocabulary = TokenizerVocabulary(str(path))
    assert size == vocabulary.vocab_size == 33
    assert (vocabulary.start_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
    merges = learn_merges(WORDS, 10)
    ids = json.loads(path.read_text())["model"]["vocab"]
    expected = [ids[s] for word in ("lowest", "newer", "wide") for s in encode_word(word, merges)]
    assert vocabulary.encode("lowest  newer\nwide") == expected
    assert vocabulary.decode(expected) == "lowest newer wide"
    assert vocabulary.encode("lox") == [ids["lo"], vocabulary.unk_id]


def test_characters_keep_all_of_a_text(tmp_path):
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    text = "A  stitch\nin time.\n"
    size = vocabularies.train_tokenizer([text], str(path), model_type="character")
    vocabulary = TokenizerVocabulary(str(path))
    assert size == 3 + len(set(text))
    assert len(vocabulary.encode(text)) == len(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.encode("ix") == [*vocabulary.encode("i"), vocabulary.unk_id]
    # The most frequent: spaces, i and t occur three times each.
    size = vocabularies.train_tokenizer([text], str(path), model_type="character", max_characters=2)
    assert size == 5 and TokenizerVocabulary(str(path)).encode("it ") == [4, 2, 3]


@pytest.mark.parametrize("kind", ["word_bpe", "character"])
def test_without_text_there_is_nothing_to_train(tmp_path, kind):
    pytest.importorskip("tokenizers")
    with pytest.raises(TaskError, match="every line was empty"):
        vocabularies.train_tokenizer(["", " \n"], str(tmp_path / "tokenizer.json"), model_type=kind)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_learned_is_refused(tmp_path):
    pytest.importorskip("tokenizers")
    with pytest.raises(TaskError, match="there is no word"):
        learn_merges({}, 3)
    with pytest.raises(TaskError, match="ties is 'last'"):
        learn_merges(WORDS, 3, ties="last")
    path = str(tmp_path / "tokenizer.json")
    with pytest.raises(TaskError, match="vocab_size=20 has no room"):
        vocabularies.train_tokenizer(list(WORDS), path, model_type="word_bpe", vocab_size=20)
