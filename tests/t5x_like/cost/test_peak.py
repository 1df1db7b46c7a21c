from types import SimpleNamespace

import jax
import pytest

from t5x_like.cost import peak


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("TPU v5p", 459e12),
        ("TPU v5 lite", 197e12),
        ("TPU v4", 275e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA GB200", 2500e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA L4", 121e12),
        ("Tesla T4", 65e12),
        ("Tesla V100-SXM2-16GB", 125e12),
    ],
)
def test_accelerators_have_their_datasheets_peak(kind, flops):
    devices = [SimpleNamespace(platform="accelerator", device_kind=kind)] * 4
    assert peak.peak(devices).flops == 4 * flops


@pytest.mark.parametrize(
    "kind",
    [
        *("Abacus 9000", "NVIDIA L40", "NVIDIA RTX A1000 Laptop GPU", "NVIDIA T400 4GB"),
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
    ],
)
def test_an_unknown_accelerator_or_a_part_of_one_has_no_peak(kind):
    device = SimpleNamespace(platform="gpu", device_kind=kind)
    assert peak.peak([device]).flops is None


@pytest.mark.slow
def test_simulated_cpu_devices_are_one_host():
    (device,) = jax.devices()[:1]
    one, many = peak.peak([device]).flops, peak.peak([device] * 8).flops
    assert one > 1e9
    assert many < 4 * one
