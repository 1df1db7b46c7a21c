"""Where in a text each token stands: bytes, SentencePiece, WordPiece and byte-level BPE."""

import itertools

import numpy as np
import pytest

import tasks
from tasks import sources, vocabularies
from tasks.objectives import SpanWindows
from tasks.tokenizer_json import TokenizerVocabulary
from tests.tasks.vocabularies.hard_strings import hard_strings

pytest.importorskip("tokenizers")

LINES = [f"The café number {i} sells {i * 7} naïve coffees, Größe {i}." for i in range(300)]


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabularies")
    found = {"bytes": vocabularies.ByteVocabulary()}
    for name, fallback in (("sentencepiece", False), ("sentencepiece_bytes", True)):
        size = 460 if fallback else 120
        path = str(folder / f"{name}.model")
        found[name] = vocabularies.train_sentencepiece(
            LINES, path, vocab_size=size, byte_fallback=fallback
        )
    for name, kind in (("wordpiece", "wordpiece"), ("bpe", "bpe")):
        path = str(folder / name / "tokenizer.json")
        vocabularies.train_tokenizer(
            [*LINES, *hard_strings()[:100]], path, model_type=kind, vocab_size=700
        )
        found[name] = TokenizerVocabulary(path)
    return found


KINDS = ("bytes", "sentencepiece", "sentencepiece_bytes", "wordpiece", "bpe")


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_encode_and_places_ascend_within_the_text(kind, all_kinds):
    vocabulary = all_kinds[kind]
    for text in [*hard_strings()[:300], *LINES[:5]]:
        ids, offsets = vocabulary.encode_with_offsets(text)
        assert ids == vocabulary.encode(text) and len(ids) == len(offsets)
        assert all(0 <= begin <= end <= len(text) for begin, end in offsets)
        for (begin, end), (later_begin, later_end) in itertools.pairwise(offsets):
            assert begin <= later_begin and end <= later_end, (text, offsets)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_text_is_found_again_by_its_tokens(kind, all_kinds):
    """From characters to tokens and back: all of the part, and no word more."""
    vocabulary, rng = all_kinds[kind], np.random.default_rng(0)
    objective = SpanWindows().bind({"inputs": {"eos_id": 1, "cls_id": 2, "sep_id": 3}})
    for line in LINES[:20]:
        words = line.split(" ")
        first = int(rng.integers(len(words)))
        after = int(rng.integers(first, len(words))) + 1
        answer = " ".join(words[first:after])
        begin = len(" ".join(words[:first])) + (first > 0)
        ids, offsets = vocabulary.encode_with_offsets(line)
        places = np.array(offsets)
        made = objective(
            {
                "inputs": np.zeros(0, np.int32),
                "inputs_pair": np.array(ids),
                "inputs_pair_begins": places[:, 0],
                "inputs_pair_ends": places[:, 1],
                "answer_begins": np.array([begin]),
                "answer_ends": np.array([begin + len(answer)]),
            },
            rng,
        )
        found = slice(made["char_begins"][made["span_start"]], made["char_ends"][made["span_end"]])
        assert line[found].strip() == answer


def test_wordpiece_by_hand(tmp_path):
    """Capitals and accents that the pieces have lost are the text's all the same."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "un",
        "##aff",
        "##able",
        "cafe",
        ",",
        "60",
    ]
    (tmp_path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    vocabulary = TokenizerVocabulary(str(tmp_path / "vocab.txt"), lower_case=True)
    text = "Unaffable  Café, 60 ☃"
    ids, offsets = vocabulary.encode_with_offsets(text)
    assert ids == [5, 6, 7, 8, 9, 10, 1]
    parts = ["Un", "aff", "able", "Café", ",", "60", "☃"]
    assert [text[slice(*place)] for place in offsets] == parts


def test_bytes_of_one_character_all_have_it():
    ids, offsets = vocabularies.ByteVocabulary().encode_with_offsets("aé€b")
    assert offsets == [(0, 1), (1, 2), (1, 2), (2, 3), (2, 3), (2, 3), (3, 4)]
    assert len(ids) == 7


def test_a_character_without_a_piece_is_all_of_each_of_its_bytes(all_kinds):
    vocabulary = all_kinds["sentencepiece_bytes"]
    _, offsets = vocabulary.encode_with_offsets("a ☃ b")
    assert [place for place in offsets if place == (2, 3)] == [(2, 3)] * 3


def test_characters_that_sentencepiece_rewrites_are_the_texts(all_kinds):
    """NFKC writes ½ as three characters, and a full-width letter as the plain one."""
    text = "number 6½ ｃafé"
    _, offsets = all_kinds["sentencepiece"].encode_with_offsets(text)
    assert "".join(text[slice(*place)] for place in offsets).replace(" ", "") == "number6½ｃafé"


def test_byte_level_pieces_leave_nothing_of_a_text_out(all_kinds):
    for text in hard_strings()[:200]:
        covered = np.zeros(len(text), bool)
        for begin, end in all_kinds["bpe"].encode_with_offsets(text)[1]:
            covered[begin:end] = True
        assert all(c.isspace() or seen for c, seen in zip(text, covered, strict=True)), text


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_special_tokens_that_a_text_spells_out_may_stay_text(kind, all_kinds):
    vocabulary = all_kinds[kind]
    text = "number 7 <extra_id_0> [MASK] café"
    ids, offsets = vocabulary.encode_as_text_with_offsets(text)
    assert ids == vocabulary.encode_as_text(text) != vocabulary.encode(text)
    assert len(offsets) == len(ids) and offsets[-1][1] == len(text)


def test_a_vocabulary_is_trained_on_both_texts_of_a_pair(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"question": "Who?", "context": "Me.", "answers": "Me"}\n')
    source = sources.JsonLines(
        files={"train": str(tmp_path / "q.jsonl")}, columns=("question", "context", "answers")
    )
    task = tasks.spans("vocabulary_of_pairs", source)
    assert list(vocabularies.TaskText(task)) == ["Who?", "Me."]
