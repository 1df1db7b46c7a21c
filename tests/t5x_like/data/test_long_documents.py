"""Documents that stay whole and are too long: cut before an objective divides or corrupts them."""

import numpy as np
import pytest

from t5x_like.data.examples import open_task
from t5x_like.data.long_examples import SplitLong, TrimLong
from tasks import objectives

LENGTHS = {"inputs": 16, "targets": 16}
# Each token stands in its own place.
DOCUMENTS = [np.arange(3, 203, dtype=np.int32), np.arange(203, 213, dtype=np.int32)]
WHOLE = {
    "prefix": objectives.PrefixLM(concatenate=False),
    "mass": objectives.MASS(mask_share=0.0, random_share=0.0, concatenate=False),
    "rotation": objectives.Denoising((objectives.DocumentRotation(),), concatenate=False),
}


@pytest.fixture(params=WHOLE)
def opened(request, kit, tmp_path):
    """Opens both documents for an objective."""

    def open_them(long_examples):
        written = kit.task("whole", features=("targets",))
        specs = {"targets": written.output_features["targets"].vocabulary.spec()}
        folder = kit.write(written, tmp_path, [{"targets": ids} for ids in DOCUMENTS], shards=1)
        task = kit.task("whole", bound=WHOLE[request.param].bind(specs))
        task.positioned = getattr(task.bound, "positioned", ())
        return open_task(task, folder, "train", LENGTHS, seed=0, long_examples=long_examples)

    return open_them


def texts(examples, number):
    """What one example reads and predicts, in several draws, without EOS."""
    for draw in range(20):
        made = examples.finish(examples.source[number], np.random.default_rng(draw))
        yield tuple(set(made[name].tolist()) - {1} for name in ("inputs", "targets"))


def test_what_is_predicted_is_of_the_part_that_is_read(opened):
    examples = opened(TrimLong())
    assert "1 of 2 examples have targets of more than 1" in examples.note
    assert examples.note.endswith("(at most 200): trimmed")
    for read, predicted in texts(examples, 0):
        assert max(read | predicted) < 3 + 16
        assert predicted <= read or min(predicted) == max(read) + 1
    for read, predicted in texts(examples, 1):
        assert read | predicted == set(DOCUMENTS[1].tolist())


def test_the_parts_of_a_split_document_are_all_of_it(opened):
    examples = opened(SplitLong())
    assert examples.note.endswith("(at most 200): split")
    found = [next(texts(examples, i)) for i in range(len(examples.source))]
    assert len(found) in (14, 15)
    assert set().union(*(read | predicted for read, predicted in found)) == set(range(3, 213))
    assert all(predicted <= read or min(predicted) == max(read) + 1 for read, predicted in found)
