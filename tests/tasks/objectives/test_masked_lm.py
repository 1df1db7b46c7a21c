"""BERT's masking and its sentence pairs: Devlin et al. 2019, section 3.1, and the released code."""

import numpy as np
import pytest

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives.masked_lm import Masker
from tasks.objectives.sentence_pairs import truncated
from tasks.vocabularies import ByteVocabulary

PAD, UNK, CLS, SEP, MASK, STOP = 0, 100, 101, 102, 103, 104
MY, DOG, IS, HAIRY, IT, BARKS, APPLE = range(110, 117)
SPEC = {
    "vocab_size": 1000, "extra_ids": 0, "eos_id": SEP, "unk_id": UNK, "cls_id": CLS, "sep_id": SEP,
    "mask_id": MASK, "full_stop_ids": [STOP],
}  # fmt: skip
SPECS = {"targets": SPEC}


def ids(*tokens):
    return np.array(tokens, np.int32)


def bound(kind=objectives.MaskedLM, **settings):
    return kind(**settings).bind(SPECS)


# -- The paper's example ---------------------------------------------------------------------


def test_the_papers_row_and_its_segments():
    """[CLS] my dog is hairy [SEP] it barks [SEP], of which round(0.15 · 9) = 1 token is hidden."""
    objective = bound()
    row, types = objective.boundaries.row(ids(MY, DOG, IS, HAIRY), ids(IT, BARKS))
    assert row.tolist() == [CLS, MY, DOG, IS, HAIRY, SEP, IT, BARKS, SEP]
    assert types.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    assert objective.mask.count(row.size) == 1


@pytest.mark.parametrize(
    ("shares", "seen"), [((1.0, 0.0), [MASK]), ((0.0, 1.0), range(1000)), ((0.0, 0.0), [HAIRY])]
)
def test_the_hidden_word_is_seen_as_the_mask_as_any_word_or_as_itself(shares, seen):
    """ "my dog is hairy": [MASK] in 80%, "apple" in 10%, "hairy" in 10% of the cases."""
    mask_share, random_share = shares
    mask = bound(mask_share=mask_share, random_share=random_share).mask
    row = ids(CLS, MY, DOG, IS, HAIRY, SEP, IT, BARKS, SEP)
    made = mask.hide(row, np.array([4]), np.random.default_rng(0))
    assert made["inputs"][4] in seen
    assert np.delete(made["inputs"], 4).tolist() == np.delete(row, 4).tolist()
    assert made["targets"].tolist() == row.tolist()
    assert made["loss_weights"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "kind",
    [objectives.MaskedLM, objectives.SentencePairs, objectives.SentenceOrder, objectives.UnifiedLM],
)
@pytest.mark.parametrize("ends", [1, 2])
def test_a_piece_of_ends_of_documents_alone_is_a_row_without_words(kind, ends):
    """The last piece of a split may be one."""
    objective = bound(kind)
    for seed in range(20):
        example = {"targets": ids(*[SEP] * ends), "other_targets": ids(MY, DOG)}
        made = objective(example, np.random.default_rng(seed))
        assert made["inputs"].size == made["loss_weights"].size > 0
        assert set(made["targets"].tolist()) <= {PAD, CLS, SEP, MY, DOG}


# -- How many, which, and what of them ---------------------------------------------------------


def test_the_number_of_hidden_tokens_is_that_of_the_released_code():
    """Special tokens count in the length: 19 of 128, 77 of 512, at least 1; a cap of 20 holds."""
    mask = bound().mask
    assert [mask.count(n) for n in (128, 512, 9, 3)] == [19, 77, 1, 1]
    assert bound(max_predictions=20).mask.count(512) == 20


