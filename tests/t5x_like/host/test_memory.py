import platform
import subprocess
import sys

import pytest


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
