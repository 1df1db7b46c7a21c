"""Softmax attention of blocks of queries to some of the keys, without a matrix of all pairs.

A pattern divides a row into regions. The queries of a region stand in equal blocks and see the same
number of keys, which are brought beside them in views: blocks from a list, keys that all of them
see, or every k-th key. One softmax goes over what all views show. A key that is shown twice counts
twice. Blocks are handled a few at a time, and computed again in the backward pass, so that memory
grows with the length of the row, and time with the number of pairs that are shown.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.ad_checkpoint import checkpoint_name

from models.layers import parts
from models.layers.attention.masks import Mask, SentencesMask
from models.layers.attention.softmax_attention import KeysValues
from models.layers.dropout import NO_DROPOUT, Dropout
from models.layers.linear import STORED_PRODUCT

# Queries handled at a time, if that is in this many steps; a longer row has longer steps. Each step
# adds to the gradients of all keys, so steps must not grow in number with the row.
QUERIES_AT_ONCE = 512
MAX_STEPS = 8


@struct.dataclass
class Tokens:
    """What a pattern may ask of the tokens of a row, int32 `[b or 1, s]` each.

    Attributes:
      slots: places in the row.
      positions: places in the token's own text, from 0.
      segments: which text; tokens of different texts never see each other. -1 is no token.
      sentences: see `SentencesMask`; None where the mask does not say.
    """

    slots: jax.Array
    positions: jax.Array
    segments: jax.Array
    sentences: jax.Array | None = None

    @classmethod
    def of(cls, mask: Mask, length: int) -> "Tokens":
        """The tokens that a mask tells apart, keys where the sides differ."""
        slots = jnp.arange(length, dtype=jnp.int32)[None]
        sentences = mask.sentences_bs if isinstance(mask, SentencesMask) else None
        if mask.key_segments_bs is not None:
            segments = mask.key_segments_bs.astype(jnp.int32)
            starts = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
            first = jax.lax.cummax(jnp.where(starts, slots, 0), axis=1)
            places = jnp.broadcast_to(slots, segments.shape)
            return cls(places, slots - first, segments, sentences)
        if mask.key_valid_bs is not None:
            valid = mask.key_valid_bs.astype(jnp.int32)
            positions = jnp.maximum(valid.cumsum(axis=1) - 1, 0).astype(jnp.int32)
            return cls(jnp.broadcast_to(slots, valid.shape), positions, valid, sentences)
        return cls(slots, slots, jnp.ones_like(slots), sentences)


OfPairs = Callable[[Tokens, Tokens], jax.Array]
"""Of tokens of queries and of keys, whose arrays broadcast, such as which key is seen."""


@dataclasses.dataclass(frozen=True)
class View:
    """Some of the keys, as the queries of some blocks see them.

    Attributes:
      axes: of the keys besides rows, heads and units: "ms", each block of queries m has its own;
        "s", all have the same; "st", query t of each block has its own.
      width: s.
      pick: from an array `[b, g, s, z]` of all keys, and numbers of blocks in their region, `[m]`,
        to those that are seen, `[b, g, axes, z]`.
      sees: which of them, beyond being of the same text; None is all.
    """

    axes: str
    width: int
    pick: Callable[[jax.Array, jax.Array], jax.Array]
    sees: OfPairs | None = None


@dataclasses.dataclass(frozen=True)
class Region:
    """Consecutive blocks of queries that see as many keys as one another.

    Attributes:
      first: slot of the first query.
      block: queries of a block.
      count: how many blocks.
      views: of the keys.
      labels: how a key stands to a query, int32, where queries score it; see `attend`.
    """

    first: int
    block: int
    count: int
    views: tuple[View, ...]
    labels: OfPairs | None = None

    @property
    def pairs(self) -> int:
        """Scores that are computed."""
        return self.count * self.block * sum(view.width for view in self.views)


class Pattern(Protocol):
    """Which keys a query sees."""

    def padded(self, length: int) -> int:
        """How many slots a row needs that has `length` tokens."""

    def regions(self, length: int, tokens: Tokens, mask: Mask) -> Sequence[Region]:
        """The regions of a row, in order.

        Args:
          length: as `padded` gives it.
          tokens: of the row, with segment -1 where there is none.
          mask: what says more about them.
        """

    def sees(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Which pairs are seen among tokens of one text, where the keys are in a cache."""

    def visible_pairs(self, length: int) -> int | None:
        """How many pairs a row of one text has; None is as many as its regions compute."""


