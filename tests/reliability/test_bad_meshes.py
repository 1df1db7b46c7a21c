"""Meshes, topologies and batches that the devices cannot be laid out for."""

import json

import jax
import pytest

TOPOLOGIES = [
    ("v5p:3x3", ["'v5p:3x3' is no slice that can be compiled for", "the nearest are v5p:2x2x1"]),
    ("v9:4x4", ["'v9:4x4' is unknown", "v6e:16x16", "cpu:8"]),
    ("v5p", ["'v5p' is no slice that can be compiled for", "up to 16x16x24"]),
    ("cpu:0", ["'cpu:0' is not a number of simulated devices"]),
    ("cpu:-1", ["'cpu:-1' is not a number of simulated devices"]),
    ("cpu:10000", ["JAX has started with", "xla_force_host_platform_device_count=10000"]),
    ("", ["topology '' is unknown"]),
]


@pytest.mark.parametrize(("topology", "words"), TOPOLOGIES)
def test_a_topology_that_does_not_exist_is_answered_with_the_nearest(
    refused, corpus, topology, words
):
    jax.devices()  # simulated devices can be had only before JAX starts
    refused(["compile", *corpus, f"--topology={topology}"], *words)


def test_no_slices(refused, corpus):
    flags = ["--topology=v5p:2x2x1", "--num_slices=0"]
    refused(["compile", *corpus, *flags], "--num_slices=0: at least 1")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), ("not JSON", "no kept result"), ("[]", "no kept result")],
)
def test_a_result_that_was_not_kept(refused, corpus, tmp_path, content, said):
    if content is not None:
        (tmp_path / "kept.json").write_text(content)
    flags = ["--topology=cpu:1", f"--compare={tmp_path}/kept.json"]
    refused(["compile", *corpus, *flags], f"{tmp_path}/kept.json", said)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["tensor=2"], ["tensor=2 does not fit 1 devices", "multiply to 1"]),
        (["data=8"], ["mesh data=8 does not fit 1 devices"]),
        (["data=-2"], ["mesh data=-2", "at most one is -1"]),
        (["fsdp=0"], ["fsdp=0", "sizes are positive"]),
        (["fsdp=-1"], ["data=-1, fsdp=-1", "at most one is -1"]),
        (["tensor=2", "num_partitions=4"], ["tensor 2, num_partitions 4", "different sizes"]),
        (["rules=fspd"], ["Partitioner.rules 'fspd' is unknown", "fsdp, tensor_parallel"]),
        (["tensor=two"], ["tensor is 'two', but it takes an integer"]),
        (["dcn_data=3"], ["data=3 does not fit 1 slices"]),
    ],
)
def test_a_mesh_that_the_devices_cannot_make(refused, train_flags, tmp_path, flags, words):
    bindings = [f"--gin.partitioning.Partitioner.{flag}" for flag in flags]
    refused([*train_flags, f"--gin.MODEL_DIR={tmp_path}/run", *bindings], *words)


# -- On four devices -------------------------------------------------------------------------

ON_FOUR_DEVICES = {
    # Two heads on four devices; parameters are divided however small they are.
    "heads": (
        ["tensor=4", "data=1", "replicate_below=0"],
        ["parameter decoder/layers/", "'joined_kv' in 2 blocks of 8", "tensor=4", "choose 2"],
    ),
    "batch": (
        ["BATCH_SIZE=6"],
        ["BATCH_SIZE 6 does not divide over 4 data shards", "such as 4"],
    ),
    "unused": (
        ["tensor=4", "data=1", "rules=data_parallel"],
        ["mesh axis tensor=4 is used by no rule of 'data_parallel'", "'standard'"],
    ),
    "devices": (["tensor=8", "data=1"], ["tensor=8 does not fit 4 devices"]),
}

PROGRAM = """
import contextlib, io, json, sys
import jax
from t5x_like import cli
jax.config.update("jax_num_cpu_devices", 4)
for arguments in json.load(sys.stdin):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = cli.main(arguments)
    print(json.dumps([code, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def answers(program, train_flags, tmp_path_factory):
    """What one process with four devices answers to all of them, by name."""
    folder = tmp_path_factory.mktemp("meshes")
    commands = []
    for name, (flags, _) in ON_FOUR_DEVICES.items():
        plain = [flag if flag[0].isupper() or "." in flag else f"partitioning.Partitioner.{flag}"
                 for flag in flags]  # fmt: skip
        place = f"--gin.MODEL_DIR={folder}/{name}"
        commands.append([*train_flags, place, *(f"--gin.{flag}" for flag in plain)])
    done = program("-c", PROGRAM, input=json.dumps(commands))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert not list(folder.iterdir())
    return dict(zip(ON_FOUR_DEVICES, lines, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_FOUR_DEVICES)
def test_a_mesh_that_model_or_batch_does_not_divide_over(answers, tally, name):
    code, said = answers[name]
    assert code == 2
    assert said.startswith("t5x-like: error: ")
    assert said.count("\n") == 1
    for word in ON_FOUR_DEVICES[name][1]:
        assert word in said
    tally("bad inputs")
