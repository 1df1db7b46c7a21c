"""Checkpoints of parameters alone, written from host memory."""

import json

import numpy as np
import pytest

from t5x_like.checkpoints import host_params


@pytest.mark.parametrize(
    ("shape", "pieces"),
    [
        # A prime: divided evenly, each of its numbers would be a piece, and the write take minutes.
        ((300_007,), 1),
        ((8, 65_536), 2),
    ],
)
def test_a_vector_is_written_whole_and_a_matrix_in_pieces(tmp_path, shape, pieces):
    host_params.write_params(str(tmp_path), {"a": np.ones(shape, np.float32)}, 0, {})
    (path,) = (tmp_path / "checkpoints" / "0" / "params" / "array_metadatas").iterdir()
    (found,) = json.loads(path.read_text())["array_metadatas"]
    chunk = found["array_metadata"]["chunk_shape"]
    assert np.prod(shape) / np.prod(chunk) == pieces
