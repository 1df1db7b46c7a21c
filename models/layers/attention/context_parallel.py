"""Attention over rows whose length is divided among devices: context parallelism.

Memory grows with the length alone, in one of two ways:

* all-to-all (Jacobs et al. 2023, "DeepSpeed Ulysses"): devices that share rows trade their parts of
  all heads for whole rows of some heads, attend as on one device, with any kernel, and trade back;
* where they are more than heads, or the heads do not divide over them: keys and values are
  gathered, and each device attends with its own queries, in blocks (Dubey et al. 2024, "Llama 3",
  section 3.3.2). What a causal mask hides is then computed too.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec

from models.layers import mesh_context
from models.layers.attention import kernels
from models.layers.attention.distances import Bias, DistanceBias, DistanceScores, dense
from models.layers.attention.masks import Mask
from models.layers.attention.softmax_attention import QUERY_AXES, KeysValues
from models.layers.dropout import NO_DROPOUT, Dropout

_OF_QUERIES = ("query_segments_bt", "query_ranks_bt")


def divides(length: int) -> bool:
    """Whether rows of this length lie in even parts on several devices each."""
    parts = mesh_context.shard_counts(QUERY_AXES)[2]
    return parts > 1 and length % parts == 0


def attend(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    mask: Mask,
    bias: Bias | None = None,
    dropout: Dropout = NO_DROPOUT,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """`softmax(q kᵀ + bias) v` over the allowed keys, see `softmax_attention.attend`.

    As `kernels.attend` where no length is divided. Where one is, each device draws what is dropped
    for itself: these numbers depend on the mesh.
    """
    rows, heads, length, _ = mesh_context.shard_counts(QUERY_AXES)
    b, h, t, _ = q_bhtd.shape
    divided = divides(t) and divides(keys_values.keys_bgsd.shape[2])
    # Keys from a cache are of other slots than the queries.
    if not divided or b % rows or h % heads or mask.first_query is not None:
        return kernels.attend(q_bhtd, keys_values, mask, bias, dropout, dropout_key)
    if h % (heads * length) == 0:
        way = _trade_heads
    elif mask.prefix_bt is None:
        way = _gather_keys
    else:  # a prefix is known by slots of whole rows
        return kernels.attend(q_bhtd, keys_values, mask, bias, dropout, dropout_key)
    return way(q_bhtd, keys_values, mask, bias, dropout, dropout_key)


def _trade_heads(q_bhtd, keys_values, mask, bias, dropout, dropout_key):
    spec, keys_spec = _specs(q_bhtd, keys_values)
    length = spec[2]
    parts = mesh_context.shard_counts(QUERY_AXES)[2]

    def local(q_bhtd, keys_values, mask, bias, dropout_key):
        trade = functools.partial(
            jax.lax.all_to_all, axis_name=length, split_axis=1, concat_axis=2, tiled=True
        )
        # Heads that several devices need are sent to each of them.
        g = keys_values.keys_bgsd.shape[1]
        times = math.lcm(g, parts) // g
        keys_values = jax.tree.map(lambda x: trade(jnp.repeat(x, times, axis=1)), keys_values)
        if isinstance(bias, DistanceScores):
            bias = bias.replace(q_bhtd=trade(bias.q_bhtd))
        key = _own_key(dropout_key, spec)
        y_bhtd = kernels.attend(trade(q_bhtd), keys_values, mask, bias, dropout, key)
        return jax.lax.all_to_all(y_bhtd, length, split_axis=2, concat_axis=1, tiled=True)

    of_rows = functools.partial(_of_rows, num_rows=q_bhtd.shape[0], rows=spec[0])
    of_bias = _of_traded(bias, spec, of_rows)
    specs = (spec, keys_spec, jax.tree.map(of_rows, mask), of_bias)
    return _mapped(local, specs, spec)(q_bhtd, keys_values, mask, bias, dropout_key)


def _of_traded(bias: Bias | None, spec: PartitionSpec, of_rows: Any) -> Any:
    """Where a bias lies of whose heads each device has those that it gets."""
    heads = (*_names(spec[1]), *_names(spec[2]))
    if isinstance(bias, DistanceBias):
        return jax.tree.map(lambda x: PartitionSpec(*of_rows(x), heads), bias)
    if isinstance(bias, DistanceScores):
        places: dict[str, Any] = {
            "q_bhtd": spec,
            "distances_nhd": PartitionSpec(None, heads),
            "mask": jax.tree.map(of_rows, bias.mask),
        }
        return dataclasses.replace(bias, **places)
    return PartitionSpec() if bias is None else PartitionSpec(*of_rows(bias), heads)


def _gather_keys(q_bhtd, keys_values, mask, bias, dropout, dropout_key):
    spec, keys_spec = _specs(q_bhtd, keys_values)
    rows, heads, length, _ = spec
    bias_bhts = dense(bias)

    def local(q_bhtd, keys_values, mask, bias_bhts, dropout_key):
        first = jax.lax.axis_index(length) * q_bhtd.shape[2]
        mask = dataclasses.replace(mask, first_query=first)
        key = _own_key(dropout_key, spec)
        return kernels.attend(q_bhtd, keys_values, mask, bias_bhts, dropout, key)

    of_rows = functools.partial(_of_rows, num_rows=q_bhtd.shape[0], rows=rows)
    own = {
        name: PartitionSpec(*of_rows(getattr(mask, name)), length)
        for name in _OF_QUERIES
        if getattr(mask, name) is not None
    }
    of_mask = dataclasses.replace(jax.tree.map(of_rows, mask), **own)
    of_bias = PartitionSpec()
    if bias_bhts is not None:
        of_bias = PartitionSpec(*of_rows(bias_bhts), heads, length)
    specs = (spec, PartitionSpec(rows, keys_spec[1]), of_mask, of_bias)
    return _mapped(local, specs, spec)(q_bhtd, keys_values, mask, bias_bhts, dropout_key)


def _specs(q_bhtd: jax.Array, keys_values: KeysValues) -> tuple[PartitionSpec, PartitionSpec]:
    """Where queries, and keys and values, lie: `[b, h, t, d]` and `[b, g, s, d]`."""
    rows, heads, length, units = nn.logical_to_mesh_axes(QUERY_AXES) or (None,) * 4
    # One shared head is on every device of a row.
    shared = keys_values.keys_bgsd.shape[1] == 1
    return (
        PartitionSpec(rows, heads, length, units),
        PartitionSpec(rows, None if shared else heads, length, units),
    )


def _mapped(local: Any, specs: tuple[Any, ...], result: PartitionSpec) -> Any:
    """`local` on each device's own parts of its arguments, of which the last is a random key."""
    in_specs = (*specs, PartitionSpec())
    return jax.shard_map(local, in_specs=in_specs, out_specs=result, check_vma=False)


def _of_rows(x: jax.Array, *, num_rows: int, rows: Any) -> PartitionSpec:
    """Where an array lies whose first dimension is rows, copies for rows, or 1 for all of them."""
    (shards,) = mesh_context.shard_counts(("batch",))
    divided = x.shape[0] > 1 and x.shape[0] in (num_rows, shards)
    return PartitionSpec(rows if divided else None)


def _own_key(dropout_key: jax.Array | None, spec: PartitionSpec) -> jax.Array | None:
    """A key of the device's own."""
    if dropout_key is None:
        return None
    axes = [name for entry in spec for name in _names(entry)]
    return jax.random.fold_in(dropout_key, jax.lax.axis_index(tuple(axes)))


def _names(entry: Any) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())
