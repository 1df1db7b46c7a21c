"""What the reliability tests share: a tally of what was survived, for `make reliability`."""

import json
import os
from collections.abc import Callable

import pytest

Tally = Callable[..., None]


@pytest.fixture
def tally(request) -> Tally:
    """Counts what a test has shown, once it has shown it: `tally("kills", times=20)`.

    `make reliability` adds the counts up and prints them. The kinds are those of `table.KINDS`.
    """

    def count(kind: str, times: int = 1, what: str = "") -> None:
        path = os.environ.get("RELIABILITY_TALLY")
        if path:
            record = {"kind": kind, "times": times, "what": what or request.node.name}
            with open(path, "a") as file:  # one short line: appending is atomic
                file.write(json.dumps(record) + "\n")

    return count
