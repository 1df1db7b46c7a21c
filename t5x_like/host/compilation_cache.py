"""JAX's persistent compilation cache, so that a second start does not compile again."""

import os
from pathlib import Path

import jax


def enable() -> None:
    """Turns JAX's persistent compilation cache on, unless the user has configured it.

    Its directory is `JAX_COMPILATION_CACHE_DIR`, or `t5x_like/jax` below `XDG_CACHE_HOME` or
    `~/.cache`. `JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(root) / "t5x_like" / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
