"""BERT's, T5's, MASS's and BART's objectives with the places chosen, and whatever is drawn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import objectives
from tasks.errors import TaskError
from tasks.objectives import corruptions, drop_tokens, mass, span_corruption
from tasks.objectives.special_tokens import Replacer
from tasks.vocabularies import ByteVocabulary

# Raffel et al. 2020, table 3. Ids 0 to 2 are special, then come the words, a further word and
# the sentinels, of which the first, <X>, is the last id.
SENTENCE = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
WORDS = ["<pad>", "</s>", "<unk>", *SENTENCE, "apple", "<Z>", "<Y>", "<X>"]
MASK = WORDS.index("<X>")
SPEC = {"vocab_size": 18, "extra_ids": 3, "pad_id": 0, "eos_id": 1, "unk_id": 2}
SPECS = {"targets": SPEC | {"full_stop_ids": [WORDS.index(".")]}}
BYTES = {"targets": ByteVocabulary().spec()}
# Texts of ids that no special token has, so that each token can be followed.
LONG = {"targets": {"vocab_size": 20_000, "extra_ids": 200, "pad_id": 0, "eos_id": 1, "unk_id": 2}}
LONG["targets"]["full_stop_ids"] = [7]
FIRST_SENTINEL = 19_999


def ids(text):
    return np.array([WORDS.index(word) for word in text.split()], np.int32)


def words(tokens, mask="<X>"):
    return " ".join(WORDS[i] for i in tokens).replace("<X>", mask)


TEXT = ids(" ".join(SENTENCE))


def where(*chosen):
    return np.isin(SENTENCE, chosen)


def text_of(length):
    return np.arange(1000, 1000 + length, dtype=np.int32)


def drawn(objective, length, seed=0):
    return objective({"targets": text_of(length)}, np.random.default_rng(seed))


# -- As printed ------------------------------------------------------------------------------


def test_iid_noise_replaced_by_spans():
    example = span_corruption.corrupt(TEXT, where("for", "inviting", "last"), MASK)
    assert words(example["inputs"]) == "Thank you <X> me to your party <Y> week ."
    assert words(example["targets"]) == "<X> for inviting <Y> last <Z>"


def test_a_text_that_begins_and_ends_with_dropped_tokens_has_no_last_sentinel():
    example = span_corruption.corrupt(TEXT, where("Thank", "week", "."), MASK)
    assert words(example["inputs"]) == "<X> you for inviting me to your party last <Y>"
    assert words(example["targets"]) == "<X> Thank <Y> week ."


def test_iid_noise_dropped():
    example = drop_tokens.drop(TEXT, where("for", "inviting", "last"))
    assert words(example["inputs"]) == "Thank you me to your party week ."
    assert words(example["targets"]) == "for inviting last"


def test_bert_style():
    masker = Replacer(0.9, 0.1, MASK, ids("apple"))
    masked, random = (np.flatnonzero(where(*w)) for w in (["for", "inviting"], ["last"]))

    class Drawn:
        """Says where the random numbers fall: two below 0.9, one above."""

        def random(self, size):
            return np.array([0.1, 0.89, 0.95])

        def integers(self, high, size):
            return np.zeros(size, int)

    inputs = masker(TEXT, np.concatenate([masked, random]), Drawn())
    assert words(inputs, "<M>") == "Thank you <M> <M> me to your party apple week ."
    assert words(TEXT) == " ".join(SENTENCE)


def test_mass_style():
    places = np.flatnonzero(where("for", "inviting", "last"))
    inputs = Replacer(1.0, 0.0, MASK, ids("apple"))(TEXT, places, np.random.default_rng(0))
    assert words(inputs, "<M>") == "Thank you <M> <M> me to your party <M> week ."


def test_deshuffling():
    # The table's order; "fun", which it has besides, is not in the sentence.
    shuffled = "party me for your to . last you inviting week Thank"
    bound = objectives.Denoising((objectives.Deshuffling(),)).bind(SPECS)
    orders = {words(bound({"targets": TEXT}, np.random.default_rng(s))["inputs"]) for s in range(9)}
    assert len(orders) == 9
    assert all(sorted(order.split()) == sorted(shuffled.split()) for order in orders)


# Lewis et al. 2020, figure 2: "A B C . D E ." (in Token Deletion, the figure has one "." more).
LETTERS = {"A": 10, "B": 11, "C": 12, ".": 7, "D": 13, "E": 14, "_": FIRST_SENTINEL}


def letters(text):
    return np.array([LETTERS[c] for c in text], np.int32)


def in_letters(tokens):
    return "".join({v: k for k, v in LETTERS.items()}[i] for i in tokens)


def test_barts_figure():
    original = letters("ABC.DE.")
    mask = Replacer(1.0, 0.0, FIRST_SENTINEL, letters("A"))
    rng = np.random.default_rng(0)
    assert in_letters(mask(original, np.array([1, 4]), rng)) == "A_C._E."
    # "B C" becomes one mask, and another stands where nothing is missing.
    infilled = corruptions.infill(original, np.array([1, 4]), np.array([2, 0]), FIRST_SENTINEL)
    assert in_letters(infilled) == "A_.D_E."
    assert in_letters(corruptions.rotate(original, 2)) == "C.DE.AB"
    permute = objectives.SentencePermutation().bind(LONG["targets"])
    assert [in_letters(s) for s in permute.sentences(original)] == ["ABC.", "DE."]
    assert {in_letters(permute(original, rng)) for _ in range(20)} == {"ABC.DE.", "DE.ABC."}
    delete = objectives.TokenDeletion(rate=2 / 7)
    every = {in_letters(delete(original, np.random.default_rng(s))) for s in range(200)}
    # Two of seven tokens: 21 pairs of places, of which no two leave the same letters.
    assert "AC.E." in every and len(every) == 21


def test_mass_masks_a_span_and_predicts_it_in_its_place():
    # Song et al. 2019, figure 1: x3 to x6 of eight tokens.
    tokens = np.arange(1, 9, dtype=np.int32)
    replacer = Replacer(1.0, 0.0, 99, tokens)
    example = mass.mask_span(tokens, 2, 6, replacer, np.random.default_rng(0))
    assert example["inputs"].tolist() == [1, 2, 99, 99, 99, 99, 7, 8]
    assert example["targets"].tolist() == [3, 4, 5, 6]
    # "if the first two tokens are masked and removed, the position for the third token is still
    # 2 but not 0" (section 4.1).
    assert example["targets_positions"].tolist() == [2, 3, 4, 5]


def test_barts_permutation_and_infilling_in_a_chain():
    bart = objectives.Denoising((objectives.SentencePermutation(), objectives.TextInfilling()))
    text = ByteVocabulary().encode("One is here. Two is there. Three is gone.")
    example = bart.bind(BYTES)({"targets": np.array(text)}, np.random.default_rng(3))
    assert example["targets"].tolist() == text
    # 41 bytes: 12 masked in 4 spans leave 29 of them and 4 masks.
    assert len(example["inputs"]) == 33
    assert (example["inputs"] == 383).sum() == 4


# -- Whatever is drawn -----------------------------------------------------------------------

KEEPING = {
    "iid": objectives.IIDSpanCorruption(),
    "drop": objectives.DropTokens(),
    "mass": objectives.MASS(mask_share=1.0, random_share=0.0),
}
ORIGINAL = {
    "bert": objectives.Denoising(),
    "masking": objectives.Denoising((objectives.TokenMasking(),)),
    "deletion": objectives.Denoising((objectives.TokenDeletion(),)),
    "infilling": objectives.Denoising((objectives.TextInfilling(),)),
    "permutation": objectives.Denoising((objectives.SentencePermutation(),)),
    "rotation": objectives.Denoising((objectives.DocumentRotation(),)),
    "deshuffling": objectives.Denoising((objectives.Deshuffling(),)),
    "bart": objectives.Denoising((objectives.SentencePermutation(), objectives.TextInfilling())),
}
ALL = {**KEEPING, **ORIGINAL}
REORDERING = ("permutation", "rotation", "deshuffling")


@pytest.mark.parametrize("name", KEEPING)
@settings(max_examples=60, deadline=None)
@given(length=st.integers(0, 700), seed=st.integers(0, 2**32))
def test_inputs_and_targets_together_hold_every_token_once(name, length, seed):
    example = drawn(KEEPING[name].bind(LONG), length, seed)
    both = np.concatenate([example["inputs"], example["targets"]])
    assert sorted(both[both < 10_000].tolist()) == text_of(length).tolist()
    assert example["inputs"].dtype == example["targets"].dtype == np.int32


@pytest.mark.parametrize("name", REORDERING)
@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_reordering_loses_nothing(name, length, seed):
    tokens = np.random.default_rng(seed).integers(3, 60, length).astype(np.int32)
    example = ORIGINAL[name].bind(LONG)({"targets": tokens}, np.random.default_rng(seed))
    assert sorted(example["inputs"].tolist()) == sorted(tokens.tolist())


def test_a_rotated_document_begins_anywhere_and_keeps_its_order():
    bound = ORIGINAL["rotation"].bind(LONG)
    rotated = [drawn(bound, 20, seed)["inputs"] for seed in range(300)]
    assert all(((np.diff(row) - 1) % 20 == 0).all() for row in rotated)
    assert {row[0] for row in rotated} == set(range(1000, 1020))


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, 700), density=st.floats(0.02, 0.95), seed=st.integers(0, 2**32))
def test_the_spans_of_iid_noise_put_back_are_the_text(length, density, seed):
    # A text may have more spans than there are sentinels: what finds none is kept.
    bound = objectives.IIDSpanCorruption(density).bind(
        {"targets": LONG["targets"] | {"extra_ids": 50}}
    )
    example = drawn(bound, length, seed)
    assert example["inputs"].max(initial=0) <= FIRST_SENTINEL
    assert example["targets"][example["targets"] >= 10_000].min(initial=20_000) > 19_949
    spans, current = {}, None
    for token in example["targets"].tolist():
        if token >= 10_000:
            spans[token] = current = []
        else:
            current.append(token)
    assert all(len(span) for span in list(spans.values())[:-1])
    restored = []
    for token in example["inputs"].tolist():
        restored.extend(spans.pop(token) if token >= 10_000 else [token])
    assert restored == text_of(length).tolist()
    assert list(spans.values()) in ([], [[]])


@settings(max_examples=100, deadline=None)
@given(length=st.integers(1, 700), seed=st.integers(0, 2**32))
def test_mass_targets_stand_at_their_positions(length, seed):
    example = drawn(KEEPING["mass"].bind(LONG), length, seed)
    positions = example["targets_positions"]
    np.testing.assert_array_equal(text_of(length)[positions], example["targets"])
    assert (example["inputs"][positions] == FIRST_SENTINEL).all()
    assert (np.diff(positions) == 1).all()


@pytest.mark.parametrize("name", ORIGINAL)
@settings(max_examples=30, deadline=None)
@given(length=st.integers(0, 300), seed=st.integers(0, 2**32))
def test_the_target_of_denoising_is_the_original(name, length, seed):
    bound = ORIGINAL[name].bind(LONG)
    example = drawn(bound, length, seed)
    assert example["targets"].tolist() == text_of(length).tolist()
    assert len(example["inputs"]) == bound.inputs_length(length) - 1
    assert example["inputs"].dtype == np.int32


@pytest.mark.parametrize("name", ALL)
def test_the_generator_alone_decides_and_the_text_is_left_alone(name):
    bound = ALL[name].bind(LONG)
    tokens = np.random.default_rng(0).integers(3, 60, 500).astype(np.int32)
    before = tokens.copy()
    first, again, other = (
        bound({"targets": tokens}, np.random.default_rng(seed))["inputs"].tolist()
        for seed in (7, 7, 8)
    )
    assert first == again != other
    assert (tokens == before).all()


# -- Rates over 10,000 examples --------------------------------------------------------------


def over_10000(objective, length):
    """inputs and targets of 10,000 texts, one after another, and the number of texts' tokens."""
    bound, rng = objective.bind(LONG), np.random.default_rng(1)
    examples = [bound({"targets": text_of(length)}, rng) for _ in range(10_000)]
    return {k: np.concatenate([e[k] for e in examples]) for k in ("inputs", "targets")}


