"""How this process keeps memory that is freed, and gives it back to the system."""

import ctypes
import sys

import jax

from t5x_like.host.accelerators import computes_on_cpu

# glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
# Blocks from here up are mapped apart, and unmapped when they are freed.
_LARGE_BLOCK = 2**20


def keep_freed_memory() -> bool:
    """Makes glibc keep what is freed, in one heap; before XLA starts its threads.

    XLA on a CPU allocates an execution's temporary memory anew each time. glibc takes blocks
    from 32 MB up from the system and gives them back at once, and so every step pays for
    clearing and mapping the same pages again: a tenth of it, or more. Memory once used stays
    with the process instead, until `give_back_freed_memory`. Threads that have started by then
    may have heaps of their own, over which the memory of every save would spread.

    Nothing is done where an accelerator computes, which has an allocator of its own, so that its
    host would gain nothing; nor in a notebook, whose process does other things too.

    Returns:
      Whether the settings are made.
    """
    glibc = _glibc()
    if glibc is None or _is_notebook() or not computes_on_cpu(_platforms()):
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


def give_back_large_blocks() -> None:
    """Makes glibc give large blocks back whenever they are freed, for this process.

    For programs that move a model's parameters once, in pieces: the pieces, freed by one of many
    threads, would otherwise stay in that thread's heap. The opposite of `keep_freed_memory`.
    """
    glibc = _glibc()
    if glibc is not None:
        for name, value in (
            (M_TRIM_THRESHOLD, _LARGE_BLOCK), (M_MMAP_THRESHOLD, _LARGE_BLOCK), (M_ARENA_MAX, 1),
        ):  # fmt: skip
            glibc.mallopt(name, value)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, when it is glibc."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _platforms() -> str | None:
    return jax.config.jax_platforms  # type: ignore[attr-defined, no-any-return]
