"""Attention maps of a model over given texts, and the routing of their tokens to experts.

Shapes: `h` heads, `t` tokens that the decoder reads, `s` tokens that the encoder reads.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from t5x_like.data.formats.prompts import bucket_length, encoder_batch, right_padded
from t5x_like.decoding import TextCodec, prompts_of
from t5x_like.errors import UserError
from t5x_like.protocols import Batch, Model, Params

if TYPE_CHECKING:
    import pandas as pd

SIDES = ("encoder", "decoder")


@dataclasses.dataclass(frozen=True)
class AttentionMaps:
    """The attention weights of all heads over one text; those of each query sum to 1.

    Attributes:
      decoder_tokens: as text, what the decoder reads, the start token first.
      decoder: float32 `[layers, h, t, t]`, from a query (third axis) to keys (fourth).
      encoder_tokens: what the encoder reads; None without one.
      encoder: `[layers, h, s, s]`.
      cross: `[layers, h, t, s]`, from the decoder's tokens to the encoder's.
    """

    decoder_tokens: list[str]
    decoder: np.ndarray
    encoder_tokens: list[str] | None = None
    encoder: np.ndarray | None = None
    cross: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Routing:
    """The experts to which routers sent the tokens of some texts, padding left out.

    Attributes:
      tokens: a row for each token, layer and choice: `side` ("encoder", "decoder"), `layer`
        (from 0), `text` (which of the texts), `position`, `token_id`, `token` (as text), `choice`
        (0 for the first), `expert`, `gate`, `probability` (the router's of that expert), `served`
        (False where the expert had no room).
      num_experts: among how many.
    """

    tokens: "pd.DataFrame"
    num_experts: int

    @property
    def loads(self) -> "pd.DataFrame":
        """The share of choices of each expert: a row for each side and layer, which sums to 1.

        Choices that found no capacity are included.
        """
        counts = self.tokens.groupby(["side", "layer"])["expert"].value_counts(normalize=True)
        return counts.unstack(fill_value=0.0).reindex(
            columns=range(self.num_experts), fill_value=0.0
        )

    @property
    def dropped(self) -> "pd.Series":
        """The share of choices that exceeded an expert's capacity, for each side and layer."""
        return 1.0 - self.tokens.groupby(["side", "layer"])["served"].mean().rename("dropped")

    def favourites(self, side: str, layer: int, count: int = 5) -> "pd.DataFrame":
        """The tokens that each expert gets most disproportionately.

        Ordered by n log(n / m), where a token was routed n times to the expert, and m times would
        be expected if routing were independent of the token.

        Args:
          side: "encoder" or "decoder".
          layer: one that has experts.
          count: tokens of each expert, or fewer, of those that meet it more often than expected.

        Returns:
          `expert`, `token`, `times` (n), `share` (of all the token's choices), `lift` (n / m); a
          row for each favourite, the strongest of an expert first.

        Raises:
          UserError: there is no such layer.
        """
        chosen = self.tokens[(self.tokens["side"] == side) & (self.tokens["layer"] == layer)]
        if chosen.empty:
            there = ", ".join(f"{name} {number}" for name, number in self.loads.index)
            raise UserError(f"no experts in {side} {layer}: they are in {there}.")
        times = chosen.groupby(["expert", "token"]).size().rename("times").reset_index()
        of_token = times.groupby("token")["times"].transform("sum")
        of_expert = times.groupby("expert")["times"].transform("sum")
        times["share"] = times["times"] / of_token
        times["lift"] = times["share"] / (of_expert / len(chosen))
        times["strength"] = times["times"] * np.log(times["lift"])
        liked = times[times["lift"] > 1].sort_values(
            ["expert", "strength", "token"], ascending=[True, False, True]
        )
        liked = liked.groupby("expert").head(count).drop(columns="strength")
        return liked.reset_index(drop=True)


def attention_maps(
    model: Model,
    params: Params,
    codec: TextCodec,
    texts: Sequence[str],
    targets: Sequence[str] | None = None,
) -> list[AttentionMaps]:
    """Computes the attention weights of every layer and head over each text.

    Args:
      model: a `Model`.
      params: its parameters.
      codec: from text to tokens.
      texts: what the encoder reads, or the decoder first.
      targets: what the decoder reads after them; None: nothing.

    Raises:
      UserError: not as many targets as texts, or more tokens than the model has positions.
    """
    rows, batch = _read(model, codec, texts, targets)
    weights = jax.device_get(_attention_weights(model, params, batch))
    maps = []
    for i, row in enumerate(zip(*rows.values(), strict=True)):
        tokens = dict(zip(rows, row, strict=True))
        text = {side: _as_text(codec, side, ids) for side, ids in tokens.items()}
        t = len(tokens["decoder"])
        found = AttentionMaps(text["decoder"], weights["decoder"][:, i, :, :t, :t])
        if "encoder" in tokens:
            s = len(tokens["encoder"])
            found = dataclasses.replace(
                found,
                encoder_tokens=text["encoder"],
                encoder=weights["encoder"][:, i, :, :s, :s],
                cross=weights["cross"][:, i, :, :t, :s],
            )
        maps.append(found)
    return maps


def routing(
    model: Model,
    params: Params,
    codec: TextCodec,
    texts: Sequence[str],
    targets: Sequence[str] | None = None,
) -> Routing:
    """Computes which experts each token of some texts is routed to, in one batch.

    The experts' capacity is that of evaluation; padding takes part in it like any token.

    Args:
      model: a `Model` with experts.
      params: its parameters.
      codec: from text to tokens.
      texts: what the encoder reads, or the decoder first.
      targets: what the decoder reads after them; None: nothing.

    Raises:
      UserError: the model has no experts; or as for `attention_maps`.
    """
    import pandas as pd

    rows, batch = _read(model, codec, texts, targets)
    found = jax.device_get(_routing(model, params, batch))
    if not found:
        raise UserError(f"{type(model).__name__} has no experts: nothing is routed.")
    parts = []
    for side in SIDES:
        for layer, decided in sorted(found.get(side, {}).items()):
            for i, ids in enumerate(rows[side]):
                parts.append(_routed(side, layer, i, ids, _as_text(codec, side, ids), decided))
                num_experts = decided["probabilities"].shape[-1]
    return Routing(pd.concat(parts, ignore_index=True), num_experts)


def _routed(
    side: str, layer: int, text: int, ids: Sequence[int], tokens: Sequence[str], decided: Any
) -> "pd.DataFrame":
    """Makes the rows of `Routing.tokens` for one text in one layer."""
    import pandas as pd

    t, k = len(ids), decided["experts"].shape[-1]
    experts_tk = decided["experts"][text, :t]
    of_expert_tk = np.take_along_axis(decided["probabilities"][text, :t], experts_tk, axis=-1)
    return pd.DataFrame(
        {
            "side": side,
            "layer": layer,
            "text": text,
            "position": np.repeat(np.arange(t), k),
            "token_id": np.repeat(ids, k),
            "token": np.repeat(np.array(tokens, object), k),
            "choice": np.tile(np.arange(k), t),
            "expert": experts_tk.ravel(),
            "gate": decided["gates"][text, :t].ravel(),
            "probability": of_expert_tk.ravel(),
            "served": decided["served"][text, :t].ravel(),
        }
    )


@functools.partial(jax.jit, static_argnames="model")
def _attention_weights(model: Model, params: Params, batch: Batch) -> Any:
    return model.attention_weights(params, batch)


@functools.partial(jax.jit, static_argnames="model")
def _routing(model: Model, params: Params, batch: Batch) -> Any:
    return model.routing(params, batch)


def _read(
    model: Model,
    codec: TextCodec,
    texts: Sequence[str],
    targets: Sequence[str] | None,
) -> tuple[dict[str, list[list[int]]], dict[str, np.ndarray]]:
    """Tokenizes the texts, and makes a batch that is padded on the right."""
    if not texts:
        raise UserError("no text was given: give at least one.")
    if targets is not None and len(targets) != len(texts):
        raise UserError(f"{len(targets)} targets were given for {len(texts)} texts.")
    sources = [codec.encode(text) for text in texts]
    # The end token is only predicted, never read.
    written = [list(codec.targets.vocabulary.encode(text)) for text in targets or [""] * len(texts)]
    pairs = list(zip(sources, written, strict=True))
    batch: dict[str, np.ndarray] = {}
    if prompts_of(model).needs_inputs:
        rows = {"encoder": sources, "decoder": [[codec.start_id, *ids] for ids in written]}
        batch |= encoder_batch(sources)
    else:
        rows = {"decoder": [[codec.start_id, *source, *ids] for source, ids in pairs]}
    longest = max(len(ids) for ids in rows["decoder"])
    if model.max_length is not None and longest > model.max_length:
        raise UserError(
            f"a text of {longest} tokens, where the model has {model.max_length} positions: "
            "shorten it."
        )
    length = min(bucket_length(longest), model.max_length or math.inf)
    batch["decoder_input_tokens"] = right_padded(rows["decoder"], int(length))
    if codec.bidirectional_prompt:
        prompts = [[1] * (1 + len(source)) for source in sources]
        batch["decoder_causal_attention"] = right_padded(prompts, int(length))
    return rows, batch


def _as_text(codec: TextCodec, side: str, ids: Sequence[int]) -> list[str]:
    """The text of each token; its id, such as `<1>`, for tokens without text."""
    feature = codec.inputs if side == "encoder" and codec.inputs else codec.targets
    return [feature.vocabulary.decode([i]) or f"<{i}>" for i in ids]
