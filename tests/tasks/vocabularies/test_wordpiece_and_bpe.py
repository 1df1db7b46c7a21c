"""WordPiece and byte-level BPE: published files, training, and what they make of hard strings.

`reference_wordpiece.py` is a second opinion beside the `tokenizers` library's own classes.
"""

import itertools
import json

import pytest

from tasks import manifest, vocabularies
from tasks.errors import SourceUnavailable, TaskError
from tasks.tokenizer_files import vocabulary_in
from tasks.tokenizer_json import TokenizerVocabulary
from tasks.vocabularies.tokenizer_pipelines import byte_alphabet
from tests.tasks.vocabularies import reference_wordpiece
from tests.tasks.vocabularies.hard_strings import SPECIAL, hard_strings

tokenizers = pytest.importorskip("tokenizers")

BERTS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# The worked example of byte pair encoding: the words and how often each occurs.
WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


def vocab_of(directory):
    return json.loads((directory / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]


@pytest.fixture(scope="module")
def wordpieces(tmp_path_factory):
    """`vocab.txt` of a cased and an uncased vocabulary, trained on a part of the hard strings."""
    folder = tmp_path_factory.mktemp("wordpiece")
    for name, lower_case in (("uncased", True), ("cased", False)):
        vocabularies.train_tokenizer(
            hard_strings()[:600],
            str(folder / "trained" / name / "tokenizer.json"),
            model_type="wordpiece",
            vocab_size=1_500,
            lower_case=lower_case,
            max_characters=300,
        )
        pieces = vocab_of(folder / "trained" / name)
        (folder / name).mkdir()
        (folder / name / "vocab.txt").write_text("".join(f"{p}\n" for p in pieces), "utf-8")
    return folder


@pytest.fixture(scope="module")
def byte_pieces(tmp_path_factory):
    """`vocab.json` and `merges.txt` as RoBERTa's, with `<mask>` last."""
    folder = tmp_path_factory.mktemp("bpe")
    made = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        hard_strings(), vocab_size=800, special_tokens=special, show_progress=False
    )
    made.save_model(str(folder))
    vocab = json.loads((folder / "vocab.json").read_text("utf-8"))
    (folder / "vocab.json").write_text(json.dumps({**vocab, "<mask>": len(vocab)}), "utf-8")
    return folder


# -- Published files ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uncased", "cased"])
def test_a_vocab_txt_reads_hard_strings_as_the_library_and_the_reference_do(wordpieces, name):
    file = str(wordpieces / name / "vocab.txt")
    ours = TokenizerVocabulary(file)
    theirs = tokenizers.BertWordPieceTokenizer(file, lowercase=name == "uncased")
    pieces = vocab_of(wordpieces / "trained" / name)
    texts, unknown = hard_strings(), 0
    assert len(texts) == 1_000
    for text in texts:
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False).ids, text
        as_text = ours.encode_as_text(text)
        assert as_text == reference_wordpiece.encode(text, pieces, name == "uncased"), text
        unknown += 1 in as_text
    assert 100 < unknown < 900  # neither everything nor nothing is in the vocabulary
    trained = TokenizerVocabulary(str(wordpieces / "trained" / name))
    assert [trained.encode(text) for text in texts] == [ours.encode(text) for text in texts]


def test_vocab_json_and_merges_txt_read_hard_strings_as_the_library_does(byte_pieces):
    ours = TokenizerVocabulary(str(byte_pieces))
    files = [str(byte_pieces / name) for name in ("vocab.json", "merges.txt")]
    theirs = tokenizers.ByteLevelBPETokenizer(*files)
    theirs.add_special_tokens([token for token in SPECIAL if token[0] == "<" != "<mask>"])
    theirs.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    for text in hard_strings():
        assert ours.encode(text) == theirs.encode(text).ids, text
        assert ours.decode(ours.encode_as_text(text)) == text
    assert ours.unk_id == 3 and 3 not in ours.encode_as_text("".join(SPECIAL))


