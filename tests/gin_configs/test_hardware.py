"""The files of TPUs can be compiled for as they are: each names a slice that its mesh fits."""

import math

import pytest

from t5x_like import config
from t5x_like.config import gin_internals
from t5x_like.config.gin_files import packaged_gin_configs
from t5x_like.cost import topologies
from t5x_like.distributed.mesh import MESH_AXES

HARDWARE = packaged_gin_configs() / "hardware"
FLAGS = "include 'hardware/tpu_flags.gin'"
FILES = sorted(
    path.relative_to(HARDWARE.parent).as_posix()
    for path in HARDWARE.rglob("*.gin")
    if FLAGS in path.read_text().splitlines()
)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_tpus_names_its_slice_and_divides_it(name):
    with config.isolated():
        config.parse([name])
        devices = topologies.num_devices(config.macro("TOPOLOGY"))
        sizes = dict(gin_internals.CONFIG["", "t5x_like.partitioning.Partitioner"])
    axes = [sizes.get(axis, -1 if axis == "data" else 1) for axis in MESH_AXES]
    given = math.prod(size for size in axes if size > 0)
    assert devices % given == 0 if -1 in axes else given == devices


def test_there_are_such_files():
    assert {"hardware/v3_8.gin", "hardware/zoo/palm_8b.gin"} <= set(FILES)
