"""TinyBERT (Jiao et al. 2020): a small BERT that learns what the layers of a large one do."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models import losses
from models.bert import BERT, INITIAL_VALUES
from models.bigbird import BigBird
from models.encoder_only import EncoderOnly
from models.errors import ModelError
from models.layers import intermediates
from models.layers.linear import Linear
from models.model import Array, Batch, Params
from models.with_teacher import TEACHER, WithTeacher

EMBEDDINGS, HIDDEN_STATES, ATTENTION = "embeddings", "hidden_states", "attention"
# In the released code a score of no more than this is one of padding, and counts as 0.
_MASKED = -100.0


class TinyBERT(BERT):
    """A student whose states one layer brings to the teacher's width, in training alone.

    That layer, the released code's `fit_dense`, is in its checkpoints. BERT of the same shape reads
    the rest of them, with `InitialCheckpoint.include`.

    Attributes:
      teacher_dim: `embed_dim` of the teacher.
    """

    teacher_dim: int = 768

    def setup(self) -> None:
        """Makes what BERT has, and the layer."""
        super().setup()
        axes = ("embed", "mlp")
        self.fit_dense = Linear(self.teacher_dim, axes, INITIAL_VALUES, True, self.dtype)

    def __call__(self, **features: Any) -> Array:
        """As BERT's."""
        if self.is_initializing():
            self.fitted(jnp.zeros((1, 1, self.embed_dim)))
        return super().__call__(**features)

    def fitted(self, x_bse: Array) -> Array:
        """States in the teacher's width, `[b, s, teacher_dim]` (equation 8: `H W_h`)."""
        return self.fit_dense(x_bse)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerDistilled(WithTeacher):
    """A student whose layers learn to do what some of a teacher's do; no output is compared.

    With M layers of the student and N of the teacher, state m of the student, 0 that which enters
    its first layer, is compared with state m N / M, and the attention of its layer m, from 1, with
    that of layer m N / M (equations 5 to 9, g(m) = m N / M). The terms are `embeddings`, of state
    0, `hidden_states`, the sum over the others, and `attention`, the sum over layers of what is
    between scores before the softmax; each a mean of squares over the tokens of rows, padding left
    out. One layer brings all states to the teacher's width, as in the released code.

    Attributes:
      student: of `TinyBERT`, with a head or without.
      teacher: an encoder of post-norm layers, such as `BERT`, with as many heads of attention.
      embeddings: coefficient of that term.
      hidden_states: see there.
      attention: see there.
    """

    embeddings: float = 1.0
    hidden_states: float = 1.0
    attention: float = 1.0

    def __post_init__(self) -> None:
        """Checks that layers can be compared.

        Raises:
          ModelError: says what differs, or what cannot be.
        """
        student: Any = self.student
        teacher: Any = self.teacher
        if not isinstance(student, TinyBERT) or not isinstance(teacher, EncoderOnly):
            raise ModelError(
                f"layers of {type(student).__name__} cannot learn from {type(teacher).__name__}: "
                "the student must be a TinyBERT, and the teacher an encoder."
            )
        if isinstance(teacher, BigBird):
            raise ModelError(
                "layers cannot learn from a BigBird, whose sparse attention has no scores of all "
                "pairs of tokens: choose another teacher."
            )
        if student.teacher_dim != teacher.embed_dim:
            raise ModelError(
                f"TinyBERT.teacher_dim is {student.teacher_dim}, and the teacher's embed_dim "
                f"{teacher.embed_dim}: give that."
            )
        if teacher.num_layers % student.num_layers:
            raise ModelError(
                f"the teacher's {teacher.num_layers} layers are no multiple of the student's "
                f"{student.num_layers}: choose a divisor of {teacher.num_layers}."
            )
        for name in ("vocab_size", "num_heads"):
            ours, theirs = getattr(student, name), getattr(teacher, name)
            if ours != theirs:
                raise ModelError(
                    f"the student's {name} is {ours} and the teacher's {theirs}: give both one."
                )
        if min(self._coefficients.values()) < 0 or not any(self._coefficients.values()):
            raise ModelError(
                f"LayerDistilled.embeddings, hidden_states and attention are {self.embeddings:g}, "
                f"{self.hidden_states:g} and {self.attention:g}: none may be negative, and one "
                "must be above 0."
            )

    @property
    def _coefficients(self) -> dict[str, float]:
        return {
            EMBEDDINGS: self.embeddings,
            HIDDEN_STATES: self.hidden_states,
            ATTENTION: self.attention,
        }

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """Those of a coefficient above 0."""
        return {name: value for name, value in self._coefficients.items() if value}

    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """Tokens, of every term."""
        student: Any = self.student
        tokens = student.tokens_in(batch).astype(jnp.float32).sum()
        return dict.fromkeys(self.loss_terms, tokens)

    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """There is none without the teacher.

        Raises:
          ModelError: always; see `loss_with_frozen`.
        """
        raise ModelError("layers are compared with a teacher's, whose parameters are needed.")

    def loss_with_frozen(
        self, params: Params, batch: Batch, frozen: Mapping[str, Params], rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """Each term summed over the tokens of the batch, see above."""
        student: Any = self.student
        scores, states = _seen(student, params, batch, rng)
        their_scores, their_states = jax.lax.stop_gradient(
            _seen(self.teacher, frozen[TEACHER], batch, None)
        )
        attended, reached = matched_layers(len(scores), len(their_scores))
        tokens_bs = student.tokens_in(batch)

        def distance(number: int) -> Array:
            own: Any = student.apply({"params": params}, states[number], method="fitted")
            return (squared_difference(their_states[reached[number]], own) * tokens_bs).sum()

        found = {
            EMBEDDINGS: distance(0),
            HIDDEN_STATES: sum(distance(number) for number in range(1, len(states))),
            ATTENTION: sum(
                (score_difference(their_scores[attended[number]], own) * tokens_bs).sum()
                for number, own in enumerate(scores)
            ),
        }
        terms = {name: jnp.asarray(found[name]) for name in self.loss_terms}
        weights = self.loss_weights(batch)
        return terms, {name: (terms[name], weights[name]) for name in terms}


def matched_layers(student: int, teacher: int) -> tuple[list[int], list[int]]:
    """Of so many layers which of the teacher's each of the student's is compared with.

    Args:
      student: M.
      teacher: N, a multiple of it.

    Returns:
      Of each layer the teacher's whose attention it learns, both from 0; of each of its M + 1
      states, 0 that which enters the first layer, the teacher's.
    """
    every = teacher // student
    return [(m + 1) * every - 1 for m in range(student)], [m * every for m in range(student + 1)]


def squared_difference(teacher: Array, student: Array) -> Array:
    """The mean square of what is between vectors on the last axis, float32."""
    x, y = (v.astype(jnp.float32) for v in (teacher, student))
    return jnp.square(x - y).mean(axis=-1)


def score_difference(teacher_bhts: Array, student_bhts: Array) -> Array:
    """The mean square over heads and keys of what is between scores, float32 `[b, t]`.

    A score of -100 or less counts as 0, as in the released code, where such are of padding; a key
    of padding so counts among those that the mean is over.
    """
    x, y = (
        jnp.where(v <= _MASKED, 0.0, v.astype(jnp.float32)) for v in (teacher_bhts, student_bhts)
    )
    return jnp.square(x - y).mean(axis=(1, 3))


def _seen(
    model: Any, params: Params, batch: Batch, rng: Array | None
) -> tuple[list[Array], list[Array]]:
    """The scores of each layer, and what enters each of them and leaves the last."""
    left: list[Array] = []

    def run() -> Mapping[str, Any]:
        x_bse, variables = model.apply(
            {"params": params},
            **batch,
            enable_dropout=rng is not None,
            rngs={} if rng is None else {"dropout": rng},
            mutable=[intermediates.COLLECTION],
            method="hidden_states",
        )
        left.append(x_bse)
        return variables

    kinds = intermediates.SCORES, intermediates.ENTERING
    scores, entering = intermediates.collect_each(kinds, run).values()
    return [one.value for one in scores], [*(one.value for one in entering), *left]
