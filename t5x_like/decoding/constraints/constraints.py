"""What generated tokens keep to, however chosen: penalties, a minimum, stop strings, sets.

Everything here is part of the compiled loop. Shapes: `...` rows, or rows and beams, `v` vocabulary,
`s` states of the automaton that looks for stop strings.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from t5x_like.protocols import Batch

Array = Any


class Written(NamedTuple):
    """What constraints know of the tokens of each row so far.

    Attributes:
      seen: bool `[..., v]`, tokens of prompt and text; None where nothing asks for them.
      stop: int32 `[...]`, how much of a stop string ends the text; None where there is none.
    """

    seen: Array | None = None
    stop: Array | None = None


class Constraints(NamedTuple):
    """What the tokens of every row keep to.

    Attributes:
      repetition_penalty: float32 scalar, see `applied`; None for 1.
      min_new_tokens: int32 scalar, how many tokens come before an end token; None for 0.
      stops_vs: int16, `stop_strings.StopStrings.table`; None without stop strings.
      allowed_bv: bool, the tokens that a row may have; None for all.
    """

    repetition_penalty: Array | None = None
    min_new_tokens: Array | None = None
    stops_vs: Array | None = None
    allowed_bv: Array | None = None

    def begun(self, batch: Batch, vocabulary: int) -> Written:
        """What is known when the prompts of a batch have been read.

        Args:
          batch: as `PromptFormat.decoding_batch` makes it.
          vocabulary: `v`.
        """
        tokens_bp = jnp.asarray(batch["decoder_input_tokens"])
        rows = tokens_bp.shape[0]
        seen = stop = None
        if self.repetition_penalty is not None:
            real_bp = batch.get("decoder_segment_ids")
            real_bp = jnp.ones_like(tokens_bp) if real_bp is None else jnp.asarray(real_bp)
            rows_b1 = jnp.arange(rows)[:, None]
            seen = jnp.zeros((rows, vocabulary), bool).at[rows_b1, tokens_bp].max(real_bp > 0)
        if self.stops_vs is not None:
            stop = jnp.zeros((rows,), jnp.int32)
        return Written(seen, stop)

    def applied(
        self, scores: Array, written: Written, new_tokens: Array, end_ids: tuple[int, ...]
    ) -> Array:
        """The scores of the next token, those of `transformers`' processors of these names.

        A penalty p divides what is above 0 by p and multiplies what is below, for each token that
        is in the prompt or the text (Keskar et al. 2019, section 4.1, as `transformers` has it).
        Before the minimum, end tokens get minus infinity, and others than the allowed ones always.

        Args:
          scores: float32 `[..., v]`, logits; of a beam search log-probabilities.
          written: what there is so far.
          new_tokens: int32 scalar, how many tokens that are.
          end_ids: the end tokens.
        """
        if self.repetition_penalty is not None:
            penalty = self.repetition_penalty
            penalized = jnp.where(scores < 0, scores * penalty, scores / penalty)
            seen: Array = written.seen
            scores = jnp.where(seen, penalized, scores)
        if self.min_new_tokens is not None and end_ids:
            ends_v = jnp.zeros(scores.shape[-1:], bool).at[jnp.array(end_ids)].set(True)
            scores = jnp.where(ends_v & (new_tokens < self.min_new_tokens), -jnp.inf, scores)
        if self.allowed_bv is not None:
            rows, vocabulary = self.allowed_bv.shape
            beams = (1,) * (scores.ndim - 2)
            allowed = self.allowed_bv.reshape(rows, *beams, vocabulary)
            scores = jnp.where(allowed, scores, -jnp.inf)
        return scores

    def stop_after(self, stop: Array | None, tokens: Array) -> Array | None:
        """`Written.stop` after one more token a row."""
        if self.stops_vs is None:
            return None
        # Ids that the vocabulary has no text for are rows that the table lacks.
        table_vs = jnp.asarray(self.stops_vs)
        return table_vs.at[tokens, stop].get(mode="fill", fill_value=0).astype(jnp.int32)

    def stopped(self, stop: Array | None) -> Array:
        """Which rows have completed a stop string, bool of the shape of `stop`; none without."""
        if self.stops_vs is None:
            return jnp.bool_(False)
        return stop == self.stops_vs.shape[1] - 1

    def seen_after(self, seen: Array | None, tokens: Array) -> Array | None:
        """`Written.seen` after one more token a row."""
        if seen is None:
            return None
        vocabulary = jnp.arange(seen.shape[-1], dtype=tokens.dtype)
        return seen | (vocabulary == tokens[..., None])


def constraints_of(
    min_new_tokens: int = 0, repetition_penalty: float = 1.0, stops_vs: Array | None = None
) -> Constraints:
    """The constraints of these settings; those that change nothing are not computed."""
    return Constraints(
        None if repetition_penalty == 1 else np.float32(repetition_penalty),
        None if min_new_tokens == 0 else np.int32(min_new_tokens),
        stops_vs,
    )
