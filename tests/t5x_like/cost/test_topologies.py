import importlib.util

import jax
import pytest

from t5x_like.cost import topologies
from t5x_like.cost.chips import chip_named
from t5x_like.errors import UserError

HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None


@pytest.mark.parametrize(
    ("topology", "says"),
    [
        ("v9:2x2", "'v9:2x2' is unknown: a chip and its shape, up to v2:16x16"),
        ("v5p", "nearest are v5p:2x2x1"),
        (
            "v5p:8x8x7",
            "v5p has 3 dimensions, up to 16x16x24; the nearest are v5p:4x4x24, v5p:4x8x16",
        ),
        ("v5e:4x4x4", "the nearest are v5e:4x8, v5e:8x8, v5e:8x16"),
        ("v5e:32x32", "the nearest are v5e:8x8, v5e:8x16, v5e:16x16"),
        ("v5p-60", "the nearest are v5p:2x2x4, v5p:2x4x4"),  # 30 chips
        ("v5e-1", "'v5e-1' is no slice that can be compiled for"),
        ("v5p-7", "v5p's number counts TensorCores, 2 a chip"),
        ("v9-8", "topology 'v9-8': no chip 'v9'"),
        ("h100-8", "H100 is no TPU"),
        ("cpu:many", "not a number"),
        ("cpu:0", "not a number"),
        ("cpu:4096", "XLA_FLAGS=--xla_force_host_platform_device_count=4096"),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(topology, says):
    assert len(jax.devices()) == 1  # devices are met by now, and no more can be simulated
    with pytest.raises(UserError) as error:
        topologies.devices_of(topology)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "topology", "devices"),
    [
        # Cloud TPU's documentation of v5p, table of its configurations: v5p-64 is 2x4x4, and so on.
        ("v5p-8", "v5p:2x2x1", 4),
        ("v5p-64", "v5p:2x4x4", 32),
        ("v5p-128", "v5p:4x4x4", 64),
        ("v5p-2048", "v5p:8x8x16", 1024),
        ("v5p-2560", "v5p:8x8x20", 1280),
        ("v5p-4096", "v5p:8x16x16", 2048),
        ("v4-2048", "v4:8x8x16", 1024),
        ("tpu7x-2048", "tpu7x:8x8x16", 2048),
        ("v4-32", "v4:2x2x4", 16),
        ("v3-8", "v3:2x2", 8),
        ("v5e-16", "v5e:4x4", 16),
        ("v5litepod-256", "v5e:16x16", 256),
        ("tpu7x-128", "tpu7x:4x4x4", 128),
        ("v5p:4x4x2", "v5p:4x4x2", 32),
        ("cpu:8", "cpu:8", 8),
    ],
)
def test_an_accelerator_type_is_the_slice_nearest_to_a_cube(name, topology, devices):
    assert topologies.resolved(name) == topology
    assert topologies.num_devices(name) == devices
    assert topologies.num_devices(name, num_slices=2) == 2 * devices


def test_simulated_devices_are_one_slice():
    with pytest.raises(UserError, match="one slice"):
        topologies.devices_of("cpu:1", num_slices=2)


@pytest.mark.parametrize(
    ("chip", "some"),
    [
        # docs/v5p and docs/v6e of Cloud TPU list these among others.
        ("v5p", ["2x2x1", "2x2x2", "2x4x4", "4x4x4", "4x4x8", "8x16x16", "16x16x24"]),
        ("v6e", ["2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"]),
        ("v3", ["2x2", "32x32"]),
        ("v4", ["4x4x4", "12x16x16", "16x16x16"]),
    ],
)
def test_slices_of_a_chip(chip, some):
    names = topologies.topology_names(chip_named(chip))
    assert {f"{chip}:{shape}" for shape in some} <= set(names)


@pytest.mark.skipif(HAS_LIBTPU, reason="libtpu is installed")
def test_without_libtpu_the_extra_is_named():
    with pytest.raises(UserError, match=r"pip install 't5x-like\[tpu-compile\]'"):
        topologies.devices_of("v5p:8x16x16")


@pytest.mark.skipif(not HAS_LIBTPU, reason="needs the extra [tpu-compile]")
@pytest.mark.parametrize(
    ("topology", "num_slices", "devices"),
    [("v5p:8x16x16", 1, 2048), ("v4:12x16x16", 2, 6144), ("v5e:16x16", 1, 256), ("v3:4x4", 1, 32),
     ("v6e:16x16", 2, 512), ("tpu7x:4x4x4", 1, 128)],
)  # fmt: skip
def test_devices_of_slices(topology, num_slices, devices):
    found = topologies.devices_of(topology, num_slices)
    assert len(found) == devices
    assert len({getattr(device, "slice_index", 0) for device in found}) == num_slices
