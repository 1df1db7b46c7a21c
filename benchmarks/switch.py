"""A Switch model's training step beside that of the dense T5 of the same FLOPs.

    python -m benchmarks.switch [--experts 8] [--capacity_factor 1.0] [--dropless] [--json]

The two, and with `--dropless` a third that drops nothing, are built in one process, warmed up,
and take turns, one step each, until each has had `--rounds`. The step is that of training:
forward, backward, clipping and AdamW, with the loss read back. What is printed are medians, and
the ratio of step rates, Switch to dense: above 1 would be faster. At a capacity factor of 1.0
the experts' products are as many as the dense MLP's, and the router's are 1 in 1,000; the rest
of the difference is routing, moving tokens, and AdamW, which has `experts` times as many
parameters to update in every second layer. Fedus et al. 2021, table 1, report 1000 / 1600 = 0.63
for Switch-Base with 128 experts beside T5-Base.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import WARM_UP, random_tokens
from benchmarks.train_step import SHAPES

SHAPE = "t5_1_1"
DENSE, SWITCH, DROPLESS = "dense T5", "Switch", "Switch, dropless"


def models(experts: int, capacity_factor: float, dropless: bool) -> dict[str, Any]:
    """The contenders, by name."""
    from models.layers.experts.dispatch import Capacity, Dropless
    from models.switch import Switch
    from models.t5 import T5_1_1

    shape = SHAPES[SHAPE]
    sizes = {
        "vocab_size": shape.vocabulary,
        "embed_dim": shape.embed,
        "mlp_dim": shape.mlp,
        "num_heads": shape.heads,
        "head_dim": shape.embed // shape.heads,
        "num_encoder_layers": shape.layers,
        "num_decoder_layers": shape.layers,
    }
    capacity = Capacity(capacity_factor, capacity_factor)
    found = {
        DENSE: T5_1_1(**sizes),
        SWITCH: Switch(**sizes, num_experts=experts, dispatch=capacity),
    }
    if dropless:
        found[DROPLESS] = Switch(**sizes, num_experts=experts, dispatch=Dropless())
    return found


def training_step(model: Any, batch: dict[str, Any]) -> Callable[[], float]:
    """A function that takes one step and gives its seconds."""
    import jax

    from t5x_like import optimizers, partitioning, schedules
    from t5x_like.training import state as train_state
    from t5x_like.training import step as train_step

    partitioner = partitioning.Partitioner()
    optimizer = optimizers.adamw(schedules.Constant(1e-4))
    state = train_state.create_state(model, optimizer, partitioner, seed=0)
    take = train_step.make_train_step(model, optimizer, partitioner)
    placed = partitioner.shard_batch(batch)

    def step() -> float:
        nonlocal state
        start = time.perf_counter()
        state, metrics = take(state, placed)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    return step


def measure(experts: int, capacity_factor: float, dropless: bool, rounds: int) -> dict[str, Any]:
    """All contenders' seconds, and the ratios of their rates to the dense one's."""
    from t5x_like.host import memory

    memory.keep_freed_memory()
    contenders = models(experts, capacity_factor, dropless)
    batch = random_tokens(dataclasses.asdict(SHAPES[SHAPE]))
    shapes = {name: value.shape for name, value in batch.items()}
    steps = {name: training_step(model, batch) for name, model in contenders.items()}
    for step in steps.values():
        for _ in range(1 + WARM_UP):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(step())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "experts": experts,
        "capacity_factor": capacity_factor,
        "contenders": {
            name: {
                "parameters": model.parameter_count(),
                "step_flops": model.step_flops(shapes),
                "step_seconds": medians[name],
                "step_seconds_all": seconds[name],
                "ratio": medians[DENSE] / medians[name],
            }
            for name, model in contenders.items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """What a person reads."""
    shape = SHAPES[SHAPE]
    lines = [
        f"{shape.layers}+{shape.layers} layers, d {shape.embed}, mlp {shape.mlp} gated, batch "
        f"{shape.batch}, {shape.inputs} in, {shape.targets} out, float32, AdamW; "
        f"{result['experts']} experts in every second layer, capacity factor "
        f"{result['capacity_factor']}",
        f"{'':20s}{'params':>9s}{'GFLOP':>8s}{'step s':>9s}{'rate to dense':>15s}",
    ]
    for name, row in result["contenders"].items():
        lines.append(
            f"{name:20s}{row['parameters'] / 1e6:8.1f}M{row['step_flops'] / 1e9:8,.0f}"
            f"{row['step_seconds']:9.3f}{row['ratio']:15.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--capacity_factor", type=float, default=1.0)
    parser.add_argument("--dropless", action="store_true", help="measure it too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(
        arguments.experts, arguments.capacity_factor, arguments.dropless, arguments.rounds
    )
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
