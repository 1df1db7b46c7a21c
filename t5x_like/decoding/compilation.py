"""What XLA is told when it compiles a decoding loop."""

import functools

import jax


@functools.cache
def compiler_options() -> dict[str, str] | None:
    """Options of `jax.jit` for this process's backend; None for XLA's own choice.

    On CPUs a step's time is that of products of a few rows with every matrix of the model.
    XLA's default library for them (YNNPACK) shares each one, and each small reduction, among
    threads, which costs more than the reductions themselves; without it, Eigen does the
    products and loops the rest, a tenth faster (docs/performance.md).
    """
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.block_until_ready(jax.jit(lambda x: x, compiler_options=options)(0))
    except (ValueError, RuntimeError):  # an XLA that does not know the option
        return None
    return options
