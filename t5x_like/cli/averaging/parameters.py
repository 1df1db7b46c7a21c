"""`t5x-like average`: a run whose parameters are the mean of another's checkpoints."""

import argparse
import json
from pathlib import Path
from typing import Any

from t5x_like.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="a run's")
    parser.add_argument("--out", required=True, metavar="MODEL_DIR", help="to make")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last", type=int, metavar="N", help="the newest N checkpoints, 5")
    which.add_argument("--steps", type=int, nargs="+", metavar="STEP", help="these checkpoints")
    which.add_argument(
        "--moving",
        action="store_true",
        help="the moving average that optimizers/moving_average.gin has kept",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def run(options: argparse.Namespace) -> None:
    """Writes the mean as the one checkpoint of a new MODEL_DIR."""
    from t5x_like import checkpoints, config
    from t5x_like.checkpoints import averages, base, host_params
    from t5x_like.cli import hf_conversion
    from t5x_like.cli.imported_gin import config_elsewhere

    text = config_elsewhere(options.model_dir, options.out)
    with config.isolated():
        config.parse([str(Path(options.model_dir) / "config.gin")])
        model: Any = config.macro("MODEL")
    steps = _chosen(options, checkpoints.checkpoint_steps(options.model_dir))
    if options.moving:
        params = averages.kept_moving_average(options.model_dir, model, steps[-1])
    else:
        params = averages.mean_of_checkpoints(options.model_dir, model, steps)
    metadata = averages.average_metadata(options.model_dir, options.out, model, steps[-1])
    with hf_conversion.whole_directory(options.out) as directory:
        (directory / "config.gin").write_text(text, "utf-8")
        own = base.own_parameters(params, metadata)
        host_params.write_params(str(directory), own, steps[-1], metadata)
    report = {"out": options.out, "steps": steps, "moving": bool(options.moving)}
    of = "the moving average" if options.moving else "the mean"
    line = f"{options.out}: {of} of step {', '.join(map(str, steps))} of {options.model_dir}"
    print(json.dumps(report) if options.json else line)


def _chosen(options: argparse.Namespace, there: list[int]) -> list[int]:
    """The steps that are averaged, ascending.

    Raises:
      UserError: there are none, or not these.
    """
    shown = ", ".join(map(str, there)) or "none"
    if options.moving:
        wanted = there[-1:]
    elif options.steps:
        wanted = sorted(set(options.steps))
    else:
        wanted = there[-(options.last or 5) :]
    if options.last is not None and not 1 <= options.last <= len(there):
        raise UserError(
            f"--last={options.last}: '{options.model_dir}' has {len(there)} checkpoints ({shown}); "
            "checkpoints.CheckpointPolicy.keep says how many a run keeps."
        )
    if not wanted or not set(wanted) <= set(there):
        missing = ", ".join(str(step) for step in wanted if step not in there) or "any"
        raise UserError(f"'{options.model_dir}' has no checkpoint of {missing}; it has {shown}.")
    return wanted
