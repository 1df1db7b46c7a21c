"""word2vec's drawing of words, noise and windows, and its tree, by hand."""

import heapq

import numpy as np
import pytest

from tasks.errors import TaskError
from tasks.objectives import ContextWindows, Cooccurrences
from tasks.objectives.word_counts import huffman_paths, keep_probabilities, noise_distribution

# 0 pads, 1 ends documents, 2 is unknown; the words are 3, 4, … with these counts.
COUNTS = [8, 4, 2, 1, 1]
SPEC = {
    "vocab_size": 3 + len(COUNTS), "extra_ids": 0, "eos_id": 1, "unk_id": 2, "pad_id": 0,
    "kind": "words", "first_word_id": 3, "counts": COUNTS,
}  # fmt: skip


def bound(row=64, **settings):
    objective = ContextWindows(**{"subsample": 0.0} | settings)
    return objective.bind({"targets": SPEC}).of_length({"targets": row})


def made(ids, seed=0, **settings):
    return bound(**settings)({"targets": np.array(ids, np.int32)}, np.random.default_rng(seed))


def test_noise_is_drawn_by_counts_to_the_power_of_three_quarters():
    found = noise_distribution(np.array([8, 1, 1]), 0.75)
    np.testing.assert_allclose(found, [0.704003, 0.147998, 0.147998], atol=5e-7)


def test_a_hundredth_of_the_text_is_kept_as_the_paper_and_as_the_released_code_have_it():
    counts = np.array([1, 99])
    paper = keep_probabilities(counts, 1e-5, "paper")
    assert 1 - paper[0] == pytest.approx(0.968377, abs=1e-6)
    assert keep_probabilities(counts, 1e-3, "released")[0] == pytest.approx(0.416228, abs=1e-6)
    # A word that is rarer than the threshold always stays; what is no word never.
    assert keep_probabilities(np.array([1, 10**6, 0]), 1e-3, "paper")[[0, 2]].tolist() == [1, 0]


def test_the_tree_of_five_words():
    # 1 + 1 = node 0; with 2, 4, 8: a node before a word of its count, and node 3 is the root.
    nodes, signs = huffman_paths(COUNTS)
    assert nodes.tolist() == [
        [3, 0, 0, 0], [3, 2, 0, 0], [3, 2, 1, 0], [3, 2, 1, 0], [3, 2, 1, 0],
    ]  # fmt: skip
    assert (signs != 0).sum(axis=1).tolist() == [1, 2, 3, 4, 4]
    # Of two, the smaller is left where the code is 0; 8 meets a node of 8, which comes first.
    assert signs.tolist() == [
        [-1, 0, 0, 0], [1, -1, 0, 0], [1, 1, -1, 0], [1, 1, 1, -1], [1, 1, 1, 1],
    ]  # fmt: skip


def test_the_tree_is_as_short_as_can_be():
    counts = np.sort(np.random.default_rng(0).integers(1, 500, 200))[::-1]
    nodes, signs = huffman_paths(counts)
    heap, shortest = counts.tolist(), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        together = heapq.heappop(heap) + heapq.heappop(heap)
        shortest += together
        heapq.heappush(heap, together)
    assert (counts * (signs != 0).sum(axis=1)).sum() == shortest
    # The ways differ, and each node is left both ways.
    assert len({(*n, *s) for n, s in zip(nodes.tolist(), signs.tolist(), strict=True)}) == 200
    for node in range(199):
        assert set(signs[(nodes == node) & (signs != 0)]) == {-1, 1}


def test_ends_and_unknown_words_are_left_out_and_windows_end_at_documents():
    found = made([3, 2, 4, 1, 5, 0, 3], window=3)
    assert found["targets"].tolist() == [3, 4, 5, 3]
    assert found["segments"].tolist() == [1, 1, 2, 2]
    assert {1, 2, 3} >= set(found["windows"].tolist())
    assert all(found[name].dtype == np.int32 for name in found)


