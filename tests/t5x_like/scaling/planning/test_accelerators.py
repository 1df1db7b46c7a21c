"""Names of accelerators mean what their makers and `docs/launch.md` say."""

import re
from pathlib import Path

import pytest

from t5x_like.errors import UserError
from t5x_like.scaling.planning.accelerators import accelerators

LAUNCH = Path(__file__).parents[4] / "docs" / "launch.md"


@pytest.mark.parametrize(
    ("name", "chip", "count"),
    [
        ("v2-8", "v2", 4),
        ("v3-8", "v3", 4),
        ("v4-32", "v4", 16),
        ("v5p-2048", "v5p", 1024),
        ("tpu7x-128", "tpu7x", 64),
        ("v5e-256", "v5e", 256),
        ("v5litepod-16", "v5e", 16),
        ("v6e-256", "v6e", 256),
        ("v5p:8x16x16", "v5p", 2048),
        ("h100-8", "H100", 8),
        ("H100-PCIe-4", "H100 PCIe", 4),
        ("a100", "A100", 1),
    ],
)
def test_a_name_says_which_chip_and_how_many(name, chip, count):
    found = accelerators(name)
    assert (found.chip.name, found.count) == (chip, count)


def test_tpus_have_as_many_devices_as_the_table_of_hardware_files_says():
    rows = re.findall(r"TPU (v\S+) \| ([\d,]+) \|", LAUNCH.read_text())
    assert len(rows) >= 7
    for name, devices in rows:
        assert accelerators(name).devices == int(devices.replace(",", ""))


def test_hours_are_flops_over_the_reached_speed():
    # 459e12 FLOP/s of a v5p at an MFU of a half, for an hour of 1,000 chips.
    assert accelerators("v5p-2048").hours(1000 * 3600 * 459e12 / 2, 0.5) == pytest.approx(1000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5q-8", r"no chip 'v5q': there are .* Did you mean v5p"),
        ("v5p-7", "v5p's number counts TensorCores, 2 a chip"),
        ("v5e-0", "at least one chip"),
        ("8 of them", "wanted a chip and how many, v5p-2048"),
    ],
)
def test_what_is_no_accelerator_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        accelerators(name)
