"""Counts and smoothing: the worked corpus, NLTK's numbers, and the equations in plain loops."""

import collections
import math

import numpy as np
import pytest

from models.errors import ModelError
from models.ngrams.counts import count_batches, count_ngrams
from models.ngrams.smoothing import (
    AddK,
    Katz,
    KneserNey,
    MaximumLikelihood,
    ModifiedKneserNey,
    WittenBell,
    estimated_discounts,
)
from models.ngrams.table import estimated_table, level_name

# The worked corpus: `a b c` and `a b b`; <s> is 0, which is never predicted.
BEGIN, A, B, C, END = range(5)
WORKED = [[BEGIN, A, B, C, END], [BEGIN, A, B, B, END]]


def counted(texts, order=2, vocab_size=5, zero_is_token=False):
    tokens = np.concatenate([np.asarray(text, np.int32) for text in texts])
    return count_ngrams(
        tokens,
        [len(text) for text in texts],
        order=order,
        vocab_size=vocab_size,
        zero_is_token=zero_is_token,
    )


def probability(table, smoothing, counts, text):
    """P of the last token of a text after those before it, in plain Python."""
    *history, token = text
    history = history[max(0, len(history) - counts.order + 1) :]
    return _probability(table, smoothing, counts, history, token)


def _probability(table, smoothing, counts, history, token):
    found = place(table, [*history, token])
    if found is not None:
        return float(table[level_name(len(history) + 1)]["probability"][found])
    context = place(table, history)
    weights = table[level_name(len(history))]["backoff"]
    weight = 1.0 if context is None else float(weights[context])
    if smoothing.backs_off:
        return weight * _probability(table, smoothing, counts, history[1:], token)
    return weight / counts.predictable.sum()


def place(table, gram):
    """Where an n-gram is in its order; None where it is not."""
    at = gram[0]
    for size, token in enumerate(gram[1:], 2):
        level = table[level_name(size)]
        own = level["token"][level["first"][at] : level["first"][at + 1]].tolist()
        if token not in own:
            return None
        at = int(level["first"][at]) + own.index(token)
    return at


def worked(smoothing, *text):
    counts = counted(WORKED)
    table, _ = estimated_table(counts, smoothing, np.float64)
    return probability(table, smoothing, counts, text)


# -- The worked corpus -----------------------------------------------------------------------------

KN = KneserNey(discount=0.75, uniform=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ((B, C), 0.25 / 3 + 0.75 * (3 / 3) / 6),  # 0.208333
        ((B, B), 1 / 3),
        ((B, END), 1 / 3),
        ((B, A), 0.125),
        ((A, B), 0.75),
        ((BEGIN, A), 0.6875),
        ((C, END), 0.5),
    ],
)
def test_kneser_ney_on_the_worked_corpus(text, expected):
    assert worked(KN, *text) == pytest.approx(expected, abs=1e-12)


def test_the_worked_sentence_has_perplexity_2_077():
    total = sum(
        math.log(worked(KN, *WORKED[0][max(0, i - 1) : i + 1])) for i in range(1, len(WORKED[0]))
    )
    assert math.exp(total) == pytest.approx(0.0537109, abs=1e-7)
    assert math.exp(-total / 4) == pytest.approx(2.077229, abs=1e-6)
    assert -total / 4 / math.log(2) == pytest.approx(1.054660, abs=1e-6)


def test_add_one_does_not_count_the_start_among_the_tokens():
    assert worked(AddK(1.0), B, C) == pytest.approx(2 / 7, abs=1e-12)  # NLTK: 2/9
    assert worked(AddK(1.0), END, C) == pytest.approx(1 / 4, abs=1e-12)  # after no token seen


def test_maximum_likelihood_is_a_ratio_of_counts():
    assert worked(MaximumLikelihood(), B, B) == pytest.approx(1 / 3, abs=1e-12)
    assert worked(MaximumLikelihood(), A, C) == 0
    # After a context that was never seen, that of single tokens: 3 b of 8 tokens.
    assert worked(MaximumLikelihood(), END, B) == pytest.approx(3 / 8, abs=1e-12)


def test_witten_bell_by_hand():
    # After b three tokens, of three kinds; single tokens a 2, b 3, c 1, </s> 2 of 8, four kinds.
    single = (3 + 4 / 4) / (8 + 4)
    assert worked(WittenBell(), B, B) == pytest.approx((1 + 3 * single) / (3 + 3), abs=1e-12)
    assert worked(WittenBell(), A, C) == pytest.approx(1 / 3 * (1 + 1) / 12, abs=1e-12)


