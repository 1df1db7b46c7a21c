"""The peak FLOP/s of devices, the denominator of MFU."""

import dataclasses
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from t5x_like.cost.chips import chip_of


@dataclasses.dataclass(frozen=True)
class Peak:
    """The peak rate of all devices together.

    Attributes:
      flops: per second; None when it is not known.
      source: where the number is from.
      measured: whether it was measured, and may be too low where the machine was busy.
    """

    flops: float | None
    source: str
    measured: bool = False

    def again(self) -> "Peak":
        """Measures once more, if it was measured, and returns the higher of both."""
        if not self.measured or self.flops is None:
            return self
        found = _measured_cpu_peak() * jax.process_count()
        return dataclasses.replace(self, flops=max(self.flops, found))


def peak(devices: list[jax.Device] | None = None) -> Peak:
    """Finds the peak rate in matrix products of these devices, by default all of the run's.

    Accelerators are looked up, in bfloat16 whatever dtype the run computes in. A CPU is measured
    with float32 products, which takes half a second; what else computes meanwhile lowers the
    figure, see `Peak.again`. Simulated CPU devices share one host, which counts once for each
    process.
    """
    devices = devices or jax.devices()
    if devices[0].platform == "cpu":
        flops = _measured_cpu_peak() * jax.process_count()
        return Peak(flops, "measured float32 product", measured=True)
    kind = devices[0].device_kind
    chip = chip_of(kind)
    if chip is None:
        return Peak(None, f"{kind} is not in the table")
    return Peak(chip.bf16_flops / chip.cores * len(devices), f"{kind} bfloat16, {chip.source}")


def _measured_cpu_peak(sizes: Sequence[int] = (512, 1024, 2048), seconds: float = 0.5) -> float:
    """The best FLOP/s of float32 products of square matrices on the host's CPU.

    Several sizes, as which of them a CPU does best depends on its caches and threads; and each
    again and again, as others interrupt.
    """
    return max(_product_flops(size, seconds / len(sizes)) for size in sizes)


def _product_flops(size: int, seconds: float) -> float:
    device = jax.local_devices(backend="cpu")[0]
    a = jax.device_put(jnp.ones((size, size), jnp.float32), device)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best
