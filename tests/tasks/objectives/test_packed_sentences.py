"""RoBERTa's rows and masks: Liu et al. 2019, section 4, and the released code."""

import numpy as np
import pytest

from tasks import objectives
from tasks.errors import TaskError
from tasks.vocabularies import ByteVocabulary

CLS, PAD, SEP, UNK, MASK, STOP = 0, 1, 2, 3, 999, 4
SPEC = {
    "vocab_size": 1000, "extra_ids": 0, "eos_id": SEP, "pad_id": PAD, "unk_id": UNK, "cls_id": CLS,
    "sep_id": SEP, "mask_id": MASK, "full_stop_ids": [STOP],
}  # fmt: skip
ROBERTA = {"randomized_count": True, "hides_special": True, "random_special": False}


def bound(kind=objectives.PackedSentences, **settings):
    return kind(**settings).bind({"targets": SPEC})


def sentence(length, first=10):
    """Different tokens and a full stop."""
    return np.array([*range(first, first + length - 1), STOP], np.int32)


# Sentences of 4, 5 and 6 tokens in document A, of 7 and 3 in B.
A = [sentence(4, 100), sentence(5, 200), sentence(6, 300)]
B = [sentence(7, 400), sentence(3, 500)]


def row(*documents):
    """[CLS], and after each document a separator."""
    found = [CLS]
    for document in documents:
        found += [*np.concatenate(document).tolist(), SEP]
    return found


# -- Which sentences are in a row --------------------------------------------------------------


def test_full_sentences_go_on_with_the_next_document_after_a_separator():
    """In 26 tokens: 4 + 5 + 6, a separator, 7, and the two at the ends, 25; then 3, in 5."""
    rows = bound().rows([A, B], 26)
    assert [x.tolist() for x in rows] == [row(A, B[:1]), row(B[1:])]
    assert [x.size for x in rows] == [25, 5]


def test_doc_sentences_end_with_their_document():
    """In 26 tokens: 4 + 5 + 6 in 17, 7 + 3 in 12."""
    rows = bound(crosses_documents=False).rows([A, B], 26)
    assert [x.tolist() for x in rows] == [row(A), row(B)]
    assert [x.size for x in rows] == [17, 12]


def test_a_sentence_that_does_not_fit_begins_the_next_row_and_one_too_long_loses_its_end():
    rows = bound().rows([[sentence(6), sentence(6), sentence(12)]], 12)
    assert [x.size for x in rows] == [8, 8, 12]
    assert rows[2].tolist() == [CLS, *range(10, 20), SEP]


def test_the_separator_needs_room_too():
    """4 + 5 and the two at the ends are 11: with the separator 12."""
    documents = [[sentence(4)], [sentence(5)]]
    assert [x.size for x in bound().rows(documents, 12)] == [12]
    assert [x.size for x in bound().rows(documents, 11)] == [6, 7]


def stream(*documents):
    """Documents that each end with EOS."""
    return np.concatenate([np.append(np.concatenate(d), SEP) for d in documents]).astype(np.int32)


@pytest.mark.parametrize("crosses", [True, False])
def test_a_piece_of_the_stream_gives_one_row_of_whole_sentences(crosses):
    """Wherever it is cut: the row begins with a sentence and ends with one, and fits."""
    objective = bound(crosses_documents=crosses)
    rng = np.random.default_rng(0)
    documents = [
        [sentence(int(n), 10 + 100 * (i % 9)) for n in rng.integers(3, 10, 8)] for i in range(40)
    ]
    text = stream(*documents)
    length = 64
    piece_length = objective.chunk_length({"targets": length})
    assert piece_length == (77 if crosses else 124)
    sizes = []
    for start in range(0, text.size - piece_length, 7):
        piece = text[start : start + piece_length]
        made = objective({"targets": piece}, rng)
        targets = made["targets"].tolist()
        assert targets[0] == CLS and targets[-1] == SEP and len(targets) <= length
        inner = targets[1:-1]
        assert inner[0] % 100 == 10 and inner[-1] == STOP
        assert crosses or SEP not in inner
        assert not made["token_types"].any() and {x.size for x in made.values()} == {len(targets)}
        # In order, as they stand in the stream.
        joined, whole = (",".join(map(str, x)) for x in (inner, piece.tolist()))
        assert joined in whole
        sizes.append(len(targets))
    # A row across documents lacks less than a sentence; a document has 48 tokens in the mean.
    assert min(sizes) >= 64 - 10 if crosses else np.mean(sizes) == pytest.approx(50, abs=8)


def test_a_piece_without_a_whole_sentence_gives_what_it_has():
    objective, rng = bound(), np.random.default_rng(0)
    piece = np.arange(10, 87, dtype=np.int32)
    assert objective({"targets": piece}, rng)["targets"].tolist() == [CLS, *range(10, 72), SEP]
    # As little as nothing.
    empty = np.full(5, SEP, np.int32)
    assert objective({"targets": empty}, rng)["targets"].tolist() == [CLS, SEP]


# -- Pairs -------------------------------------------------------------------------------------