# -- Views -------------------------------------------------------------------------------------


def everything(sees: OfPairs | None = None, *, end: int, first: int = 0) -> View:
    """The keys of the slots from `first` to `end`, for all queries."""
    return View("s", end - first, lambda x, _: x[:, :, first:end], sees)


def chosen(slots: np.ndarray | jax.Array, sees: OfPairs | None = None) -> View:
    """The keys of some slots, `[s]`, or `[b, s]` where rows differ, for all queries."""

    def pick(x: jax.Array, _: jax.Array) -> jax.Array:
        if slots.ndim == 1:
            return x[:, :, slots]
        return jnp.take_along_axis(x, slots[:, None, :, None], axis=2)

    return View("s", slots.shape[-1], pick, sees)


def listed(
    table_gnr: np.ndarray | jax.Array, block: int, sees: OfPairs | None = None, *, first: int = 0
) -> View:
    """Blocks of keys from a list for each block of queries.

    Args:
      table_gnr: numbers of blocks, `[heads of keys or 1, blocks of queries, blocks that it sees]`;
        one beyond the last block is none.
      block: keys of a block.
      sees: see `View`.
      first: slot where block 0 begins.
    """

    def pick(x: jax.Array, blocks: jax.Array) -> jax.Array:
        rows_gmr = jnp.asarray(table_gnr)[:, blocks]
        b, _, _, z = x.shape
        fill = -1 if jnp.issubdtype(x.dtype, jnp.integer) else 0
        if rows_gmr.shape[0] > 1:
            # What all heads share, such as segments, each looks up in its own list.
            x = jnp.broadcast_to(x, (b, rows_gmr.shape[0], *x.shape[2:]))
        in_blocks = x[:, :, first:].reshape(b, x.shape[1], -1, block, z)
        take = functools.partial(jnp.take, axis=1, mode="fill", fill_value=fill)
        own = 0 if rows_gmr.shape[0] > 1 else None
        picked: jax.Array = jax.vmap(take, (1, own), 1)(
            in_blocks, rows_gmr if own == 0 else rows_gmr[0]
        )
        return picked.reshape(b, x.shape[1], len(blocks), -1, z)

    return View("ms", table_gnr.shape[-1] * block, pick, sees)


