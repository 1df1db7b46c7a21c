import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from t5x_like.distributed import mesh as meshes
from t5x_like.distributed.mesh import axis_sizes
from t5x_like.errors import UserError
from t5x_like.partitioning import Partitioner


class OneMatrix:
    """As much of a model as the partitioner looks at."""

    batch_format = "prefix_language_model"
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


class TwelveHeads(OneMatrix):
    """A projection to 12 heads of 4 units."""

    def abstract_params(self):
        kernel = jax.ShapeDtypeStruct((8, 48), np.float32)
        return {"query": nn.LogicallyPartitioned(kernel, ("embed", "joined_kv"))}

    def axis_blocks(self):
        return {"joined_kv": 4}


def test_heads_are_not_cut_and_the_nearest_choices_are_named():
    partitioner = fake_mesh(Partitioner(replicate_below=0), tensor=8)
    message = (
        r"query has 48 along 'joined_kv' in 12 blocks of 4, which does not divide over mesh axis "
        r"tensor=8: choose 6 or 12, or a model with 8 or 16 there"
    )
    with pytest.raises(UserError, match=message):
        partitioner.param_shardings(TwelveHeads())
    fake_mesh(partitioner, tensor=6).param_shardings(TwelveHeads())


class GPT2Small(TwelveHeads):
    """The dimensions of GPT-2 small that a tensor axis divides: 50,257 = 29 x 1,733."""

    vocab_size = 50257

    def abstract_params(self):
        embedding = jax.ShapeDtypeStruct((self.vocab_size, 8), np.float32)
        boxed = nn.LogicallyPartitioned(embedding, ("vocab", "embed"))
        return {**super().abstract_params(), "token_embedder": boxed}


def test_a_vocabulary_that_does_not_divide_is_whole_on_every_device():
    partitioner = fake_mesh(Partitioner(replicate_below=0), fsdp=2, tensor=4)
    shardings = partitioner.param_shardings(GPT2Small())
    assert shardings["token_embedder"].spec == PartitionSpec(None, "fsdp")
    assert shardings["query"].spec == PartitionSpec("fsdp", "tensor")
    padded = GPT2Small()
    padded.vocab_size = 50304
    assert partitioner.param_shardings(padded)["token_embedder"].spec == PartitionSpec(
        "tensor", "fsdp"
    )


class SharedHeads(TwelveHeads):
    """Twelve heads that share three of keys, and an MLP that divides by 9."""

    def abstract_params(self):
        key = nn.LogicallyPartitioned(
            jax.ShapeDtypeStruct((8, 12), np.float32), ("embed", "joined_shared_kv")
        )
        wi = nn.LogicallyPartitioned(jax.ShapeDtypeStruct((8, 9), np.float32), ("embed", "mlp"))
        return {**super().abstract_params(), "key": key, "wi": wi}

    def axis_blocks(self):
        return {"joined_kv": 4, "joined_shared_kv": 4}


def test_only_a_size_that_every_parameter_divides_by_is_offered():
    partitioner = fake_mesh(Partitioner(replicate_below=0), tensor=8)
    message = (
        r"key has 12 along 'joined_shared_kv' in 3 blocks of 4, .* tensor=8, nor do 12 along "
        r"'joined_kv', nor do 9 along 'mlp': choose 3, or a model with multiples of 8 in all of "
        "these"
    )
    with pytest.raises(UserError, match=message):
        partitioner.param_shardings(SharedHeads())
    fake_mesh(partitioner, tensor=3).param_shardings(SharedHeads())


def test_shared_heads_of_keys_are_whole_on_every_device_where_that_is_asked_for():
    partitioner = fake_mesh(Partitioner(replicate_below=0), fsdp=2, tensor=4)
    model = SharedHeads()
    model.abstract_params = lambda: {
        name: box for name, box in SharedHeads().abstract_params().items() if name != "wi"
    }
    with pytest.raises(UserError, match=r"choose 3, .*, or Partitioner\.replicate_kv_heads=True\."):
        partitioner.param_shardings(model)
    partitioner = dataclasses.replace(partitioner, replicate_kv_heads=True)
    shardings = fake_mesh(partitioner, fsdp=2, tensor=4).param_shardings(model)
    assert shardings["key"].spec == PartitionSpec("fsdp", None)
    assert shardings["query"].spec == PartitionSpec("fsdp", "tensor")


def test_small_parameters_stay_whole():
    partitioner = fake_mesh(Partitioner(replicate_below=8 * 6 + 1), fsdp=2, tensor=4)
    assert partitioner.param_shardings(OneMatrix())["mlp"]["wi"].spec == PartitionSpec()


