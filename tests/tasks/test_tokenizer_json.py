"""Byte-level BPE in `tokenizer.json`, trained here; `seqio_interop/` has seqio's side."""

import copy
import json
import pickle
import sys

import pytest
import sentencepiece

from tasks import objectives, vocabularies
from tasks.errors import SourceUnavailable, TaskError
from tasks.objectives.special_tokens import ordinary_ids
from tasks.tokenizer_files import vocabulary_in
from tasks.tokenizer_json import TokenizerVocabulary

tokenizers = pytest.importorskip("tokenizers")

LINES = [f"The quick brown fox number {i} jumps over {i * 7} lazy dogs. Oh!" for i in range(200)]
TEXTS = [
    "!",
    "Oh! The lazy fox!! jumps.",
    "",
    "  two  spaces\n\tand a tab ",
    "Größe, 漢字 and \U0001f98a",
    "a<|endoftext|>b",
]


def byte_level(size, special):
    """A tokenizer as GPT-2's, with special tokens before all others."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        special_tokens=list(special),
        show_progress=False,
    )
    made.train_from_iterator(LINES, trainer)
    return made


@pytest.fixture(scope="module")
def gpt2_directory(tmp_path_factory):
    """256 bytes from "!" on, 44 merges, and `<|endoftext|>` last, as GPT-2's 50,257 ids are."""
    path = tmp_path_factory.mktemp("gpt2")
    made = byte_level(300, [])
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture(scope="module")
def bart_directory(tmp_path_factory):
    """`<s>`, `<pad>`, `</s>` and `<unk>` first and `<mask>` last, as BART's ids are."""
    path = tmp_path_factory.mktemp("bart")
    made = byte_level(300, ["<s>", "<pad>", "</s>", "<unk>"])
    made.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    made.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    made.enable_truncation(8)
    made.enable_padding(length=12, pad_id=1, pad_token="<pad>")
    made.save(str(path / "tokenizer.json"))
    names = {"eos_token": {"content": "</s>"}, "mask_token": "<mask>", "unk_token": "<unk>"}
    (path / "tokenizer_config.json").write_text(json.dumps(names))
    return path


def test_gpt2s_id_0_is_an_exclamation_mark_and_stays_so(gpt2_directory):
    vocabulary = TokenizerVocabulary(str(gpt2_directory))
    assert vocabulary.encode("!") == [0] and vocabulary.decode([0, 0]) == "!!"
    assert vocabulary.zero_is_token and vocabulary.spec()["pad_id"] is None
    assert (vocabulary.vocab_size, vocabulary.eos_id) == (301, 300)
    assert vocabulary.unk_id is None and vocabulary.mask_id is None


@pytest.mark.parametrize("text", [text for text in TEXTS if "<|" not in text])
def test_bytes_lose_nothing(gpt2_directory, text):
    vocabulary = TokenizerVocabulary(str(gpt2_directory / "tokenizer.json"))
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert all(type(i) is int for i in vocabulary.encode(text))


def test_barts_special_tokens_are_found_and_not_added(bart_directory):
    vocabulary = TokenizerVocabulary(str(bart_directory))
    assert (vocabulary.eos_id, vocabulary.unk_id, vocabulary.mask_id) == (2, 3, 300)
    # Neither truncated to 8 tokens, nor padded to 12, nor put between <s> and </s>.
    ids = vocabulary.encode(LINES[0])
    assert len(ids) > 12 and not {0, 1, 2} & set(ids)
    assert vocabulary.decode([0, *ids, 2, *ids]) == LINES[0]
    assert vocabulary.decode([*ids, 5000, -1, 300]) == LINES[0]


