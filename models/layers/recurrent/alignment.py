"""Attention of a recurrent decoder to its source: scores, and the mean that they weigh.

A score is a plain object without parameters; `layers.recurrent.attention_decoder` makes them.
`e` is the width of a source state, `f` that of the decoder's state, `a` that of a key.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from models.errors import ModelError
from models.layers import parts

Weights = Mapping[str, jax.Array]

_MASKED = -1.0e9  # minus infinity would make NaN of a row without a source


@dataclasses.dataclass(frozen=True)
class Score:
    """The base class of scores: how well a state of the decoder fits each state of the source."""

    def shapes(self, query_dim: int, memory_dim: int) -> dict[str, tuple[int, ...]]:
        """The parameters by name: matrices, inputs first, or vectors.

        Raises:
          ModelError: the two widths do not fit.
        """
        raise NotImplementedError

    def keys(self, weights: Weights, memory_bse: jax.Array) -> jax.Array:
        """What the score reads of the source, once for all tokens, `[b, s, a]`."""
        raise NotImplementedError

    def __call__(self, weights: Weights, query_bf: jax.Array, keys_bsa: jax.Array) -> jax.Array:
        """The scores, `[b, s]`."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Additive(Score):
    """`v · tanh(W s + U h)` (Bahdanau et al. 2015, appendix A.1.2), Luong's "concat".

    Attributes:
      units: of the hidden layer; None is as many as the decoder's state has.
    """

    units: int | None = None

    def __post_init__(self) -> None:
        if self.units is not None and (type(self.units) is not int or self.units < 1):
            raise ModelError(
                f"Additive.units is {self.units!r}: a whole number of 1 or more is needed, or None."
            )

    def shapes(self, query_dim: int, memory_dim: int) -> dict[str, tuple[int, ...]]:
        """See `Score`."""
        units = query_dim if self.units is None else self.units
        return {"query": (query_dim, units), "key": (memory_dim, units), "vector": (units,)}

    def keys(self, weights: Weights, memory_bse: jax.Array) -> jax.Array:
        """`U h`."""
        return jnp.einsum("bse,ea->bsa", memory_bse, weights["key"])

    def __call__(self, weights: Weights, query_bf: jax.Array, keys_bsa: jax.Array) -> jax.Array:
        """See `Score`."""
        query_ba = jnp.einsum("bf,fa->ba", query_bf, weights["query"])
        hidden_bsa = jnp.tanh(query_ba[:, None] + keys_bsa)
        return jnp.einsum("bsa,a->bs", hidden_bsa, weights["vector"])


@dataclasses.dataclass(frozen=True)
class Dot(Score):
    """`s · h` (Luong et al. 2015, equation 8)."""

    def shapes(self, query_dim: int, memory_dim: int) -> dict[str, tuple[int, ...]]:
        """None; see `Score`."""
        if query_dim != memory_dim:
            raise ModelError(
                "alignment.Dot needs source states as wide as the decoder's, but they have "
                f"{memory_dim} units (those of both directions) and the decoder's {query_dim}: "
                "set encoder_dim to half of hidden_dim, or take alignment.General()."
            )
        return {}

    def keys(self, weights: Weights, memory_bse: jax.Array) -> jax.Array:
        """The states themselves."""
        return memory_bse

    def __call__(self, weights: Weights, query_bf: jax.Array, keys_bsa: jax.Array) -> jax.Array:
        """See `Score`."""
        return jnp.einsum("bf,bsf->bs", query_bf, keys_bsa)


@dataclasses.dataclass(frozen=True)
class General(Score):
    """`s · W h` (Luong et al. 2015, equation 8)."""

    def shapes(self, query_dim: int, memory_dim: int) -> dict[str, tuple[int, ...]]:
        """See `Score`."""
        return {"key": (memory_dim, query_dim)}

    def keys(self, weights: Weights, memory_bse: jax.Array) -> jax.Array:
        """`W h`."""
        return jnp.einsum("bse,ea->bsa", memory_bse, weights["key"])

    def __call__(self, weights: Weights, query_bf: jax.Array, keys_bsa: jax.Array) -> jax.Array:
        """See `Score`."""
        return jnp.einsum("bf,bsf->bs", query_bf, keys_bsa)


@parts.part(parts.ATTENTION_SCORES)
def attend(
    score: Score,
    weights: Weights,
    query_bf: jax.Array,
    keys_bsa: jax.Array,
    memory_bse: jax.Array,
    mask_bs: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The mean of the source's states, weighted by the softmax of their scores.

    Args:
      score: which one.
      weights: its parameters, in the dtype of the computation.
      query_bf: the decoder's state.
      keys_bsa: as `Score.keys` gives them.
      memory_bse: the source's states.
      mask_bs: bool, which of them the row may see.

    Returns:
      The mean `[b, e]`, in the dtype of the states, and the weights, float32 `[b, s]`.
    """
    scores_bs = score(weights, query_bf.astype(keys_bsa.dtype), keys_bsa).astype(jnp.float32)
    weights_bs = jax.nn.softmax(jnp.where(mask_bs, scores_bs, _MASKED), axis=-1)
    return jnp.einsum("bs,bse->be", weights_bs.astype(memory_bse.dtype), memory_bse), weights_bs
