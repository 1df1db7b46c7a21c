"""MinHash signatures and bands: worked numbers, and datasketch's where it is installed."""

import numpy as np
import pytest

from t5x_like.errors import UserError
from t5x_like.near_duplicates import clusters
from t5x_like.near_duplicates.minhash import Bands, Permutations, bands_for, shingles


@pytest.mark.parametrize(
    ("bands", "rows", "jaccard", "probability"),
    [
        (14, 8, 0.5, 0.0533), (14, 8, 0.7, 0.5645), (14, 8, 0.75, 0.7716), (14, 8, 0.8, 0.9235),
        (14, 8, 0.9, 0.9996), (10, 1, 0.1, 0.6513), (450, 20, 0.7, 0.3018), (450, 20, 0.8, 0.9946),
    ],
)  # fmt: skip
def test_the_probability_of_a_candidate(bands, rows, jaccard, probability):
    assert Bands(bands, rows).candidate_probability(jaccard) == pytest.approx(probability, abs=5e-5)


def test_shingles_are_each_n_words_once():
    """`a b c d` and `b c d e` share two of four pairs of words: a similarity of a half."""
    one, other = (set(found.tolist()) for found in shingles(["a b c d", "B, c d e!"], 2))
    assert len(one) == len(other) == 3
    assert len(one & other) / len(one | other) == 0.5
    again, short, none = shingles(["a b a b a b", "a", " . "], 2)
    assert [len(again), len(short), len(none)] == [2, 1, 0]


def test_a_signature_estimates_the_similarity():
    """Within three standard deviations, 3 sqrt(J (1 - J) / k)."""
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, 1 << 32, 300, np.uint32)
    permutations = Permutations(1024)
    one, other = permutations.signature(drawn[:200]), permutations.signature(drawn[100:])
    assert abs(np.mean(one == other) - 1 / 3) < 3 * np.sqrt(2 / 9 / 1024)


def test_keys_are_equal_where_bands_are():
    signature = np.arange(8, dtype=np.uint32)
    changed = signature.copy()
    changed[5] = 0
    equal = Bands(4, 2).keys(signature) == Bands(4, 2).keys(changed)
    assert equal.tolist() == [True, True, False, True]


def test_values_of_datasketch():
    """What datasketch 2.0.0 gives of the hashes 1, 2 and 3: `MinHash(4, seed=1)`."""
    signature = Permutations(4).signature(np.array([1, 2, 3], np.uint32))
    assert signature.tolist() == [63217260, 131247162, 308645290, 1412089388]
    assert [bands_for(0.8, 128), bands_for(0.5, 64)] == [Bands(9, 13), Bands(14, 4)]


@pytest.mark.interop
def test_signatures_and_pairs_equal_datasketch():
    datasketch = pytest.importorskip("datasketch")
    rng = np.random.default_rng(0)
    sets = [rng.integers(0, 1 << 32, 60, np.uint32)]
    for _ in range(80):  # each some shingles of another
        found = sets[rng.integers(len(sets))].copy()
        found[: rng.integers(1, 15)] = rng.integers(0, 1 << 32, 1, np.uint32)
        sets.append(found)
    permutations, bands = Permutations(112, seed=7), Bands(14, 8)
    index = datasketch.MinHashLSH(num_perm=112, params=(14, 8))
    theirs = []
    for i, found in enumerate(sets):
        theirs.append(datasketch.MinHash(112, seed=7, hashfunc=lambda h: h))
        theirs[-1].update_batch(found.tolist())
        index.insert(i, theirs[-1])
    signatures = np.array([permutations.signature(found) for found in sets])
    np.testing.assert_array_equal(signatures, [each.hashvalues for each in theirs])
    keys = np.array([bands.keys(signature) for signature in signatures])
    ours = (keys[:, None] == keys[None]).any(-1)
    for i, each in enumerate(theirs):
        assert np.flatnonzero(ours[i]).tolist() == sorted(index.query(each))
    assert 200 < ours.sum() < 81 * 81


def test_clusters_reach_through_others():
    """0 and 2 share the first band, 2 and 3 the second; 1 and 4 share a key of different bands."""
    keys = np.array([[1, 10], [2, 11], [1, 12], [3, 12], [4, 2]], np.uint64)
    assert clusters.first_of_cluster(keys).tolist() == [0, 1, 0, 0, 4]
    assert clusters.first_of_cluster(keys[:0]).tolist() == []


def test_wrong_settings_are_one_line():
    with pytest.raises(UserError, match="--rows=0: give whole numbers of 1 or more"):
        Bands(4, 0)
    with pytest.raises(UserError, match="--jaccard=80: give a similarity between 0 and 1"):
        bands_for(80, 128)