def test_katz_by_hand():
    """Pairs: sa 2, ab 2, and bc, bb, b/, c/ once. n_1 = 4, n_2 = 2, n_3 = 0; k = 1 discounts ones.

    d_1 = (2 n_2 / n_1 - 2 n_2 / n_1) / (1 - 2 n_2 / n_1) has no sense: 2 n_2 = n_1, so nothing is
    discounted, and each context's count is raised by 1.
    """
    assert worked(Katz(largest=1), B, C) == pytest.approx(1 / 4, abs=1e-12)
    # What is left, 1/4, goes to a alone.
    assert worked(Katz(largest=1), B, A) == pytest.approx(1 / 4, abs=1e-12)


def test_katz_discounts_by_good_and_turing():
    """n_1 = 6, n_2 = 2, n_3 = 1: with k = 2, common = 3 n_3 / n_1 = 1/2.

    d_1 = (2·2/6 - 1/2) / (1/2) = 1/3; d_2 = (3·1/(2·2) - 1/2) / (1/2) = 1/2.
    """
    texts = [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [0, 6], *[[0, 7]] * 2, *[[0, 8]] * 2]
    counts = counted([*texts, *[[0, 9]] * 3], order=1, vocab_size=11)
    table, _ = estimated_table(counts, Katz(largest=2), np.float64)
    p = table[level_name(1)]["probability"]
    total = 6 + 4 + 3
    np.testing.assert_allclose(p[1], 1 / 3 / total, rtol=1e-12)
    np.testing.assert_allclose(p[7], 2 * 1 / 2 / total, rtol=1e-12)
    np.testing.assert_allclose(p[9], 3 / total, rtol=1e-12)
    np.testing.assert_allclose(p[10], (6 * 2 / 3 + 2) / total, rtol=1e-12)  # all that is left


def test_discounts_of_modified_kneser_ney():
    """n = 10, 5, 3, 2: Y = 10/20, D_1 = 1 - 2·½·5/10, D_2 = 2 - 3·½·3/5, D_3 = 3 - 4·½·2/3."""
    found = estimated_discounts(np.array([0, 10, 5, 3, 2]))
    assert found == pytest.approx((0.5, 1.1, 5 / 3), abs=1e-12)
    assert estimated_discounts(np.array([0, 4, 2, 0, 0])) is None


def test_a_corpus_too_small_for_discounts_says_which_were_taken():
    table, notes = estimated_table(counted(WORKED), ModifiedKneserNey(), np.float64)
    assert len(notes) == 2 and "order 2" in notes[1] and "0.5, 1.0, 1.5" in notes[1]
    # c(bc) = 1: (1 - 0.5) / 3, and 0.5·3/3 of the lower order; there a and c were preceded by one
    # kind of token, b and </s> by two: (1 - 0.5 + (2·0.5 + 2·1) / 4) / 6.
    lower = (0.5 + 3 / 4) / 6
    found = probability(table, ModifiedKneserNey(), counted(WORKED), [B, C])
    assert found == pytest.approx(0.5 / 3 + 0.5 * lower, abs=1e-12)


# -- NLTK ------------------------------------------------------------------------------------------


def nltk_model(kind, *arguments, **settings):
    lm = pytest.importorskip("nltk.lm")
    from nltk.lm.preprocessing import padded_everygram_pipeline

    names = {BEGIN: "<s>", A: "a", B: "b", C: "c", END: "</s>"}
    sentences = [[names[i] for i in text[1:-1]] for text in WORKED]
    model = getattr(lm, kind)(*arguments, 2, **settings)
    model.fit(*padded_everygram_pipeline(2, sentences))
    return lambda context, token: model.score(names[token], [names[context]])


@pytest.mark.parametrize(
    ("kind", "settings", "smoothing"),
    [
        ("KneserNeyInterpolated", {"discount": 0.75}, KN),
        ("MLE", {}, MaximumLikelihood()),
    ],
)
def test_as_nltk_on_the_worked_corpus(kind, settings, smoothing):
    theirs = nltk_model(kind, **settings)
    for context in (BEGIN, A, B, C):
        for token in (A, B, C, END):
            assert worked(smoothing, context, token) == pytest.approx(
                theirs(context, token), abs=1e-12
            )


def test_nltks_laplace_counts_two_tokens_more():
    """<s> and <UNK> are among its V: ours with its V is the same."""
    theirs = nltk_model("Laplace")
    for context, token in ((B, C), (A, B), (BEGIN, A), (C, A)):
        seen = {BEGIN: 2, A: 2, B: 3, C: 1}[context]
        ours = worked(AddK(1.0), context, token)
        assert ours * (seen + 4) / (seen + 6) == pytest.approx(theirs(context, token), abs=1e-12)


