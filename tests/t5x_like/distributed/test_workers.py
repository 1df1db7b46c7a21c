"""Work on the parts of a corpus, in other processes and in this one."""

import os

from t5x_like.distributed.workers import can_send, results


def where(work, part, tell):
    tell(1)
    return work(part), os.getpid()


def test_what_cannot_be_sent_is_worked_with_here():
    told = []
    work = lambda part: part + 1  # noqa: E731 (a lambda cannot be sent)
    assert not can_send(work) and can_send(where)
    found = list(results(where, work, [1, 2, 3], 2, told.append))
    assert found == [(2, os.getpid()), (3, os.getpid()), (4, os.getpid())] and told == [1, 1, 1]