def test_unaffable_is_three_pieces_and_a_word_of_101_letters_unknown(tmp_path):
    pieces = [*BERTS, ".", "un", "##aff", "##able", "a", "##a", "e", "E"]
    (tmp_path / "vocab.txt").write_text("\r\n".join(pieces), "utf-8")
    vocabulary = TokenizerVocabulary(str(tmp_path))
    # The released README's example; the vocabulary has a capital, and so keeps them.
    assert vocabulary.encode("unaffable.") == [6, 7, 8, 5]
    assert vocabulary.encode("Unaffable é E") == [1, 1, 12]
    lowered = TokenizerVocabulary(str(tmp_path), lower_case=True)
    assert lowered.encode("UnAffable É E") == [6, 7, 8, 11, 11]
    assert vocabulary.encode("a" * 100) == [9] + [10] * 99
    assert vocabulary.encode("a" * 101) == [1]
    released = TokenizerVocabulary(str(tmp_path), longest_word=200)
    assert released.encode("a" * 200) == [9] + [10] * 199 and released.encode("a" * 201) == [1]
    spec = vocabulary.spec()
    assert (spec["cls_id"], spec["sep_id"], spec["mask_id"], spec["unk_id"]) == (2, 3, 4, 1)
    assert (spec["eos_id"], spec["start_id"], spec["special_ids"]) == (3, 2, [0, 1, 2, 3, 4])
    assert spec["continuation_ids"] == [7, 8, 10]
    # What is known of a cached task without its vocabulary's file, and a cache for each.
    assert manifest._vocabulary(lowered.spec()) == lowered
    assert len({one.tag for one in (vocabulary, lowered, released)}) == 3


def test_what_the_configuration_beside_a_vocab_txt_says_counts(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*BERTS, "e", "é", "中", "中e", "##e"]), "utf-8")
    config = tmp_path / "tokenizer_config.json"

    def ids(text, **settings):
        config.write_text(json.dumps(settings))
        return vocabulary_in(tmp_path).encode(text)

    assert ids("É") == [5] and ids("É", do_lower_case=False) == [1]
    assert ids("É", do_lower_case=True, strip_accents=False) == [6]
    assert ids("中e") == [7, 5] and ids("中e", tokenize_chinese_chars=False) == [8]
    for wrong in ({"do_basic_tokenize": False}, {"never_split": ["a"]}, {"do_lower_case": "no"}):
        with pytest.raises(TaskError, match=r"tokenizer_config\.json.*(never_split|do_lower_case)"):
            ids("e", **wrong)


def test_robertas_ids_stay_and_its_boundaries_are_found(byte_pieces):
    vocabulary = vocabulary_in(byte_pieces)
    spec = vocabulary.spec()
    assert vocabulary.vocab_size == 801
    assert (spec["cls_id"], spec["sep_id"], spec["eos_id"], spec["mask_id"]) == (0, 2, 2, 800)
    assert (spec["start_id"], spec["pad_id"]) == (0, None) and vocabulary.zero_is_token
    assert spec["special_ids"] == [0, 1, 2, 3, 800]
    assert spec["continuation_ids"] == []


