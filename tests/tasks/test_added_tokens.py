"""Tokens that a directory's other files add to a SentencePiece model."""

import json
import shutil

import pytest
import sentencepiece

from tasks.errors import TaskError
from tasks.tokenizer_files import ends_left_out, vocabulary_in
from tasks.vocabularies import SentencePieceVocabulary

tokenizers = pytest.importorskip("tokenizers")

LINES = [f"The quick brown fox number {i} jumps over {i * 7} lazy dogs. Oh!" for i in range(200)]
MARKS = {"<unk>": 0, "<s>": 1, "</s>": 2}
TURNS = ("<|im_start|>", "<|im_end|>")


def train_pieces(directory, **options):
    """A `tokenizer.model` as LLaMA's."""
    (directory / "text").write_text("\n".join(LINES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(directory / "text"), model_prefix=str(directory / "tokenizer"), vocab_size=400,
        byte_fallback=True, pad_id=-1, unk_id=0, bos_id=1, eos_id=2, model_type="bpe",
        hard_vocab_limit=False, minloglevel=2, **options,
    )  # fmt: skip
    return directory / "tokenizer.model"


@pytest.fixture(scope="module")
def llama_pieces(tmp_path_factory):
    return train_pieces(tmp_path_factory.mktemp("pieces"))


def whole_words(size, added=()):
    """A tokenizer of `size` words, the first of them marks, to which tokens are added."""
    vocab = MARKS | {"fox": 3} | {f"word{i}": i for i in range(4, size)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens([*MARKS, *added])
    return made


def decoder_of(tokens):
    return {"added_tokens_decoder": {str(i): {"content": token} for token, i in tokens.items()}}


def test_a_model_of_pieces_is_read_alone_where_nothing_else_is_added(llama_pieces, tmp_path):
    shutil.copy(llama_pieces, tmp_path)
    size = SentencePieceVocabulary(str(llama_pieces), 0).vocab_size
    for config in (decoder_of(MARKS), {**decoder_of({"[PAD]": size}), "pad_token": "[PAD]"}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        assert isinstance(vocabulary_in(tmp_path), SentencePieceVocabulary)
        whole_words(300).save(str(tmp_path / "tokenizer.json"))
        assert isinstance(vocabulary_in(tmp_path), SentencePieceVocabulary)
        (tmp_path / "tokenizer.json").unlink()


@pytest.mark.parametrize("kind", ["added_tokens.json", "tokenizer_config.json", "tokenizer.json"])
def test_tokens_that_are_added_to_a_model_of_pieces_are_read_or_refused(
    kind, llama_pieces, tmp_path
):
    """The usual directory of a LLaMA 2 that chats; its turns' end is the model's end."""
    shutil.copy(llama_pieces, tmp_path)
    size = SentencePieceVocabulary(str(llama_pieces), 0).vocab_size
    added = {token: size + i for i, token in enumerate(TURNS)}
    whole = whole_words(size, TURNS)
    if kind == "added_tokens.json":
        (tmp_path / kind).write_text(json.dumps(added))
    if kind == "tokenizer_config.json":
        (tmp_path / kind).write_text(json.dumps(decoder_of({**MARKS, **added})))
    if kind != "tokenizer.json":
        message = r"'tokenizer\.model' in .* is without 2 tokens .* such as '<\|im_end\|>'"
        with pytest.raises(TaskError, match=message):
            vocabulary_in(tmp_path)
        whole_words(size).save(str(tmp_path / "tokenizer.json"))
        with pytest.raises(TaskError, match=r"'tokenizer\.json' in .* is without 2 tokens"):
            vocabulary_in(tmp_path)
    whole.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": size + 1}))
    vocabulary = vocabulary_in(tmp_path)
    assert vocabulary.encode("<|im_start|>fox<|im_end|>") == [size, 3, size + 1]
    assert vocabulary.further_eos_ids == (size + 1,)


def test_control_pieces_that_a_tokenizer_reads_in_a_text_are_read_or_refused(tmp_path):
    """As Mistral's `[INST]`, which the model of pieces has and reads in no text."""
    train_pieces(tmp_path, control_symbols=["[INST]"], user_defined_symbols=["[TOOL]"])
    for token, i, message in (("[TOOL]", 4, None), ("[INST]", 3, "without 1 tokens")):
        config = json.dumps(decoder_of({**MARKS, token: i}))
        (tmp_path / "tokenizer_config.json").write_text(config)
        if message is None:
            assert i in vocabulary_in(tmp_path).encode(f"a{token}b")
            continue
        with pytest.raises(TaskError, match=message):
            vocabulary_in(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"added_tokens.json": {"<new>": "1"}}, "not an object of tokens and their ids"),
        ({"added_tokens.json": ["<new>"]}, "it is not an object"),
        ({"tokenizer_config.json": {"added_tokens_decoder": ["<new>"]}}, "not an object of ids"),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"x": {}}}}, "not an object of ids"),
    ],
)
def test_files_of_added_tokens_that_are_not_whole_are_one_clear_line(
    files, message, llama_pieces, tmp_path
):
    shutil.copy(llama_pieces, tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(TaskError, match=message):
        vocabulary_in(tmp_path)


@pytest.mark.parametrize(
    ("config", "left_out"),
    [
        ({"vocab_size": 1000, "eos_token_id": [2, 700]}, [700]),
        ({"vocab_size": 500, "eos_token_id": [2, 700]}, []),  # another model's
        ({"vocab_size": 1000, "eos_token_id": 2}, []),
        ({}, []),
    ],
)
def test_ends_of_the_model_that_its_tokenizer_has_not_are_told(
    config, left_out, llama_pieces, tmp_path
):
    assert ends_left_out(tmp_path) == []
    shutil.copy(llama_pieces, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ends_left_out(tmp_path) == left_out
