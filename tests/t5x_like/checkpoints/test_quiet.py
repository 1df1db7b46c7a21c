import subprocess
import sys

import pytest

LEFT_BEHIND = """
async def read():
    try:
        await other()
    except BaseException:
        raise ValueError("a chunk")

class other:
    def __await__(self):
        yield
"""
PROGRAM = """
import importlib.util, sys
from t5x_like.checkpoints import quiet
quiet.say_once()
quiet.say_once()
spec = importlib.util.spec_from_file_location("reads", sys.argv[1])
reads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reads)
coroutine = reads.read()
coroutine.send(None)
del coroutine
"""


@pytest.mark.parametrize(("package", "said"), [("orbax", False), ("other", True)])
def test_a_read_that_nobody_waits_for_any_more_says_nothing(tmp_path, package, said):
    path = tmp_path / package / "reads.py"
    path.parent.mkdir()
    path.write_text(LEFT_BEHIND)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True
    )
    assert ("ValueError: a chunk" in done.stderr) == said
