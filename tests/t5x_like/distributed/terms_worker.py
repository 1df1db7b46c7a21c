"""One step of the small models on several meshes of eight simulated devices, as JSON.

    python -m tests.t5x_like.distributed.terms_worker

Prints, for each mesh and number of microbatches, the largest difference of the parameters (and of
what is carried) from those of one device.
"""

import json
import os

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)

import jax
import numpy as np

from t5x_like.partitioning import Partitioner
from t5x_like.training.state import initial_carry
from tests.t5x_like.training.small_models import Counting, TwoTerms
from tests.t5x_like.training.test_loss import ROWS, VOCABULARY, pairs, texts, updated

MESHES = ({"data": 8}, {"data": 2, "fsdp": 4}, {"data": 4, "tensor": 2})


def difference(a, b):
    """The largest, over all arrays."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


def main():
    one = Partitioner(data=1, devices=tuple(jax.devices()[:1]))
    contiguous = {**texts(), "row_continues": np.ones(ROWS, np.int32)}
    found = {}
    for model, batch in (
        (TwoTerms(vocab_size=VOCABULARY), pairs()),
        (Counting(vocab_size=VOCABULARY), contiguous),
    ):
        expected, _ = updated(model, one, batch, carry=initial_carry(model, one, ROWS))
        for mesh in MESHES:
            placed = Partitioner(**mesh)
            shards = mesh["data"] * mesh.get("fsdp", 1)
            # Each piece gives every shard of the batch a row.
            for pieces in sorted({1, ROWS // shards}):
                carry = initial_carry(model, placed, ROWS)
                after, _ = updated(model, placed, batch, carry=carry, num_microbatches=pieces)
                name = f"{type(model).__name__} {mesh} in {pieces}"
                found[name] = difference(
                    (expected.params, expected.carry), (after.params, after.carry)
                )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
