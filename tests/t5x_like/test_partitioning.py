import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from t5x_like import mesh as meshes
from t5x_like.errors import UserError
from t5x_like.mesh import axis_sizes
from t5x_like.partitioning import Partitioner


class OneMatrix:
    """As much of a model as the partitioner looks at."""

    architecture = "decoder_only"
    vocab_size = 8

    def abstract_params(self):
        kernel = jax.ShapeDtypeStruct((2, 8, 6), np.float32)
        return {"mlp": {"wi": nn.LogicallyPartitioned(kernel, ("layers", "embed", "mlp"))}}

    def axis_blocks(self):
        return {}


def fake_mesh(partitioner, **sizes):
    """Gives a partitioner a mesh of shapes only, for rules need no devices."""
    shape = tuple(sizes.get(name, 1) for name in meshes.MESH_AXES)
    mesh = jax.sharding.AbstractMesh(shape, meshes.MESH_AXES)
    partitioner.__dict__["mesh"] = mesh
    return partitioner


def test_minus_one_takes_what_is_left():
    sizes = {"data": -1, "fsdp": 2, "tensor": 4}
    assert axis_sizes(sizes, 16) == {"data": 2, "fsdp": 2, "tensor": 4}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"data": 3}, "mesh data=3 does not fit 8 devices"),
        ({"data": -1, "tensor": 3}, "does not fit 8 devices"),
        ({"data": -1, "fsdp": -1}, "at most one is -1"),
        ({"data": 0}, "sizes are positive"),
        ({"data": 16}, "does not fit 8 devices"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        axis_sizes(sizes, 8)


def test_one_device_is_a_mesh_with_every_axis():
    mesh = Partitioner(devices=tuple(jax.devices()[:1])).mesh
    assert dict(mesh.shape) == dict.fromkeys(meshes.MESH_AXES, 1)


def test_parameters_follow_the_rules():
    partitioner = fake_mesh(Partitioner(replicate_below=0), fsdp=2, tensor=3)
    shardings = partitioner.param_shardings(OneMatrix())
    assert shardings["mlp"]["wi"].spec == PartitionSpec(None, "fsdp", "tensor")


def test_a_dimension_that_does_not_divide_is_named():
    partitioner = fake_mesh(Partitioner(replicate_below=0), tensor=4)
    with pytest.raises(UserError, match=r"mlp/wi has 6 along 'mlp'.*tensor=4"):
        partitioner.param_shardings(OneMatrix())


def test_activations_give_the_batch_precedence_over_embed():
    partitioner = fake_mesh(Partitioner(replicate_below=0), data=2, fsdp=2)
    spec = partitioner.spec(("batch", "length", "embed"), (8, 4, 8), "x")
    assert spec == PartitionSpec(("data", "fsdp", "expert"), "sequence", None)


def test_optimizer_state_lies_where_its_parameter_does():
    partitioner = fake_mesh(Partitioner(replicate_below=0), fsdp=2, tensor=3)

    def leaf(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32)

    state = {
        "mu": {"mlp": {"wi": leaf(2, 8, 6)}},
        "row": {"mlp": {"wi": leaf(2, 8)}},
        "column": {"mlp": {"wi": leaf(2, 6)}},
        "unfactored": {"mlp": {"wi": leaf(1)}},
        "count": leaf(),
    }
    shardings = partitioner.state_shardings(state, OneMatrix())
    assert shardings["mu"]["mlp"]["wi"].spec == PartitionSpec(None, "fsdp", "tensor")
    assert shardings["row"]["mlp"]["wi"].spec == PartitionSpec(None, "fsdp")
    assert shardings["column"]["mlp"]["wi"].spec == PartitionSpec(None, "tensor")
    assert shardings["unfactored"]["mlp"]["wi"].spec == PartitionSpec()
    assert shardings["count"].spec == PartitionSpec()


def test_one_process_reads_the_whole_batch():
    partitioner = Partitioner(devices=tuple(jax.devices()[:1]))
    assert partitioner.data_shard() == (0, 1)
    batch = partitioner.shard_batch({"x": np.arange(6).reshape(3, 2)})
    np.testing.assert_array_equal(batch["x"], np.arange(6).reshape(3, 2))
