"""Checkpoints of parameters alone, written from host memory."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import linen as nn

from models import gpt
from models.tuning import LoRA
from t5x_like import checkpoints
from t5x_like.checkpoints import base, contents, host_params
from t5x_like.checkpoints.initial import checked_start
from t5x_like.errors import UserError
from t5x_like.partitioning import path_name, split_boxes, subtree


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


def test_what_was_tuned_is_not_read_as_what_it_was_before(tmp_path):
    """A checkpoint of factors names a base that has all that the plain model knows."""
    sizes = dict(vocab_size=8, embed_dim=8, num_heads=2, num_layers=1, max_length=4)
    plain, tuned = gpt.GPT2(**sizes), gpt.GPT2(**sizes, tuning=LoRA(rank=2))
    whole = nn.unbox(plain.init(jax.random.key(0))["params"])
    factors = subtree(nn.unbox(tuned.init(jax.random.key(0))["params"]), tuned.tuning.trains)
    host_params.write_params(str(tmp_path / "base"), jax.tree.map(np.asarray, whole), 10, {})
    directory = checkpoints.find_checkpoint(str(tmp_path / "base"))
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(whole)]
    named = {"base": base.base_of(directory, contents.read_metadata(directory), names)}
    learned = jax.tree.map(lambda x: np.asarray(x) + 1, factors)
    host_params.write_params(str(tmp_path / "tuned"), learned, 20, named)
    found, step = host_params.read_params(str(tmp_path / "tuned"), tuned)
    assert step == 20 and "lora_b" in found["decoder"]["layers"]["self_attention"]["query"]
    lost = r"has 'decoder/.*lora_[ab]', which was trained beside .* Give the model the same tuning"
    with pytest.raises(UserError, match=lost):
        host_params.read_params(str(tmp_path / "tuned"), plain)
    shapes, _ = split_boxes(plain.abstract_params())
    source = checkpoints.InitialCheckpoint(str(tmp_path / "tuned"), include=["^(?!output_head)"])
    with pytest.raises(UserError, match=lost):
        checked_start(source, plain, shapes)
    left = dataclasses.replace(source, include=["^(?!.*lora_)"])
    assert len(checked_start(left, plain, shapes).pieces) == 1  # as is asked for
