"""Patterns of sparse attention: the pairs that they show, and attention by them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.flops import matmul_flops
from models.layers.attention import block_sparse, factorized_patterns
from models.layers.attention.block_sparse import attend, attention_weights
from models.layers.attention.factorized_patterns import Fixed, Strided
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KeysValues
from models.layers.dropout import Dropout

B, H, D = 2, 4, 8


def arrays(length, kv_heads=H, value_dim=D, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    q = jax.random.normal(keys[0], (B, H, length, D))
    k = jax.random.normal(keys[1], (B, kv_heads, length, D))
    v = jax.random.normal(keys[2], (B, kv_heads, length, value_dim))
    return (q, k, v), jax.random.normal(keys[3], (B, H, length, value_dim))


def pairs(pattern, length, mask=Mask()):  # noqa: B008
    """Which pairs have weight, of the first row and head: 0 or 1, `[t, s]`."""
    (q, k, v), _ = arrays(length)
    weights = jax.jit(lambda q, k, v: attention_weights(q, KeysValues(k, v), [pattern], mask))
    return (np.asarray(weights(q, k, v)[0, 0]) > 0).astype(int)


def rows(text):
    return np.array([[int(digit) for digit in row] for row in text.split()])


# By hand for n = 16, l = 4, c = 1: row by row, which columns are seen.
STRIDED = rows(
    "1000000000000000 1100000000000000 1110000000000000 1111000000000000 1111100000000000 "
    "0111110000000000 0011111000000000 0001111100000000 1000111110000000 0100011111000000 "
    "0010001111100000 0001000111110000 1000100011111000 0100010001111100 0010001000111110 "
    "0001000100011111"
)
FIXED = rows(
    "1000000000000000 1100000000000000 1110000000000000 1111000000000000 0001100000000000 "
    "0001110000000000 0001111000000000 0001111100000000 0001000110000000 0001000111000000 "
    "0001000111100000 0001000111110000 0001000100011000 0001000100011100 0001000100011110 "
    "0001000100011111"
)


def by_formula(pattern, length):
    """The pairs as section 4.3 states them, by positions in one text."""
    i, j = np.arange(length)[:, None], np.arange(length)[None, :]
    l = pattern.stride  # noqa: E741
    if isinstance(pattern, Strided):
        near, distant = i - j <= l, (i - j) % l == 0
    else:
        near, distant = i // l == j // l, j % l >= l - pattern.summary
    shown = (near & pattern.near) | (distant & pattern.distant)
    return (shown & (j <= i)).astype(int)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        (Strided(4), 82),
        (Strided(4, distant=False), 70),
        (Strided(4, near=False), 40),
        (Fixed(4, summary=1), 64),
        (Fixed(4, distant=False, summary=1), 40),
        (Fixed(4, near=False, summary=1), 28),
    ],
)
def test_the_pairs_of_the_factorized_patterns(pattern, count):
    found = pairs(pattern, 16)
    np.testing.assert_array_equal(found, by_formula(pattern, 16))
    assert found.sum() == pattern.visible_pairs(16) == count


def test_the_pairs_of_both_parts_by_hand():
    np.testing.assert_array_equal(by_formula(Strided(4), 16), STRIDED)
    np.testing.assert_array_equal(by_formula(Fixed(4, summary=1), 16), FIXED)


@pytest.mark.parametrize("pattern", [Strided(4), Fixed(4, summary=2)])
def test_a_text_in_a_packed_row_sees_what_it_sees_alone(pattern):
    """Texts of 5, 9 and 3 tokens, and padding: none begins where a block does."""
    texts = [5, 9, 3]
    segments = jnp.asarray(np.repeat([1, 2, 3, 0], [*texts, 2])[None].repeat(B, axis=0))
    mask = Mask(causal=True, query_segments_bt=segments, key_segments_bs=segments)
    alone = np.zeros((17, 17), int)
    for length, end in zip(texts, np.cumsum(texts), strict=True):
        alone[end - length : end, end - length : end] = by_formula(pattern, length)
    np.testing.assert_array_equal(pairs(pattern, 19, mask)[:17, :17], alone)


def formula(q, k, v, shown):
    """Softmax over what is shown as the equation stands; 0 where that is nothing."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (jnp.repeat(x, repeats, axis=1) for x in (k, v))
    scores = jnp.where(shown, jnp.einsum("bhtd,bhsd->bhts", q, k), -1e30)
    weights = jax.nn.softmax(scores) * shown
    return jnp.einsum("bhts,bhsd->bhtd", weights, v)