def columns(stride: int, sees: OfPairs | None = None, *, end: int) -> View:
    """For query t of each block of `stride`, key t of every block before slot `end`."""

    def pick(x: jax.Array, _: jax.Array) -> jax.Array:
        b, g, z = *x.shape[:2], x.shape[3]
        return x[:, :, :end].reshape(b, g, end // stride, stride, z)

    return View("st", end // stride, pick, sees)


# -- Attention ---------------------------------------------------------------------------------


def attend(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    pattern: Pattern,
    mask: Mask,
    dropout: Dropout = NO_DROPOUT,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention of a row to itself, by a pattern.

    Scores and softmax are float32. A query that sees nothing gives 0.

    Args:
      q_bhtd: queries, already scaled; what is beyond the units of a key are scores of the labels
        that regions have for pairs, each added where a key stands so to the query.
      keys_values: with `g` heads, where `g` divides `h`; the units of values may be others.
      pattern: which keys a query sees.
      mask: texts and padding.
      dropout: on the weights.
      dropout_key: without it there is no dropout.

    Returns:
      `[b, h, t, units of a value]` in the dtype of the queries.
    """
    t = q_bhtd.shape[2]
    length = pattern.padded(t)
    tokens = _padded(Tokens.of(mask, t), length)
    q_bhtd, keys_values = (_padded_length(x, length) for x in (q_bhtd, keys_values))
    regions = pattern.regions(length, tokens, mask)
    computed, visible = sum(region.pairs for region in regions), pattern.visible_pairs(t)
    share = (computed if visible is None else visible, computed)
    scored = parts.part(parts.ATTENTION_SCORES, needed=lambda *_: share)(_attend)
    return scored(q_bhtd, tokens, keys_values, tokens, regions, dropout, dropout_key)[:, :, :t]


@parts.part(parts.ATTENTION_SCORES)
def attend_cached(
    q_bhtd: jax.Array, keys_values: KeysValues, pattern: Pattern, mask: Mask
) -> jax.Array:
    """The same for queries whose keys are in a cache, from slot `mask.first_query` on."""
    t, slots = q_bhtd.shape[2], keys_values.keys_bgsd.shape[2]
    tokens = Tokens.of(mask, slots)
    first = jnp.int32(0) if mask.first_query is None else mask.first_query
    own = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, t, 1), tokens)
    block = min(t, QUERIES_AT_ONCE)
    length = -(-t // block) * block
    region = Region(0, block, length // block, (everything(pattern.sees, end=slots),))
    q_bhtd = _padded_length(q_bhtd, length)
    return _attend(q_bhtd, _padded(own, length), keys_values, tokens, [region])[:, :, :t]


def attention_weights(
    q_bhtd: jax.Array, keys_values: KeysValues, patterns: Sequence[Pattern], mask: Mask
) -> jax.Array:
    """The weights of heads that are divided among patterns, float32 `[b, h, t, s]`.

    This is to look at, not to train with. What is shown twice has the sum of both weights.
    """
    slots = keys_values.keys_bgsd.shape[2]
    eye = jnp.broadcast_to(jnp.eye(slots), (*keys_values.keys_bgsd.shape[:2], slots, slots))
    keys_values = dataclasses.replace(keys_values, values_bgsd=eye)
    return by_patterns(q_bhtd.astype(jnp.float32), keys_values, patterns, mask)


def by_patterns(
    q_bhtd: jax.Array,
    keys_values: KeysValues,
    patterns: Sequence[Pattern],
    mask: Mask,
    dropout: Dropout = NO_DROPOUT,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """`attend`, or `attend_cached`, of heads that are divided evenly among patterns, in order."""
    results = []
    for i, pattern in enumerate(patterns):
        of_pattern = functools.partial(_part_of_heads, i, len(patterns))
        q, own = of_pattern(q_bhtd), jax.tree.map(of_pattern, keys_values)
        if mask.first_query is not None:
            results.append(attend_cached(q, own, pattern, mask))
            continue
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, i)
        results.append(attend(q, own, pattern, mask, dropout, key))
    return results[0] if len(results) == 1 else jnp.concatenate(results, axis=1)


def _part_of_heads(i, count, x_bhtd):
    heads = x_bhtd.shape[1] // count
    return x_bhtd[:, i * heads : (i + 1) * heads]


def _padded(tokens, length):
    return jax.tree.map(
        lambda x: jnp.pad(x, ((0, 0), (0, length - x.shape[1])), constant_values=-1), tokens
    )


def _padded_length(tree, length):
    def pad(x):
        return jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0)))

    return jax.tree.map(pad, tree)


def _attend(q_bhtd, own, keys_values, tokens, regions, dropout=NO_DROPOUT, dropout_key=None):
    """The results of all regions side by side; `own` are the tokens of the queries."""
    b, h, _, d = q_bhtd.shape
    g = keys_values.keys_bgsd.shape[1]
    results = []
    for i, region in enumerate(regions):
        end = region.first + region.block * region.count
        per_step = max(QUERIES_AT_ONCE // region.block, -(-region.count // MAX_STEPS), 1)
        per_step = min(per_step, region.count)
        steps = -(-region.count // per_step)
        numbers = np.minimum(np.arange(steps * per_step), region.count - 1).reshape(steps, -1)

        def blocks(x, lead, region=region, end=end, numbers=numbers):
            """Arrays `[lead, slots, ...]` as `[steps, lead, blocks, block, ...]`."""
            x = jax.lax.slice_in_dim(x, region.first, end, axis=lead)
            x = x.reshape(*x.shape[:lead], region.count, region.block, *x.shape[lead + 1 :])
            x = jnp.take(x, numbers.reshape(-1), axis=lead) if numbers.size > region.count else x
            x = x.reshape(*x.shape[:lead], *numbers.shape, *x.shape[lead + 1 :])
            return jnp.moveaxis(x, lead, 0)

        queries = blocks(q_bhtd.reshape(b, g, h // g, -1, d), 3)
        of_queries = jax.tree.map(lambda x: blocks(x, 1), own)
        key = None if dropout_key is None else jax.random.fold_in(dropout_key, i)
        step = jax.checkpoint(functools.partial(_step, region.views, region.labels, dropout))
        if steps == 1:
            first = jax.tree.map(lambda x: x[0], (queries, of_queries))
            y = step(*first, numbers[0], key, keys_values, tokens)[None]
        else:

            def body(_, xs, step=step, key=key):
                q, of_q, mine, turn = xs
                own_key = None if key is None else jax.random.fold_in(key, turn)
                return None, step(q, of_q, mine, own_key, keys_values, tokens)

            xs = (queries, of_queries, jnp.asarray(numbers), jnp.arange(steps))
            _, y = jax.lax.scan(body, None, xs)
        # [steps, b, g, r, m, t, d]
        y = jnp.moveaxis(y, 0, 3)
        y = y.reshape(b, h, steps * per_step * region.block, y.shape[-1])
        results.append(y[:, :, : region.block * region.count])
    y_bhtd = results[0] if len(results) == 1 else jnp.concatenate(results, axis=2)
    return checkpoint_name(y_bhtd, STORED_PRODUCT)


def _step(views, labels, dropout, q_bgrmtd, own, numbers_m, key, keys_values, tokens):
    """The results of a few blocks, `[b, g, r, m, t, d]`."""
    keys, values = keys_values.keys_bgsd, keys_values.values_bgsd
    of_queries = jax.tree.map(lambda x: x[:, None, None, :, :, None], own)
    q_bgrmtd, of_labels = jnp.split(q_bgrmtd, [keys.shape[-1]], axis=-1)
    scores, seen = [], []
    for view in views:
        one = jnp.einsum(
            f"bgrmtd,bg{view.axes}d->bgrmts",
            q_bgrmtd,
            view.pick(keys, numbers_m),
            preferred_element_type=jnp.float32,
        )
        of_keys = jax.tree.map(lambda x, view=view: _beside(view, x, numbers_m), tokens)
        if labels is not None and of_labels.shape[-1]:
            found = jnp.broadcast_to(labels(of_queries, of_keys), one.shape)
            one += jnp.take_along_axis(of_labels, found, axis=-1)
        allowed = of_queries.segments == of_keys.segments
        if view.sees is not None:
            allowed &= view.sees(of_queries, of_keys)
        scores.append(one)
        seen.append(jnp.broadcast_to(allowed, (*allowed.shape[:2], 1, *one.shape[3:])))
    if len({x.shape[:2] for x in seen}) > 1:
        most = np.max([x.shape[:2] for x in seen], axis=0)
        seen = [jnp.broadcast_to(x, (*most, *x.shape[2:])) for x in seen]
    seen_bgrmts, scores_bgrmts = jnp.concatenate(seen, axis=-1), jnp.concatenate(scores, axis=-1)
    scores_bgrmts = jnp.where(seen_bgrmts, scores_bgrmts, jnp.finfo(jnp.float32).min)
    top = jax.lax.stop_gradient(scores_bgrmts.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores_bgrmts - top) * seen_bgrmts
    total = weights.sum(axis=-1, keepdims=True)
    weights = dropout(weights, key).astype(q_bgrmtd.dtype)
    edges = np.cumsum([view.width for view in views])[:-1]
    y = sum(
        jnp.einsum(f"bgrmts,bg{view.axes}d->bgrmtd", part, view.pick(values, numbers_m))
        for view, part in zip(views, jnp.split(weights, edges, axis=-1), strict=True)
    )
    return y / jnp.where(total > 0, total, 1.0).astype(q_bgrmtd.dtype)


def _beside(view, x_bs, numbers_m):
    """A number of each key that a view picks, broadcast against scores `[b, g, r, m, t, s]`."""
    x = view.pick(x_bs[:, None, :, None], numbers_m)[..., 0]
    match view.axes:
        case "ms":
            return x[:, :, None, :, None, :]
        case "st":
            return x.swapaxes(2, 3)[:, :, None, None]
        case _:
            return x[:, :, None, None, None]