def test_barts_mask_is_the_mask_of_its_objectives(bart_directory):
    spec = TokenizerVocabulary(str(bart_directory)).spec()
    (infilling,) = (
        objectives.Denoising((objectives.TextInfilling(),)).bind({"targets": spec}).corruptions
    )
    assert infilling.mask_id == 300
    # Of 301 ids, <s>, <pad>, </s>, <unk> and <mask> are not drawn as random tokens.
    assert ordinary_ids(spec).tolist() == list(range(4, 300))
    permutation = objectives.SentencePermutation().bind(spec)
    assert TokenizerVocabulary(str(bart_directory)).encode(".")[0] in permutation.full_stop_ids


def test_a_decoder_begins_with_what_the_file_puts_before_a_text(
    gpt2_directory, bart_directory, tmp_path
):
    # GPT-2 has read the end of the text before; BART's file puts <s> before a text.
    assert TokenizerVocabulary(str(gpt2_directory)).start_id == 300
    assert TokenizerVocabulary(str(bart_directory)).start_id == 0
    # LLaMA 3's post-processor, and T5's, which puts a token after a text alone.
    made = byte_level(300, ["<pad>", "</s>", "<|begin|>"])
    for template, start_id in (("<|begin|> $A </s>", 2), ("$A </s>", 0)):
        own = tokenizers.processors.TemplateProcessing(
            single=template, special_tokens=[("<|begin|>", 2), ("</s>", 1)]
        )
        made.post_processor = tokenizers.processors.Sequence(
            [tokenizers.processors.ByteLevel(trim_offsets=False), own]
        )
        made.save(str(tmp_path / "tokenizer.json"))
        vocabulary = TokenizerVocabulary(str(tmp_path))
        assert vocabulary.start_id == vocabulary.spec()["start_id"] == start_id
        assert vocabulary.encode("fox") == made.encode("fox", add_special_tokens=False).ids


def test_xlnets_rows_end_with_their_class(gpt2_directory, bart_directory, tmp_path):
    for directory in (gpt2_directory, bart_directory):
        assert not TokenizerVocabulary(str(directory)).spec()["cls_at_end"]
    made = byte_level(300, ["<unk>", "</s>", "<sep>", "<cls>"])
    for template, at_end in (("$A:0 <sep>:0 <cls>:2", True), ("<cls> $A <sep>", False)):
        made.post_processor = tokenizers.processors.TemplateProcessing(
            single=template, special_tokens=[("<sep>", 2), ("<cls>", 3)]
        )
        made.save(str(tmp_path / "tokenizer.json"))
        assert TokenizerVocabulary(str(tmp_path)).spec()["cls_at_end"] is at_end


def test_a_tokenizer_json_is_read_where_the_pieces_beside_it_have_other_ids(tmp_path):
    """As in XLNet's directories, whose `spiece.model` has no padding."""
    (tmp_path / "text").write_text("\n".join(LINES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "spiece"), vocab_size=60,
        pad_id=-1, unk_id=0, bos_id=1, eos_id=2, minloglevel=2,
    )  # fmt: skip
    with pytest.raises(TaskError, match="has pad_id -1"):
        vocabulary_in(tmp_path)
    byte_level(300, ["<unk>", "<s>", "</s>"]).save(str(tmp_path / "tokenizer.json"))
    assert isinstance(vocabulary_in(tmp_path), TokenizerVocabulary)


def test_the_start_token_can_be_given(bart_directory):
    given = TokenizerVocabulary(str(bart_directory), start_token="</s>")
    assert (given.start_id, given.eos_id) == (2, 2)
    assert given == TokenizerVocabulary(str(bart_directory)).starting_with(2)
    assert pickle.loads(pickle.dumps(given)).spec()["start_token"] == "</s>"
    with pytest.raises(TaskError, match=r"has no token '<go>' \(start_token\)"):
        _ = TokenizerVocabulary(str(bart_directory), start_token="<go>").start_id