def test_gpt2s_directory_needs_no_tokenizer_json(byte_pieces, tmp_path):
    pieces = json.loads((byte_pieces / "vocab.json").read_text("utf-8"))
    plain = [piece for piece in pieces if piece not in SPECIAL] + ["<|endoftext|>"]
    vocab = {piece: i for i, piece in enumerate(plain)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_bytes((byte_pieces / "merges.txt").read_bytes())
    vocabulary = vocabulary_in(tmp_path)
    end = len(vocab) - 1
    assert vocabulary.encode("!") == [0]
    assert (vocabulary.eos_id, vocabulary.start_id, vocabulary.unk_id) == (end, end, None)
    assert vocabulary.encode("a<|endoftext|>")[-1] == end


@pytest.mark.parametrize("name", ["BertJapaneseTokenizer", "PhobertTokenizer"])
def test_a_vocab_txt_of_another_kind_of_words_is_not_taken_for_berts(tmp_path, name):
    (tmp_path / "vocab.txt").write_text("\n".join(BERTS))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    assert vocabulary_in(tmp_path) is None
    with pytest.raises(TaskError, match=f"is of a {name} .* save it as a tokenizer.json"):
        TokenizerVocabulary(str(tmp_path / "vocab.txt")).encode("a")


BYTES = {byte: i for i, byte in enumerate(byte_alphabet())}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"vocab.json": "{}"}, r"merges\.txt' not found \(vocab\.json needs it beside itself\)"),
        ({"vocab.json": "[", "merges.txt": ""}, r"vocab\.json' is not JSON"),
        ({"vocab.json": '{"a": "b"}', "merges.txt": ""}, "not an object of tokens and their ids"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na b c"}, "line 2: two tokens"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a a"}, "line 1: two tokens .* make a third"),
        ({"vocab.json": '{"a": 0}', "merges.txt": ""}, "255 of 256 bytes have no token"),
        (
            {
                "vocab.json": json.dumps({**BYTES, "</w>": 256, "a</w>": 257}),
                "merges.txt": "a </w>",
            },
            "no byte-level BPE, .* words end in </w>",
        ),
        ({"vocab.txt": "the\nof\n"}, r"no WordPiece vocabulary: it has no token '\[UNK\]'"),
        (
            {"vocab.txt": "[UNK]", "added_tokens.json": '{"<new>": 1}'},
            "without 1 tokens .* '<new>'",
        ),
        (
            {
                "vocab.txt": "[UNK]",
                "tokenizer_config.json": '{"added_tokens_decoder": {"1": {"content": "<new>"}}}',
            },
            "without 1 tokens .* '<new>'",
        ),
        ({"vocab.txt": b"[UNK]\n\xff"}, "is not UTF-8"),
        ({"vocab.txt": "[UNK]", "tokenizer_config.json": "[]"}, "it is not an object"),
    ],
)
def test_published_files_that_are_not_whole_are_one_clear_line(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((TaskError, SourceUnavailable), match=message) as raised:
        TokenizerVocabulary(str(tmp_path)).encode("a")
    assert "\n" not in str(raised.value)


def test_a_setting_that_a_file_has_no_use_for_is_refused(byte_pieces, wordpieces):
    for path in (byte_pieces, wordpieces / "trained" / "cased"):
        for settings in ({"lower_case": True}, {"longest_word": 200}):
            with pytest.raises(TaskError, match=r"are for a vocab\.txt: .* leave them None"):
                TokenizerVocabulary(str(path), **settings).encode("a")


# -- Training ----------------------------------------------------------------------------------


def test_the_worked_example_of_byte_pair_encoding(tmp_path):
    """The slides' ten merges of low, lower, newest, widest; the library breaks ties by id, so that
    `e w` comes before `n e`, and ends with the same words."""
    texts = list(itertools.chain.from_iterable([word] * n for word, n in WORDS.items()))
    path = tmp_path / "tokenizer.json"
    size = vocabularies.train_tokenizer(texts, str(path), model_type="bpe", vocab_size=5 + 256 + 10)
    assert size == 271
    merges = json.loads(path.read_text("utf-8"))["model"]["merges"]
    assert merges[:4] == ["e s", "es t", "l o", "lo w"]
    assert merges[4:] == ["e w", "n ew", "new est", "d est", "i dest", "w idest"]
    vocabulary = TokenizerVocabulary(str(tmp_path))
    assert vocabulary.encode("lowest") == [vocabulary.encode(p)[0] for p in ("low", "est")]
    assert len(vocabulary.encode("newest")) == len(vocabulary.encode("widest")) == 1


def test_a_word_piece_goes_on_after_the_marks(tmp_path):
    texts = list(itertools.chain.from_iterable([word] * n for word, n in WORDS.items()))
    path = str(tmp_path / "tokenizer.json")
    # 10 letters at the beginning of a word or within one, 9 of them within, and merges.
    size = vocabularies.train_tokenizer(
        texts, path, model_type="wordpiece", vocab_size=5 + 10 + 8 + 4
    )
    vocab = vocab_of(tmp_path)
    assert list(vocab)[:5] == BERTS and size == len(vocab) == 27
    assert list(vocab)[5:15] == list("deilnorstw")
    assert list(vocab)[15:23] == ["##d", "##e", "##i", "##o", "##r", "##s", "##t", "##w"]
    assert list(vocab)[23:25] == ["##es", "##est"]  # nine times each


def test_the_same_text_gives_the_same_file(tmp_path):
    """The library numbers `##a` by a hash table that is another for each trainer."""
    for kind in ("wordpiece", "bpe"):
        files = [tmp_path / kind / str(i) / "tokenizer.json" for i in range(2)]
        for file in files:
            vocabularies.train_tokenizer(
                hard_strings(300), str(file), model_type=kind, vocab_size=1200
            )
        assert files[0].read_bytes() == files[1].read_bytes()


def test_rare_characters_are_unknown_where_there_are_too_many(tmp_path):
    texts = ["aa bb " * 9, "cc " * 5, "dd"]
    path = str(tmp_path / "tokenizer.json")
    vocabularies.train_tokenizer(iter(texts), path, model_type="wordpiece", max_characters=3)
    vocabulary = TokenizerVocabulary(path)
    assert vocabulary.unk_id not in vocabulary.encode("aa bb cc AA")
    assert vocabulary.encode("dd") == [vocabulary.unk_id]
    # Fewer than the 32,000 that are the default: nothing else occurs twice.
    assert vocabulary.vocab_size == 5 + 3 + 3 + 3


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_a_vocabulary_that_cannot_be_trained_says_why(tmp_path, kind):
    path = str(tmp_path / "tokenizer.json")
    for texts, settings, message in (
        ([" ", "\n"], {}, "no text to train a vocabulary on"),
        ([], {}, "no text to train a vocabulary on"),
        (["abc"], {"vocab_size": 7}, "vocab_size=7 has no room for 5 special tokens"),
        (["abc"], {"vocab_size": 0}, "vocab_size=0: 1 or more"),
        (["a\ud800"], {}, "not Unicode that UTF-8 can write"),
    ):
        with pytest.raises(TaskError, match=message):
            vocabularies.train_tokenizer(texts, path, model_type=kind, **settings)
    with pytest.raises(TaskError, match=r"give DIRECTORY/tokenizer\.json"):
        vocabularies.train_tokenizer(["a"], str(tmp_path / "x.json"), model_type=kind)
    assert not list(tmp_path.iterdir())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TaskError, match=r"holds a model \(config\.json\)"):
        vocabularies.train_tokenizer(["a"], path, model_type=kind)


