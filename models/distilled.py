"""A student that learns from a teacher's outputs beside the targets (Hinton et al. 2015)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from models import losses
from models.bert import BERT
from models.errors import ModelError
from models.heads import Classification, MultipleChoice, Regression, Tagging
from models.heads.head import unnamed
from models.language_model import LanguageModel, target_weights
from models.layers import auxiliary_losses, embeddings
from models.model import Array, Batch, Model, Params
from models.with_teacher import TEACHER, WithTeacher

TARGETS, SOFT_TARGETS, HIDDEN_STATES = "targets", "soft_targets", "hidden_states"
_RESTORES = "restores hidden tokens"
# Batches whose rows are read alike.
_HIDDEN = {"masked_language_model", "masked_span_language_model"}


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """What a model gives for a batch.

    Attributes:
      logits: float32, classes on the last axis.
      hidden_bse: what leaves the last layer.
      loss: the model's own, summed over the batch; None of a teacher.
      metrics: the model's own.
    """

    logits: Array
    hidden_bse: Array
    loss: Array | None = None
    metrics: losses.Metrics = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distilled(WithTeacher):
    """A student whose loss is `a CE + b T² KL(p_T ‖ p_S) + c (1 - cos)`, and which is trained.

    CE is the student's own loss. The second is between teacher and student, both softened by the
    temperature T, where the student has targets: in masked language models at every token or, with
    `masked_only`, at the hidden ones. The third is between the last hidden states of every token,
    whose widths must be equal. Of a head for numbers the second is the squared difference of the
    two, without T (Jiao et al. 2020, section 4.1). Fulfils the engine's `UsesFrozen`: the
    teacher's parameters are given to the loss, and nothing changes them. A run's checkpoints are
    those of the student alone.

    DistilBERT (Sanh et al. 2019; released script): T 2, 2 CE, 5 KL, 1 cosine. Switch (Fedus et al.
    2022, section 4.2): T 1, 0.75 CE, 0.25 KL.

    Attributes:
      student: what is trained; a language model, a masked one, or a model with a head for labels,
        numbers, choices or tags.
      teacher: of the same kind, with the same batches and the same classes in their order.
      temperature: T.
      targets: a, of the student's own loss.
      soft_targets: b.
      hidden_states: c.
      masked_only: see above.
    """

    temperature: float = 2.0
    targets: float = 0.5
    soft_targets: float = 0.5
    hidden_states: float = 0.0
    masked_only: bool = False

    def __post_init__(self) -> None:
        """Checks that the two can be compared.

        Raises:
          ModelError: says what differs, or what cannot be.
        """
        if self.temperature <= 0:
            raise ModelError(f"Distilled.temperature is {self.temperature}: it must be above 0.")
        if min(self._coefficients.values()) < 0 or self.soft_targets + self.hidden_states == 0:
            raise ModelError(
                "Distilled.targets, soft_targets and hidden_states are "
                f"{self.targets:g}, {self.soft_targets:g} and {self.hidden_states:g}: none may be "
                "negative, and one of the last two must be above 0."
            )
        student, teacher = self.student, self.teacher
        if (kind := _kind(student)) != _kind(teacher):
            raise ModelError(f"the student {kind}, but the teacher {_kind(teacher)}.")
        # A teacher of hidden tokens may have learned from spans too, which is no matter here.
        alike = {student.batch_format, teacher.batch_format} <= _HIDDEN
        for name in ("vocab_size",) if alike else ("vocab_size", "batch_format"):
            ours, theirs = getattr(student, name), getattr(teacher, name)
            if ours != theirs:
                raise ModelError(
                    f"the student's {name} is {ours!r} and the teacher's {theirs!r}: they must be "
                    "equal, so that both read the same batches."
                )
        for whose, model in (("student", student), ("teacher", teacher)):
            if getattr(model, "carries", False):
                raise ModelError(
                    f"the {whose} is a {type(model).__name__} that carries its state from row to "
                    "row, which distillation does not: set its carries to False."
                )
        if self._classes(student) != self._classes(teacher):
            raise ModelError(
                f"the student's head has {self._classes(student)} outputs and the teacher's "
                f"{self._classes(teacher)}."
            )
        self._check_labels()
        if len(student.loss_terms) != 1:
            raise ModelError(
                f"the student's loss has the terms {', '.join(student.loss_terms)}: only one is "
                "distilled; turn the other head off."
            )
        widths = [getattr(model, "embed_dim", None) for model in (student, teacher)]
        if self.hidden_states and widths[0] != widths[1]:
            raise ModelError(
                f"Distilled.hidden_states compares vectors of {widths[0]} and {widths[1]} numbers: "
                "give both models one embed_dim, or set it to 0."
            )

    def _check_labels(self) -> None:
        """Compares what classes are called, whose numbers are what soft targets are compared by.

        Of a teacher without names of its own, as a published one may be, the order is its user's.
        """
        ours, theirs = (
            next(iter(getattr(model, "label_names", {}).values()), ())
            for model in (self.student, self.teacher)
        )
        if theirs == unnamed(len(theirs)):
            return
        if [name.casefold() for name in ours] != [name.casefold() for name in theirs]:
            raise ModelError(
                f"the student's head has the labels {', '.join(ours)} and the teacher's "
                f"{', '.join(theirs)}: they are compared number by number, and must be the same in "
                "the same order."
            )

    @staticmethod
    def _classes(model: Model) -> int:
        head = _head(model)
        return model.vocab_size if head is None else head.outputs

    @property
    def _coefficients(self) -> dict[str, float]:
        return {
            TARGETS: self.targets,
            SOFT_TARGETS: self.soft_targets,
            HIDDEN_STATES: self.hidden_states,
        }

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """Those of a coefficient above 0."""
        return {name: value for name, value in self._coefficients.items() if value}

    # The loss.

    def loss_weights(self, batch: Batch) -> dict[str, Array]:
        """Targets; places that are compared; tokens."""
        (own,) = self.student.loss_weights(batch).values()
        weights = {TARGETS: own, SOFT_TARGETS: self._places(batch).sum()}
        if self.hidden_states:
            weights[HIDDEN_STATES] = self._text(batch).astype(jnp.float32).sum()
        return {name: weights[name] for name in self.loss_terms}

    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The student's own loss; the whole one needs the teacher, see `loss_with_frozen`."""
        return self.student.loss(params, batch, rng)

    def loss_with_frozen(
        self, params: Params, batch: Batch, frozen: Mapping[str, Params], rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """Each term summed over the batch, and the metrics of the student; see above."""
        own = self._outputs(self.student, params, batch, rng, train=True)
        theirs = self._outputs(self.teacher, frozen[TEACHER], batch)
        weights = self.loss_weights(batch)
        terms: dict[str, Array] = {}
        if self.targets:
            assert own.loss is not None
            terms[TARGETS] = own.loss
        if self.soft_targets:
            between = self._between(theirs.logits, own.logits)
            terms[SOFT_TARGETS] = (between * self._places(batch)).sum()
        if self.hidden_states:
            distance_bs = cosine_distance(theirs.hidden_bse, own.hidden_bse)
            terms[HIDDEN_STATES] = (distance_bs * self._text(batch)).sum()
        metrics = {name: pair for name, pair in own.metrics.items() if name not in terms}
        return terms, metrics | {name: (terms[name], weights[name]) for name in terms}

    def _between(self, teacher: Array, student: Array) -> Array:
        """How far outputs are from each other, without their last axis."""
        head = _head(self.student)
        if isinstance(head, Regression):
            return jnp.square(jax.lax.stop_gradient(teacher) - student).sum(axis=-1)
        if isinstance(head, MultipleChoice):
            # Each choice has one number, and the choices are the classes.
            teacher, student = teacher[..., 0], student[..., 0]
        return soft_divergence(teacher, student, self.temperature)

    def _places(self, batch: Batch) -> Array:
        """Where logits are compared, float32, as the logits without their last axis."""
        student: Any = self.student
        if isinstance(_head(student), Tagging):
            return batch["word_weights"].astype(jnp.float32)
        if _head(student) is not None:
            return batch["label_weight"].astype(jnp.float32)
        if isinstance(student, LanguageModel):
            return target_weights(batch).astype(jnp.float32)
        if self.masked_only:
            return batch["encoder_loss_weights"].astype(jnp.float32)
        return self._text(batch).astype(jnp.float32)

    def _text(self, batch: Batch) -> Array:
        student: Any = self.student
        if not isinstance(student, LanguageModel):
            return student.tokens_in(batch)
        if _head(student) is not None:
            return batch["decoder_segment_ids"] != 0
        return target_weights(batch) != 0

    def _outputs(
        self,
        model: Any,
        params: Params,
        batch: Batch,
        rng: Array | None = None,
        *,
        train: bool = False,
    ) -> _Outputs:
        """One forward pass, without dropout unless there is a key."""
        output, reported = model.apply(
            {"params": params},
            dict(batch) | {"enable_dropout": rng is not None},
            rngs={} if rng is None else {"dropout": rng},
            mutable=[auxiliary_losses.AUXILIARY],
            method=_method_of(model, train),
        )
        hidden, logits, made = output
        if not train:
            return _Outputs(logits, hidden)
        if _head(model) is not None:
            loss, metrics = model.head.loss(logits, batch)
            added = auxiliary_losses.collect(reported)
            loss, metrics = losses.with_auxiliary(loss, metrics, *added)
        elif isinstance(model, LanguageModel):
            terms, metrics = model.loss_of(made, batch, reported)
            loss = terms["loss"]
        else:
            loss, metrics = made
        return _Outputs(logits, hidden, loss, _renamed(metrics))


def soft_divergence(teacher: Array, student: Array, temperature: float) -> Array:
    """`T² KL(softmax(z_T / T) ‖ softmax(z_S / T))` of logits, nats, without their last axis.

    T² keeps the size of the gradient when T changes (Hinton et al. 2015, section 2). No gradient
    goes to the teacher.
    """
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    log_q = jax.nn.log_softmax(student / temperature)
    return temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def cosine_distance(teacher: Array, student: Array) -> Array:
    """`1 - cos` of vectors on the last axis, float32; no gradient goes to the teacher."""
    x, y = (v.astype(jnp.float32) for v in (jax.lax.stop_gradient(teacher), student))
    norms = jnp.sqrt(jnp.square(x).sum(axis=-1) * jnp.square(y).sum(axis=-1))
    return 1 - (x * y).sum(axis=-1) / jnp.maximum(norms, 1e-8)


def _head(model: Any) -> Any:
    """What the outputs are made by; None where they are tokens."""
    return getattr(model, "head", None)


def _method_of(model: Model, train: bool) -> Any:
    if _head(model) is not None:
        return _of_head
    if isinstance(model, LanguageModel):
        return _of_language_model
    return _of_trained_encoder if train else _of_encoder


# Each gives the last states, the logits, and what the own loss is made of.
def _of_head(model: Any, features: dict[str, Any]) -> tuple[Any, ...]:
    logits, *_, vectors = model._with_head(**features)
    return vectors["hidden_states"], logits, None


def _of_language_model(model: Any, features: dict[str, Any]) -> tuple[Any, ...]:
    factors = model._output_factors(**features)
    return factors[0], embeddings.logits(*factors), factors


def _of_encoder(model: Any, features: dict[str, Any]) -> tuple[Any, ...]:
    # What its output reads: of DeBERTa its decoder's states.
    x_bse, *_ = model._outputs(**features)
    return x_bse, model._token_logits(x_bse), None


def _of_trained_encoder(model: Any, features: dict[str, Any]) -> tuple[Any, ...]:
    x_bse, logits_bsv, _ = _of_encoder(model, features)
    weights_bs = features["encoder_loss_weights"]
    return x_bse, logits_bsv, model.token_loss(*model.masked_head(x_bse), features, weights_bs)


def _kind(model: Model) -> str:
    if isinstance(_head(model), Classification | Regression | MultipleChoice | Tagging):
        return f"has the head {type(_head(model)).__name__}"
    if isinstance(model, LanguageModel) and _head(model) is None:
        return "writes text"
    if isinstance(model, BERT) and model.use_masked_head:
        return _RESTORES
    raise ModelError(
        f"{type(model).__name__}{_with(model)} cannot be distilled: language models, masked ones "
        "of BERT's kind, and models with a head for labels, numbers, choices or tags can."
    )


def _with(model: Model) -> str:
    head = _head(model)
    return "" if head is None else f" with {type(head).__name__}"


def _renamed(metrics: losses.Metrics) -> losses.Metrics:
    """The own loss under its name here; `loss` is the whole one."""
    return {TARGETS if name == "loss" else name: pair for name, pair in metrics.items()}