def test_nltks_witten_bell_counts_the_start_among_single_tokens():
    """0.216667 for P(c|b), where c alone has 1/10: with 1/8, as only what is predicted counts."""
    theirs = nltk_model("WittenBellInterpolated")
    assert theirs(B, C) == pytest.approx(0.216667, abs=1e-6)
    ours = worked(WittenBell(uniform=False), B, C)
    assert ours == pytest.approx(theirs(B, C) + 3 / 6 * (1 / 8 - 1 / 10), abs=1e-12)


# -- The equations in loops, for order 3 -----------------------------------------------------------


def random_texts(seed=0, texts=40, vocab_size=7):
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocab_size - 1)
    draw = lambda n: rng.choice(np.arange(1, vocab_size - 1), n, p=weights / weights.sum())  # noqa: E731
    return [[0, *draw(rng.integers(1, 9)).tolist()] for _ in range(texts)]


def in_loops(texts, order, vocab_size, discount_of):
    """Interpolated Kneser-Ney from its equations; `discount_of(order, count)`."""
    counts = [collections.Counter() for _ in range(order + 1)]
    for text in texts:
        for end in range(1, len(text)):
            for size in range(1, min(order, end + 1) + 1):
                counts[size][tuple(text[end + 1 - size : end + 1])] += 1
    adjusted = [collections.Counter() for _ in range(order)] + [counts[order]]
    for size in range(1, order):
        for gram in counts[size + 1]:
            adjusted[size][gram[1:]] += 1
        for text in texts:  # nothing stands before these
            if 1 < size <= len(text):
                adjusted[size][tuple(text[:size])] += 1

    def p(history, token):
        size = len(history) + 1
        lower = p(history[1:], token) if history else 1 / (vocab_size - 1)
        after = {g: c for g, c in adjusted[size].items() if g[:-1] == tuple(history)}
        total = sum(after.values())
        if not total:
            return lower
        own = after.get((*history, token), 0)
        kept = sum(discount_of(size, c) for c in after.values())
        return max(own - discount_of(size, own), 0) / total + kept / total * lower

    return p


def test_kneser_ney_of_order_3_is_what_its_equations_say():
    texts, vocab_size = random_texts(), 7
    counts = counted(texts, order=3, vocab_size=vocab_size)
    smoothing = KneserNey(discount=0.6)
    table, _ = estimated_table(counts, smoothing, np.float64)
    expected = in_loops(texts, 3, vocab_size, lambda size, count: 0.6 if count else 0.0)
    for history in ([0], [0, 1], [1, 2], [2, 1], [5, 5], [3]):
        for token in range(1, vocab_size):
            found = probability(table, smoothing, counts, [*history, token])
            assert found == pytest.approx(expected(history, token), abs=1e-12)


def test_modified_kneser_ney_of_order_3_is_what_its_equations_say():
    texts, vocab_size = random_texts(texts=60), 7
    counts = counted(texts, order=3, vocab_size=vocab_size)
    smoothing = ModifiedKneserNey((0.5, 0.9, 1.4))
    table, _ = estimated_table(counts, smoothing, np.float64)
    discounts = (0.0, 0.5, 0.9, 1.4)
    expected = in_loops(texts, 3, vocab_size, lambda size, count: discounts[min(count, 3)])
    for history in ([0, 1], [1, 2], [4, 1], [3]):
        for token in range(1, vocab_size):
            found = probability(table, smoothing, counts, [*history, token])
            assert found == pytest.approx(expected(history, token), abs=1e-12)


@pytest.mark.parametrize("zero_is_token", [False, True])
@pytest.mark.parametrize(
    "smoothing",
    [MaximumLikelihood(), AddK(0.1), WittenBell(), Katz(), KneserNey(), ModifiedKneserNey()],
    ids=lambda one: type(one).__name__,
)
def test_probabilities_after_any_context_sum_to_1(smoothing, zero_is_token):
    # With a token 0 inside of texts, as where the end of one begins the next.
    texts = [[text[0], *(0 if zero_is_token and t == 4 else t for t in text[1:])] for text in
             random_texts(texts=80)]  # fmt: skip
    counts = counted(texts, order=4, vocab_size=7, zero_is_token=zero_is_token)
    table, _ = estimated_table(counts, smoothing, np.float64)
    for history in ([], [0], [0, 1], [1, 2, 1], [2, 1, 1], [5, 5, 5], [1, 1, 3], [3, 2]):
        found = [
            probability(table, smoothing, counts, [*history, token])
            for token in range(0 if zero_is_token else 1, 7)
        ]
        assert sum(found) == pytest.approx(1, abs=1e-12) and min(found) >= 0


# -- Counting --------------------------------------------------------------------------------------