@pytest.mark.parametrize(
    ("config", "start_id"),
    [
        ('{"bos_token_id": 0, "decoder_start_token_id": 2}', 2),
        ('{"bos_token_id": 3, "decoder_start_token_id": null}', 3),
        ('{"bos_token_id": 50256}', 0),  # GPT-2's own, which this tokenizer does not have
        ("{}", 0),
    ],
)
def test_a_models_configuration_says_how_its_decoder_begins(
    config, start_id, bart_directory, tmp_path
):
    for path in bart_directory.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(config)
    assert vocabulary_in(tmp_path).start_id == start_id
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(TaskError, match=r"config\.json' is not a model's configuration"):
        vocabulary_in(tmp_path)


def test_special_tokens_that_a_text_spells_can_stay_text(gpt2_directory):
    """GPT-2's tokens are bytes: those of the text itself, where nothing is special."""
    vocabulary = TokenizerVocabulary(gpt2_directory, extra_ids=3)
    text = "a<|endoftext|>b <extra_id_0>"
    assert vocabulary.special_tokens.findall(text) == ["<|endoftext|>", "<extra_id_0>"]
    as_text = vocabulary.encode_as_text(text)
    assert max(as_text) < vocabulary.eos_id < max(vocabulary.encode(text))
    assert vocabulary.decode(as_text) == text
    assert vocabulary.encode_as_text("a b") == vocabulary.encode("a b")


def test_sentinels_come_after_the_last_id_the_first_of_them_last(gpt2_directory):
    vocabulary = TokenizerVocabulary(str(gpt2_directory), extra_ids=10)
    assert vocabulary.vocab_size == 311 and vocabulary.eos_id == 300
    assert vocabulary.encode("<extra_id_0>") == [310]
    assert vocabulary.encode("<extra_id_9>") == [301]
    assert vocabulary.decode([0, 310, 0]) == "!<extra_id_0>!"
    assert vocabulary.encode("lazy") == TokenizerVocabulary(str(gpt2_directory)).encode("lazy")


def test_own_sentinels_are_kept(gpt2_directory, tmp_path):
    made = tokenizers.Tokenizer.from_file(str(gpt2_directory / "tokenizer.json"))
    made.add_special_tokens([f"<extra_id_{i}>" for i in reversed(range(7))])
    made.save(str(tmp_path / "tokenizer.json"))
    assert TokenizerVocabulary(str(tmp_path), extra_ids=7).vocab_size == 308
    with pytest.raises(TaskError, match="has 7 sentinels: set extra_ids=7, not 0"):
        _ = TokenizerVocabulary(str(tmp_path)).vocab_size


def test_an_open_vocabulary_can_be_copied_and_pickled(gpt2_directory):
    vocabulary = TokenizerVocabulary(str(gpt2_directory), extra_ids=3)
    ids = vocabulary.encode("fox")
    assert copy.deepcopy(vocabulary).encode("fox") == ids
    loaded = pickle.loads(pickle.dumps(vocabulary))
    assert loaded == vocabulary and loaded.encode("fox") == ids
    assert loaded.spec() == vocabulary.spec()
    assert json.loads(json.dumps(vocabulary.spec())) == vocabulary.spec()


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xfe", b"{}"])
def test_a_file_that_is_no_tokenizer_is_one_clear_line(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TaskError, match=r"json' is not a tokenizer\.json") as raised:
        TokenizerVocabulary(str(path)).encode("a")
    assert raised.value.exit_code == 2 and "\n" not in str(raised.value)


def edited(directory, tmp_path, change):
    """Another file, whose content `change` has edited."""
    content = json.loads((directory / "tokenizer.json").read_text())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    return TokenizerVocabulary(str(tmp_path))


def test_a_pattern_that_never_ends_is_one_line(gpt2_directory, tmp_path):
    """The library panics, which is no `Exception` of Python's."""
    pattern = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    vocabulary = edited(
        gpt2_directory,
        tmp_path,
        lambda file: file.update(pre_tokenizer=pattern | {"invert": False}),
    )
    with pytest.raises(TaskError, match=r"cannot encode 'aaaa.* \(.*retry-limit"):
        vocabulary.encode("a" * 40 + "b")


