"""Which accelerators this machine has, told without JAX: by the drivers' files."""

import glob
import importlib.util
import os

# What JAX needs for an accelerator, and the files by which its drivers show one.
ACCELERATORS = {
    "libtpu": ("/dev/accel*", "/dev/vfio/[0-9]*"),
    "jax_plugins": ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg"),
}


def computes_on_cpu(platforms: "str | None") -> bool:
    """Whether JAX's default backend will be the CPU, without starting a backend to ask.

    Args:
      platforms: as JAX's option `jax_platforms`, such as `tpu,cpu`; None or empty where it is
        not set, and JAX takes what it finds.
    """
    if platforms:
        return platforms.split(",")[0] == "cpu"
    return not any(
        importlib.util.find_spec(package) and any(glob.glob(files) for files in driver_files)
        for package, driver_files in ACCELERATORS.items()
    )


def pass_over_absent_tpu() -> None:
    """Keeps JAX from starting a TPU that is not there.

    libtpu is installed to compile for TPUs on other machines too. JAX would start it all the
    same, and it would search for a TPU, tell of it at length, and map gigabytes of memory. What
    `JAX_PLATFORMS` says is left alone, and so is a machine with plugins for other accelerators.
    """
    asked = "JAX_PLATFORMS" in os.environ or "JAX_FORCE_TPU_INIT" in os.environ
    installed = importlib.util.find_spec("libtpu") is not None
    others = importlib.util.find_spec("jax_plugins") is not None
    if installed and not asked and not others and computes_on_cpu(None):
        os.environ["JAX_PLATFORMS"] = "cpu"