def test_counts_are_those_of_a_dictionary():
    texts = random_texts(seed=3, texts=30)
    counts = counted(texts, order=4, vocab_size=7)
    for size in range(1, 5):
        expected = collections.Counter(
            tuple(text[end + 1 - size : end + 1])
            for text in texts
            for end in range(max(1, size - 1), len(text))
        )
        table = {
            level_name(o): {"token": level.tokens, "first": level.first}
            for o, level in enumerate(counts.levels, 1)
        }
        found = counts.levels[size - 1].counts
        assert {g: int(found[place(table, list(g))]) for g in expected} == dict(expected)
        assert found.sum() == expected.total()


def test_batches_are_counted_as_their_rows_without_padding_and_prompts():
    batch = {
        "decoder_input_tokens": np.array([[0, 3, 4, 1, 0], [0, 2, 2, 0, 0], [0, 0, 0, 0, 0]]),
        "decoder_target_tokens": np.array([[3, 4, 1, 0, 0], [2, 2, 5, 0, 0], [0, 0, 0, 0, 0]]),
        # The first token of the second row is a prompt; the third row fills the batch up.
        "decoder_loss_weights": np.array([[1, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]),
    }
    found = count_batches([batch], order=2, vocab_size=6)
    assert found.levels[0].counts.tolist() == [0, 1, 1, 1, 1, 1]
    level = found.levels[1]
    contexts = np.repeat(np.arange(6), np.diff(level.first)).tolist()
    pairs = dict(zip(zip(contexts, level.tokens.tolist()), level.counts.tolist()))  # noqa: B905
    assert pairs == {(0, 3): 1, (3, 4): 1, (4, 1): 1, (2, 2): 1, (2, 5): 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 10}, "order is 10: an n-gram has 1 to 9 tokens."),
        ({"order": 0}, "order is 0"),
        ({"order": 7}, "no text has 7 tokens"),
        ({"vocab_size": 1}, "the vocabulary has 1 tokens: there is nothing to predict"),
        ({"vocab_size": 4}, "a text has the token 4, but the vocabulary has 4"),
    ],
)
def test_what_cannot_be_counted_is_told_in_one_line(settings, message):
    with pytest.raises(ModelError, match=message) as error:
        counted(WORKED, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AddK(0.0),
        lambda: KneserNey(discount=1.5),
        lambda: ModifiedKneserNey((0.5, 1.0)),
        lambda: Katz(largest=0),
    ],
)
def test_settings_without_sense_are_refused(make):
    with pytest.raises(ModelError):
        make()


# -- KenLM -----------------------------------------------------------------------------------------

LINES = (
    "the rain in spain", "stays mainly in the plain", "in the main the rain remains",
    "plain rain and again", "the rain in vain",
)  # fmt: skip
# `lmplz -o 3 --discount_fallback`, at commit 4cb443e of KenLM: log10 of the probability, and of the
# weight of what is a context.
LMPLZ = {
    "<unk>": (-1.3515086, 0.0),
    "</s>": (-0.8811734, 0.0),
    "the": (-1.3515086, -0.30103),
    "rain": (-0.8811734, -0.30103),
    "spain": (-1.2291023, -0.30103),
    "spain </s>": (-0.24738698, 0.0),
    "<s> the": (-0.6531451, -0.30103),
    "in the": (-0.5650214, -0.30103),
    "the rain": (-0.5006773, -0.30103),
    "<s> stays": (-0.88771987, -0.30103),
    "rain in": (-0.72371423, -0.30103),
    "in spain </s>": (-0.106311746,),
    "<s> in the": (-0.19645524,),
    "<s> the rain": (-0.18186158,),
    "the rain in": (-0.36876425,),
    "the rain remains": (-0.5771615,),
    "rain in vain": (-0.48511827,),
}


def test_modified_kneser_ney_is_that_of_kenlms_lmplz():
    names = ["<s>", "</s>", "<unk>", *sorted({word for line in LINES for word in line.split()})]
    ids = {name: i for i, name in enumerate(names)}
    texts = [[0, *(ids[word] for word in line.split()), 1] for line in LINES]
    counts = counted(texts, order=3, vocab_size=len(names))
    assert [level.tokens.size for level in counts.levels] == [15, 23, 21]
    table, _ = estimated_table(counts, ModifiedKneserNey(), np.float64)
    for text, expected in LMPLZ.items():
        gram = [ids[word] for word in text.split()]
        level = table[level_name(len(gram))]
        found = [
            level[name][place(table, gram)] for name in ("probability", "backoff")[: len(expected)]
        ]
        np.testing.assert_allclose(np.log10(found), expected, atol=1e-6, err_msg=text)
