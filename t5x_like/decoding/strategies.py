"""How the next token is chosen: greedily, by drawing, or by searching with several beams.

A strategy is a frozen dataclass with one method, `decode`, that runs the whole loop inside
one `jax.lax.while_loop` and stops when every row has ended.

Shapes: `b` rows, `k` beams, `n` new tokens at most, `v` vocabulary.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from t5x_like.decoding.constraints import Constraints, Written
from t5x_like.decoding.filters import LogitsFilter, Temperature, TopK, TopP
from t5x_like.decoding.prefill import Start
from t5x_like.errors import UserError

Array = Any
# (cache, tokens int32 [b]) -> (logits float32 [b, v], cache)
Step = Callable[[Any, Array], tuple[Array, Any]]
# The tokens that end a row.
EndIds = int | tuple[int, ...] | None


def listed(eos_id: EndIds) -> tuple[int, ...]:
    """The ids, however many there are."""
    return () if eos_id is None else (eos_id,) if isinstance(eos_id, int) else eos_id


def ends(tokens: Array, eos_id: EndIds) -> Array:
    """Which tokens end their rows, bool of the same shape."""
    found = jnp.zeros_like(tokens, bool)
    for one in listed(eos_id):
        found |= tokens == one
    return found


class Decoded(NamedTuple):
    """What a decoding loop leaves.

    Attributes:
      tokens_bn: int32 `[b, n]`, zeros after the end; the end token is included.
      scores_b: float32 `[b]`, for one-path strategies the sum of the model's natural
        log-probabilities of the tokens (before any filter), for beam search that sum over
        the length penalty.
      lengths_b: int32 `[b]`, tokens in each row, the end token included.
    """

    tokens_bn: Array
    scores_b: Array
    lengths_b: Array


class Strategy(Protocol):
    """Runs a decoding loop."""

    def decode(
        self,
        step: Step,
        start: Start,
        *,
        keys_b: Array,
        limits_b: Array,
        max_new_tokens: int,
        eos_id: EndIds,
        constraints: Constraints = Constraints(),  # noqa: B008 (immutable)
        written: Written = Written(),  # noqa: B008 (immutable)
    ) -> Decoded:
        """Continues every row.

        Args:
          step: the model's, parameters given.
          start: the prompt read.
          keys_b: one random key a row.
          limits_b: int32 `[b]`, most tokens of each row, `n` at most; 0 for rows that only
            fill up the batch.
          max_new_tokens: `n`.
          eos_id: ends a row, or several ids that do; None: every row runs to its limit.
          constraints: what the tokens of every row keep to.
          written: what these know of the prompts.
        """


@dataclasses.dataclass(frozen=True)
class Greedy:
    """The likeliest token each time."""

    def choose(self, logits_bv: Array, keys_b: Array) -> Array:
        """int32 `[b]`; of equals, the lowest id."""
        del keys_b
        # Two plain reductions: XLA's argmax on CPUs is one that is not vectorized.
        highest_b1 = jnp.max(logits_bv, axis=-1, keepdims=True)
        ids_v = jnp.arange(logits_bv.shape[-1], dtype=jnp.int32)
        return jnp.min(jnp.where(logits_bv == highest_b1, ids_v, ids_v[-1]), axis=-1)

    def decode(self, step: Step, start: Start, **arguments: Any) -> Decoded:
        """See `Strategy`."""
        return _follow_one_path(self.choose, step, start, **arguments)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Draws from the distribution that is left after the filters, applied in order.

    The draw for step i of a row depends on that row's key and i alone.
    """

    filters: tuple[LogitsFilter, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "filters", tuple(self.filters))  # a list, from gin

    def filtered(self, logits_bv: Array) -> Array:
        """The logits that are drawn from, float32 `[b, v]`."""
        for logits_filter in self.filters:
            logits_bv = logits_filter(logits_bv)
        return logits_bv

    def choose(self, logits_bv: Array, keys_b: Array) -> Array:
        """int32 `[b]`."""
        drawn_b = jax.vmap(jax.random.categorical)(keys_b, self.filtered(logits_bv))
        return drawn_b.astype(jnp.int32)

    def decode(self, step: Step, start: Start, **arguments: Any) -> Decoded:
        """See `Strategy`."""
        return _follow_one_path(self.choose, step, start, **arguments)


