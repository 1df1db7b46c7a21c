"""The routing of the tokens of given texts to experts."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from t5x_like.decoding import TextCodec
from t5x_like.errors import UserError
from t5x_like.evaluation.extraction import SpanReader
from t5x_like.evaluation.prediction import Text, TextReader
from t5x_like.interpretability.reading import as_text, read
from t5x_like.protocols import Batch, Model, Params, ShowsRouting

if TYPE_CHECKING:
    import pandas as pd

SIDES = ("encoder", "decoder")


@dataclasses.dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        return f"Routing({len(self.tokens):,} choices among {self.num_experts} experts)"

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


def routing(
    model: Model,
    params: Params,
    codec: TextCodec,
    texts: Sequence[Text],
    targets: Sequence[str] | None = None,
    reader: TextReader | SpanReader | None = None,
) -> Routing:
    """Computes which experts each token of some texts is routed to, in one batch.

    The experts' capacity is that of evaluation; padding takes part in it like any token.

    Args:
      model: a `Model` with experts.
      params: its parameters.
      codec: from text to tokens.
      texts: what the encoder reads, or the decoder first.
      targets: what the decoder reads after them; None: nothing.
      reader: makes the rows of a model with a head, one or several of a text.

    Raises:
      UserError: the model has no experts; or as for `attention_maps`.
    """
    import pandas as pd

    rows, batch = read(model, codec, texts, targets, reader)
    found = (
        jax.device_get(_routing(model, params, batch)) if isinstance(model, ShowsRouting) else {}
    )
    if not found:
        raise UserError(f"{type(model).__name__} has no experts: nothing is routed.")
    parts = []
    for side in SIDES:
        for layer, decided in sorted(found.get(side, {}).items()):
            for i, ids in enumerate(rows[side]):
                parts.append(_routed(side, layer, i, ids, as_text(codec, side, ids), decided))
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
def _routing(model: ShowsRouting, params: Params, batch: Batch) -> Any:
    return model.routing(params, batch)
