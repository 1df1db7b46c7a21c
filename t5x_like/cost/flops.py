"""What a model computes for each token, exactly, and beside it the approximation by 6 N."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from t5x_like.protocols import Model

# Of the tokens that a model reads and writes, each counts once.
POSITIONS = ("encoder_input_tokens", "decoder_input_tokens")


@dataclasses.dataclass(frozen=True)
class FlopReport:
    """FLOPs for each token of a batch, and parameters; all FLOPs are those of matrix products.

    A token is a position of the encoder or of the decoder, padding included. Attention makes the
    FLOPs of a token depend on the length of its row.

    Attributes:
      forward: of the forward pass for one token, by part, where every query meets every key and
        every slot of an expert is filled.
      forward_needed: the same, less the pairs that causal and windowed masks hide, and less
        empty slots.
      parameters: how many, named `total` and, of those that one token meets, `active`; either
        also without the embeddings of tokens and positions. In all but mixtures of experts
        active parameters are all.
    """

    forward: Mapping[str, float]
    forward_needed: Mapping[str, float]
    parameters: Mapping[str, int]

    @property
    def step(self) -> float:
        """Forward and backward, which does each product of the forward pass twice."""
        return 3 * sum(self.forward.values())

    @property
    def step_needed(self) -> float:
        """The same of what is needed."""
        return 3 * sum(self.forward_needed.values())

    @property
    def six_n(self) -> dict[str, float]:
        """FLOPs of a token by the approximation C = 6 N D (Kaplan et al. 2020, section 2.1).

        For each count in `parameters`.
        """
        return {name: 6.0 * count for name, count in self.parameters.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """`step` to each of `six_n`.

        About a half for encoder-decoders: a token passes through one of the two sides.
        """
        return {name: self.step / approximation for name, approximation in self.six_n.items()}

    def to_json(self) -> dict[str, Any]:
        """`forward`, `backward` and `step`, each with `_needed`; `six_n`, `ratios`, `parameters`.

        `forward` has the parts, the others are sums.
        """
        return {
            "forward": dict(self.forward),
            "forward_needed": dict(self.forward_needed),
            "backward": self.step * 2 / 3,
            "backward_needed": self.step_needed * 2 / 3,
            "step": self.step,
            "step_needed": self.step_needed,
            "parameters": dict(self.parameters),
            "six_n": self.six_n,
            "ratios": self.ratios,
        }


def flop_report(model: Model, batch_shapes: Mapping[str, tuple[int, ...]]) -> FlopReport:
    """What this model computes for each token of batches of these shapes; allocates nothing.

    Args:
      model: any family.
      batch_shapes: shape of each feature.
    """
    tokens = positions(batch_shapes)
    parts = model.forward_flops(batch_shapes)
    total = model.parameter_count()
    active = getattr(model, "active_parameter_count", lambda: total)()
    embeddings = total - model.parameter_count(embeddings=False)
    return FlopReport(
        forward={name: full / tokens for name, (full, _) in parts.items()},
        forward_needed={name: needed / tokens for name, (_, needed) in parts.items()},
        parameters={
            "total": total,
            "total_without_embeddings": total - embeddings,
            "active": active,
            "active_without_embeddings": active - embeddings,
        },
    )


def positions(batch_shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Tokens of one batch, padding included: the encoder's and the decoder's."""
    return sum(math.prod(shape) for name, shape in batch_shapes.items() if name.endswith(POSITIONS))


def report_text(report: Mapping[str, Any]) -> str:
    """`FlopReport.to_json` as aligned lines.

    Args:
      report: as `to_json` gives it.
    """
    full, needed = report["forward"], report["forward_needed"]
    rows = [(name.replace("_", " "), full[name], needed[name]) for name in full]
    rows += [
        ("forward", sum(full.values()), sum(needed.values())),
        ("backward", report["backward"], report["backward_needed"]),
        ("forward and backward", report["step"], report["step_needed"]),
    ]
    lines = [f"{'FLOPs per token':29}  {'in full':>12}  {'needed':>12}"]
    lines += [f"  {name:27}  {full:12.4g}  {needed:12.4g}" for name, full, needed in rows]
    lines += [f"{'6 N':29}  {'':>12}  {'in full / 6N':>12}"]
    lines += [
        f"  {name.replace('_', ' '):27}  {value:12.4g}  {report['ratios'][name]:12.3f}"
        for name, value in report["six_n"].items()
        # A dense model's active parameters are all that there are.
        if report["parameters"]["active"] < report["parameters"]["total"] or "total" in name
    ]
    return "\n".join(lines)
