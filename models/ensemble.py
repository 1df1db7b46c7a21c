"""Ensembles: the mean of what several trained models say of the same batch."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from models import flops, losses
from models.errors import ModelError
from models.heads import Head
from models.language_model import LanguageModel, target_weights
from models.model import Array, Batch, Model, Params
from models.tuning.parts import text_length

MEANS = ("probabilities", "log_probabilities")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Models whose predictions' mean is what the ensemble says: what both kinds have in common.

    It is measured and asked, and not trained. Parameters are those of the members, below
    `member_0` and so on; `t5x-like ensemble` makes a run of several with a checkpoint of all.

    Attributes:
      members: models of the same batches and tokens.
    """

    members: Sequence[Model]

    def __post_init__(self) -> None:
        """Checks that the members can be asked together.

        Raises:
          ModelError: fewer than two, or the first that differs from the first in what must be the
            same.
        """
        object.__setattr__(self, "members", tuple(self.members))  # gin gives lists
        if len(self.members) < 2:
            raise ModelError(f"an ensemble of {len(self.members)}: two or more members are needed.")
        first = self.members[0]
        for number, member in enumerate(self.members):
            for name in ("vocab_size", "batch_format", "head"):
                ours, theirs = (getattr(one, name, None) for one in (first, member))
                if ours != theirs:
                    raise ModelError(
                        f"members 0 and {number} of the ensemble have {name} {ours!r} and "
                        f"{theirs!r}: they must be equal, so that both read the same batches and "
                        "say the same of them."
                    )
            if getattr(member, "carries", False):
                raise ModelError(
                    f"member {number} of the ensemble, a {type(member).__name__}, hands a state "
                    "from batch to batch, which an ensemble does not."
                )
        self._check_kind()

    def _check_kind(self) -> None:
        """Refuses members that the class is not for.

        Raises:
          ModelError: says which class is.
        """
        raise NotImplementedError

    @property
    def _head(self) -> Head | None:
        return getattr(self.members[0], "head", None)

    def _each(self) -> list[tuple[str, Any]]:
        """The members by the names of their parameters."""
        return [(f"member_{number}", member) for number, member in enumerate(self.members)]

    # What the members have in common.

    @property
    def vocab_size(self) -> int:
        """That of all members."""
        return self.members[0].vocab_size

    @property
    def max_length(self) -> int | None:
        """What all members can read."""
        lengths = [text_length(member) for member in self.members]
        return min((length for length in lengths if length is not None), default=None)

    @property
    def batch_format(self) -> str:
        """That of all members."""
        return self.members[0].batch_format

    @property
    def dtype(self) -> str:
        """The first member's."""
        return self.members[0].dtype

    @property
    def loss_terms(self) -> Mapping[str, float]:
        """One, of the mean."""
        return {"loss": 1.0}

    @property
    def label_names(self) -> Mapping[str, tuple[str, ...]]:
        """Those of all members."""
        return getattr(self.members[0], "label_names", {})

    @property
    def span_rules(self) -> Any:
        """How spans are chosen, of heads that mark them."""
        return getattr(self.members[0], "span_rules", None)

    def axis_blocks(self) -> dict[str, int]:
        """What is whole for every member: the least common multiples."""
        found: dict[str, int] = {}
        for member in self.members:
            for axis, units in member.axis_blocks().items():
                found[axis] = math.lcm(found.get(axis, 1), units)
        return found

    # Parameters, and what they cost.

    def init(self, rng: Array, batch: Batch | None = None) -> dict[str, Params]:
        """See `Model`."""
        keys = jax.random.split(rng, len(self.members))
        made = zip(self._each(), keys, strict=True)
        return {"params": {name: one.init(key)["params"] for (name, one), key in made}}

    def abstract_params(self) -> Params:
        """See `Model`."""
        return {name: member.abstract_params() for name, member in self._each()}

    def parameter_count(self, *, embeddings: bool = True) -> int:
        """Of all members together."""
        return sum(one.parameter_count(embeddings=embeddings) for one in self.members)

    def forward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """Of all members together, by part."""
        return flops.together(member.forward_flops(batch_shapes) for member in self.members)

    def backward_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, flops.Flops]:
        """Of all members together, by part."""
        return flops.together(member.backward_flops(batch_shapes) for member in self.members)

    def step_flops(self, batch_shapes: Mapping[str, tuple[int, ...]]) -> float:
        """See `Model`."""
        return sum(member.step_flops(batch_shapes) for member in self.members)

    # What is said.

    def apply(self, variables: Mapping[str, Params], **batch: Array) -> Array:
        """See `logits`."""
        return self.logits(variables["params"], batch)

    def logits(self, params: Params, batch: Batch) -> Array:
        """Logits of the mean, without dropout, float32."""
        raise NotImplementedError

    def _refuse_training(self, rng: Array | None) -> None:
        if rng is not None:
            raise ModelError(
                f"a {type(self).__name__} is not trained: train its members, each by itself."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadEnsemble(Ensemble):
    """Models with the same head, such as classifiers; fulfils the engine's `Predicts`."""

    def _check_kind(self) -> None:
        if self._head is None:
            raise ModelError(
                f"a {type(self.members[0]).__name__} without a head cannot be in a HeadEnsemble: "
                "language models go into a LanguageModelEnsemble."
            )

    def logits(self, params: Params, batch: Batch) -> Array:
        """The mean of what the heads give, without dropout, float32."""
        each = [_head_logits(one, params[name], batch) for name, one in self._each()]
        return jnp.stack(each).mean(axis=0)

    def loss_weights(self, batch: Batch) -> Mapping[str, Array]:
        """What the head counts."""
        assert self._head is not None
        return {"loss": self._head.weight(batch)}

    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """The loss of the mean, summed over the batch; see `Model`.

        Raises:
          ModelError: `rng` is there, as in training.
        """
        self._refuse_training(rng)
        assert self._head is not None
        loss, metrics = self._head.loss(self.logits(params, batch), batch)
        return {"loss": loss}, metrics

    def predict(self, params: Params, batch: Batch) -> dict[str, Array]:
        """What the head says of the mean of the logits."""
        assert self._head is not None
        return self._head.predictions(self.logits(params, batch))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModelEnsemble(Ensemble):
    """Language models, the mean of whose predictions of the next token is the ensemble's.

    It is scored and writes text as one model does: fulfils the engine's `Decodes`.

    Attributes:
      mean: of "probabilities", or of "log_probabilities", which is that of logits too: what a
        member adds to all of its logits changes nothing.
    """

    mean: str = "probabilities"

    def __post_init__(self) -> None:
        """See `Ensemble`.

        Raises:
          ModelError: see there; another mean.
        """
        super().__post_init__()
        if self.mean not in MEANS:
            raise ModelError(
                f"LanguageModelEnsemble.mean is {self.mean!r}: it must be one of "
                f"{', '.join(MEANS)}."
            )

    def _check_kind(self) -> None:
        for number, member in enumerate(self.members):
            if not isinstance(member, LanguageModel) or self._head is not None:
                raise ModelError(
                    f"member {number} of the ensemble, a {type(member).__name__}, is no language "
                    "model: models with a head go into a HeadEnsemble."
                )

    def _mean(self, logits: Sequence[Array]) -> Array:
        """The logarithm of the mean, up to a number for each token; see `mean`."""
        log_probs = jax.nn.log_softmax(jnp.stack(logits))
        if self.mean == "log_probabilities":
            return log_probs.mean(axis=0)
        return jax.nn.logsumexp(log_probs, axis=0) - jnp.log(len(logits))

    def logits(self, params: Params, batch: Batch) -> Array:
        """Logits of the mean, float32 `[b, t, v]`."""
        return self._mean([one.logits(params[name], batch) for name, one in self._each()])

    def loss_weights(self, batch: Batch) -> Mapping[str, Array]:
        """How many target tokens count."""
        return {"loss": target_weights(batch).astype(jnp.float32).sum()}

    def loss(
        self, params: Params, batch: Batch, rng: Array | None = None
    ) -> tuple[dict[str, Array], losses.Metrics]:
        """See `HeadEnsemble`; the cross-entropy alone, whatever members were trained with."""
        self._refuse_training(rng)
        loss, metrics = self._cross_entropy(params, batch, losses.summed_cross_entropy)
        return {"loss": loss}, metrics

    def row_metrics(self, params: Params, batch: Batch) -> tuple[losses.Metrics, losses.Metrics]:
        """The metrics of `loss` of each row by itself; none of the batch as a whole."""

        def of_rows(*arrays: Array) -> losses.Metrics:
            def of_one(*row: Array) -> losses.Metrics:
                return losses.summed_cross_entropy(*(x[None] for x in row))[1]

            found: losses.Metrics = jax.vmap(of_one)(*arrays)
            return found

        return self._cross_entropy(params, batch, of_rows), {}

    def _cross_entropy(self, params: Params, batch: Batch, compute: Callable[..., Any]) -> Any:
        logits_btv = self.logits(params, batch)
        return compute(logits_btv, batch["decoder_target_tokens"], target_weights(batch))

    # Decoding: each member keeps a cache of its own.

    def decoding_params(self, params: Params) -> Params:
        """See `LanguageModel`."""
        return {name: one.decoding_params(params[name]) for name, one in self._each()}

    def init_cache(self, params: Params, batch: Batch, max_decode_length: int) -> Params:
        """See `LanguageModel`; the caches of all members."""
        return {
            name: one.init_cache(params[name], batch, max_decode_length)
            for name, one in self._each()
        }

    def decode_step(self, params: Params, cache: Any, tokens: Array) -> tuple[Array, Any]:
        """See `LanguageModel`."""
        return self._stepped(params, cache, tokens, "decode_step")

    def extend(self, params: Params, cache: Any, tokens: Array) -> tuple[Array, Any]:
        """See `LanguageModel`."""
        return self._stepped(params, cache, tokens, "extend")

    def _stepped(self, params: Params, cache: Any, tokens: Array, step: str) -> tuple[Array, Any]:
        found = {
            name: getattr(one, step)(params[name], cache[name], tokens)
            for name, one in self._each()
        }
        logits = self._mean([logits for logits, _ in found.values()])
        return logits, {name: after for name, (_, after) in found.items()}


def ensemble_of(members: Sequence[Model], mean: str = "probabilities") -> Ensemble:
    """The ensemble of models of either kind.

    Args:
      members: see `Ensemble`.
      mean: of language models, see `LanguageModelEnsemble`.

    Raises:
      ModelError: they cannot be asked together.
    """
    if members and getattr(members[0], "head", None) is not None:
        return HeadEnsemble(members=members)
    return LanguageModelEnsemble(members=members, mean=mean)


def _head_logits(member: Model, params: Params, batch: Batch) -> Array:
    # A decoder's own call gives its head's logits, an encoder's those of its tokens.
    method = "head_logits" if hasattr(member, "head_logits") else None
    found: Array = member.apply({"params": params}, **batch, method=method)
    return found