def test_sentence_pair_has_one_sentence_in_each_segment():
    """Next to each other in half of the rows; the first and last of a piece are cut off."""
    objective = bound(objectives.SentencePairs, single_sentences=True)
    here, there = ([sentence(4, 10 * i) for i in range(k, k + 12)] for k in (10, 50))
    example = {"targets": np.concatenate(here), "other_targets": np.concatenate(there)}
    starts = {name: [x[0] for x in part] for name, part in (("here", here), ("there", there))}
    labels, seen = [], set()
    for seed in range(400):
        made = objective(example, np.random.default_rng(seed))
        first, second = (made["targets"][made["token_types"] == kind] for kind in (0, 1))
        assert first.size == 1 + 4 + 1 and second.size == 4 + 1
        i = starts["here"].index(first[1])
        labels.append(int(made["pair_label"]))
        if labels[-1]:
            assert second[0] in starts["there"][2:-1]
        else:
            assert second[0] == starts["here"][i + 1]
            seen.add(i)
    assert np.mean(labels) == pytest.approx(0.5, abs=0.08)
    assert seen == set(range(1, 10))


def whole(*sentences):
    """A piece, twice as long as the row that it is for, with these sentences alone."""
    text = np.concatenate(sentences)
    return np.append(text, np.full(text.size, SEP, np.int32))


def test_sentence_pairs_of_the_worked_documents_are_4_5_and_5_6_and_7_3():
    """Of so few sentences none is left out for having lost a part."""
    objective = bound(objectives.SentencePairs, single_sentences=True, random_next_share=0.0)
    found = set()
    for document in (A, B):
        example = {name: whole(*document) for name in ("targets", "other_targets")}
        for seed in range(20):
            made = objective(example, np.random.default_rng(seed))
            second = int(made["token_types"].sum()) - 1
            found.add((made["targets"].size - second - 3, second))
    assert found == {(4, 5), (5, 6), (7, 3)}


def test_a_piece_of_a_single_sentence_is_paired_with_another_place():
    objective = bound(objectives.SentencePairs, single_sentences=True, random_next_share=0.0)
    example = {"targets": whole(sentence(8)), "other_targets": whole(sentence(8, 700))}
    made = objective(example, np.random.default_rng(0))
    assert made["pair_label"] == 1 and made["targets"][made["token_types"] == 1][0] >= 700


# -- What is hidden ----------------------------------------------------------------------------


def test_robertas_number_of_places_is_rounded_at_random_and_right_in_the_mean():
    """0.15 · 512 = 76.8: 76 in a fifth of the rows, 77 in the others. BERT's is always 77."""
    mask = bound(**ROBERTA).mask
    tokens = np.arange(100, 612, dtype=np.int32)
    rng = np.random.default_rng(0)
    counts = [mask.places(tokens, rng).size for _ in range(3000)]
    assert set(counts) == {76, 77}
    assert np.mean(counts) == pytest.approx(76.8, abs=0.03)
    # Of 3 tokens mostly none: 0.45 in the mean.
    few = np.mean([mask.places(tokens[:3], rng).size for _ in range(3000)])
    assert few == pytest.approx(0.45, abs=0.03)
    assert {bound().mask.places(tokens, rng).size for _ in range(50)} == {77}
    assert bound(**ROBERTA, max_predictions=20).mask.places(tokens, rng).size == 20


def test_robertas_masks_hide_special_tokens_too_and_random_tokens_are_ordinary():
    """80%, 10% and 10% of 15%, over 10,000 rows of 20 tokens, within 2%."""
    mask, rng = bound(**ROBERTA).mask, np.random.default_rng(0)
    tokens = np.array([CLS, *[500] * 18, SEP], np.int32)
    made = [mask(tokens, rng) for _ in range(10_000)]
    inputs, hidden = (np.stack([x[name] for x in made]) for name in ("inputs", "loss_weights"))
    hidden = hidden == 1
    assert hidden.mean() == pytest.approx(0.15, rel=0.02)
    assert np.abs(hidden.mean(axis=0) - 0.15).max() < 0.02  # at the ends too
    masked = (inputs == MASK) & hidden
    assert masked.sum() / hidden.sum() == pytest.approx(0.8, rel=0.02)
    random = hidden & (inputs != MASK) & (inputs != np.array(tokens))
    assert random.sum() / hidden.sum() == pytest.approx(0.1, abs=0.008)
    assert not set(inputs[random]) & {CLS, PAD, SEP, UNK, MASK}
    # What BERT hides is never special, and its random tokens may be.
    places = [bound().mask.places(tokens, rng) for _ in range(500)]
    assert not np.isin(np.concatenate(places), [0, 19]).any()


def test_masks_are_drawn_anew_each_time_and_the_same_for_the_same_seed():
    objective = bound(**ROBERTA)
    piece = np.concatenate([sentence(16, 10 + 20 * i) for i in range(40)])
    first, again, other = (
        objective({"targets": piece}, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
        assert first[name].dtype == np.int32
    np.testing.assert_array_equal(first["targets"], other["targets"])
    assert (first["loss_weights"] != other["loss_weights"]).any()


# -- Vocabularies and settings -----------------------------------------------------------------


def test_bytes_have_sentinels_for_the_special_tokens():
    objective = objectives.PackedSentences(**ROBERTA).bind({"targets": ByteVocabulary().spec()})
    assert (objective.mask.mask_id, *objective.boundaries.ids) == (383, 382, 381, 1)
    # Of 259 ids the bytes; the first three are padding, the end and what is unknown.
    assert objective.mask.random_ids.tolist() == list(range(3, 259))


def test_settings_that_cannot_be_are_named():
    with pytest.raises(TaskError, match=r"PackedSentences.hides_special is True: with"):
        objectives.PackedSentences(whole_words=True, hides_special=True)
    with pytest.raises(TaskError, match="PackedSentences needs to know where sentences end"):
        objectives.PackedSentences().bind({"targets": SPEC | {"full_stop_ids": []}})
    with pytest.raises(TaskError, match="PackedSentences needs 4 or more"):
        bound().chunk_length({"targets": 3})
