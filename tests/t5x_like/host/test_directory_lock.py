"""One writer of a directory: refused while another holds it, taken over when that one is dead."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import tensorstore

from t5x_like.errors import DataFault, UserError
from t5x_like.host import directory_lock

HOLDER = """
import sys, time
from t5x_like.host import directory_lock
directory_lock.lock(sys.argv[1], "MODEL_DIR", "run")
print("held", flush=True)
time.sleep(600)
"""


def lock(directory):
    return directory_lock.lock(directory, "MODEL_DIR", "run")


def test_a_second_user_is_refused_in_one_line_that_names_the_first(tmp_path):
    held = lock(tmp_path)
    with pytest.raises(UserError) as refusal:
        lock(tmp_path)
    assert str(refusal.value) == (
        f"MODEL_DIR '{tmp_path}' is in use by another run (process {os.getpid()} on "
        f"{socket.gethostname()}): wait until it ends, or choose another MODEL_DIR."
    )
    held.require()
    held.release()
    assert os.listdir(tmp_path) == []
    lock(tmp_path).release()


def test_another_process_is_refused_until_it_is_killed(tmp_path):
    """SIGKILL leaves the file, which keeps nobody out."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"process {holder.pid} on "):
        lock(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert os.listdir(tmp_path) == [".lock"]
    lock(tmp_path).release()


def test_a_link_in_place_of_the_lock_is_refused_and_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ".lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match=r"cannot be locked: .*'\.lock' in it has to be a file"):
        lock(tmp_path)
    assert (tmp_path / "theirs").read_text() == "theirs"


# -- Leases: where there is no kernel that knows who lives -------------------------------------


@pytest.fixture
def lease(tmp_path, monkeypatch):
    """Takes a lease, whose times are a hundredth of the real ones."""
    monkeypatch.setattr(directory_lock, "BEAT_SECONDS", 0.15)
    monkeypatch.setattr(directory_lock, "LEASE_SECONDS", 0.6)
    store = tensorstore.KvStore.open(f"file://{tmp_path}/").result()
    return lambda: directory_lock._Lease(store, lambda holder: UserError(f"held by {holder}"))


def other_hosts(path):
    """The lease of a process of which nobody here knows whether it lives."""
    path.write_text(json.dumps({"host": "elsewhere", "process": 7, "time": 0}))


def test_a_lease_that_is_rewritten_is_refused(lease):
    held = lease()
    with pytest.raises(UserError, match=f"held by process {os.getpid()} on "):
        lease()
    held.require()
    held.release()
    lease().release()


def test_a_lease_that_nobody_rewrites_is_taken_over_but_not_before_its_time(lease, tmp_path):
    other_hosts(tmp_path / ".lock")
    begun = time.monotonic()
    held = lease()
    assert 0.6 < time.monotonic() - begun < 5
    held.require()
    held.release()
    assert not (tmp_path / ".lock").exists()


def test_a_lease_of_a_process_of_this_host_that_has_ended_is_taken_over_at_once(lease, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    holder = {"host": socket.gethostname(), "process": ended.pid, "time": 0}
    (tmp_path / ".lock").write_text(json.dumps(holder))
    begun = time.monotonic()
    lease().release()
    assert time.monotonic() - begun < 0.5


def test_who_was_silent_too_long_learns_that_the_lease_is_anothers(lease, tmp_path):
    held = lease()
    other_hosts(tmp_path / ".lock")  # as another takes it over while this process is suspended
    time.sleep(0.5)
    with pytest.raises(DataFault, match="is another process's by now"):
        held.require()
    held.release()
    assert "elsewhere" in (tmp_path / ".lock").read_text()
