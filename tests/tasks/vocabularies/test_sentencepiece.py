"""SentencePiece models; `seqio_interop/test_to_seqio.py` compares their ids with seqio's."""

import copy
import os
import pickle

import pytest

import tasks
from tasks import sources, vocabularies
from tasks.errors import SourceUnavailable, TaskError
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import sentencepiece_training

LINES = [f"The quick brown fox number {i} jumps over {i * 7} lazy dogs." for i in range(400)]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "small.model"
    vocabularies.train_sentencepiece(LINES, str(path), vocab_size=120)
    return str(path)


def test_a_trained_model_has_t5s_special_ids_and_sentinels(model_file):
    vocabulary = vocabularies.SentencePieceVocabulary(model_file, extra_ids=10)
    assert (vocabulary.eos_id, vocabulary.unk_id, vocabulary.vocab_size) == (1, 2, 130)
    ids = vocabulary.encode("lazy <extra_id_0> dogs <extra_id_9>")
    assert 129 in ids and 120 in ids  # the first sentinel is the last id
    assert vocabulary.decode([*vocabulary.encode("lazy dogs"), 1, 5]) == "lazy dogs"


def test_a_decoder_begins_with_padding_unless_told_otherwise(model_file):
    assert vocabularies.ByteVocabulary().start_id == 0
    plain = vocabularies.SentencePieceVocabulary(model_file)
    given = vocabularies.SentencePieceVocabulary(model_file, start_token="</s>")
    assert (plain.start_id, given.start_id) == (0, 1)
    assert plain.starting_with(1) == given and plain.starting_with(0) is plain
    # The same ids of texts: one cache for both, which a host reads without the model's file.
    task = tasks.unsupervised("lines", sources.TextFiles(files={"train": model_file}))
    first, other = (task.with_vocabulary(one) for one in (plain, given))
    assert first.cache_name == other.cache_name
    assert first.fingerprint() == other.fingerprint()
    with pytest.raises(TaskError, match=r"has no piece '<s>' \(start_token\)"):
        _ = vocabularies.SentencePieceVocabulary(model_file, start_token="<s>").start_id


def test_own_sentinels_are_kept(model_file, tmp_path):
    from sentencepiece import sentencepiece_model_pb2

    with open(model_file, "rb") as f:
        model = sentencepiece_model_pb2.ModelProto.FromString(f.read())
    for i in reversed(range(7)):
        model.pieces.add(piece=f"▁<extra_id_{i}>", score=0.0, type=4)
    path = tmp_path / "own.model"
    path.write_bytes(model.SerializeToString())
    assert vocabularies.SentencePieceVocabulary(str(path), extra_ids=7).vocab_size == 127
    with pytest.raises(TaskError, match="has 7 sentinels: set extra_ids=7, not 100"):
        _ = vocabularies.SentencePieceVocabulary(str(path)).vocab_size


def test_byte_fallback_and_split_digits_are_palms(tmp_path):
    vocabulary = vocabularies.train_sentencepiece(
        LINES,
        str(tmp_path / "palm.model"),
        vocab_size=340,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
    )
    assert vocabulary.decode(vocabulary.encode("¿ 12345  €")) == "¿ 12345  €"
    assert len(vocabulary.encode("12345")) >= 5
    assert vocabulary.unk_id not in vocabulary.encode("漢")


def test_an_open_vocabulary_can_be_copied_and_pickled(model_file):
    vocabulary = vocabularies.SentencePieceVocabulary(model_file)
    ids = vocabulary.encode("fox")
    assert copy.deepcopy(vocabulary).encode("fox") == ids
    assert pickle.loads(pickle.dumps(vocabulary)).encode("fox") == ids


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)), b"\n\x00"])
def test_a_file_that_is_no_model_is_one_clear_line(tmp_path, content):
    path = tmp_path / "bad.model"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=r"bad\.model.* is not a SentencePiece model") as raised:
        vocabularies.SentencePieceVocabulary(str(path)).encode("a")
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named():
    with pytest.raises(SourceUnavailable, match=r"'nowhere/x\.model' not found"):
        vocabularies.SentencePieceVocabulary("nowhere/x.model").encode("a")


@pytest.mark.parametrize(
    ("texts", "size", "words"),
    [(["  ", "\n"], 100, "no text"), (["a b"], 5000, "vocab_size=5000")],
)
def test_a_vocabulary_that_cannot_be_trained_says_why(tmp_path, texts, size, words):
    with pytest.raises(TaskError, match=words) as raised:
        vocabularies.train_sentencepiece(texts, str(tmp_path / "x.model"), vocab_size=size)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("glue", [" ", "é"])
def test_lines_of_any_length_are_trained_on(tmp_path, glue):
    """SentencePiece passes over lines above 65,536 bytes, and fails where there is no other."""
    line = glue.join(f"word{i % 50}" for i in range(12_000)) + glue + "zebra" * 500
    assert len(line.encode()) > 65_536
    parts = list(sentencepiece_training._cut(line))
    assert "".join(parts) == line
    assert all(len(part.encode()) <= 65_536 for part in parts)
    vocabulary = vocabularies.train_sentencepiece([line], str(tmp_path / "v"), vocab_size=25)
    assert vocabulary.unk_id not in vocabulary.encode("zebra")[1:]  # what stands last was read too


def test_special_tokens_that_a_text_spells_can_stay_text(model_file):
    """Without the sentinels in the model, SentencePiece reads `<extra_id_0>` as letters."""
    vocabulary = vocabularies.SentencePieceVocabulary(model_file, extra_ids=10)
    plain = vocabularies.SentencePieceVocabulary(model_file, extra_ids=0)
    text = "lazy <extra_id_0> dogs"
    assert vocabulary.encode(text) != vocabulary.encode_as_text(text)
    assert vocabulary.encode_as_text(text) == plain.encode(text)
    assert max(vocabulary.encode_as_text(text)) < 120
    assert vocabulary.encode_as_text("lazy dogs") == vocabulary.encode("lazy dogs")
    assert vocabulary.special_tokens.findall(f"{text} <extra_id_9><b>") == [
        "<extra_id_0>",
        "<extra_id_9>",
    ]
    assert plain.special_tokens is None


@pytest.mark.parametrize("kind", [vocabularies.SentencePieceVocabulary, TokenizerVocabulary])
def test_a_pipe_in_place_of_a_vocabulary_is_not_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / "v")
    with pytest.raises(SourceUnavailable, match="v' not found"):
        kind(str(tmp_path / "v")).encode("text")