# -- transformers ------------------------------------------------------------------------------


@pytest.mark.interop
def test_transformers_reads_what_was_trained_and_published_in_the_same_way(
    wordpieces, byte_pieces, tmp_path
):
    transformers = pytest.importorskip("transformers")
    vocabularies.train_tokenizer(
        hard_strings(), str(tmp_path / "tokenizer.json"), model_type="bpe", vocab_size=700
    )
    for directory in (
        tmp_path,
        wordpieces / "trained" / "cased",
        wordpieces / "trained" / "uncased",
    ):
        theirs = transformers.AutoTokenizer.from_pretrained(str(directory))
        ours = TokenizerVocabulary(str(directory))
        spec = ours.spec()
        assert (theirs.mask_token_id, theirs.cls_token_id) == (spec["mask_id"], spec["cls_id"])
        for text in hard_strings():
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
    theirs = transformers.BertTokenizer.from_pretrained(str(wordpieces / "uncased"))
    ours = TokenizerVocabulary(str(wordpieces / "uncased"))
    for text in hard_strings():
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
    theirs = transformers.RobertaTokenizer.from_pretrained(str(byte_pieces))
    ours = TokenizerVocabulary(str(byte_pieces))
    for text in hard_strings():
        if "<mask>" not in text:  # theirs takes no space before it, as the published file does
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
