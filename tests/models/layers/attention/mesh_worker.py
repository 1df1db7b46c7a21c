"""Attention on 8 simulated devices beside the same on one, in a process of its own.

    python -m tests.models.layers.attention.mesh_worker

prints an object of JSON: `divided_rows`, for each case the largest difference of the result and of
the gradients, and which exchanges there are; `temporaries`, bytes by length of rows; `bias`, the
largest difference of a relative bias's gradient, and the bytes of each exchange.
"""

import json

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from models.layers.attention import context_parallel, kernels
from models.layers.attention.masks import Mask
from models.layers.attention.positions import RelativePositionBias
from models.layers.attention.softmax_attention import KeysValues
from t5x_like.cost import hlo, topologies
from t5x_like.partitioning import Partitioner

B, H, T, D = 2, 8, 64, 4
TEXTS = np.where(np.arange(T) < 37, 1, 2)[None].repeat(B, 0)
PACKED = Mask(causal=True, query_segments_bt=TEXTS, key_segments_bs=TEXTS)
PREFIX = Mask(causal=True, prefix_bt=TEXTS == 1)
PADDED = Mask(key_valid_bs=TEXTS == 1)

# Mask, heads, heads of keys, mesh, whether there is a bias.
CASES = {
    "packed": (PACKED, H, H, {"data": 2, "sequence": 4}, False),
    "grouped": (PACKED, H, 2, {"sequence": 4, "tensor": 2}, False),
    "one head of keys": (Mask(causal=True, window=20), H, 1, {"sequence": 8}, False),
    "bias": (PADDED, H, H, {"data": 2, "sequence": 2, "tensor": 2}, True),
    "prefix": (PREFIX, H, H, {"sequence": 8}, True),
    "more devices than heads": (PACKED, 2, 1, {"data": 2, "sequence": 4}, True),
}


def arrays(heads, kv_heads, has_bias):
    keys = jax.random.split(jax.random.key(0), 5)
    q, dy = (jax.random.normal(key, (B, heads, T, D)) for key in keys[:2])
    k, v = (jax.random.normal(key, (B, kv_heads, T, D)) for key in keys[2:4])
    bias = jax.random.normal(keys[4], (1, heads, T, T)) if has_bias else None
    return (q, KeysValues(k, v), bias), dy


def with_gradients(attend):
    """From operands, mask and the result's gradient to the result and their gradients."""

    @jax.jit
    def run(operands, mask, dy):
        y, pull = jax.vjp(lambda q, kv, bias: attend(q, kv, mask, bias), *operands)
        return y, pull(dy)

    return run


def divided_rows(devices):
    """Each case on its mesh, beside one device."""
    for name, (mask, heads, kv_heads, sizes, has_bias) in CASES.items():
        operands, dy = arrays(heads, kv_heads, has_bias)
        wanted = with_gradients(kernels.attend)(operands, mask, dy)
        placed = Partitioner(**({"data": 1} | sizes), rules="context_parallel", devices=devices)
        with placed.activate():
            arguments = jax.device_put((operands, mask, dy), placed.replicated)
            compiled = with_gradients(context_parallel.attend).lower(*arguments).compile()
            found = compiled(*arguments)
        differences = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), found, wanted)
        text = compiled.as_text() or ""
        yield (
            name,
            {
                "difference": max(jax.tree.leaves(differences)),
                "exchanges": [kind for kind in ("all-gather", "all-to-all") if kind in text],
            },
        )


def temporaries(length, devices):
    """Of one device, in a forward and backward pass over one row."""
    placed = Partitioner(data=1, sequence=8, rules="context_parallel", devices=devices)
    sharding = NamedSharding(placed.mesh, PartitionSpec(None, None, "sequence"))
    x = jax.ShapeDtypeStruct((1, H, length, D), np.float32, sharding=sharding)
    with placed.activate():
        run = with_gradients(context_parallel.attend)
        compiled = run.lower((x, KeysValues(x, x), None), Mask(), x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def bias_of_all_layers(devices):
    """The gradient of a table that three layers read, each row of the batch on its own device."""
    bias = RelativePositionBias(H, True, nn.initializers.normal(1.0), num_buckets=8, max_distance=9)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (jax.random.normal(key, (8, H, 16, D)) for key in keys[:3])
    table = jax.random.normal(keys[3], (8, H))

    @jax.jit
    @jax.grad
    def gradient(table, q, k, v):
        bias_bhts = bias.apply({"params": {"embedding": table}}, 16, 16, 0, len(q)).dense()

        def layer(q, _):
            return kernels.attend(q, KeysValues(k, v), Mask(), bias_bhts), None

        return (jax.lax.scan(layer, q, None, length=3)[0] ** 2).sum()

    wanted = gradient(table, q, k, v)
    placed = Partitioner(data=8, devices=devices)
    with placed.activate():
        rows = jax.device_put((q, k, v), placed.batch_sharding)
        arguments = (jax.device_put(table, placed.replicated), *rows)
        compiled = gradient.lower(*arguments).compile()
        found = compiled(*arguments)
    exchanges = hlo.collectives(hlo.parse(compiled.as_text()), [0] * 8)
    return {
        "difference": float(np.abs(found - wanted).max()),
        "bytes": [int(one.bytes) for one in exchanges for _ in range(int(one.count))],
    }


def main() -> None:
    """Runs all of it."""
    devices = tuple(topologies.devices_of("cpu:8"))  # before JAX makes anything
    report = {
        "divided_rows": dict(divided_rows(devices)),
        "temporaries": {length: temporaries(length, devices) for length in (2048, 4096)},
        "bias": bias_of_all_layers(devices),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