def test_the_number_may_be_rounded_up_and_all_hidden_tokens_be_masks():
    """Clark et al. 2020, section 2: 20 of 128, 77 of 512, 1 of 6, and [MASK] at each."""
    mask = bound(rounded_up=True, mask_share=1.0, random_share=0.0).mask
    assert [mask.count(n) for n in (128, 512, 6, 20)] == [20, 77, 1, 3]
    row = ids(CLS, *range(200, 326), SEP)
    places = np.zeros(row.size)
    for seed in range(1000):
        made = mask(row, np.random.default_rng(seed))
        assert made["loss_weights"].sum() == 20
        np.testing.assert_array_equal(made["inputs"] == MASK, made["loss_weights"] == 1)
        places += made["loss_weights"]
    # Drawn anew for each row, and nowhere more often: 20 of 126 in 1,000.
    assert np.abs(places[1:-1] - 1000 * 20 / 126).max() < 5 * 11.6
    with pytest.raises(TaskError, match=r"rounded_up and MaskedLM.randomized_count are both True"):
        objectives.MaskedLM(rounded_up=True, randomized_count=True)


def test_special_tokens_are_never_hidden_and_the_number_is_exact():
    mask = bound().mask
    row = ids(CLS, *range(200, 262), SEP, *range(300, 363), SEP)
    for seed in range(50):
        places = mask.places(row, np.random.default_rng(seed))
        assert places.size == 19 == np.unique(places).size
        assert not set(row[places]) & {CLS, SEP}
    # A row of nothing else has nothing to hide.
    assert mask(ids(CLS, SEP), np.random.default_rng(0))["loss_weights"].sum() == 0


def test_12_percent_are_masks_and_1_and_a_half_each_random_or_kept():
    """0.15 times 0.8, 0.1 and 0.1, of all tokens that are not special."""
    mask, rng = bound().mask, np.random.default_rng(0)
    row = ids(*([500] * 1000))
    made = [mask(row, rng) for _ in range(200)]
    inputs = np.concatenate([example["inputs"] for example in made])
    hidden = np.concatenate([example["loss_weights"] for example in made]) == 1
    assert hidden.mean() == 0.15
    # One of a thousand random tokens is the same again. Standard deviations are 5e-4.
    assert (inputs == MASK).mean() == pytest.approx(0.12, abs=2e-3)
    assert (hidden & (inputs != MASK) & (inputs != 500)).mean() == pytest.approx(0.015, abs=1.5e-3)
    assert (hidden & (inputs == 500)).mean() == pytest.approx(0.015, abs=1.5e-3)
    assert (inputs[~hidden] == 500).all()
    random = inputs[hidden & (inputs != MASK) & (inputs != 500)]
    # Of the whole vocabulary, special tokens too.
    assert random.min() < 20 and random.max() > 980
    assert np.isin(random, [PAD, UNK, CLS, SEP]).any()


def test_each_token_is_as_likely_to_be_hidden_as_any_other():
    mask, rng = bound().mask, np.random.default_rng(0)
    row = ids(CLS, *range(200, 218), SEP)
    counts = sum(mask(row, rng)["loss_weights"] for _ in range(6000))
    # 3 of 18; the standard deviation is 29.
    assert np.abs(counts[1:-1] - 1000).max() < 4 * 29


# -- Whole words -------------------------------------------------------------------------------

UN, AFF, ABLE = 400, 900, 901


def whole_words(**settings):
    return bound(whole_words=True, continuation_ids=tuple(range(900, 1000)), **settings).mask


def test_all_pieces_of_a_word_are_hidden_or_none():
    """un ##aff ##able, as the README of the released code has it."""
    mask = whole_words(rate=0.5)
    row = ids(CLS, UN, AFF, ABLE, DOG, UN, AFF, ABLE, IS, SEP)
    seen = set()
    for seed in range(60):
        places = set(mask.places(row, np.random.default_rng(seed)).tolist())
        seen.add(tuple(sorted(places)))
        for word in ({1, 2, 3}, {5, 6, 7}):
            assert not places & word or word <= places
        assert len(places) <= 5
    assert {(1, 2, 3, 4, 8), (4, 5, 6, 7, 8)} == seen


def test_a_word_beyond_the_number_is_passed_over():
    row = ids(CLS, UN, AFF, ABLE, DOG, SEP)
    places = [whole_words(rate=0.4).places(row, np.random.default_rng(i)) for i in range(20)]
    assert {tuple(found.tolist()) for found in places} == {(4,)}


def test_pieces_after_a_special_token_begin_a_word():
    mask = whole_words(rate=0.3)
    row = ids(CLS, UN, AFF, SEP, ABLE, AFF, SEP)
    found = {tuple(mask.places(row, np.random.default_rng(i)).tolist()) for i in range(40)}
    assert found == {(1, 2), (4, 5)}