def test_iid_noise_has_its_rate_and_span_length():
    found = over_10000(objectives.IIDSpanCorruption(0.15), 500)
    dropped = (found["targets"] < 10_000).sum()
    spans = (found["inputs"] >= 10_000).sum()
    assert dropped / 5_000_000 == pytest.approx(0.15, rel=0.02)
    # The run of a chance p of going on is 1 / (1 - p) long.
    assert dropped / spans == pytest.approx(1 / 0.85, rel=0.02)


def test_bert_style_shares():
    bound, rng = objectives.Denoising().bind(LONG), np.random.default_rng(1)
    tokens = text_of(500)
    inputs = np.stack([bound({"targets": tokens}, rng)["inputs"] for _ in range(10_000)])
    masked, other = inputs == FIRST_SENTINEL, inputs != tokens
    assert masked.mean() == pytest.approx(0.15 * 0.9, rel=0.02)
    # A random token is the token itself once in 19,797 times.
    assert (other & ~masked).mean() == pytest.approx(0.15 * 0.1, rel=0.02)
    random = inputs[other & ~masked]
    assert random.min() >= 3 and random.max() < 19_800
    assert random.mean() == pytest.approx((3 + 19_799) / 2, rel=0.02)


@pytest.mark.parametrize(("share", "random"), [(0.8, 0.1), (1.0, 0.0)])
def test_mass_masks_half_of_which_a_tenth_is_random_and_a_tenth_unchanged(share, random):
    bound = objectives.MASS(mask_share=share, random_share=random).bind(LONG)
    rng, tokens = np.random.default_rng(1), text_of(100)
    examples = [bound({"targets": tokens}, rng) for _ in range(10_000)]
    inputs = np.stack([e["inputs"] for e in examples])
    masked = inputs == FIRST_SENTINEL
    assert np.mean([e["targets"].size for e in examples]) == 50
    assert masked.mean() == pytest.approx(0.5 * share, rel=0.02)
    assert ((inputs != tokens) & ~masked).mean() == pytest.approx(0.5 * random, rel=0.05)
    # The span may begin at 51 places, each equally often.
    starts = np.bincount([e["targets_positions"][0] for e in examples])
    assert starts.size == 51 and np.abs(starts - 10_000 / 51).max() < 5 * 14


