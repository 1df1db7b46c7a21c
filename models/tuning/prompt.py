"""Prompt tuning: trained vectors before the text, which alone are trained."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from models.layers.embeddings import Embed
from models.layers.linear import axis_names
from models.tuning.parts import Parts

OFFSETS = "prompt_offsets"
# Ids below stand for padding, ends and unknown words in most vocabularies.
_FIRST_TOKEN = 3
# Features with a value for each token that a prompt does not change: nothing is predicted from it.
_OF_TARGETS = ("target_tokens", "loss_weights")


@dataclasses.dataclass(frozen=True)
class Prompt(Parts):
    """`length` vectors before every text, trained as the rest stays (Lester et al. 2021).

    They stand where tokens would: before the first token of a decoder's row, behind the padding on
    its left, or before an encoder's tokens. Vector i is the embedding of a token plus an offset,
    and the offsets, 0 at first, are what is trained: the model begins as one that reads those
    tokens, which is the paper's way to begin from the vocabulary (section 3.2.2). A row holds one
    text, and of the model's `max_length` the prompt takes its part.

    Attributes:
      length: how many vectors; 100 in most of the paper's runs.
      initial_tokens: ids of the tokens whose embeddings the prompt begins with, `length` of them,
        those of a task's labels for example; None draws them.
      common_tokens: ids below this are drawn from, the commonest of a SentencePiece vocabulary;
        5,000 in the paper.
      seed: of the draw.
      trained: what is trained beside the prompt.
    """

    length: int = 100
    initial_tokens: Sequence[int] | None = None
    common_tokens: int = 5000
    seed: int = 0

    def __post_init__(self) -> None:
        """See `Parts`."""
        super().__post_init__()
        if self.length < 1:
            raise self.refused("length", "it must be 1 or more")
        if self.common_tokens <= _FIRST_TOKEN:
            raise self.refused("common_tokens", f"it must be above {_FIRST_TOKEN}")
        tokens = self.initial_tokens
        if tokens is not None and (len(tokens) != self.length or min(tokens) < 0):
            raise self.refused(
                "initial_tokens", f"it must be {self.length} ids, as many as length, 0 or more"
            )

    @property
    def added_length(self) -> int:
        """The prompt's."""
        return self.length

    @property
    def mergeable(self) -> bool:
        """No: nothing else has a place for the prompt."""
        return False

    def check(self, model: Any) -> None:
        """See `Parts`."""
        if not model.reads_prompts:
            raise self.unfit(model, "only rows of a decoder or encoder-decoder have a place for it")
        if self.initial_tokens is not None and max(self.initial_tokens) >= model.vocab_size:
            raise self.refused(
                "initial_tokens", f"ids must be below the model's vocab_size {model.vocab_size}"
            )

    def adds(self, name: str) -> bool:
        """Whether a parameter is the prompt's."""
        return name.rpartition("/")[2] == OFFSETS

    def tokens(self, vocab_size: int) -> np.ndarray:
        """The ids whose embeddings the prompt begins with, int32 `[length]`."""
        if self.initial_tokens is not None:
            return np.asarray(self.initial_tokens, np.int32)
        ids = np.arange(_FIRST_TOKEN, max(min(self.common_tokens, vocab_size), _FIRST_TOKEN + 1))
        draw = np.random.default_rng(self.seed)
        return draw.choice(ids, self.length, replace=self.length > len(ids)).astype(np.int32)

    def _intercept(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module, called = context.module, context.method_name
        if isinstance(module, Embed) and module.name == "token_embedder":
            if called == "setup":
                method(*args, **kwargs)
                module.prompt_offsets = module.param(
                    OFFSETS,
                    axis_names((None, "embed"), nn.initializers.zeros),
                    (self.length, module.embed_dim),
                )
                return None
            if called == "__call__":
                return self._embedded(module, method, args[0])
        # Models within models have prompts of their own.
        if getattr(module, "tuning", None) is not self:
            return method(*args, **kwargs)
        side = "encoder" if "encoder_input_tokens" in module.input_features else "decoder"
        if called == "hidden_states" or (called == "text_states" and side == "encoder"):
            states = method(*args, **self.extended_features(kwargs, side, module.vocab_size))
            both = called == "hidden_states" and side == "encoder"
            return states if both else states[:, self.length :]
        if called == "prefill":
            batch, longest = args
            batch = self.extended_features(batch, side, module.vocab_size)
            return method(batch, longest + self.length * (side == "decoder"))
        return method(*args, **kwargs)

    def _embedded(self, embed: Embed, method: Callable[..., Any], ids: jax.Array) -> jax.Array:
        """The embeddings of ids, those from `vocab_size` on the prompt's."""
        which = ids - embed.vocab_size
        tokens = jnp.asarray(self.tokens(embed.vocab_size))
        within = jnp.clip(which, 0, self.length - 1)
        x = method(jnp.where(which < 0, ids, tokens[within]))
        offsets = jnp.take(embed.prompt_offsets, within, axis=0).astype(x.dtype)
        return x + jnp.where(which[..., None] < 0, 0, offsets)

    def extended_features(
        self, features: Mapping[str, Any], side: str, vocab_size: int
    ) -> dict[str, Any]:
        """A batch whose rows have the prompt before the first token, as ids from `vocab_size` on.

        Args:
          features: int32 `[b, t]` each; where the side has segment ids, 0 is padding, on either
            side of the text.
          side: `encoder` or `decoder`, the one whose rows begin with the prompt.
          vocab_size: of the model.

        Returns:
          The side's features `[b, length + t]`, the others as they are.

        Raises:
          ModelError: the rows have a feature that says nothing of a prompt.
        """
        tokens_bt = features[f"{side}_input_tokens"]
        segments_bt = features.get(f"{side}_segment_ids")
        b, t = tokens_bt.shape
        slots_n = jnp.arange(self.length + t)
        first_b1 = jnp.zeros((b, 1), jnp.int32)
        if segments_bt is not None and t:
            first_b1 = jnp.argmax(segments_bt != 0, axis=1, keepdims=True)
        which_bn = slots_n - first_b1
        of_prompt_bn = (which_bn >= 0) & (which_bn < self.length)

        def moved(x_bt: jax.Array, prompt_bn: Any) -> jax.Array:
            later_bn = jnp.pad(x_bt, ((0, 0), (self.length, 0)))
            return jnp.where(of_prompt_bn, prompt_bn, later_bn)

        def of_first(x_bt: jax.Array) -> jax.Array:
            # Of a row without tokens 1, as of a segment.
            return jnp.take_along_axis(x_bt, first_b1, axis=1) if t else jnp.ones((b, 1), int)

        made = dict(features)
        for name, x_bt in features.items():
            own = name.removeprefix(f"{side}_")
            if own == name or own in _OF_TARGETS:
                continue
            if own == "input_tokens":
                made[name] = moved(x_bt, vocab_size + which_bn)
            elif own == "positions":
                made[name] = moved(x_bt + self.length, which_bn)
            elif own in ("segment_ids", "causal_attention"):
                made[name] = moved(x_bt, of_first(x_bt))
            else:
                raise self.unfit(self, f"the rows' feature {name} says nothing of a prompt")
        return made