def test_windows_are_drawn_evenly_and_noise_by_its_distribution():
    found = made([3, 4] * 20_000, row=40_000, window=4)
    shares = np.bincount(found["windows"], minlength=5)[1:] / 40_000
    np.testing.assert_allclose(shares, 0.25, atol=0.01)  # four standard deviations
    drawn = np.bincount(found["noise"], minlength=8) / 40_000
    np.testing.assert_allclose(drawn[3:], noise_distribution(np.array(COUNTS), 0.75), atol=0.01)
    assert not drawn[:3].any()


def test_frequent_words_are_left_out_at_their_rate():
    # f of word 3 is a half: (sqrt(0.5 / 0.05) + 1) 0.1 = 0.416228.
    found = made([3] * 20_000, row=20_000, subsample=0.05)
    assert found["targets"].size / 20_000 == pytest.approx(0.416228, abs=0.015)


def test_as_much_text_is_read_as_fills_a_row():
    objective = bound(row=1000, subsample=0.05)
    length = objective.chunk_length({"targets": 1000})
    text = np.random.default_rng(0).choice([3, 4, 5, 6, 7], length, p=np.array(COUNTS) / 16)
    sizes = [
        objective({"targets": text.astype(np.int32)}, np.random.default_rng(seed))["targets"].size
        for seed in range(40)
    ]
    assert 940 < np.mean(sizes) <= 1000 and max(sizes) <= 1000
    assert bound(row=100).chunk_length({"targets": 100}) == 100


def test_paths_are_those_of_the_words():
    found = made([3, 1, 7], contrast="paths")
    nodes, signs = huffman_paths(COUNTS)
    assert found["path_nodes"].tolist() == nodes[[0, 4]].tolist()
    assert found["path_signs"].tolist() == signs[[0, 4]].tolist()
    assert "noise" not in found


def test_the_same_state_draws_the_same():
    ids = [3, 4, 5, 6, 7] * 20
    one, again, other = (made(ids, seed, subsample=0.05) for seed in (1, 1, 2))
    assert all((one[name] == again[name]).all() for name in one)
    assert one["targets"].tolist() != other["targets"].tolist()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"window": 0}, "window is 0: a whole number of 1 or more"),
        ({"window": 1.5}, "window is 1.5: a whole number of 1 or more"),
        ({"subsample": 1.5}, "subsample is 1.5: a share below 1"),
        ({"subsampling": "code"}, "subsampling is 'code': released or paper"),
        ({"contrast": "tree"}, "contrast is 'tree': noise or paths"),
    ],
)
def test_settings_without_sense_are_told_in_a_line(settings, said):
    with pytest.raises(TaskError, match=said):
        ContextWindows(**settings)


def test_a_vocabulary_without_counts_and_rows_within_a_window_are_told_in_a_line():
    plain = {name: value for name, value in SPEC.items() if name != "counts"}
    with pytest.raises(TaskError, match="needs to know how often each word occurs"):
        ContextWindows().bind({"targets": plain})
    for damage in (
        {"counts": [1] * 4 + [0]}, {"counts": "many!"}, {"counts": [1] * 9}, {"first_word_id": None}
    ):  # fmt: skip
        with pytest.raises(TaskError, match="build the cache again"):
            ContextWindows().bind({"targets": SPEC | damage})
    with pytest.raises(TaskError, match="window 5: a row must be longer"):
        bound().chunk_length({"targets": 5})
    with pytest.raises(TaskError, match="needs two words"):
        huffman_paths([3])
    with pytest.raises(TaskError, match="has 41 digits"):
        fibonacci = [1, 1]
        while len(fibonacci) < 42:
            fibonacci.append(fibonacci[-1] + fibonacci[-2])
        huffman_paths(fibonacci[::-1])


def test_pairs_leave_out_what_is_no_word_and_refuse_windows_that_cannot_be_counted():
    assert Cooccurrences().bind({"targets": SPEC}).no_words == (0, 1, 2)
    with pytest.raises(TaskError, match="window is 21: 1 to 20"):
        Cooccurrences(window=21)
    with pytest.raises(TaskError, match="one of harmonic, ramp, flat"):
        Cooccurrences(weighting="linear")