def test_dropping_and_deleting_have_their_rate_and_no_favourite():
    found = over_10000(objectives.DropTokens(0.15), 500)
    assert found["targets"].size / 5_000_000 == pytest.approx(0.15, rel=0.02)
    # Each of 500 tokens 1,500 times, with a standard deviation of 36.
    assert np.abs(np.bincount(found["targets"])[1000:] - 1500).max() < 5 * 36
    deletion = objectives.Denoising((objectives.TokenDeletion(0.3),))
    assert over_10000(deletion, 500)["inputs"].size / 5_000_000 == pytest.approx(0.7, rel=0.02)


def test_infilled_spans_are_poisson():
    bound, rng = ORIGINAL["infilling"].bind(LONG), np.random.default_rng(1)
    tokens, lengths, masked = text_of(500), [], 0
    for _ in range(10_000):
        inputs = bound({"targets": tokens}, rng)["inputs"]
        is_mask = inputs == FIRST_SENTINEL
        masked += 500 - (~is_mask).sum()
        # Between two kept tokens with one mask, what is missing is one span.
        kept = np.concatenate(([999], inputs[~is_mask], [1500]))
        masks = np.diff(np.flatnonzero(np.concatenate(([True], ~is_mask, [True])))) - 1
        lengths.append((np.diff(kept) - 1)[masks == 1])
    assert masked / 5_000_000 == pytest.approx(0.3, rel=0.02)
    counts = np.bincount(np.concatenate(lengths)) / sum(map(len, lengths))
    assert counts @ np.arange(counts.size) == pytest.approx(3.0, rel=0.02)
    # exp(-3) 3^k / k!; conditioned on their sum, 50 lengths stray from it by 1 or 2%.
    poisson = [0.0498, 0.1494, 0.2240, 0.2240, 0.1680, 0.1008]
    np.testing.assert_allclose(counts[:6], poisson, rtol=0.04)