# -- Runs of words -------------------------------------------------------------------------------


def test_lengths_of_runs_are_6_3_and_2_elevenths():
    """Lan et al. 2020, equation 1: (1/k) / (1 + 1/2 + 1/3), the mean 18/11."""
    mask, rng = bound(max_ngram=3).mask, np.random.default_rng(0)
    drawn = np.array([mask.run_length(3, rng) for _ in range(10_000)])
    shares = np.bincount(drawn, minlength=4)[1:] / drawn.size
    np.testing.assert_allclose(shares, [6 / 11, 3 / 11, 2 / 11], atol=0.02)
    assert drawn.mean() == pytest.approx(18 / 11, rel=0.02)
    # At the end of a segment of two words, those that fit.
    short = [mask.run_length(2, rng) for _ in range(10_000)]
    assert np.mean(np.array(short) == 1) == pytest.approx(2 / 3, abs=0.02)


def test_runs_hide_the_exact_number_and_no_special_token():
    mask, rng = bound(max_ngram=3).mask, np.random.default_rng(0)
    row = ids(CLS, *range(200, 262), SEP, *range(300, 363), SEP)
    neighbours = 0
    for _ in range(200):
        places = mask.places(row, rng)
        assert places.size == 19 == np.unique(places).size
        assert not set(row[places]) & {CLS, SEP}
        neighbours += int((np.diff(places) == 1).sum())
    # Single tokens would have 18 · 19 / 126 = 2.7 neighbours a row.
    assert neighbours / 200 > 6


def test_a_run_of_words_is_of_whole_ones_and_stays_in_its_segment():
    mask = whole_words(rate=0.5, max_ngram=2)
    row = ids(CLS, UN, AFF, ABLE, DOG, SEP, UN, AFF, SEP)
    found = {tuple(mask.places(row, np.random.default_rng(i)).tolist()) for i in range(60)}
    # Of 9 tokens round(4.5) = 4: the run of both words of the first segment, words alone, and never
    # one of each segment as a run that has no room.
    assert (1, 2, 3, 4) in found
    for places in found:
        for word in ({1, 2, 3}, {6, 7}):
            assert not set(places) & word or word <= set(places)
        assert len(places) <= 4


# -- Pairs -------------------------------------------------------------------------------------


def text(sentences, first=200):
    """Sentences of five tokens and a full stop, all tokens but the stops different."""
    tokens = [STOP] * (6 * sentences)
    for i in range(sentences):
        tokens[6 * i : 6 * i + 5] = range(first + 5 * i, first + 5 * i + 5)
    return ids(*tokens)


def pair(objective, seed, targets=None, other=None):
    example = {
        "targets": text(12) if targets is None else targets,
        "other_targets": text(12, 600) if other is None else other,
    }
    made = objective(example, np.random.default_rng(seed))
    row = made["targets"].tolist()
    middle = row.index(SEP)
    assert row[0] == CLS and row[-1] == SEP and row.count(SEP) == 2
    assert made["token_types"].tolist() == [0] * (middle + 1) + [1] * (len(row) - middle - 1)
    return row[1:middle], row[middle + 1 : -1], int(made["pair_label"])


def exact(**settings):
    return bound(objectives.SentencePairs, **{"short_probability": 0.0, **settings})


def test_label_0_is_what_follows_and_label_1_is_from_the_other_place():
    objective = exact()
    labels = []
    for seed in range(200):
        first, second, label = pair(objective, seed)
        labels.append(label)
        assert max(first) < 300
        if label:
            assert min(x for x in second if x != STOP) >= 600
        else:
            together = ",".join(map(str, first + second))
            assert together in ",".join(map(str, text(12).tolist()))
    assert np.mean(labels) == pytest.approx(0.5, abs=0.12)


def test_both_segments_begin_with_a_sentence_and_fill_the_row_whatever_the_label():
    """Else the label could be told from the length, or from half a sentence."""
    objective = exact()
    starts = {*range(200, 300, 5), *range(600, 700, 5)}
    whole = 0
    for seed in range(200):
        first, second, _ = pair(objective, seed)
        assert len(first) + len(second) == 36
        # What is cut off in front is of a longer segment.
        whole += first[0] in starts and second[0] in starts
    assert whole > 150