class FourExperts(OneMatrix):
    """A matrix of each of four experts."""

    def abstract_params(self):
        kernel = jax.ShapeDtypeStruct((4, 8, 6), np.float32)
        return {"wi": nn.LogicallyPartitioned(kernel, ("expert", "embed", "mlp"))}


def test_experts_divide_however_small_they_are():
    """Tokens are sent to them: XLA ends the process where four are divided among eight."""
    whole = Partitioner(replicate_below=1000)
    assert fake_mesh(whole, expert=2).param_shardings(FourExperts())["wi"].spec == PartitionSpec()
    with pytest.raises(UserError, match=r"wi has 4 along 'expert'.*expert=8: choose 4"):
        fake_mesh(whole, expert=8).param_shardings(FourExperts())


def test_rules_of_ones_own_name_axes_that_there_are():
    mine = [("batch", ("data", "fsdp", "expert")), ("mlp", "tensor"), ("joined_kv", "tensor")]
    made = fake_mesh(Partitioner(rules=mine, replicate_below=0), tensor=3)
    assert made.param_shardings(OneMatrix())["mlp"]["wi"].spec == PartitionSpec(
        None, None, "tensor"
    )
    misspelt = fake_mesh(Partitioner(rules=[*mine, ("embd", "fsdp"), ("stack", None)]), fsdp=2)
    with pytest.raises(UserError, match="divides 'embd' over fsdp, and the model has no such axis"):
        misspelt.param_shardings(OneMatrix())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": [("embed", "model")]}, "names the mesh axis 'model': the axes are data, fsdp"),
        ({"rules": "zero"}, "rules 'zero' is unknown: one of data_parallel, fsdp"),
        ({"tensor": 2, "num_partitions": 4}, "tensor 2, num_partitions 4 say different sizes"),
        ({"rules": "fsdp", "data": 1, "tensor": 8}, "axis tensor=8 is used by no rule of 'fsdp'"),
        ({"dcn_data": 2}, "mesh data=2 does not fit 1 slices"),
        ({"model_parallel_submesh": (2, 4)}, r"\(2, 4\) does not tile a slice of \(1, 8\)"),
        ({"model_parallel_submesh": (2, 2, 1, 1)}, r"\(processes, local devices\) elsewhere: 4"),
    ],
)
def test_meshes_that_cannot_be_are_refused(options, message):
    partitioner = Partitioner(**options, devices=tuple(Device(i) for i in range(8)))
    with pytest.raises(UserError, match=message):
        print(partitioner.mesh)


def test_a_submesh_is_a_block_of_neighbouring_chips():
    """T5X's meaning: on 4 x 2 chips, blocks of 2 x 2 are one tensor group each."""
    chips = [Chip(4 * y + x, (x, y, 0)) for y in range(2) for x in range(4)]
    mesh = Partitioner(model_parallel_submesh=(2, 2, 1, 1), devices=tuple(chips)).mesh
    assert mesh.shape["tensor"] == 4 and mesh.shape["data"] == 2
    groups = [{chip.coords[:2] for chip in group} for group in mesh.devices.reshape(2, 4)]
    assert groups == [{(0, 0), (0, 1), (1, 0), (1, 1)}, {(2, 0), (2, 1), (3, 0), (3, 1)}]


def test_slices_are_joined_by_the_dcn_axes():
    devices = [Chip(i, (i % 4, 0, 0), slice_index=i // 4) for i in range(8)]
    mesh = Partitioner(data=1, fsdp=4, dcn_data=2, devices=tuple(devices)).mesh
    assert mesh.shape["data"] == 2 and mesh.shape["fsdp"] == 4
    slices = [{chip.slice_index for chip in row} for row in mesh.devices.reshape(2, 4)]
    assert slices == [{0}, {1}]


class Device:
    """As much of a device as a mesh looks at."""

    platform, process_index, device_kind = "cpu", 0, "cpu"

    def __init__(self, index):
        self.id = index


class Chip(Device):
    """A TPU's."""

    platform, device_kind = "tpu", "TPU v4"

    def __init__(self, index, coords, slice_index=0):
        super().__init__(index)
        self.coords, self.slice_index = coords, slice_index
        self.core_on_chip = 0


def test_activations_give_the_batch_precedence_over_embed():
    partitioner = fake_mesh(Partitioner(replicate_below=0), data=2, fsdp=2)
    spec = partitioner.spec(("batch", "length", "embed"))
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