def test_every_order_of_three_sentences_is_as_likely():
    permute = objectives.SentencePermutation().bind(LONG["targets"])
    tokens, rng = letters("A.B.C."), np.random.default_rng(2)
    found = [in_letters(permute(tokens, rng)).replace(".", "") for _ in range(10_000)]
    for order in map("".join, itertools.permutations("ABC")):
        assert found.count(order) == pytest.approx(10_000 / 6, rel=0.1)


# -- Lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "inputs", "targets", "raw"),
    [
        # 90 of 601 dropped: 511 and EOS, 90 and EOS.
        (objectives.DropTokens(), 512, 91, 601),
        # 511 tokens and EOS; half of them, 255.5, is rounded to even.
        (objectives.MASS(), 512, 257, 511),
        (objectives.Denoising(), 512, 512, 511),
        # 153 of 511 masked by 51 spans: 511 - 153 + 51 + 1 = 410.
        (ORIGINAL["infilling"], 410, 512, 511),
        # 77 of 511 deleted: 511 - 77 + 1 = 435.
        (ORIGINAL["deletion"], 435, 512, 511),
    ],
)
def test_rows_are_full(objective, inputs, targets, raw):
    bound = objective.bind(LONG)
    assert bound.chunk_length({"inputs": inputs, "targets": targets}) == raw
    example = drawn(bound, raw)
    assert len(example["inputs"]) + 1 == inputs
    assert len(example["targets"]) + 1 == targets


def test_shorter_inputs_shorten_the_text_that_is_denoised():
    bound = ORIGINAL["bart"].bind(LONG)
    length = bound.chunk_length({"inputs": 256, "targets": 512})
    assert bound.inputs_length(length) <= 256 < bound.inputs_length(length + 2)


