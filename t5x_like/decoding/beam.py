"""Beam search with a length penalty.

Every step looks at the `2k` best continuations of the `k` running beams: at most `k` of
them can end, so at least `k` go on; each further end token adds `k`. Finished hypotheses
compete by their log-probability over `length_penalty`; the search of a row is over when no
running beam can still beat the worst of its finished ones. That is T5X's rule; `transformers`
has another, which `BeamSearch.rule` gives. Of a model that tells which part of the source it has
attended to, a finished hypothesis may lose score for what it left out.

Shapes: `b` rows, `k` beams, `c` candidates, `n` new tokens at most, `v` vocabulary.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from t5x_like.decoding.constraints import Constraints, Written
from t5x_like.decoding.prefill import Start, spread
from t5x_like.decoding.strategies import Decoded, EndIds, Greedy, Step, ends, listed
from t5x_like.errors import UserError
from t5x_like.protocols import CoversSource, Decodes

Array = Any

# From a cache to the log of what was covered of the source, float32 [b]; see `CoversSource`.
LogCoverage = Callable[[Any], Array]

# Minus infinity would give NaN where two of them are subtracted or multiplied by 0.
IMPOSSIBLE = -1.0e9


def length_penalty(length: Array, alpha: float) -> Array:
    """`((5 + length) / 6) ** alpha`, Wu et al. 2016, equation 14; 1 where alpha is 0."""
    return ((5.0 + length) / 6.0) ** alpha


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """The best finished hypothesis of a beam search; the best running one if none ended.

    Attributes:
      beams: hypotheses kept a row.
      alpha: strength of the length penalty; 0 compares plain log-probabilities.
      rule: "t5x", or "transformers" for what `generate(num_beams=beams, length_penalty=alpha)`
        of transformers 5 finds. There the penalty is the length to the power of alpha; a
        candidate counts as ended only among the best `k`; what runs at the limit of length
        counts as ended; and a row is over when its best running beam, at its present length,
        does not beat the worst of `k` ended ones.
      coverage: strength of the coverage penalty `Σ_i log min(Σ_j p_ij, 1)` of the attention p of
        target token j to source token i, added to the score of an ended hypothesis (Wu et al.
        2016, equation 14, with 0.2); 0 for none, or a model that `protocols.CoversSource`.
    """

    beams: int = 4
    alpha: float = 0.6
    rule: str = "t5x"
    coverage: float = 0.0

    def __post_init__(self):
        if self.beams < 1:
            raise UserError(f"BeamSearch.beams is {self.beams}; it must be at least 1")
        for name in ("alpha", "coverage"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(
                    f"BeamSearch.{name} is {getattr(self, name)}; it must be 0 or above"
                )
        if self.rule not in ("t5x", "transformers"):
            raise UserError(f"BeamSearch.rule is {self.rule!r}; it must be 't5x' or 'transformers'")
        if self.coverage and (self.beams == 1 or self.rule != "t5x"):
            raise UserError(
                f"BeamSearch.coverage is {self.coverage}, which compares hypotheses by the rule "
                "'t5x': give beams of 2 or more and that rule, or a coverage of 0"
            )

    def arguments_of(self, model: Decodes) -> dict[str, LogCoverage]:
        """What `decode` needs of a model beside its step.

        Raises:
          UserError: the model does not tell its coverage, which the search asks for.
        """
        if not self.coverage:
            return {}
        if not isinstance(model, CoversSource):
            raise UserError(
                f"{type(model).__name__} does not tell what of its source it has attended to: set "
                "BeamSearch.coverage to 0"
            )
        return {"log_coverage": model.log_coverage}

    def _penalty(self, length: Array) -> Array:
        """What a log-probability is divided by."""
        if self.rule == "t5x":
            return length_penalty(length, self.alpha)
        # Rows that only fill up a batch have no tokens, and 0 / 0 is NaN.
        return jnp.maximum(length, 1).astype(jnp.float32) ** self.alpha

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
        log_coverage: LogCoverage | None = None,
    ) -> Decoded:
        """See `Strategy`; nothing is drawn. Constraints hold of log-probabilities.

        One beam is greedy decoding: it ends where the end token is the likeliest, and not where
        that would be the second of two candidates. `log_coverage` is what `arguments_of` gives.
        """
        if self.beams == 1:
            found = Greedy().decode(
                step,
                start,
                keys_b=keys_b,
                limits_b=limits_b,
                max_new_tokens=max_new_tokens,
                eos_id=eos_id,
                constraints=constraints,
                written=written,
            )
            penalty_b = self._penalty(found.lengths_b)
            return found._replace(scores_b=found.scores_b / penalty_b)
        tokens_bkn, scores_bk, lengths_bk = self.search(
            step,
            start,
            limits_b=limits_b,
            max_new_tokens=max_new_tokens,
            eos_id=eos_id,
            constraints=constraints,
            written=written,
            log_coverage=log_coverage,
        )
        return Decoded(tokens_bkn[:, 0], scores_bk[:, 0], lengths_bk[:, 0])

    def search(
        self,
        decode_step: Step,
        start: Start,
        *,
        limits_b: Array,
        max_new_tokens: int,
        eos_id: EndIds,
        constraints: Constraints = Constraints(),  # noqa: B008 (immutable)
        written: Written = Written(),  # noqa: B008 (immutable)
        log_coverage: LogCoverage | None = None,
    ) -> tuple[Array, Array, Array]:
        """All hypotheses, best first.

        Returns:
          tokens int32 `[b, k, n]`, scores float32 `[b, k]` (log-probability over the length
          penalty; `IMPOSSIBLE` or below where a row has fewer than `k` finished), lengths
          int32 `[b, k]`.
        """
        k, n = self.beams, max_new_tokens
        candidates = (1 + max(1, len(listed(eos_id)))) * k
        rows = limits_b.shape[0]

        def covered(cache):
            """What each beam's coverage adds to its score, `[b, k]`."""
            if not self.coverage or log_coverage is None:
                return jnp.zeros((rows, k))
            return self.coverage * log_coverage(cache).reshape(rows, k)

        def consider(step, logits_bkv, covered_bk, state):
            """Takes the best continuations; also says which beam each new beam came from."""
            before = state["written"]
            log_probs_bkv = jax.nn.log_softmax(logits_bkv, axis=-1)
            log_probs_bkv = constraints.applied(log_probs_bkv, before, step, listed(eos_id))
            log_probs_bkv = jnp.maximum(log_probs_bkv, IMPOSSIBLE)
            vocabulary = log_probs_bkv.shape[-1]
            totals_bkv = state["totals"][:, :, None] + log_probs_bkv
            total_bc, flat_bc = jax.lax.top_k(totals_bkv.reshape(rows, k * vocabulary), candidates)
            origin_bc, token_bc = flat_bc // vocabulary, flat_bc % vocabulary
            ends_bc = ends(token_bc, eos_id)
            stop_bc = before.stop
            if stop_bc is not None:
                stop_bc = constraints.stop_after(
                    jnp.take_along_axis(stop_bc, origin_bc, axis=1), token_bc
                )
                ends_bc |= constraints.stopped(stop_bc)
            tokens_bcn = jnp.take_along_axis(state["tokens"], origin_bc[:, :, None], axis=1)
            tokens_bcn = tokens_bcn.at[:, :, step].set(token_bc)

            length = step + 1
            counted_bc = total_bc > IMPOSSIBLE / 2
            if self.rule == "transformers":
                ends_bc |= (length >= limits_b)[:, None]
                counted_bc &= (jnp.arange(candidates) < k) & state["open"][:, None]
            running_bc = jnp.where(ends_bc, IMPOSSIBLE, total_bc)
            totals_bk, kept_bk = jax.lax.top_k(running_bc, k)
            origin_bk, last_bk, stop_bk = (
                None if of_bc is None else jnp.take_along_axis(of_bc, kept_bk, axis=1)
                for of_bc in (origin_bc, token_bc, stop_bc)
            )
            seen_bkv = before.seen
            if seen_bkv is not None:
                seen_bkv = jnp.take_along_axis(seen_bkv, origin_bk[:, :, None], axis=1)
                seen_bkv = constraints.seen_after(seen_bkv, last_bk)
            score_bc = total_bc / self._penalty(length)
            score_bc += jnp.take_along_axis(covered_bk, origin_bc, axis=1)
            finished_bc = jnp.where(ends_bc & counted_bc, score_bc, IMPOSSIBLE)
            pool_scores = jnp.concatenate([state["done_scores"], finished_bc], axis=1)
            pool_tokens = jnp.concatenate([state["done_tokens"], tokens_bcn], axis=1)
            pool_lengths = jnp.concatenate(
                [state["done_lengths"], jnp.full_like(token_bc, length)], axis=1
            )
            done_scores_bk, done_bk = jax.lax.top_k(pool_scores, k)
            new_state = {
                "tokens": jnp.take_along_axis(tokens_bcn, kept_bk[:, :, None], axis=1),
                "last": last_bk,
                "totals": totals_bk,
                "written": Written(seen_bkv, stop_bk),
                "done_tokens": jnp.take_along_axis(pool_tokens, done_bk[:, :, None], axis=1),
                "done_scores": done_scores_bk,
                "done_lengths": jnp.take_along_axis(pool_lengths, done_bk, axis=1),
                "open": state["open"]
                & (totals_bk[:, 0] / self._penalty(length) > done_scores_bk[:, -1]),
            }
            # A row at its limit stays as it is.
            on_b = step < limits_b
            new_state = jax.tree.map(
                lambda new, old: jnp.where(on_b.reshape(rows, *[1] * (new.ndim - 1)), new, old),
                new_state,
                state,
            )
            return new_state, origin_bk

        def continues(carry):
            step, _, state = carry
            # Log-probabilities only fall, the penalty is largest at full length, and coverage adds
            # nothing above 0: this is the most that a running beam can still reach.
            reachable_b = state["totals"][:, 0] / self._penalty(limits_b)
            settled_b = state["done_scores"][:, -1] >= reachable_b
            if self.rule == "transformers":
                settled_b = ~state["open"]
            return ~jnp.all((step >= limits_b) | settled_b)

        def advance(carry):
            step, cache, state = carry
            logits, cache = decode_step(cache, state["last"].reshape(rows * k))
            state, origin_bk = consider(step, logits.reshape(rows, k, -1), covered(cache), state)
            source = (jnp.arange(rows)[:, None] * k + origin_bk).reshape(rows * k)
            cache = jax.tree.map(lambda leaf: leaf[source] if jnp.ndim(leaf) else leaf, cache)
            return step + 1, cache, state

        # All beams of a row start alike: only the first may be continued at first.
        totals_bk = jnp.full((rows, k), IMPOSSIBLE).at[:, 0].set(0.0)
        state = {
            "tokens": jnp.zeros((rows, k, n), jnp.int32),
            "last": jnp.repeat(start.tokens_b[:, None], k, axis=1),
            "totals": totals_bk,
            "written": jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], k, axis=1), written),
            "done_tokens": jnp.zeros((rows, k, n), jnp.int32),
            "done_scores": jnp.full((rows, k), IMPOSSIBLE),
            "done_lengths": jnp.zeros((rows, k), jnp.int32),
            # Whether a running beam may still beat an ended one, by the rule of transformers.
            "open": jnp.ones((rows,), bool),
        }
        cache = spread(start.cache, k)
        first_step = 0
        if start.logits_bv is not None:
            # Every beam reads the same prompt, so where a beam came from does not matter yet.
            logits_bkv = jnp.repeat(start.logits_bv[:, None], k, axis=1)
            state, _ = consider(0, logits_bkv, covered(cache), state)
            first_step = 1
        steps, _, state = jax.lax.while_loop(
            continues, advance, (jnp.int32(first_step), cache, state)
        )

        steps_b1 = jnp.minimum(steps, limits_b)[:, None]
        running_scores_bk = state["totals"] / self._penalty(steps_b1)
        none_done_b1 = state["done_scores"][:, :1] <= IMPOSSIBLE / 2
        lengths_bk = jnp.where(none_done_b1, steps_b1, state["done_lengths"])
        return (
            jnp.where(none_done_b1[:, :, None], state["tokens"], state["done_tokens"]),
            jnp.where(none_done_b1, running_scores_bk, state["done_scores"]),
            jnp.where(limits_b[:, None] <= 0, 0, lengths_bk),
        )
