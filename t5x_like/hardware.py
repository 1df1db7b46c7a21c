"""What a device could do at best, the denominator of MFU; and what keeps a CPU from it."""

import ctypes
import dataclasses
import sys
import time

import jax
import jax.numpy as jnp

from t5x_like.cost.chips import chip_of

# glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Makes glibc keep what is freed, in one heap; before XLA starts its threads.

    XLA on a CPU allocates an execution's temporary memory anew each time. glibc takes blocks
    from 32 MB up from the system and gives them back at once, and so every step pays for
    clearing and mapping the same pages again: a tenth of it, or more. Memory once used stays
    with the process instead, until `give_back_freed_memory`. Threads that have started by then
    may have heaps of their own, over which the memory of every save would spread. Accelerators
    have allocators of their own and gain nothing.

    Returns:
      Whether there is a glibc that took the settings.
    """
    glibc = _glibc()
    if glibc is None:
        return False
    # No blocks of their own; one heap, as only the main one grows without limit.
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1))
    return all([glibc.mallopt(name, value) == 1 for name, value in settings])


def give_back_freed_memory() -> None:
    """Gives the system the pages that are free by now, once; what is freed later is kept again.

    After something large and rare, such as a save. Free memory lies scattered after it, and the
    next one, which fits no gap, would take more.
    """
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, when it is glibc."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None


@dataclasses.dataclass(frozen=True)
class Peak:
    """The best rate of all devices together.

    Attributes:
      flops: per second; None when it is not known.
      source: where the number is from.
    """

    flops: float | None
    source: str


def peak(devices: list[jax.Device] | None = None) -> Peak:
    """The peak of these devices (all of the run's, by default) in matrix products.

    Accelerators are looked up, in bfloat16 whatever the run computes in; a CPU is measured,
    with a float32 product that takes a fraction of a second. Simulated CPU devices share one
    host, which counts once a process.
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
    """FLOP/s of float32 `size` x `size` products on the host's CPU, the best of several."""
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
