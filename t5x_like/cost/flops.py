"""Counts a model's FLOPs per token exactly, and by the approximation 6 N."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from t5x_like.protocols import Model

# The features whose tokens are counted: each token that a model reads or writes, once.
POSITIONS = ("encoder_input_tokens", "decoder_input_tokens")


@dataclasses.dataclass(frozen=True)
class FlopReport:
    """FLOPs per token of a batch, and parameter counts. All FLOPs are those of matrix products.

    A token is a position of the encoder or of the decoder, padding included. Attention makes the
    FLOPs of a token depend on the length of its row.

    Attributes:
      forward: of the forward pass for one token, by part, where every query meets every key and
        every slot of an expert is filled.
      forward_needed: the same, less the pairs that causal and windowed masks hide, and less
        empty slots.
      backward: of the backward pass in full, all parts together: each product of the forward pass
        twice, but for models that are trained in part.
      backward_needed: the same by `forward_needed`.
      parameters: how many, named `total` and, of those that one token meets, `active`; either
        also without the embeddings of tokens and positions. In all but mixtures of experts
        active parameters are all.
    """

    forward: Mapping[str, float]
    forward_needed: Mapping[str, float]
    backward: float
    backward_needed: float
    parameters: Mapping[str, int]

    @property
    def step(self) -> float:
        """FLOPs of forward and backward pass."""
        return sum(self.forward.values()) + self.backward

    @property
    def step_needed(self) -> float:
        """FLOPs of forward and backward pass that are needed."""
        return sum(self.forward_needed.values()) + self.backward_needed

    @property
    def six_n(self) -> dict[str, float]:
        """FLOPs of a token by the approximation C = 6 N D (Kaplan et al. 2020, section 2.1).

        One for each count in `parameters`.
        """
        return {name: 6.0 * count for name, count in self.parameters.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """The ratio of `step` to each of `six_n`, but for those of no parameters.

        About one half for encoder-decoders, where a token passes through only one of the two
        stacks.
        """
        return {name: self.step / value for name, value in self.six_n.items() if value}

    def to_json(self) -> dict[str, Any]:
        """Converts the report to JSON.

        Its keys are `forward`, `backward` and `step`, each with `_needed`; `six_n`, `ratios` and
        `parameters`. `forward` has the parts, the others are sums.
        """
        return {
            "forward": dict(self.forward),
            "forward_needed": dict(self.forward_needed),
            "backward": self.backward,
            "backward_needed": self.backward_needed,
            "step": self.step,
            "step_needed": self.step_needed,
            "parameters": dict(self.parameters),
            "six_n": self.six_n,
            "ratios": self.ratios,
        }


def flop_report(model: Model, batch_shapes: Mapping[str, tuple[int, ...]]) -> FlopReport:
    """Counts the FLOPs per token of a model for batches of these shapes; allocates nothing.

    Args:
      model: any family.
      batch_shapes: shape of each feature.
    """
    tokens = positions(batch_shapes)
    parts, back = model.forward_flops(batch_shapes), model.backward_flops(batch_shapes).values()
    total = model.parameter_count()
    active = getattr(model, "active_parameter_count", lambda: total)()
    embeddings = total - model.parameter_count(embeddings=False)
    return FlopReport(
        forward={name: full / tokens for name, (full, _) in parts.items()},
        forward_needed={name: needed / tokens for name, (_, needed) in parts.items()},
        backward=sum(full for full, _ in back) / tokens,
        backward_needed=sum(needed for _, needed in back) / tokens,
        parameters={
            "total": total,
            "total_without_embeddings": total - embeddings,
            "active": active,
            "active_without_embeddings": active - embeddings,
        },
    )


def positions(batch_shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Counts the tokens of one batch, padding included: the encoder's and the decoder's."""
    return sum(math.prod(shape) for name, shape in batch_shapes.items() if name.endswith(POSITIONS))


def report_text(report: Mapping[str, Any]) -> str:
    """Formats `FlopReport.to_json` as aligned lines.

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
        if name in report["ratios"]
        # A dense model's active parameters are all that there are.
        if report["parameters"]["active"] < report["parameters"]["total"] or "total" in name
    ]
    return "\n".join(lines)