def test_a_place_with_two_sentences_is_preferred_to_a_long_sentence():
    """Else long sentences, of which nothing can follow, would make most labels 1."""
    long = np.concatenate([text(1), ids(*range(230, 299), STOP), text(3)])
    labels = [pair(exact(), seed, targets=long)[2] for seed in range(200)]
    assert np.mean(labels) == pytest.approx(0.5, abs=0.12)


def test_the_row_fits_task_feature_lengths_and_the_piece_is_twice_the_text():
    objective = exact()
    lengths = {"targets": 128}
    assert objective.chunk_length(lengths) == 250
    rng = np.random.default_rng(0)
    long = rng.integers(200, 900, 250).astype(np.int32)
    for seed in range(20):
        made = objective(
            {"targets": long, "other_targets": long[::-1].copy()}, np.random.default_rng(seed)
        )
        assert made["inputs"].size == 128 and made["loss_weights"].sum() == 19
        # Without a full stop nothing can follow.
        assert made["pair_label"] == 1
    with pytest.raises(TaskError, match="SentencePairs needs 5 or more"):
        objective.chunk_length({"targets": 4})
    assert bound().chunk_length(lengths) == 126


def test_a_tenth_of_the_rows_is_shorter():
    objective = bound(objectives.SentencePairs)
    sizes = [sum(map(len, pair(objective, seed)[:2])) for seed in range(600)]
    # Whole sentences reach beyond what was drawn: 2 to 6 tokens give 6 and 1 more sentence at most.
    assert np.mean([size < 36 for size in sizes]) == pytest.approx(0.1 * 0.85, abs=0.04)
    assert min(sizes) >= 6


def test_only_the_longest_part_of_one_document_is_read():
    objective = exact()
    one, two = text(3, 800), text(9)
    joined = np.concatenate([one, ids(SEP), two, ids(SEP)])
    for seed in range(40):
        first, second, label = pair(objective, seed, targets=joined)
        assert max(first) < 300 and (label or max(second) < 300)


def test_the_longer_segment_loses_tokens_at_either_end():
    """The closed form of the released loop: the second of equals first; then in turn."""
    rng = np.random.default_rng(0)

    def loop(a, b, longest):
        while a + b > longest:
            a, b = (a - 1, b) if a > b else (a, b - 1)
        return a, b

    for a, b, longest in [
        (9, 3, 8),
        (3, 9, 8),
        (9, 9, 8),
        (9, 9, 7),
        (2, 3, 8),
        (20, 4, 9),
        (5, 6, 9),
    ]:
        found = truncated(np.arange(a), np.arange(b), longest, rng)
        assert tuple(map(len, found)) == loop(a, b, longest)
        for segment in found:
            assert (np.diff(segment) == 1).all()
    fronts = [truncated(np.arange(10), np.arange(2), 8, rng)[0][0] for _ in range(4000)]
    # Four of ten go: a binomial number of four with 1/2 in front.
    assert np.bincount(fronts) / 4000 == pytest.approx(np.array([1, 4, 6, 4, 1]) / 16, abs=0.03)


# -- The order of segments -------------------------------------------------------------------------


def order(**settings):
    return bound(objectives.SentenceOrder, **{"short_probability": 0.0, **settings})


def test_the_swapped_row_of_my_dog_is_hairy():
    """[CLS] it barks [SEP] my dog is hairy [SEP], types 0 four times and 1 five times, label 1."""
    text = ids(MY, DOG, IS, HAIRY, STOP, IT, BARKS, STOP)
    for share_, first, second in (
        (1.0, [IT, BARKS, STOP], [MY, DOG, IS, HAIRY, STOP]),
        (0.0, [MY, DOG, IS, HAIRY, STOP], [IT, BARKS, STOP]),
    ):
        maker = order(swapped_share=share_)
        found = maker.segments({"targets": text}, 8, np.random.default_rng(0))
        assert (found[0].tolist(), found[1].tolist(), found[2]) == (first, second, int(share_))
    row, types = maker.boundaries.row(ids(IT, BARKS), ids(MY, DOG, IS, HAIRY))
    assert row.tolist() == [CLS, IT, BARKS, SEP, MY, DOG, IS, HAIRY, SEP]
    assert types.tolist() == [0] * 4 + [1] * 5


