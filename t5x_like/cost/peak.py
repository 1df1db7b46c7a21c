"""The peak FLOP/s of devices, the denominator of MFU."""

import dataclasses
import time

import jax
import jax.numpy as jnp

from t5x_like.cost.chips import chip_of


@dataclasses.dataclass(frozen=True)
class Peak:
    """The peak rate of all devices together.

    Attributes:
      flops: per second; None when it is not known.
      source: where the number is from.
    """

    flops: float | None
    source: str


def peak(devices: list[jax.Device] | None = None) -> Peak:
    """Finds the peak rate in matrix products of these devices, by default all of the run's.

    Accelerators are looked up, in bfloat16 whatever dtype the run computes in. A CPU is measured
    with a float32 product, which takes a fraction of a second. Simulated CPU devices share one
    host, which counts once for each process.
    """
    devices = devices or jax.devices()
    if devices[0].platform == "cpu":
        return Peak(_measured_cpu_peak() * jax.process_count(), "measured float32 product")
    kind = devices[0].device_kind
    chip = chip_of(kind)
    if chip is None:
        return Peak(None, f"{kind} is not in the table")
    return Peak(chip.bf16_flops / chip.cores * len(devices), f"{kind} bfloat16, {chip.source}")


def _measured_cpu_peak(size: int = 2048, seconds: float = 0.4) -> float:
    """Measures float32 `size` x `size` products on the host's CPU: the best FLOP/s of several."""
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