def test_iid_noise_hardly_ever_outgrows_its_targets():
    bound = objectives.IIDSpanCorruption().bind(LONG)
    needed = bound.targets_length(511)
    assert bound.chunk_length({"inputs": 512, "targets": needed}) == 511
    rng, tokens = np.random.default_rng(0), text_of(511)
    drawn = [bound({"targets": tokens}, rng) for _ in range(4000)]
    sizes = np.array([e["targets"].size + 1 for e in drawn])
    assert (sizes > needed).mean() < 1 / 350
    # 0.15 x 1.85 = 0.2775 a token, the last sentinel (0.85 of the time) and EOS. By hand, the
    # variance is 0.15 x 3.55 - 0.2775^2 - 2 x 0.0225 x 1.85 x 0.85 = 0.3847 a token; so
    # 141.8 + 3 x 14.02 makes 184, and 2.
    assert sizes.mean() == pytest.approx(511 * 0.2775 + 1.85, rel=0.005)
    assert sizes.std() == pytest.approx(14.02, rel=0.05)
    assert needed == 186
    assert max(e["inputs"].size + 1 for e in drawn) <= 512


@pytest.mark.parametrize(
    ("objective", "lengths", "said"),
    [
        (objectives.DropTokens(), {"inputs": 512, "targets": 90}, "is 90: .* 512 inputs gives 91"),
        (objectives.MASS(), {"inputs": 512, "targets": 200}, "is 200: .* makes 257 targets"),
        (objectives.IIDSpanCorruption(), {"inputs": 512, "targets": 114}, "makes up to 1"),
        (objectives.IIDSpanCorruption(), {"inputs": 4096, "targets": 4096}, "has 200 sentinels"),
        (objectives.Denoising(), {"targets": 512}, "a length of 'inputs' is needed"),
    ],
)
def test_lengths_that_do_not_fit_say_what_is_needed(objective, lengths, said):
    with pytest.raises(TaskError, match=said) as raised:
        objective.bind(LONG).chunk_length(lengths)
    assert "\n" not in str(raised.value)


# -- The mask and the full stops -------------------------------------------------------------


def mask_of(spec, **options):
    (corruption,) = (
        objectives.Denoising((objectives.TextInfilling(**options),))
        .bind({"targets": spec})
        .corruptions
    )
    return corruption.mask_id


def test_the_mask_is_the_setting_or_the_vocabularys_or_the_first_sentinel():
    plain = SPEC | {"extra_ids": 0}
    assert mask_of(SPEC) == 17
    assert mask_of(plain | {"mask_id": 5}) == mask_of(SPEC | {"mask_id": 5}) == 5
    assert mask_of(SPEC | {"mask_id": 5}, mask_id=6) == 6
    with pytest.raises(TaskError, match=r"needs a mask token: .* set TextInfilling\.mask_id"):
        mask_of(plain)
    with pytest.raises(TaskError, match="mask_id is 18: an id below vocab_size 18"):
        mask_of(SPEC, mask_id=18)
    with pytest.raises(TaskError, match=r"MASS needs a mask token"):
        objectives.MASS().bind({"targets": plain})


def test_a_run_of_full_stops_ends_one_sentence():
    permute = objectives.SentencePermutation().bind(LONG["targets"])
    assert [in_letters(s) for s in permute.sentences(letters("A...B.C"))] == ["A...", "B.", "C"]


def test_full_stops_are_the_vocabularys_unless_given():
    assert objectives.SentencePermutation().bind(BYTES["targets"]).full_stop_ids == (49,)
    lines = objectives.SentencePermutation(full_stop_ids=(13,)).bind(BYTES["targets"])
    text = np.array(ByteVocabulary().encode("a.b\nc.d\n"))
    assert [ByteVocabulary().decode(s) for s in lines.sentences(text)] == ["a.b\n", "c.d\n"]
    with pytest.raises(TaskError, match=r"set SentencePermutation\.full_stop_ids"):
        objectives.SentencePermutation().bind(SPEC)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: objectives.TokenMasking(rate=0), "TokenMasking.rate is 0"),
        (lambda: objectives.TokenDeletion(rate=1.5), "TokenDeletion.rate is 1.5"),
        (lambda: objectives.TextInfilling(mean_span_length=0), "mean_span_length is 0"),
        (lambda: objectives.TokenMasking(mask_share=0.9, random_share=0.2), "may be 1 at most"),
        (lambda: objectives.MASS(random_share=-0.1), "neither may be negative"),
        (lambda: objectives.Denoising(()), "corruptions is empty"),
        (lambda: objectives.IIDSpanCorruption().bind({"targets": SPEC | {"extra_ids": 1}}), "=1"),
    ],
)
def test_settings_out_of_range_are_refused(make, said):
    with pytest.raises(TaskError, match=said):
        make()
