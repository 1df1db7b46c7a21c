import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest

from t5x_like.checkpoints import quiet

PROGRAM = """
import importlib.util, sys
from t5x_like.checkpoints import quiet
quiet.say_once()
quiet.say_once()
spec = importlib.util.spec_from_file_location("reads", sys.argv[1])
reads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reads)
"""
UNRAISABLE = """
async def read():
    try:
        await other()
    except BaseException:
        raise ValueError("a chunk")

class other:
    def __await__(self):
        yield

coroutine = read()
coroutine.send(None)
del coroutine
"""
LOGGED = """
from absl import logging
logging.error("ValueError: a chunk")
"""
NOT_AWAITED = """
import asyncio

async def read():
    raise ValueError("a chunk")

async def all_reads():
    asyncio.ensure_future(read())
    await asyncio.sleep(0)

asyncio.run(all_reads())
"""
WARNING = LOGGED.replace("error", "warning")


def said(folder, package, code):
    """What a program says whose code, in a folder of that name, goes wrong."""
    path = folder / package / "reads.py"
    path.parent.mkdir()
    path.write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True
    )
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("package", "expected"), [("orbax", False), ("other", True)])
@pytest.mark.parametrize(
    "code", [UNRAISABLE, LOGGED, NOT_AWAITED], ids=["unraisable", "logged", "not_awaited"]
)
def test_an_error_of_orbaxs_own_is_not_said_twice(tmp_path, package, expected, code):
    assert ("ValueError: a chunk" in said(tmp_path, package, code)) == expected


@pytest.mark.slow
def test_warnings_of_orbax_are_said(tmp_path):
    assert "a chunk" in said(tmp_path, "orbax", WARNING)


@pytest.mark.parametrize(
    ("about", "text", "expected"),
    [
        (None, "Event loop is closed", False),
        (len, "Event loop is closed", True),
        (None, "another", True),
    ],
)
def test_only_a_loop_that_c_code_found_closed_is_left_out(monkeypatch, about, text, expected):
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    for name in ("absl", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    quiet.say_once.__wrapped__()
    raised = SimpleNamespace(object=about, exc_value=RuntimeError(text))
    sys.unraisablehook(raised)
    assert (heard == [raised]) == expected
