import platform
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from t5x_like import hardware


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("TPU v5p", 459e12),
        ("TPU v5 lite", 197e12),
        ("TPU v4", 275e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
    ],
)
def test_accelerators_have_their_datasheets_peak(kind, flops):
    devices = [SimpleNamespace(platform="accelerator", device_kind=kind)] * 4
    assert hardware.peak(devices).flops == 4 * flops


def test_an_unknown_accelerator_has_no_peak():
    device = SimpleNamespace(platform="gpu", device_kind="Abacus 9000")
    assert hardware.peak([device]).flops is None


def test_simulated_cpu_devices_are_one_host():
    (device,) = jax.devices()[:1]
    one, many = hardware.peak([device]).flops, hardware.peak([device] * 8).flops
    assert one > 1e9
    assert many < 4 * one


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_mapped_once_until_it_is_given_back():
    """64 MB written again and again, in pages that are new only after those before went back."""
    program = """
import resource
from t5x_like import hardware
assert hardware.keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x" * 2**26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
kept, before = faults() + faults(), resident()
hardware.give_back_freed_memory()
given_back = before - resident()
faults()
print(kept, given_back, faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    kept, given_back, kept_again = (int(number) for number in done.stdout.split())
    assert kept < 1000
    assert given_back > 60 * 2**20  # bytes: there are fewer faults where pages are huge
    assert kept_again < 1000
