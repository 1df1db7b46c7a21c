"""The choice of an attention kernel by platform, shape, dtype and mask, made while tracing.

`attend` is what layers call. It chooses by platform, shape, dtype and by what the mask and the
model need; what a kernel lacks is a reason, in words, not to take it.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp

from models.layers import mesh_context, parts
from models.layers.attention import softmax_attention
from models.layers.attention.distances import Bias, DistanceBias, DistanceScores, dense
from models.layers.attention.flash import attend as flash
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import KEY_AXES, QUERY_AXES, KeysValues
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import STORED_PRODUCT

LOG = logging.getLogger(__name__)

Kernel = Callable[..., jax.Array]
"""`softmax_attention.attend`, or what computes the same from the same arguments."""
Lacks = Callable[..., Iterator[tuple[bool, str]]]
"""Of `(q, keys_values, mask, bias, has_dropout)`, pairs of whether and, in words, what."""

# A TPU's vector lanes: splash attention's blocks are multiples of it.
LANES = 128
# Queries and keys of one block of splash attention, where the row is long enough.
SPLASH_BLOCK = 512


def attend(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None = None,
    dropout: Dropout = NO_DROPOUT,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """`softmax(q kᵀ + bias) v` over the allowed keys, see `softmax_attention.attend`."""
    kernel, reason = choose(q_bhtd, keys_values, mask, bias, has_dropout=dropout_key is not None)
    if q_bhtd.shape[2] > 1:
        _say(f"attention {q_bhtd.shape} {q_bhtd.dtype}: {reason}")
    if kernel is None:
        kernel, bias = softmax_attention.attend, dense(bias)
    return _attend_by(kernel, q_bhtd, keys_values, mask, bias, dropout, dropout_key)


def shared_bias(bias: DistanceBias) -> Bias:
    """A bias that several layers read, spread out once where no kernel does it in each."""
    return bias if mesh_context.platform() == "tpu" else bias.dense()


def _full_flops(
    kernel: Kernel,
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None,
    *_: Any,
) -> float:
    """Two products of every query with every key, whatever a kernel leaves out.

    And one with every distance, where a kernel makes that too.
    """
    distances = bias.distances_nhd.shape[0] if isinstance(bias, DistanceScores) else 0
    return q_bhtd.size * (4.0 * keys_values.keys_bgsd.shape[2] + 2.0 * distances)


def _visible_pairs(
    kernel: Kernel,
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None,
    *_: Any,
) -> parts.Share:
    num_queries, num_keys = q_bhtd.shape[2], keys_values.keys_bgsd.shape[2]
    visible = mask.visible_pairs(num_queries, num_keys)
    if isinstance(bias, DistanceScores):
        of_all = num_queries * (2 * num_keys + bias.distances_nhd.shape[0])
        return 3 * visible, of_all
    return visible, num_queries * num_keys


@parts.part(parts.ATTENTION_SCORES, full=_full_flops, needed=_visible_pairs)
@functools.partial(jax.jit, static_argnums=(0, 5))
def _attend_by(
    kernel: Kernel,
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None,
    dropout: Dropout,
    dropout_key: jax.Array | None,
) -> jax.Array:
    return kernel(q_bhtd, keys_values, mask, bias, dropout, dropout_key)


def choose(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None = None,
    *,
    has_dropout: bool = False,
) -> tuple[Kernel | None, str]:
    """The kernel for these arrays, None for our own blocks, and why.

    Args:
      q_bhtd: queries, or their shape and dtype.
      keys_values: with `g` heads.
      mask: what is allowed.
      bias: what is added to the scores.
      has_dropout: whether weights are dropped.
    """
    platform = mesh_context.platform()
    if platform not in _KERNELS:
        return None, f"in blocks, on {platform}"
    because = ""
    for name, kernel, lacks in _KERNELS[platform]:
        needs = lacks(q_bhtd, keys_values, mask, bias, has_dropout)
        missing = next((what for needed, what in needs if needed), None)
        if missing is None:
            return kernel, name + (because or f", on {platform}")
        because = f", because {name} has no {missing}"
    return None, f"in blocks{because}"


@functools.cache
def _say(line: str) -> None:
    LOG.info(line)


def _tpu_lacks(lacks: Lacks) -> Lacks:
    """What a kernel lacks on the TPU that the program is for."""

    def of_this_one(q_bhtd, *args):
        kind = mesh_context.device_kind()
        # Those before v4 multiply bfloat16, but Pallas does not compile that for them.
        is_old = kind.startswith(("TPU v2", "TPU v3")) and q_bhtd.dtype == jnp.bfloat16
        yield is_old, f"products of bfloat16 on {kind}"
        yield from lacks(q_bhtd, *args)

    return of_this_one


def _needs_of_mask_and_bias(
    mask: Mask, bias: Bias | None, has_dropout: bool
) -> Iterator[tuple[bool, str]]:
    """What kernels of others have none of."""
    yield bias is not None, "bias on the scores"
    yield has_dropout, "dropout of the weights"
    yield mask.first_query is not None, "keys from a cache"
    yield mask.prefix_bt is not None, "prefixes seen in both directions"
    yield mask.query_ranks_bt is not None, "orders of the tokens other than the slots'"


# -- Pallas splash attention, on TPUs ------------------------------------------------------------


def _splash_lacks(q_bhtd, keys_values, mask, bias, has_dropout):
    yield from _needs_of_mask_and_bias(mask, bias, has_dropout)
    t, d = q_bhtd.shape[2:]
    s = keys_values.keys_bgsd.shape[2]
    yield t % LANES or s % LANES, f"rows of {t} and {s}, only multiples of {LANES}"
    yield d % LANES != 0 and d != 64, f"heads of {d} units, only 64 and multiples of {LANES}"
    yield mask.causal and t != s, "causal mask of unequal sides"
    both = mask.query_segments_bt is not None and mask.key_valid_bs is not None
    yield both, "segments together with padding"
    yield softmax_attention.length_is_divided(), "length divided among devices"


def splash(
    q_bhtd: jax.Array, keys_values: KeysValues, mask: Mask, *_: Any, interpret: bool = False
) -> jax.Array:
    """Attention by `jax.experimental.pallas.ops.tpu.splash_attention`.

    Args:
      q_bhtd: queries, already scaled.
      keys_values: with `g` heads, where `g` divides `h`.
      mask: what `choose` lets pass.
      *_: a bias and dropout, of which there is none.
      interpret: runs the kernel's program without a TPU, for tests.
    """

    def local(q_bhtd, keys_values, segments):
        kernel = _splash_kernel(q_bhtd.shape, keys_values.keys_bgsd.shape, mask, interpret)
        return jax.vmap(kernel)(q_bhtd, keys_values.keys_bgsd, keys_values.values_bgsd, segments)

    g = keys_values.keys_bgsd.shape[1]
    queries = QUERY_AXES
    keys = KEY_AXES if g > 1 else ("batch", None, None, None)
    segments = _splash_segments(q_bhtd, mask)
    axes = (
        queries,
        jax.tree.map(lambda _: keys, keys_values),
        jax.tree.map(lambda _: ("batch", None), segments),
    )
    return mesh_context.per_shard(local, axes, queries)(q_bhtd, keys_values, segments)


def _splash_segments(q_bhtd, mask):
    """Which queries may see which keys: those of the same number."""
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    if mask.query_segments_bt is not None:
        return library.SegmentIds(mask.query_segments_bt, mask.key_segments_bs)
    if mask.key_valid_bs is not None:
        ones = jnp.ones(q_bhtd.shape[::2], jnp.int32)
        return library.SegmentIds(ones, mask.key_valid_bs.astype(jnp.int32))
    return None


def _splash_kernel(q_shape, k_shape, mask, interpret):
    from jax.experimental.pallas.ops.tpu import splash_attention as library

    (_, h, t, _), s = q_shape, k_shape[2]
    if mask.window is not None:
        one_head = library.LocalMask((t, s), (mask.window - 1, 0), 0)
    elif mask.causal:
        one_head = library.CausalMask((t, s))
    else:
        one_head = library.FullMask((t, s))
    bq, bk = (max(n for n in (LANES, 256, SPLASH_BLOCK) if size % n == 0) for size in (t, s))
    return library.make_splash_mha_single_device(
        library.MultiHeadMask([one_head] * h),
        block_sizes=library.BlockSizes(
            block_q=bq, block_kv=bk, block_q_dkv=bq, block_kv_dkv=bk, block_q_dq=bq, block_kv_dq=bk
        ),
        residual_checkpoint_name=STORED_PRODUCT,
        interpret=interpret,
    )


# -- cuDNN's flash attention, on GPUs ------------------------------------------------------------


def _cudnn_lacks(q_bhtd, keys_values, mask, bias, has_dropout):
    yield from _needs_of_mask_and_bias(mask, bias, has_dropout)
    d = q_bhtd.shape[3]
    yield q_bhtd.dtype not in (jnp.bfloat16, jnp.float16), f"products of {q_bhtd.dtype}"
    yield d % 8 != 0 or d > 128, f"heads of {d} units, only multiples of 8 up to 128"
    yield mask.query_segments_bt is not None, "packed segments"
    yield mask.key_valid_bs is not None, "padding that is known at run time only"
    yield softmax_attention.length_is_divided(), "length divided among devices"


def cudnn(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    *_: Any,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Attention by `jax.nn.dot_product_attention`.

    Args:
      q_bhtd: queries, already scaled.
      keys_values: with `g` heads, where `g` divides `h`.
      mask: what `choose` lets pass.
      *_: a bias and dropout, of which there is none.
      implementation: "xla" computes the same anywhere, for tests.
    """
    y_bthd = jax.nn.dot_product_attention(
        q_bhtd.swapaxes(1, 2),
        keys_values.keys_bgsd.swapaxes(1, 2),
        keys_values.values_bgsd.swapaxes(1, 2),
        scale=1.0,
        is_causal=mask.causal,
        local_window_size=None if mask.window is None else (mask.window - 1, 0),
        implementation=implementation,
    )
    return y_bthd.swapaxes(1, 2)


# Platform to kernels, the first that lacks nothing is taken: a name, itself, and what it lacks.
_KERNELS: dict[str, tuple[tuple[str, Kernel, Lacks], ...]] = {
    "tpu": (
        ("splash attention", splash, _tpu_lacks(_splash_lacks)),
        ("our flash attention", flash.attend, _tpu_lacks(flash.lacks)),
    ),
    "gpu": (("cuDNN's attention", cudnn, _cudnn_lacks),),
}
