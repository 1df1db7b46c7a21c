"""The stochastic answer network (Liu et al. 2018, "SAN"): a pair of texts, read several times.

MT-DNN's head for pairs (Liu et al. 2019, equations 3 and 4). What the papers leave open is the
released code's: biases, where dropout acts, that a step attends and answers with the state it
began with (equation 4 counts it one further).
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.heads.classification import Classification
from models.layers import parts
from models.layers.dropout import Dropout
from models.layers.linear import Initializer, axis_names, dense
from models.layers.recurrent.cells import GRU

# Scores of what is not there; not infinite, as a text may have no token at all.
_NEVER = -1e30


@dataclasses.dataclass(frozen=True)
class PairClassification(Classification):
    """One of several labels for each pair of texts, by a stochastic answer network.

    Attributes:
      labels: as for `heads.Classification`.
      dropout_rate: within the network; None is the model's.
      steps: K, how often the first text is read.
      prediction_dropout_rate: how often the answer of a step is left out in training; of each row,
        one stays in any case.
    """

    steps: int = 5
    prediction_dropout_rate: float = 0.1

    of_several_tasks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise ModelError(f"PairClassification.steps is {self.steps}: 1 or more is needed.")
        if not 0 <= self.prediction_dropout_rate < 1:
            raise ModelError(
                "PairClassification.prediction_dropout_rate is "
                f"{self.prediction_dropout_rate!r}: it must be at least 0 and below 1."
            )


class StochasticAnswer(nn.Module):
    """The network.

    A state begins as a mean of the second text's vectors, weighted by a learned score. In each step
    the first text is attended to with the state, the state and what was read give an answer, and a
    GRU computes the next state. The result is the mean of the answers' probabilities.

    Attributes:
      outputs: how many labels.
      kernel_init: initial values of all matrices.
      steps: K.
      dropout_rate: of the vectors where they are read, of states and of what answers.
      prediction_dropout_rate: see `PairClassification`.
    """

    part: ClassVar[str] = parts.HEAD

    outputs: int
    kernel_init: Initializer
    steps: int = 5
    dropout_rate: float = 0.0
    prediction_dropout_rate: float = 0.0

    @nn.compact
    def __call__(
        self,
        x_bse: jax.Array,
        first_bs: jax.Array,
        second_bs: jax.Array,
        enable_dropout: bool = False,
    ) -> jax.Array:
        """Vectors of a pair to the natural log of each label's probability, `[b, outputs]`.

        Args:
          x_bse: of all places, in any float dtype; everything is computed in float32.
          first_bs: bool, the places of the first text (the premise).
          second_bs: bool, those of the second (the hypothesis).
          enable_dropout: whether to drop; draws from "dropout".
        """
        x_bse = x_bse.astype(jnp.float32)
        rows, _, width = x_bse.shape
        score = self._linear("state_score", width, 1, None)
        attend = self._linear("attention", width, width)
        read = self._linear("input", width, 3 * width)
        recur = self._linear("recurrent", width, 3 * width)
        answer = self._linear("output", 4 * width, self.outputs, None)
        drop = Dropout(self.dropout_rate)
        begin = per_step = None
        if enable_dropout and self.dropout_rate:
            begin, rest = jax.random.split(self.make_rng("dropout"))
            per_step = jax.random.split(rest, (self.steps, 4))

        second_bse = drop(x_bse, begin)
        s_be = _read(_linear(second_bse, score)[..., 0], second_bs, second_bse)
        gru = GRU()

        def step(s_be: jax.Array, keys: jax.Array | None) -> tuple[jax.Array, jax.Array]:
            of_places, of_state, of_answer, of_next = [None] * 4 if keys is None else keys
            query_be = _linear(drop(s_be, of_state), attend)
            scores_bs = jnp.einsum("bse,be->bs", drop(x_bse, of_places), query_be)
            x_be = _read(scores_bs, first_bs, x_bse)
            both = jnp.concatenate([s_be, x_be, jnp.abs(s_be - x_be), s_be * x_be], axis=-1)
            logits_bo = _linear(drop(both, of_answer), answer)

            def gates(left_be: jax.Array, which: slice) -> jax.Array:
                return _linear(left_be, recur).reshape(rows, 3, width)[:, which]

            inputs_bqe = _linear(x_be, read).reshape(rows, 3, width)
            s_be = gru({"hidden": drop(s_be, of_next)}, inputs_bqe, gates)["hidden"]
            return s_be, jax.nn.log_softmax(logits_bo)

        _, answers_kbo = jax.lax.scan(step, s_be, per_step, length=self.steps)
        kept_kb = self._kept(rows, enable_dropout)
        total_bo = jax.nn.logsumexp(answers_kbo, axis=0, b=kept_kb[..., None])
        return total_bo - jnp.log(kept_kb.sum(axis=0))[:, None]

    def _linear(
        self, name: str, inputs: int, outputs: int, axis: str | None = "mlp"
    ) -> tuple[jax.Array, jax.Array]:
        """A matrix and its bias; made here, as no module can be made within a scan."""
        axes = ("embed", axis)
        kernel = axis_names(axes, self.kernel_init)
        bias = axis_names(axes[1:], nn.initializers.zeros)
        return (
            self.param(f"{name}_kernel", kernel, (inputs, outputs), jnp.float32),
            self.param(f"{name}_bias", bias, (outputs,), jnp.float32),
        )

    def _kept(self, rows: int, enable_dropout: bool) -> jax.Array:
        """Which answers count, float32 `[steps, b]` of 0 and 1."""
        if not (enable_dropout and self.prediction_dropout_rate):
            return jnp.ones((self.steps, rows))
        key, of_certain = jax.random.split(self.make_rng("dropout"))
        kept = jax.random.bernoulli(key, 1 - self.prediction_dropout_rate, (self.steps, rows))
        certain = jax.random.randint(of_certain, (rows,), 0, self.steps)
        return (kept | (jnp.arange(self.steps)[:, None] == certain)).astype(jnp.float32)


def _linear(x: jax.Array, layer: tuple[jax.Array, jax.Array]) -> jax.Array:
    kernel, bias = layer
    return dense(x, kernel) + bias


def _read(scores_bs: jax.Array, there_bs: jax.Array, x_bse: jax.Array) -> jax.Array:
    """The mean of the vectors of some places, weighted by the softmax of their scores."""
    weights_bs = jax.nn.softmax(jnp.where(there_bs, scores_bs, _NEVER))
    return jnp.einsum("bs,bse->be", weights_bs, x_bse)