def test_half_of_the_segments_that_follow_each_other_are_swapped():
    labels, whole = [], ",".join(map(str, text(12).tolist()))
    for seed in range(400):
        first, second, label = pair(order(), seed)
        labels.append(label)
        together = second + first if label else first + second
        assert ",".join(map(str, together)) in whole
        assert len(together) == 36
    # The standard deviation is 0.025.
    assert np.mean(labels) == pytest.approx(0.5, abs=0.08)


def test_a_single_sentence_is_cut_within():
    """Its order can be asked for too; nothing of another place is needed."""
    assert not getattr(order(), "draws_other", False)
    sentence = ids(*range(200, 240))
    for seed in range(20):
        made = order()({"targets": sentence}, np.random.default_rng(seed))
        row = made["targets"].tolist()
        middle = row.index(SEP)
        first, second = row[1:middle], row[middle + 1 : -1]
        assert first and second and len(first) + len(second) == 20
        assert (first[0] > second[0]) == bool(made["pair_label"])


# -- Vocabularies --------------------------------------------------------------------------------


def test_sentinels_stand_for_what_bytes_have_not():
    spec = ByteVocabulary().spec()
    objective = objectives.SentencePairs().bind({"targets": spec})
    assert (objective.mask.mask_id, *objective.boundaries.ids) == (383, 382, 381, 1)
    assert objective.cut.full_stop_ids == (49,)
    with pytest.raises(TaskError, match=r"no \[CLS\] and \[SEP\], and extra_ids=2"):
        objectives.MaskedLM().bind({"targets": ByteVocabulary(2).spec()})
    with pytest.raises(TaskError, match=r"MaskedLM.whole_words needs .* continue a word"):
        objectives.MaskedLM(whole_words=True).bind({"targets": spec})


def test_the_ids_of_a_wordpiece_tokenizer_are_its_own(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    from tasks.tokenizer_json import TokenizerVocabulary

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "un", "##aff", "##able", "dog"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(pieces[:5])
    made.save(str(tmp_path / "tokenizer.json"))
    vocabulary = TokenizerVocabulary(str(tmp_path))
    # The paper's appendix and the released README: unaffable is un ##aff ##able.
    assert vocabulary.encode("Unaffable dog.") == [6, 7, 8, 9, 5]
    spec = vocabulary.spec()
    assert (spec["cls_id"], spec["sep_id"], spec["mask_id"], spec["eos_id"]) == (2, 3, 4, 3)
    objective = objectives.SentencePairs(whole_words=True).bind({"targets": spec})
    assert objective.mask.continuation.tolist() == [7, 8]
    assert objective.cut.full_stop_ids == (5,)


def test_settings_out_of_range_are_named():
    for settings, message in (
        ({"rate": 1.0}, r"SentencePairs.rate is 1.0"),
        ({"mask_share": 0.9, "random_share": 0.2}, r"SentencePairs.mask_share is 0.9"),
        ({"max_predictions": 0}, r"SentencePairs.max_predictions is 0"),
        ({"random_next_share": 1.5}, r"SentencePairs.random_next_share is 1.5"),
    ):
        with pytest.raises(TaskError, match=message):
            objectives.SentencePairs(**settings)
    for settings, message in (
        ({"swapped_share": -0.5}, r"SentenceOrder.swapped_share is -0.5"),
        ({"max_ngram": 0}, r"SentenceOrder.max_ngram is 0"),
    ):
        with pytest.raises(TaskError, match=message):
            objectives.SentenceOrder(**settings)


@pytest.mark.parametrize("kind", [objectives.SentencePairs, objectives.SentenceOrder])
def test_the_same_state_of_the_generator_gives_the_same_row(kind):
    objective = bound(kind)
    example = {"targets": text(12), "other_targets": text(12, 600)}
    one, two = (objective(example, np.random.default_rng(5)) for _ in range(2))
    assert one.keys() == set(objective.writes)
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert all(one[name].dtype == np.int32 for name in one)
    assert isinstance(objective.mask, Masker)
