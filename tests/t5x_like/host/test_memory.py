import os
import platform
import subprocess
import sys

import pytest

from t5x_like.host import accelerators


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_freed_memory_is_mapped_once_until_it_is_given_back():
    """64 MB written again and again, in pages that are new only after those before went back."""
    program = """
import resource
from t5x_like.host import memory
assert memory.keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"x" * 2**26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
kept, before = faults() + faults(), resident()
memory.give_back_freed_memory()
given_back = before - resident()
faults()
print(kept, given_back, faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    kept, given_back, kept_again = (int(number) for number in done.stdout.split())
    assert kept < 1000
    assert given_back > 60 * 2**20  # bytes: there are fewer faults where pages are huge
    assert kept_again < 1000


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
@pytest.mark.parametrize(
    ("before", "platforms", "settled"),
    [
        ("", "cpu", True),
        ("", "tpu,cpu", False),
        ("from IPython import InteractiveShell as shell; shell.instance()", "cpu", False),
    ],
    ids=["cpu", "tpu", "notebook"],
)
def test_only_a_program_on_a_cpu_keeps_freed_memory(before, platforms, settled):
    program = f"{before}\nfrom t5x_like.host import memory\nprint(memory.keep_freed_memory())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": platforms}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{settled}\n"


# `json` stands for a plugin of JAX that is installed.
@pytest.mark.parametrize(
    ("plugin", "driver_file", "on_cpu"),
    [("json", "nvidia0", False), ("json", "nvidiactl", True), ("no_plugin", "nvidia0", True)],
)
def test_an_accelerator_needs_a_plugin_and_a_device(
    tmp_path, monkeypatch, plugin, driver_file, on_cpu
):
    (tmp_path / driver_file).touch()
    monkeypatch.setattr(accelerators, "ACCELERATORS", {plugin: (f"{tmp_path}/nvidia[0-9]*",)})
    assert accelerators.computes_on_cpu(None) == on_cpu
    assert accelerators.computes_on_cpu("cpu,cuda")
    assert not accelerators.computes_on_cpu("cuda,cpu")