def test_an_id_beyond_all_measure_is_named_before_a_list_is_made(gpt2_directory, tmp_path):
    def change(file):
        token = file["added_tokens"][0]
        token["id"] = file["model"]["vocab"][token["content"]] = 4_000_000_000

    with pytest.raises(TaskError, match="has a token of id 4000000000"):
        _ = edited(gpt2_directory, tmp_path, change).vocab_size


def test_what_is_missing_is_named(gpt2_directory, tmp_path, monkeypatch):
    with pytest.raises(SourceUnavailable, match=r"'nowhere/tokenizer\.json' not found"):
        TokenizerVocabulary("nowhere/tokenizer.json").encode("a")
    with pytest.raises(TaskError, match=r"has no token '</end>' \(eos_token\)"):
        _ = TokenizerVocabulary(str(gpt2_directory), eos_token="</end>").eos_id
    byte_level(300, []).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TaskError, match=r"set TokenizerVocabulary\.eos_token"):
        _ = TokenizerVocabulary(str(tmp_path)).eos_id
    assert TokenizerVocabulary(str(tmp_path), eos_token="Q").eos_id > 0
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(
        TaskError, match=r"tokenizer_config\.json' is not a tokenizer's configuration"
    ):
        _ = TokenizerVocabulary(str(tmp_path)).eos_id
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(TaskError, match=r'pip install "t5x-like\[tokenizers\]"') as raised:
        TokenizerVocabulary(str(gpt2_directory)).encode("a")
    assert "\n" not in str(raised.value)


def test_llamas_sentencepiece_model_has_no_padding_and_needs_none(tmp_path):
    import sentencepiece

    def train(name, **options):
        path = tmp_path / name
        with path.open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(LINES),
                model_writer=file,
                model_type="bpe",
                vocab_size=340 if options["byte_fallback"] else 80,
                minloglevel=2,
                **options,
            )
        return vocabularies.SentencePieceVocabulary(str(path), extra_ids=0)

    llama = train(
        "llama.model", byte_fallback=True
    )  # SentencePiece's own: unk, bos, eos are 0, 1, 2
    assert (llama.unk_id, llama.eos_id, llama.vocab_size) == (0, 2, 340)
    assert llama.start_id == llama.spec()["start_id"] == 1
    assert 0 not in llama.encode("漢字 fox!")
    assert llama.decode([*llama.encode("漢字 fox!"), 2, 9]) == "漢字 fox!"
    with pytest.raises(TaskError, match="pad_id -1 and eos_id 2: pad_id 0"):
        _ = train("other.model", byte_fallback=False).vocab_size


@pytest.mark.interop
@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_ids_and_texts_are_those_of_transformers(kind, request):
    transformers = pytest.importorskip("transformers")
    directory = request.getfixturevalue(f"{kind}_directory")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(directory / "tokenizer.json"))
    ours = TokenizerVocabulary(str(directory))
    assert len(theirs) == ours.vocab_size
    for text in [*TEXTS, *LINES[:5], "see <mask> here"]:
        ids = ours.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        before_eos = ids[: ids.index(ours.eos_id)] if ours.eos_id in ids else ids
        assert ours.decode(ids) == theirs.decode(before_eos, skip_special_tokens=True)


def test_bpe_dropout_is_refused_by_name(gpt2_directory, tmp_path):
    """Ids of a text are the same each time, or caches, prompts and scores are of no use."""
    file = json.loads((gpt2_directory / "tokenizer.json").read_text())
    for dropout in (0.0, 0.5):
        file["model"]["dropout"] = dropout
        (tmp_path / "tokenizer.json").write_text(json.dumps(file))
        made = TokenizerVocabulary(str(tmp_path))
        if not dropout:
            assert made.encode(TEXTS[1]) == TokenizerVocabulary(str(gpt2_directory)).encode(
                TEXTS[1]
            )
    with pytest.raises(TaskError, match=r"has a BPE dropout of 0\.5: .* set 'dropout' to null"):
        made.encode(TEXTS[1])
