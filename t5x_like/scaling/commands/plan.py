"""`t5x-like plan`: N, D, the loss, a model and its cost for a budget, and the inverses."""

import json
import math
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

_SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def add_arguments(parser: ArgumentParser) -> None:
    """The command's flags."""
    question = parser.add_argument_group("what is given: one, or two but --flops with --loss")
    amount: dict[str, Any] = {"type": quantity, "metavar": "X"}
    question.add_argument("--flops", **amount, help="training budget C, 5.76e23")
    question.add_argument("--parameters", **amount, help="N, 70b")
    question.add_argument("--tokens", **amount, help="D, 1.4T")
    question.add_argument("--loss", **amount, help="to reach, in nats")
    question.add_argument(
        "--inference_tokens", **amount, help="expected: the least training and inference FLOPs"
    )
    question.add_argument(
        "--unique_tokens", **amount, help="different tokens that there are; others are repeated"
    )
    answer = parser.add_argument_group("how it is answered")
    answer.add_argument(
        "--law", default="besiroglu2024", help="a published law, or fit.json; %(default)s"
    )
    answer.add_argument("--family", default="gopher", help="of the model; %(default)s")
    answer.add_argument(
        "--row_tokens", type=int, metavar="T", help="target tokens of a row; 2048 for decoders"
    )
    answer.add_argument("--chips", help="v5p-2048, v6e-256, v5p:8x16x16, h100-8")
    answer.add_argument(
        "--mfu", type=float, default=0.4, help="share of the chips' peak; %(default)s"
    )
    answer.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: Namespace) -> None:
    """Prints the plan."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # a plan computes nothing on a device
    from t5x_like.errors import UserError
    from t5x_like.scaling.planning.accelerators import accelerators
    from t5x_like.scaling.planning.plan import Question, plan
    from t5x_like.scaling.planning.text import plan_text
    from t5x_like.scaling.recipe import Recipe

    if options.row_tokens is not None and options.row_tokens < 1:
        raise UserError(f"--row_tokens={options.row_tokens}: at least 1.")
    recipe = Recipe()
    found = plan(
        Question(
            flops=options.flops,
            parameters=options.parameters,
            tokens=options.tokens,
            loss=options.loss,
            inference_tokens=options.inference_tokens,
            unique_tokens=options.unique_tokens,
        ),
        law=options.law,
        architecture=options.family,
        recipe=recipe,
        row_tokens=options.row_tokens,
        accelerators=accelerators(options.chips) if options.chips else None,
        mfu=options.mfu,
    )
    print(json.dumps(found.to_json()) if options.json else plan_text(found, recipe))


def quantity(text: str) -> float:
    """A number above 0: 5.76e23, 70b, 1.4T, 300,000."""
    plain = text.strip().replace(",", "").replace("_", "").lower()
    factor = _SUFFIXES.get(plain[-1:], 1.0)
    try:
        value = float(plain[:-1] if factor != 1.0 else plain) * factor
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"'{text}' is no number above 0, such as 5.76e23, 70b or 1.4T")
    return value
