"""BigBird's pattern, its random blocks, and attention by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.layers.attention import block_sparse
from models.layers.attention.block_sparse import attend, attention_weights
from models.layers.attention.softmax_attention import KeysValues
from models.layers.attention.window_patterns import (
    RandomBlocksMask,
    WindowsAndGlobals,
    random_blocks,
)

B, H, D = 1, 2, 8

weights_of = jax.jit(attention_weights, static_argnums=2)


def arrays(length):
    keys = jax.random.split(jax.random.key(0), 4)
    return [jax.random.normal(key, (B, H, length, D)) for key in keys]


def rows(text):
    return np.array([[int(digit) for digit in row] for row in text.split()])


def blocks_seen(pattern, length, table=None):
    """For each head, which block of keys a block of queries gives weight, 0 or 1."""
    q, k, v, _ = arrays(length)
    mask = RandomBlocksMask(random_gnr=None if table is None else jnp.asarray(table))
    weights = weights_of(q, KeysValues(k, v), (pattern,), mask)[0]
    n = length // pattern.block
    blocks = np.asarray(weights).reshape(H, n, pattern.block, n, pattern.block) > 0
    # All or none of a block.
    assert (blocks.all(axis=(2, 4)) == blocks.any(axis=(2, 4))).all()
    return blocks.any(axis=(2, 4)).astype(int)


# 8 blocks of 4, by hand: the first and the last are global, the others see their neighbours.
WINDOWS = "11111111 11100001 11110001 10111001 10011101 10001111 10000111 11111111"


def test_windows_and_global_blocks():
    found = blocks_seen(WindowsAndGlobals(4), 32)
    assert rows(WINDOWS).sum() == 44
    for head in found:
        np.testing.assert_array_equal(head, rows(WINDOWS))


# What `transformers` draws in training for layers 0 and 1, two heads, r = 1.
DRAWN = {
    0: ([3, 5, 5, 1, 3, 2], [3, 5, 1, 2, 3, 4]),
    1: ([4, 4, 1, 2, 2, 4], [3, 4, 5, 1, 2, 3]),
}


@pytest.mark.parametrize("layer", DRAWN)
def test_the_random_blocks_of_a_layer_are_those_of_transformers(layer):
    table = random_blocks(layer, 2, length=32, block=4, num_random=1, longest=4096)
    np.testing.assert_array_equal(table[:, :, 0], DRAWN[layer])


def test_with_random_blocks():
    table = random_blocks(0, 2, length=32, block=4, num_random=1, longest=4096)
    found = blocks_seen(WindowsAndGlobals(4), 32, table)
    expected = (
        "11111111 11110001 11110101 10111101 11011101 10011111 10100111 11111111",
        "11111111 11110001 11110101 11111001 10111101 10011111 10001111 11111111",
    )
    for head, shown in zip(found, expected, strict=True):
        np.testing.assert_array_equal(head, rows(shown))
        assert head.sum() == 50


def test_the_released_plans_rows():
    """Twelve blocks of 64, three random: rows 1 to 10 of the first head."""
    table = random_blocks(0, 1, length=768, block=64, num_random=3, longest=4096)
    found = ["".join(map(str, row)) for row in table[0]]
    assert " ".join(found) == "467 954 679 769 893 318 235 614 526 246"


def test_rows_of_the_papers_lengths_draw_from_the_first_1024_tokens():
    for length in (1024, 3072, 4096):
        table = random_blocks(3, 2, length=length, block=64, num_random=3, longest=4096)
        assert table.shape == (2, length // 64 - 2, 3)
        assert table.min() >= 1 and table.max() <= 15
        for head in table:
            for row, blocks in enumerate(head, 1):
                assert len(set(blocks)) == 3
                if row < 61:
                    assert not set(blocks) & {row - 1, row, row + 1}


def test_no_random_block_is_in_the_window_or_global():
    for layer in range(3):
        table = random_blocks(layer, 3, length=40, block=2, num_random=2, longest=64)
        for head in table:
            for row, blocks in enumerate(head, 1):
                assert not set(blocks) & {0, row - 1, row, row + 1, 19}
                assert len(set(blocks)) == 2


def test_a_block_that_is_listed_twice_counts_twice():
    """With equal scores, block 0 of 1 + 3 listings has 4 of 8 shares, in row 1 of 7."""
    length = 24
    q, k, v, _ = (jnp.zeros((B, H, length, D)) for _ in range(4))
    mask = RandomBlocksMask(random_gnr=jnp.zeros((H, length // 2 - 2, 3), jnp.int32))
    weights = weights_of(q, KeysValues(k, v), (WindowsAndGlobals(2),), mask)
    np.testing.assert_allclose(weights[0, 0, 10, :2].sum(), 1 / 2, rtol=1e-6)
    np.testing.assert_allclose(weights[0, 0, 2, :2].sum(), 4 / 7, rtol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def counts_of(table, n):
    """How often each block of queries lists each block of keys, `[h, n, n]`, by definition."""
    counts = np.zeros((H, n, n))
    for head in range(H):
        for i in range(n):
            if i in (0, n - 1):
                counts[head, i] = 1
                continue
            for j in {0, i - 1, i, i + 1, n - 1}:
                counts[head, i, j] += 1
            for j in table[head, i - 1]:
                counts[head, i, j] += 1
    return counts


def test_values_and_gradients_are_those_of_dense_attention(monkeypatch):
    """The logarithm of how often a key is listed is added to its score; two texts and padding."""
    monkeypatch.setattr(block_sparse, "QUERIES_AT_ONCE", 4)
    length, b, padded = 33, 2, 34
    table = random_blocks(1, H, length=padded, block=b, num_random=2, longest=64)
    table[:, 4] = 0  # and one listing three times
    counts = counts_of(table, padded // b).repeat(b, axis=1).repeat(b, axis=2)
    segments = jnp.asarray(np.repeat([1, 2, 0], [14, 15, 4])[None])
    same = (segments[:, :, None] == segments[:, None, :])[:, None]
    q, k, v, dy = arrays(length)
    with np.errstate(divide="ignore"):
        bias = jnp.asarray(np.maximum(np.log(counts[:, :length, :length]), -1e30))[None]
    mask = RandomBlocksMask(
        query_segments_bt=segments, key_segments_bs=segments, random_gnr=jnp.asarray(table)
    )

    def ours(q, k, v):
        return attend(q, KeysValues(k, v), WindowsAndGlobals(b), mask)

    def theirs(q, k, v):
        scores = jnp.where(same, jnp.einsum("bhtd,bhsd->bhts", q, k) + bias, -2e30)
        return jnp.einsum("bhts,bhsd->bhtd", jax.nn.softmax(scores), v)

    @jax.jit
    def both(args, dy):
        found = [jax.vjp(function, *args) for function in (ours, theirs)]
        # Padding is of no account.
        dy = dy * (segments != 0)[:, None, :, None]
        return [(y[:, :, :29], *pull(dy)) for y, pull in found]

    for found, expected in zip(*both((q, k, v), dy), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_tokens_before_the_text_see_all_and_are_seen_by_all():
    """Three of them, and four blocks of two: each block sees them and its neighbours."""
    q, k, v, _ = arrays(11)
    mask = RandomBlocksMask(key_valid_bs=jnp.ones((B, 11), bool))
    found = weights_of(q, KeysValues(k, v), (WindowsAndGlobals(2, 3),), mask)[0, 0] > 0
    text = (np.arange(8) // 2)[:, None] - (np.arange(8) // 2)[None, :]
    expected = np.ones((11, 11), bool)
    expected[3:, 3:] = np.abs(text) <= 1
    np.testing.assert_array_equal(found, expected)


def temporaries(length):
    """Bytes of attention with its gradients beside its arguments and results."""
    shape = jax.ShapeDtypeStruct((1, H, length, D), jnp.float32)
    table = jnp.zeros((H, length // 16 - 2, 3), jnp.int32)

    def loss(q, k, v):
        mask = RandomBlocksMask(random_gnr=table)
        return attend(q, KeysValues(k, v), WindowsAndGlobals(16), mask).sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(shape, shape, shape).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_length_alone():
    """Four times the length takes four times the memory, where all pairs would take 16."""
    assert temporaries(2048) < 4.4 * temporaries(512)