@pytest.mark.parametrize(
    ("pattern", "kv_heads", "value_dim"),
    [
        pytest.param(Strided(4), 2, 5, id="strided, grouped, values of other units"),
        pytest.param(Fixed(4, near=False, summary=1), H, D, id="some queries see nothing"),
    ],
)
def test_values_and_gradients_are_those_of_dense_attention(
    pattern, kv_heads, value_dim, monkeypatch
):
    """In a row that is no multiple of the stride, a few blocks at a time."""
    monkeypatch.setattr(block_sparse, "QUERIES_AT_ONCE", 4)
    monkeypatch.setattr(factorized_patterns, "REGIONS", 2)
    length = 19
    shown = by_formula(pattern, length)
    args, dy = arrays(length, kv_heads, value_dim)

    @jax.jit
    def both(args, dy):
        ours = jax.vjp(lambda q, k, v: attend(q, KeysValues(k, v), pattern, Mask()), *args)
        theirs = jax.vjp(lambda *x: formula(*x, jnp.asarray(shown)), *args)
        return [(y, *pull(dy)) for y, pull in (ours, theirs)]

    for ours, theirs in zip(*both(args, dy), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_dropout_has_the_gradient_of_what_it_computed():
    """The output is linear in the values: its gradient must use the same draw."""
    (q, k, v), dy = arrays(16)
    key = jax.random.key(3)

    def run(v):
        return attend(q, KeysValues(k, v), Fixed(8, summary=2), Mask(), Dropout(0.5), key)

    @jax.jit
    def both(v, dy):
        y, pull = jax.vjp(run, v)
        return y, pull(dy)[0]

    y, dv = both(v, dy)
    np.testing.assert_allclose(jnp.vdot(dv, v), jnp.vdot(y, dy), rtol=1e-4)
    assert (np.asarray(both(jnp.ones_like(v), dy)[0]) != 1).mean() > 0.5


def temporaries(pattern, length):
    """Bytes of attention with its gradients beside its arguments and results."""
    shape = jax.ShapeDtypeStruct((1, 2, length, 8), jnp.float32)

    def loss(q, k, v):
        return attend(q, KeysValues(k, v), pattern, Mask()).sum()

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    compiled = gradients.lower(shape, shape, shape).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Strided, functools.partial(Fixed, summary=8)])
def test_factorized_attention_holds_no_matrix_of_all_pairs(kind):
    """With a stride of the root of the length, memory grows less than quadratically."""
    short, long = temporaries(kind(16), 256), temporaries(kind(32), 1024)
    assert long < 10 * short


def test_flops_are_those_of_the_scores_that_are_computed():
    """Four regions of a block of four: its own block, and one more summary in each."""
    (q, k, v), _ = arrays(16)
    pattern = Fixed(4, summary=1)
    found = matmul_flops(lambda q, k, v: attend(q, KeysValues(k, v), pattern, Mask()), q, k, v)
    (part,) = found.values()
    computed = 4 * (4 + 1) + 4 * (4 + 2) + 4 * (4 + 3) + 4 * (4 + 4)
    assert part.full == 4 * B * H * D * computed
    assert part.needed == pytest.approx(4 * B * H * D * 64)


def test_mistakes_are_told_in_one_line():
    with pytest.raises(ModelError, match=r"summary is 9: of a block of 4 tokens"):
        Fixed(4, summary=9)
    (q, k, v), _ = arrays(8)
    prefix = Mask(causal=True, prefix_bt=jnp.ones((B, 8), bool))
    with pytest.raises(ModelError, match=r"no prefixes seen in both directions"):
        attend(q, KeysValues(k, v), Strided(4), prefix)
