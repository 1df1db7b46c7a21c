"""Checkpoints in T5X's layout, written with TensorStore as its `Checkpointer.save` does."""

from pathlib import Path

import numpy as np
import tensorstore
from flax import serialization, traverse_util

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name):
    """The parameters of a fixture by name, its batch and its logits."""
    with np.load(FIXTURES / f"{name}.npz") as stored:
        parts = {"target": {}, "batch": {}}
        for key in set(stored) - {"logits"}:
            part, _, rest = key.partition("/")
            parts[part][rest] = stored[key]
        return parts["target"], parts["batch"], stored["logits"]


def write(run, params, step=1000, *, dtype="float32", driver="file", inline=(), version=3):
    """Writes `run/checkpoint_STEP` and gives its path.

    The index has what T5X keeps: relative paths, a dummy bucket where it was written to one, and
    the state of Adafactor beside the parameters. Parameters of `inline` are in the index itself.
    """
    directory = Path(run) / f"checkpoint_{step}"
    directory.mkdir(parents=True)
    target, slots = {}, {}
    for name, value in params.items():
        if name in inline:
            target[name] = value
            continue
        target[name] = write_array(directory, f"target.{name}", value, dtype, driver)
        slots[f"{name}/v"] = write_array(
            directory, f"state.param_states.{name}.v", np.zeros(1), "float32", driver
        )
    tree = {
        "version": version,
        "optimizer": {
            "target": traverse_util.unflatten_dict(target, sep="/"),
            "state": {
                "step": np.int32(step),
                "param_states": traverse_util.unflatten_dict(slots, sep="/"),
            },
        },
    }
    (directory / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    return directory


def write_array(directory, name, value, dtype, driver):
    """Writes one array in two chunks and gives what the index says of it."""
    name = name.replace("/", ".")
    chunks = [-(-size // 2) if i == 0 else size for i, size in enumerate(value.shape)]
    metadata = {"compressor": {"id": "gzip"}, "shape": list(value.shape), "chunks": chunks}
    spec = {"driver": "zarr", "dtype": dtype, "metadata": metadata}
    place = {"driver": "file", "path": str(directory / name)}
    store = tensorstore.open({**spec, "kvstore": place}, create=True).result()
    store.write(value.astype(store.dtype.numpy_dtype)).result()
    bucket = {"bucket": "t5x-dummy-bucket"} if driver == "gcs" else {}
    return {**spec, "kvstore": {"driver": driver, "path": f"{name}/", **bucket}}
