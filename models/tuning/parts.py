"""Training of some parameters, while the others stay as they are."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from models.errors import ModelError
from models.layers.linear import Linear

_STORED = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Parts:
    """Trains the parameters whose names match, and those that a subclass adds.

    Attributes:
      trained: regular expressions, searched in names such as `decoder/layers/mlp/wi/kernel`.
      frozen_dtype: of the parameters that stay as they are: "float32", or "bfloat16", which takes
        half of the memory and rounds them once.
    """

    trained: Sequence[str] = ()
    frozen_dtype: str = "float32"

    def __post_init__(self) -> None:
        """Refuses values that cannot be, and makes lists tuples, which have a hash.

        Raises:
          ModelError: says what is accepted.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        if self.frozen_dtype not in _STORED:
            raise self.refused("frozen_dtype", f"it must be one of {', '.join(_STORED)}")
        self.check_patterns("trained")

    def refused(self, name: str, accepted: str) -> ModelError:
        """The error for a field's value, and what would be accepted."""
        return ModelError(f"{type(self).__name__}.{name} is {getattr(self, name)!r}: {accepted}.")

    def unfit(self, model: Any, reason: str) -> ModelError:
        """The error for a model that cannot be tuned like this."""
        return ModelError(f"{type(model).__name__} cannot have a {type(self).__name__}: {reason}.")

    def check_patterns(self, name: str) -> None:
        """Refuses a field that is no list of regular expressions."""
        patterns = getattr(self, name)
        if isinstance(patterns, str):
            raise self.refused(name, "it must be a list of regular expressions")
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                raise self.refused(name, f"not a regular expression ({error})") from error

    # What a subclass says.

    def adds(self, name: str) -> bool:
        """Whether a parameter is one that the model has only for being tuned."""
        return False

    @property
    def added_length(self) -> int:
        """How many slots of a row stand before its text, within the model's `max_length`."""
        return 0

    def check(self, model: Any) -> None:
        """Refuses a model that cannot be tuned like this.

        Raises:
          ModelError: says why.
        """

    def extended(self, linear: Linear, x: jax.Array, apply: Callable[[], jax.Array]) -> jax.Array:
        """The result of a `Linear`, of which `apply` gives the layer's own."""
        return apply()

    @property
    def mergeable(self) -> bool:
        """Whether `merged` gives the parameters of a model that is not tuned."""
        return True

    def merged(self, params: Any, dtype: str | None = None) -> Any:
        """The parameters with those that are added within the others, where that can be.

        Args:
          params: of the tuned model.
          dtype: of matrices that others were added to; None for their own.
        """
        return params

    # What holds for all.

    def trains(self, name: str) -> bool:
        """Whether training changes the parameter of this name."""
        return self.adds(name) or any(re.search(pattern, name) for pattern in self.trained)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """While it lasts, the calls of `Linear`s are extended."""
        with nn.intercept_methods(self._intercept):
            yield

    def _intercept(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        linear = context.module
        if not isinstance(linear, Linear) or context.method_name != "__call__":
            return method(*args, **kwargs)
        return self.extended(linear, args[0], lambda: method(*args, **kwargs))

    def stored(self, boxed: Any) -> Any:
        """Boxed parameters in the dtypes in which they are kept.

        Raises:
          ModelError: an expression matches no parameter, or none is trained.
        """
        names = [_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(boxed)]
        for pattern in self.trained:
            if not any(re.search(pattern, name) for name in names):
                raise self.refused(
                    "trained", f"'{pattern}' matches no parameter, such as '{names[0]}'"
                )
        layers = [name.rpartition("/")[0] for name in names if self.adds(name)]
        for pattern in getattr(self, "targets", ()):
            if not any(re.search(pattern, layer) for layer in layers):
                matrices = [name[: -len("/kernel")] for name in names if name.endswith("/kernel")]
                raise self.refused(
                    "targets", f"'{pattern}' matches no layer, such as '{matrices[0]}'"
                )
        if not any(self.trains(name) for name in names):
            raise ModelError(f"{type(self).__name__} trains no parameter of this model.")
        return self.rounded(boxed)

    def rounded(self, boxed: Any) -> Any:
        """Parameters of which those that training does not change are of `frozen_dtype`."""
        frozen = jnp.dtype(self.frozen_dtype)

        def store(path: Any, leaf: Any) -> Any:
            if self.trains(_name(path)) or leaf.dtype != jnp.float32:
                return leaf
            return leaf.astype(frozen)

        return jax.tree_util.tree_map_with_path(store, boxed)


@dataclasses.dataclass(frozen=True)
class Before(Parts):
    """The model as it was before a tuning: with nothing added, and rounded where that rounds.

    So a policy and its reference are the same numbers until the first step.

    Attributes:
      tuning: of the other model.
    """

    tuning: Parts = Parts()

    def stored(self, boxed: Any) -> Any:
        """As the tuning keeps what it does not train."""
        return self.tuning.rounded(boxed)

    def trains(self, name: str) -> bool:
        """Nothing is trained."""
        return False


def is_new(linear: Linear, patterns: Sequence[str], name: str) -> bool:
    """Whether a `Linear` has an added parameter: it matches, or was made with it.

    Decoding applies a layer outside of the model, where its path does not tell.

    Args:
      linear: in the call.
      patterns: searched in its path.
      name: of the parameter.
    """
    if linear.is_initializing():
        path = "/".join(linear.path)
        return any(re.search(pattern, path) for pattern in patterns)
    return linear.has_variable("params", name)


def text_length(model: Any) -> int | None:
    """Most tokens of a text that a row of a model has room for; None for any number."""
    longest, tuned = model.max_length, getattr(model, "tuning", None)
    return longest if longest is None or tuned is None else longest - tuned.added_length


def _name(path: Any) -> str:
    """The name of a leaf in a tree of boxes, whose own step in the path is left out."""
    return "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
