"""Noticing that another process of the run is gone, and ending with it.

A thread of each process tells the others that it lives, through the key-value store of JAX's
coordination service, and ends its process when another has been silent for `TIMEOUT_SECONDS`: with
one line that says who, and exit code 1, whatever collective the process waits in.

JAX itself aborts a process `JAX_TIMEOUT_SECONDS` after another's last heartbeat, from threads that
Python cannot hold up, should this one be held up. And it aborts at once when process 0 is killed,
which has the service: then the line is JAX's own, that the leader died, and the exit code 134.
"""

import atexit
import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NoReturn

import jax

TIMEOUT_SECONDS = 60  # a peer that was silent for this long is dead
# The same of JAX, counted from heartbeats at half this interval: process 0 has ended before.
JAX_TIMEOUT_SECONDS = 180
BEAT_SECONDS = 4
SILENT_SECONDS = 16  # after a failure, a peer that was silent for this long is to blame
LEAVE_SECONDS = 10  # how long a failing process waits for the others to fail like it
STOP_SECONDS = 60  # for all to say how far they are
EXIT_INTERNAL_ERROR = 1
_PLACE, _STOP = "t5x_like/peers", "t5x_like/stop"

_watches: list["Watch"] = []  # that of this process, while there is one


class Watch:
    """Keeps an eye on the peers of this process while its `with` body runs.

    Args:
      client: of JAX's coordination service.
      index: of this process.
      count: of processes.
      coordinator_address: `host:port` of process 0.
    """

    def __init__(self, client: Any, index: int, count: int, coordinator_address: str) -> None:
        self._client = client
        self._index = index
        self._peers = [i for i in range(count) if i != index]
        host, _, port = coordinator_address.rpartition(":")
        self._coordinator = (host.strip("[]"), int(port))
        self._count = 0
        self._beats: dict[int, str] = {}
        self._heard = dict.fromkeys(self._peers, time.monotonic())
        self._failed: dict[int, str] = {}
        self._failure_seen: float | None = None
        self._leaving = False
        self._stop_wanted = False
        self._step = 0
        self._last_step: int | None = None
        self._stepping = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peers", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        _watches.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            code = getattr(error, "exit_code", None)
            if isinstance(error, jax.errors.JaxRuntimeError):
                self._end_with_a_lost_peer()  # which may be all that went wrong
            self._leave(f"{kind.__name__ if kind else ''}: {error}", code)
        _watches.remove(self)
        self._stop.set()
        self._thread.join(timeout=2 * BEAT_SECONDS)

    def request_stop(self) -> None:
        """Asks all processes to stop after one and the same step."""
        self._stop_wanted = True

    def stops_after(self, step: int) -> bool:
        """Whether all stop after this step; called once in each, the steps rising by one."""
        with self._stepping:
            self._step = step
            return self._last_step is not None and step >= self._last_step

    def lost(self) -> str | None:
        """Which peers are gone, as the beginning of a sentence; None if all are there."""
        if self._failed:
            return _named(f"process {i} ({text})" for i, text in sorted(self._failed.items()))
        if self._index != 0 and not self._coordinator_answers():
            return "process 0"
        silent = self._silent_for(SILENT_SECONDS)
        return _named(f"process {i}" for i in silent) if silent else None

    def _silent_for(self, seconds: float) -> list[int]:
        now = time.monotonic()
        return [peer for peer, heard in self._heard.items() if now - heard > seconds]

    def _run(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self._beat()

    def _beat(self) -> None:
        """Tells the peers that this process lives, and hears whether they do."""
        self._count += 1
        # The service is gone when process 0 is, and JAX ends this process.
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(
                f"{_PLACE}/beats/{self._index}", str(self._count), allow_overwrite=True
            )
            self._listen()
            if self._last_step is None and self._is_stop_wanted():
                self._choose_last_step()
        seen = self._failure_seen
        failed = seen is not None and time.monotonic() - seen > LEAVE_SECONDS
        if not self._leaving and (failed or self._silent_for(TIMEOUT_SECONDS)):
            self._end()

    def _listen(self) -> None:
        now = time.monotonic()
        for key, value in self._client.key_value_dir_get(f"{_PLACE}/"):
            what, _, place = key.removeprefix(f"{_PLACE}/").partition("/")
            peer = int(place)
            if peer == self._index:
                continue
            if what == "failed":
                self._failed[peer] = value
                self._failure_seen = self._failure_seen or now
            elif self._beats.get(peer) != value:
                self._beats[peer] = value
                self._heard[peer] = now

    def _is_stop_wanted(self) -> bool:
        if self._stop_wanted:
            self._client.key_value_set(f"{_STOP}/wanted", "yes", allow_overwrite=True)
        return self._stop_wanted or bool(self._client.key_value_dir_get(f"{_STOP}/"))

    def _choose_last_step(self) -> None:
        """Agrees on the step after the one that the fastest process has finished.

        Nobody can finish another meanwhile; and as this is not asked in the steps themselves, a
        process that waits in one for the others still answers.
        """
        with self._stepping:
            self._client.key_value_set(f"{_STOP}/steps/{self._index}", str(self._step))
            others = [
                int(self._client.blocking_key_value_get(f"{_STOP}/steps/{i}", 1000 * STOP_SECONDS))
                for i in self._peers
            ]
            self._last_step = max(self._step, *others) + 1

    def _coordinator_answers(self) -> bool:
        try:
            with socket.create_connection(self._coordinator, timeout=3):
                return True
        except OSError:
            return False

    def _end_with_a_lost_peer(self) -> None:
        """Ends the process if a peer proves to be gone; returns if none does."""
        deadline = time.monotonic() + SILENT_SECONDS + 2 * BEAT_SECONDS
        while time.monotonic() < deadline:
            if self.lost():
                self._end()
            time.sleep(1)

    def _leave(self, reason: str, code: int | None) -> None:
        """Tells the peers why, and sees that the exit does not wait for them.

        Where all fail alike, each is given the time to say so with its own exit code.
        """
        self._leaving = True
        line = (reason.strip().splitlines() or [""])[0][:300]
        try:
            self._client.key_value_set(f"{_PLACE}/failed/{self._index}", line)
            self._client.wait_at_barrier(f"{_PLACE}/leaving", LEAVE_SECONDS * 1000)
        except jax.errors.JaxRuntimeError:
            if self._index == 0:
                time.sleep(LEAVE_SECONDS)  # the others have seen it, and end first
            # Before JAX's own hook, which would wait for processes that wait for this one.
            atexit.register(_exit, EXIT_INTERNAL_ERROR if code is None else code)

    def _end(self) -> None:
        lost = self.lost()
        if self._index == 0:
            time.sleep(LEAVE_SECONDS)  # JAX would abort the others, before they say why
        end(f"process {self._index} ends, because {lost} is gone.")


def watch() -> Watch | None:
    """That of this process, inside its `with` body; None if the process is alone."""
    return _watches[-1] if _watches else None


def end(reason: str) -> NoReturn:
    """Ends this process at once, with one line on standard error and exit code 1."""
    sys.stdout.flush()
    os.write(2, f"t5x-like: error: {reason}\n".encode())
    os._exit(EXIT_INTERNAL_ERROR)


def _named(names: Iterable[str]) -> str:
    return " and ".join(names)


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
