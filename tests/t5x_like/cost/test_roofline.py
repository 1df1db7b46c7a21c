"""Times by hand, from v5p's figures: 459 TFLOP/s, 2,765 GB/s, 3 x 200 GB/s, 6.25 GB/s."""

from types import SimpleNamespace

import numpy as np
import pytest

from t5x_like.cost import roofline
from t5x_like.cost.chips import chip_named
from t5x_like.cost.hlo import Collective

V5P = chip_named("v5p")
# Two slices of 4 x 2 x 1 chips.
DEVICES = [
    SimpleNamespace(id=8 * s + 2 * x + y, slice_index=s, coords=(x, y, 0))
    for s in range(2)
    for x in range(4)
    for y in range(2)
]


def exchange(kind, *groups, size=4e9, count=1):
    return Collective(kind, kind, size, count, np.array(groups))


def test_products_and_memory():
    times = roofline.seconds(V5P, {"bf16": 459e12}, 5530e9, [], DEVICES)
    assert times == {"compute": 1.0, "hbm": 2.0, "ici": 0.0, "dcn": 0.0}


def test_products_of_8_bits_count_at_their_own_rate_where_the_chip_has_one():
    flops = {"s8": 918e12, "bf16": 459e12, "f8e4m3fn": 459e12}
    assert roofline.seconds(V5P, flops, 0, [], DEVICES)["compute"] == 3.0  # fp8 as bfloat16
    assert roofline.seconds(chip_named("v4"), {"s8": 275e12}, 0, [], DEVICES)["compute"] == 1.0
    halves = roofline.seconds(chip_named("tpu7x"), {"f8e5m2": 4614e12}, 0, [], DEVICES)
    assert halves["compute"] == 2.0  # of the chip, by one of its two devices


def test_devices_that_are_half_a_chip_have_half_of_everything():
    v3 = chip_named("v3")
    times = roofline.seconds(v3, {"f32": 61.5e12}, 450e9, [], DEVICES)
    assert times["compute"] == pytest.approx(1.0)
    assert times["hbm"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "group", "seconds"),
    [
        # Four along x: 3/4 of 4 GB arrives over both links of one dimension, 200 GB/s.
        ("all-gather", [0, 2, 4, 6], (0.015, 0)),
        ("reduce-scatter", [0, 2, 4, 6], (0.015, 0)),
        ("all-reduce", [0, 2, 4, 6], (0.030, 0)),
        # All eight, along x and y: 7/8 over 400 GB/s.
        ("all-gather", [0, 1, 2, 3, 4, 5, 6, 7], (0.00875, 0)),
        # A ring of four: each byte passes one link of the two on average.
        ("all-to-all", [0, 2, 4, 6], (0.020, 0)),
        ("collective-permute", [0, 2], (0.020, 0)),
        # Two slices, one chip each: 4 GB / 2 out and in again, over 6.25 GB/s.
        ("all-reduce", [0, 8], (0, 0.64)),
        # Four chips of each: the slice's links first, then a quarter each across.
        ("all-reduce", [0, 2, 4, 6, 8, 10, 12, 14], (0.030, 0.16)),
        ("collective-permute", [0, 8], (0, 0.64)),
    ],
)
def test_exchanges(kind, group, seconds):
    found = roofline.network_seconds(V5P, exchange(kind, group), DEVICES)
    assert found == pytest.approx(seconds)


def test_a_permutation_is_as_slow_as_its_slowest_pair():
    ring = exchange("collective-permute", [0, 2], [6, 8], [14, 0])
    assert roofline.network_seconds(V5P, ring, DEVICES) == pytest.approx((0, 0.64))


def test_exchanges_add_up():
    twice = [exchange("all-gather", [0, 2, 4, 6], count=2), exchange("all-reduce", [0, 8])]
    times = roofline.seconds(V5P, {}, 0, twice, DEVICES)
    assert times["ici"] == pytest.approx(0.030)
    assert times["dcn"] == pytest.approx(0.64)
