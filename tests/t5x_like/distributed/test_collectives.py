"""Which exchanges a training step makes, read from the program for 8 devices.

A step needs: sums of gradients over what shares the batch; over `fsdp` the parameters, gathered;
over `tensor` sums of activations after each pair of products; over `expert` tokens, to and fro.
Anything more is a mistake in a rule or a constraint.
"""

import json

import pytest

from tests.t5x_like.distributed.collectives_worker import LENGTH, ROWS, SHAPES, SIDES

E, V, F = SHAPES["embed_dim"], SHAPES["vocab_size"], SIDES["mlp_dim"]
HEADS = SHAPES["num_heads"] * SHAPES["head_dim"]
FLOAT = 4


def run(program, *cases):
    done = program("-m", "tests.t5x_like.distributed.collectives_worker", json.dumps(cases))
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line)["exchanges"] for line in done.stdout.splitlines()]
    # Numbers that are summed up for the log and for clipping are left aside.
    return [[one for one in report if one["bytes"] > 1024] for report in reports]


def kinds(exchanges):
    return {(one["kind"], "*".join(one["axes"])) for one in exchanges}


@pytest.fixture(scope="module")
def palm(program):
    meshes = {
        "data_parallel": {"data": 8},
        "fsdp": {"fsdp": 8},
        "tensor_parallel": {"data": 2, "tensor": 4},
        "fsdp_tensor": {"fsdp": 4, "tensor": 2},
    }
    cases = [("palm", rules, sizes) for rules, sizes in meshes.items()]
    return dict(zip(meshes, run(program, *cases), strict=True))


def gathered(exchanges, axis):
    """Sizes of what is gathered along an axis, in elements."""
    return {
        one["bytes"] // FLOAT
        for one in exchanges
        if one["kind"] == "all-gather" and one["axes"] == [axis]
    }


@pytest.mark.slow
def test_data_parallel_sums_gradients(palm):
    assert kinds(palm["data_parallel"]) == {("all-reduce", "data")}


@pytest.mark.slow
def test_fsdp_gathers_parameters_and_sums_gradients(palm):
    found = kinds(palm["fsdp"])
    assert ("all-gather", "fsdp") in found
    assert found <= {("all-gather", "fsdp"), ("all-reduce", "fsdp"), ("reduce-scatter", "fsdp")}


def test_fsdp_gathers_one_layers_parameters_at_a_time_and_no_activations(palm):
    """Embeddings; queries' and output's projections, keys and values; the gated layer."""
    one_layer = {E * HEADS, E * SHAPES["head_dim"], E * F}
    assert gathered(palm["fsdp"], "fsdp") == {V * E} | one_layer
    assert ROWS * LENGTH * E not in {V * E} | one_layer  # or it would prove nothing


def test_tensor_parallel_sums_and_gathers_nothing(palm):
    assert kinds(palm["tensor_parallel"]) == {("all-reduce", "tensor"), ("all-reduce", "data")}


def test_fsdp_with_tensor_gathers_each_devices_part_of_the_parameters(palm):
    found = kinds(palm["fsdp_tensor"])
    assert found - {("reduce-scatter", "fsdp")} == {
        ("all-gather", "fsdp"), ("all-reduce", "fsdp"), ("all-reduce", "tensor"),
    }  # fmt: skip
    # The one head of keys and values is not divided over `tensor`.
    divided = {V * E // 2, E * HEADS // 2, E * F // 2}
    assert gathered(palm["fsdp_tensor"], "fsdp") == divided | {E * SHAPES["head_dim"]}


@pytest.mark.slow
def test_experts_exchange_tokens(program):
    alone, shared = run(
        program,
        ("switch", "expert_parallel", {"expert": 8}),
        ("switch", "expert_parallel", {"data": 2, "expert": 4}),
    )
    assert kinds(alone) == {("all-to-all", "expert"), ("all-reduce", "expert")}
    # An expert's gradient is summed over `data` alone, all others over both.
    assert kinds(shared) == {
        ("all-to-all", "expert"), ("all-reduce", "data"), ("all-reduce", "data*expert"),
    }  # fmt: skip


@pytest.mark.slow
def test_encoder_decoders_do_as_decoders_do(program):
    tensor, fsdp = run(
        program,
        ("t5", "tensor_parallel", {"data": 2, "tensor": 4}),
        ("t5", "fsdp", {"fsdp": 8}),
    )
    assert kinds(tensor) == {("all-reduce", "tensor"), ("all-reduce", "data")}
    assert kinds(fsdp) <= {
        ("all-gather", "fsdp"), ("all-reduce", "fsdp"), ("reduce-scatter", "fsdp"),
    }  # fmt: skip
    assert ROWS * LENGTH * E not in gathered(fsdp, "fsdp")


@pytest.mark.slow
def test_sequence_parallel_gathers_over_tensor_what_it_divides(program):
    """Residual streams between products are divided, and gathered before each."""
    (found,) = run(program, ("palm", "sequence_parallel", {"data": 2, "tensor": 4}))
    assert ("all-gather", "tensor") in kinds(found)
    assert kinds(found) <= {
        ("all-gather", "tensor"), ("all-reduce", "tensor"), ("reduce-scatter", "tensor"),
        ("all-reduce", "data"), ("all-to-all", "tensor"),
    }  # fmt: skip
