"""Random and spoiled SentencePiece models, tokenizer.json files and those from before it."""

import json

import pytest
from hypothesis import strategies as st

from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies import SentencePieceVocabulary, train_sentencepiece
from tasks.vocabularies.tokenizer_pipelines import byte_alphabet
from tests.reliability import mutations

DEPTHS = [120, pytest.param(300, marks=pytest.mark.slow)]
FEWER = [50, pytest.param(300, marks=pytest.mark.slow)]
TEXT = ["Many hands make light work.", "Still waters run deep."] * 5
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
        {"id": 2, "content": "<eos>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True},
    ],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"many": 0, "hands": 1, "<unk>": 3},
              "unk_token": "<unk>"},
}  # fmt: skip

# BERT's files and RoBERTa's, each with what may be spoiled in it.
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "many", "hand", "##s", ",", "."]
BYTES = ["<s>", "<pad>", "</s>", *byte_alphabet(), "Ma", "ny"]
PUBLISHED = {
    "vocab.txt": "\n".join(PIECES).encode(),
    "vocab.json": json.dumps({piece: i for i, piece in enumerate(BYTES)}).encode(),
    "merges.txt": b"#version: 0.2\nM a\nn y\n",
    "tokenizer_config.json": json.dumps(
        {"do_lower_case": True, "unk_token": "[UNK]", "sep_token": {"content": "[SEP]"},
         "tokenizer_class": "BertTokenizer", "never_split": None, "strip_accents": None}
    ).encode(),
}  # fmt: skip
BERT_FILES = ("vocab.txt", "tokenizer_config.json")
ROBERTA_FILES = ("vocab.json", "merges.txt")


def used(vocabulary):
    """Everything that a program asks of a vocabulary."""
    spec = vocabulary.spec()
    ids = vocabulary.encode("Many hands, é.")
    assert all(0 <= i < spec["vocab_size"] for i in ids)
    assert isinstance(vocabulary.decode(ids), str)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A valid SentencePiece model."""
    path = tmp_path_factory.mktemp("model") / "spm.model"
    train_sentencepiece(TEXT, str(path), vocab_size=26)
    return path.read_bytes()


@pytest.fixture
def use_model(tmp_path):
    def check(content):
        (tmp_path / "spm.model").write_bytes(content)
        used(SentencePieceVocabulary(str(tmp_path / "spm.model"), extra_ids=2))

    return check


@pytest.fixture
def use_tokenizer(tmp_path):
    pytest.importorskip("tokenizers")

    def check(content):
        (tmp_path / "tokenizer.json").write_bytes(content)
        used(TokenizerVocabulary(str(tmp_path / "tokenizer.json"), eos_token="<eos>"))

    return check


@pytest.mark.parametrize("examples", DEPTHS)
def test_random_bytes_as_a_sentencepiece_model(fuzz, use_model, examples):
    fuzz(st.binary(max_size=200), use_model, examples)


@pytest.mark.parametrize("examples", DEPTHS)
def test_a_sentencepiece_model_with_flipped_and_lost_bytes(fuzz, use_model, model, examples):
    use_model(model)
    fuzz(mutations.spoiled(model), use_model, examples)


@pytest.mark.parametrize("examples", DEPTHS)
def test_random_bytes_as_a_tokenizer(fuzz, use_tokenizer, examples):
    fuzz(st.binary(max_size=200), use_tokenizer, examples)


@pytest.mark.parametrize("examples", DEPTHS)
def test_a_tokenizer_with_slips(fuzz, use_tokenizer, examples):
    valid = json.dumps(TOKENIZER).encode()
    use_tokenizer(valid)
    fuzz(
        mutations.spoiled(valid, (b"{", b"[", b"null", b'"', b"-1", b"9e99")),
        use_tokenizer,
        examples,
    )


@pytest.mark.slow
@pytest.mark.parametrize("examples", DEPTHS)
def test_a_tokenizer_with_other_values(fuzz, use_tokenizer, examples):
    whole = mutations.changed(TOKENIZER)
    inner = mutations.changed(TOKENIZER["model"]).map(lambda model: {**TOKENIZER, "model": model})
    encoded = (whole | inner).map(lambda value: json.dumps(value).encode())
    fuzz(encoded, use_tokenizer, examples)


@pytest.mark.parametrize("examples", FEWER)
@pytest.mark.parametrize(
    ("name", "files"),
    [(name, files) for files in (BERT_FILES, ROBERTA_FILES) for name in files],
)
def test_published_files_with_slips(fuzz, tmp_path, name, files, examples):
    pytest.importorskip("tokenizers")

    def check(content):
        (tmp_path / name).write_bytes(content)
        used(TokenizerVocabulary(str(tmp_path)))

    for file in files:
        (tmp_path / file).write_bytes(PUBLISHED[file])
    check(PUBLISHED[name])
    slips = (b"{", b"[", b"null", b'"', b"-1", b"9e99", b"\n", b"\r", b" ", b"##")
    fuzz(mutations.spoiled(PUBLISHED[name], slips), check, examples)


@pytest.mark.parametrize("examples", FEWER)
@pytest.mark.parametrize(
    ("name", "files"), [("tokenizer_config.json", BERT_FILES), ("vocab.json", ROBERTA_FILES)]
)
def test_published_files_with_other_values(fuzz, tmp_path, name, files, examples):
    pytest.importorskip("tokenizers")

    def check(value):
        (tmp_path / name).write_text(json.dumps(value))
        used(TokenizerVocabulary(str(tmp_path)))

    for file in files:
        (tmp_path / file).write_bytes(PUBLISHED[file])
    fuzz(mutations.changed(json.loads(PUBLISHED[name])), check, examples)
