import gc
import tracemalloc

import pytest
from orbax.checkpoint._src.serialization import tensorstore_utils

from t5x_like import optimizers
from t5x_like.checkpoints import Checkpointer, CheckpointPolicy, json_leak
from t5x_like.schedules import Constant
from t5x_like.training import state as train_state

WARM, SAVES = 3, 4
# Bytes. Each save of this model left 60,000, and leaves 7,000; of many, each leaves 2,000.
SAVE_LEAVES = 20_000


@pytest.mark.slow
def test_a_save_leaves_next_to_nothing(model, partitioner, tmp_path):
    state = train_state.create_state(model, optimizers.adamw(Constant(1e-2)), partitioner, seed=0)
    checkpointer = Checkpointer(str(tmp_path), CheckpointPolicy(keep=1))

    def left_after(steps):
        for step in steps:
            checkpointer.save(state, step, {}, {})
        checkpointer.wait()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    try:
        checkpointer.save(state, 0, {}, {})  # compiles, which takes long where it is traced
        tracemalloc.start()
        before = left_after(range(1, WARM))
        left = (left_after(range(WARM, WARM + SAVES)) - before) / SAVES
    finally:
        tracemalloc.stop()
        checkpointer.close()
    assert left < SAVE_LEAVES


@pytest.mark.parametrize("name", [None, "decoder.wi.kernel"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"process_spec": tensorstore_utils.OcdbtProcessSpec(process_id="1")},
        {
            "write_options": tensorstore_utils.OcdbtKvStoreWriteOptions(
                mode=tensorstore_utils.OcdbtWriteMode.WRITE
            )
        },
    ],
    ids=["read", "process", "write"],
)
@pytest.mark.parametrize("directory", ["/runs/a", "gs://bucket/runs/a"])
def test_what_is_written_stays_the_same(directory, name, options):
    json_leak.contain()
    ours = tensorstore_utils._build_ocdbt_kvstore_tspec
    theirs = ours.__wrapped__
    for _ in range(2):  # made, and remembered
        spec = ours(directory, name, **options)
        assert spec == theirs(directory, name, **options)
        spec.clear()  # a caller's own
