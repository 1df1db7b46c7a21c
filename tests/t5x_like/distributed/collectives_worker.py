"""The exchanges of one training step on 8 simulated devices, in a process of its own.

    python -m tests.t5x_like.distributed.collectives_worker '[["palm", "fsdp", {"fsdp": 8}], ...]'

prints a line of JSON for each case: every exchange with its kind, mesh axes, bytes and origin, and
the sizes of the parameters in bytes.
"""

import json
import sys

from models.layers.experts.dispatch import Capacity
from models.palm import PaLM
from models.switch import Switch
from models.t5 import T5_1_1
from t5x_like import inspection, optimizers, schedules
from t5x_like.cost import hlo, topologies
from t5x_like.partitioning import Partitioner
from t5x_like.training.step import lower_train_step

# Sizes that differ from one another, so that an array is known by its bytes.
ROWS, LENGTH = 16, 24
SHAPES = dict(vocab_size=320, embed_dim=64, num_heads=8, head_dim=16)
SIDES = dict(num_encoder_layers=2, num_decoder_layers=2, mlp_dim=192, num_buckets=8)
# Two rows, a device's part of the batch, are routed together.
GROUPS = Capacity(group_size=2 * LENGTH)
MODELS = {
    "palm": lambda: PaLM(**SHAPES, num_layers=2, mlp_dim=192),
    "t5": lambda: T5_1_1(**SHAPES, **SIDES),
    "switch": lambda: Switch(**SHAPES, **SIDES, num_experts=8, dispatch=GROUPS),
}


def main() -> None:
    """Runs the cases."""
    devices = topologies.devices_of("cpu:8")
    for name, rules, sizes in json.loads(sys.argv[1]):
        model = MODELS[name]()
        placed = Partitioner(
            **({"data": 1} | sizes), rules=rules, replicate_below=0, devices=tuple(devices)
        )
        lengths = {"inputs": LENGTH, "targets": LENGTH}
        if model.batch_format != "encoder_decoder":
            lengths = {"targets": LENGTH}
        lowered = lower_train_step(
            model,
            optimizers.adamw(schedules.Constant(0.01)),
            placed,
            inspection.example_batch(model, lengths, ROWS),
        )
        module = hlo.parse(lowered.compile().as_text())
        exchanges = [
            {
                "kind": exchange.kind,
                "axes": list(exchange.axes(dict(placed.mesh.shape))),
                "bytes": exchange.bytes,
                "count": exchange.count,
                "origin": exchange.origin,
            }
            for exchange in hlo.collectives(module, [0] * len(devices))
        ]
        print(json.dumps({"case": [name, rules, sizes], "exchanges": exchanges}), flush=True)


if __name__ == "__main__":
    main()
