"""How likely given texts are under a model.

Shapes: `b` rows, `t` decoder positions, `s` encoder positions, `v` vocabulary.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_like.data.formats.prompts import Tokens, bucket_length
from t5x_like.decoding.continuations import Score, check_batch_size
from t5x_like.decoding.generate import fetched
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.text import TextCodec, checked_texts
from t5x_like.errors import UserError
from t5x_like.protocols import Batch, Decodes, longest_row


@functools.partial(jax.jit, static_argnames=("model",))
def token_log_likelihoods(model: Decodes, params: Any, batch: Batch) -> jax.Array:
    """Log-probability of each target token, float32 `[b, t]`, 0 where nothing is weighed.

    Args:
      model: a `Decodes`, hashable.
      params: its parameters.
      batch: as for training: `decoder_input_tokens`, `decoder_target_tokens`,
        `decoder_loss_weights` (missing: every token that is not 0 counts) and the rest.
    """
    targets_bt = batch["decoder_target_tokens"]
    weights_bt = batch.get("decoder_loss_weights")
    counts_bt = targets_bt != 0 if weights_bt is None else weights_bt > 0
    logits_btv = model.logits(params, batch)
    chosen_bt = jnp.take_along_axis(logits_btv, targets_bt[:, :, None], axis=-1)[:, :, 0]
    log_probs_bt = chosen_bt - jax.nn.logsumexp(logits_btv, axis=-1)
    return jnp.where(counts_bt, log_probs_bt, 0.0)


def score(
    model: Decodes,
    params: Any,
    *,
    targets: Sequence[Tokens],
    inputs: Sequence[Tokens] | None = None,
    bos_id: int | None = 0,
    bidirectional_prompt: bool = False,
    batch_size: int = 8,
) -> list[Score]:
    """Log-likelihood of every target, given its input.

    Args:
      model: a `Decodes`.
      params: its parameters.
      targets: token ids, with the end token where its probability should count.
      inputs: token ids, as many as targets; None for a decoder-only model without prompts.
      bos_id: put before the decoder's tokens; None (decoder-only) for models trained
        without one, whose first token then has no probability: it gets 0.
      bidirectional_prompt: see `decoding.generate`.
      batch_size: rows scored together.

    Returns:
      One `Score` a target, in order.

    Raises:
      UserError: inputs missing for an encoder-decoder, or not as many as targets; `batch_size`
        below 1.
    """
    check_batch_size(batch_size)
    layout = prompts_of(model)
    if inputs is None:
        if layout.needs_inputs:
            raise UserError(f"score() got no inputs; {type(model).__name__} needs them")
        inputs = [[]] * len(targets)
    _check_count(inputs, targets)
    rows = list(zip(inputs, targets, strict=True))
    order = sorted(range(len(rows)), key=lambda i: (_lengths(rows[i]), i))
    scores: list[Any] = [None] * len(rows)
    for first in range(0, len(order), batch_size):
        members = order[first : first + batch_size]
        filled = [rows[i] for i in members + members[:1] * (batch_size - len(members))]
        batch = layout.scoring_batch(
            filled,
            bos_id=bos_id,
            bidirectional=bidirectional_prompt,
            max_length=longest_row(model),
        )
        found_bt = fetched(token_log_likelihoods(model, params, batch))
        for row, i in enumerate(members):
            weighed = found_bt[row][batch["decoder_loss_weights"][row] > 0]
            tokens = np.zeros((len(targets[i]),), np.float32)
            tokens[len(tokens) - len(weighed) :] = weighed
            scores[i] = Score(float(tokens.sum(dtype=np.float64)), tokens)
    return scores


def _lengths(row: tuple[Tokens, Tokens]) -> tuple[int, int]:
    return bucket_length(len(row[0])), bucket_length(len(row[1]))


def score_text(
    model: Decodes,
    params: Any,
    codec: TextCodec,
    *,
    targets: Sequence[str],
    inputs: Sequence[str] | None = None,
    end_token: bool | None = None,
    batch_size: int = 8,
) -> list[Score]:
    """Log-likelihood of every target text given its input text, as `score`.

    Args:
      model: a `Decodes`.
      params: its parameters.
      codec: of the task.
      targets: texts to be scored.
      inputs: as many texts; None for none. See `TextCodec.encode_pair`.
      end_token: whether each target ends with the end token, whose probability then counts:
        always, never, or (None) where the task's targets do.
      batch_size: rows scored together.

    Raises:
      UserError: as `score`.
    """
    before, after = encoded_pairs(codec, targets, inputs, end_token)
    return score(
        model,
        params,
        targets=after,
        inputs=before,
        bos_id=codec.start_id,
        bidirectional_prompt=codec.bidirectional_prompt and inputs is not None,
        batch_size=batch_size,
    )


def encoded_pairs(
    codec: TextCodec,
    targets: Sequence[str],
    inputs: Sequence[str] | None,
    end_token: bool | None,
) -> tuple[list[list[int]] | None, list[list[int]]]:
    """The ids of inputs, None without them, and of targets; see `score_text`.

    Raises:
      UserError: there are not as many inputs as targets, or one of them is no text.
    """
    texts = checked_texts(targets, "targets")
    if inputs is None:
        return None, [codec.encode_target(text, end_token) for text in texts]
    asked = checked_texts(inputs, "inputs")
    _check_count(asked, texts)
    pairs = [codec.encode_pair(*pair, end_token) for pair in zip(asked, texts, strict=True)]
    return [before for before, _ in pairs], [after for _, after in pairs]


def _check_count(inputs: Sequence[Any], targets: Sequence[Any]) -> None:
    if len(inputs) != len(targets):
        raise UserError(f"score() got {len(inputs)} inputs for {len(targets)} targets")