def sampling_strategy(
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Strategy:
    """The usual three knobs as a strategy; a temperature of 0 is greedy.

    Raises:
      UserError: a filter with a temperature of 0, at which nothing is drawn; a value that the
        filters refuse.
    """
    if temperature == 0:
        for name, value in (("top_k", top_k), ("top_p", top_p)):
            if value is not None:
                raise UserError(
                    f"{name} is {value}, but at temperature 0 nothing is drawn, and the likeliest "
                    "token is taken: give a temperature too (TEMPERATURE), 1.0 for the model's "
                    f"own probabilities, or leave out {name} ({name.upper()})."
                )
        return Greedy()
    filters: list[LogitsFilter] = [] if temperature == 1 else [Temperature(temperature)]
    if top_k is not None:
        filters.append(TopK(top_k))
    if top_p is not None:
        filters.append(TopP(top_p))
    return Sampling(tuple(filters))


def _follow_one_path(
    choose: Callable[[Array, Array], Array],
    decode_step: Step,
    start: Start,
    *,
    keys_b: Array,
    limits_b: Array,
    max_new_tokens: int,
    eos_id: EndIds,
    constraints: Constraints = Constraints(),  # noqa: B008 (immutable)
    written: Written = Written(),  # noqa: B008 (immutable)
) -> Decoded:
    """One token a row and step, chosen by `choose(logits_bv, keys_b)`."""
    rows = limits_b.shape[0]

    def record(step, logits_bv, state):
        allowed_bv = constraints.applied(logits_bv, state["written"], step, listed(eos_id))
        token_b = choose(allowed_bv, jax.vmap(jax.random.fold_in, (0, None))(keys_b, step))
        chosen_b = jnp.take_along_axis(logits_bv, token_b[:, None], axis=-1)[:, 0]
        score_b = chosen_b - jax.nn.logsumexp(logits_bv, axis=-1)
        running_b = ~state["ended"]
        token_b = jnp.where(running_b, token_b, 0)
        ended_b = state["ended"] | (step + 1 >= limits_b)
        ended_b |= ends(token_b, eos_id)
        stop_b = constraints.stop_after(state["written"].stop, token_b)
        ended_b |= constraints.stopped(stop_b)
        seen_bv = constraints.seen_after(state["written"].seen, token_b)
        column = jax.lax.dynamic_update_slice_in_dim(state["tokens"], token_b[None], step, 0)
        return {
            "last": token_b,
            "tokens": column,
            "scores": state["scores"] + jnp.where(running_b, score_b, 0.0),
            "lengths": state["lengths"] + running_b,
            "ended": ended_b,
            "written": Written(seen_bv, stop_b),
        }

    def continues(carry):
        step, _, state = carry
        return (step < max_new_tokens) & ~jnp.all(state["ended"])

    def advance(carry):
        step, cache, state = carry
        logits_bv, cache = decode_step(cache, state["last"])
        return step + 1, cache, record(step, logits_bv, state)

    state = {
        "last": start.tokens_b,
        # Written a step at a time, so steps come first until the loop is over.
        "tokens": jnp.zeros((max_new_tokens, rows), jnp.int32),
        "scores": jnp.zeros((rows,), jnp.float32),
        "lengths": jnp.zeros((rows,), jnp.int32),
        "ended": limits_b <= 0,
        "written": written,
    }
    first_step = 0
    if start.logits_bv is not None:
        state, first_step = record(0, start.logits_bv, state), 1
    _, _, state = jax.lax.while_loop(
        continues, advance, (jnp.int32(first_step), start.cache, state)
    )
    return Decoded(state["tokens"].T, state["scores"], state["lengths"])
