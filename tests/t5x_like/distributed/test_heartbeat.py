"""Who is missed, and when a process ends for it: three of them in one, by a clock of their own."""

import pytest

from t5x_like.distributed import heartbeat


class Service:
    """In the place of JAX's coordination service: what it keeps for all."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self.values
        self.values[key] = value

    def key_value_dir_get(self, prefix):
        return [item for item in self.values.items() if item[0].startswith(prefix)]

    def wait_at_barrier(self, *_):
        raise heartbeat.jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Ended(Exception):
    pass


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(heartbeat, "time", clock)
    return clock


@pytest.fixture
def watches(clock, monkeypatch):
    def end(reason):
        raise Ended(reason, clock.now)

    monkeypatch.setattr(heartbeat, "end", end)
    monkeypatch.setattr(heartbeat.Watch, "_coordinator_answers", lambda self: True)
    service = Service()
    return {index: heartbeat.Watch(service, index, 3, "127.0.0.1:1") for index in range(3)}


def beat(watches, clock, seconds):
    """Lets the processes beat; what each said at its end, and when."""
    ended, until = {}, clock.now + seconds
    now = clock.now
    while now < until:
        now += heartbeat.BEAT_SECONDS
        for index, watch in list(watches.items()):
            clock.now = now
            try:
                watch._beat()
            except Ended as end:
                ended[index] = end.args
                del watches[index]
    return ended


def test_a_peer_that_falls_silent_ends_the_others_and_process_0_last(watches, clock):
    beat(watches, clock, 20)
    del watches[2]  # its beat at 20 seconds is heard at 24
    assert beat(watches, clock, 64) == {}
    # At 88 it was silent for more than 60 seconds; process 0 waits 10 more.
    assert beat(watches, clock, 4) == {
        0: ("process 0 ends, because process 2 is gone.", 98),
        1: ("process 1 ends, because process 2 is gone.", 88),
    }


def test_peers_that_answer_end_nobody(watches, clock):
    assert beat(watches, clock, 1000) == {}
    assert [watch.lost() for watch in watches.values()] == [None] * 3


def test_why_a_peer_failed_is_said_by_the_others(watches, clock):
    beat(watches, clock, 20)
    leaving = watches.pop(1)
    leaving._leave("OSError: no disk\nand more", code=None)
    assert beat(watches, clock, 40) == {
        0: ("process 0 ends, because process 1 (OSError: no disk) is gone.", 46),
        2: ("process 2 ends, because process 1 (OSError: no disk) is gone.", 36),
    }


def test_process_0_is_there_until_the_others_have_seen_that_it_failed(watches, clock, monkeypatch):
    """JAX aborts them when its service, which is in process 0, is gone."""
    at_exit = []
    monkeypatch.setattr(heartbeat.atexit, "register", lambda *call: at_exit.append(call[1]))
    watches[1]._leave("OSError: no disk", code=2)
    assert (clock.now, at_exit) == (0, [2])
    watches[0]._leave("OSError: no disk", code=None)
    assert (clock.now, at_exit) == (heartbeat.LEAVE_SECONDS, [2, heartbeat.EXIT_INTERNAL_ERROR])
